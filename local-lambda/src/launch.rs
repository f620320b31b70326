//! What a new process is to run. Pure, but for the environment's `PATH`.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A program, what it is told, and where it starts.
#[derive(Debug)]
pub(crate) struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    /// All of its environment.
    env: Vec<(OsString, OsString)>,
    /// Standard output and error; none: those of this process.
    pub(crate) output: Option<(File, File)>,
    /// Where it joins a cgroup, before it runs.
    pub(crate) cgroup_procs: Option<File>,
}

/// The same as the kernel wants it.
pub(crate) struct Prepared {
    /// Files that may be the program, the first that there is.
    pub(crate) programs: Vec<CString>,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
}

impl Launch {
    /// With an environment of `PATH` alone, if there is one.
    pub(crate) fn new(program: impl Into<PathBuf>) -> Launch {
        let path = std::env::var_os("PATH");
        Launch {
            program: program.into(),
            args: Vec::new(),
            env: path.map(|path| ("PATH".into(), path)).into_iter().collect(),
            output: None,
            cgroup_procs: None,
        }
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Launch {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds to the environment; later values of a name replace earlier ones.
    pub(crate) fn env<N: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Launch {
        for (name, value) in variables {
            let name = name.into();
            self.env.retain(|(other, _)| *other != name);
            self.env.push((name, value.into()));
        }
        self
    }

    /// An error if a string has a NUL byte in it.
    pub(crate) fn prepare(&self) -> io::Result<Prepared> {
        let variable = |(name, value): &(OsString, OsString)| {
            let mut line = name.clone();
            line.push("=");
            line.push(value);
            c_string(&line)
        };
        let args = [self.program.as_os_str()].into_iter();
        let args = args.chain(self.args.iter().map(OsString::as_os_str));
        Ok(Prepared {
            programs: self.programs()?,
            args: args.map(c_string).collect::<io::Result<_>>()?,
            env: self.env.iter().map(variable).collect::<io::Result<_>>()?,
        })
    }

    /// A bare name is looked for in the `PATH` that the process gets.
    fn programs(&self) -> io::Result<Vec<CString>> {
        if self.program.as_os_str().as_bytes().contains(&b'/') {
            return Ok(vec![c_string(self.program.as_os_str())?]);
        }
        let path = self.env.iter().find(|(name, _)| name == "PATH");
        let folders = path
            .iter()
            .flat_map(|(_, path)| std::env::split_paths(path));
        let files = folders.map(|folder| folder.join(&self.program));
        files.map(|file| c_string(file.as_os_str())).collect()
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte within a string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_count_and_a_bare_name_is_looked_for() {
        let launch = Launch::new("node")
            .args(["a", "b c"])
            .env([("PATH", "/x:/y"), ("A", "1")])
            .env([("A", "2")]);
        let prepared = launch.prepare().unwrap();
        let text = |all: &[CString]| -> Vec<String> {
            let one = |c: &CString| c.to_str().unwrap().to_owned();
            all.iter().map(one).collect()
        };
        assert_eq!(text(&prepared.programs), ["/x/node", "/y/node"]);
        assert_eq!(text(&prepared.args), ["node", "a", "b c"]);
        assert_eq!(text(&prepared.env), ["PATH=/x:/y", "A=2"]);
        let with_path = Launch::new("./node").prepare().unwrap();
        assert_eq!(text(&with_path.programs), ["./node"]);
        assert!(Launch::new("a").args(["b\0"]).prepare().is_err());
    }
}
