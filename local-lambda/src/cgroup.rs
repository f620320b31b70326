//! Memory limits by cgroup, v1 or v2, where this user may make one.
//!
//! Layout: `<own cgroup>/local-lambda-<pid>-<n>/<instance>`. Groups that a
//! killed platform left behind are removed by the next one that starts.

use crate::fleet::InstanceId;
use crate::process::Spawner;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The platform's own group, the parent of its instances' groups.
#[derive(Debug)]
pub(crate) struct Cgroups {
    version: Version,
    root: PathBuf,
}

/// One instance's group.
#[derive(Debug)]
pub(crate) struct Group {
    version: Version,
    path: PathBuf,
}

const PREFIX: &str = "local-lambda-";

impl Cgroups {
    /// Makes the platform's group; the error says why there can be none.
    pub(crate) fn create() -> Result<Cgroups, String> {
        let read = |path| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
        let (version, own) = locate(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
            .ok_or("no memory controller is mounted")?;
        sweep(&own);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = own.join(format!("{PREFIX}{}-{n}", std::process::id()));
        let wrong = |e: io::Error| format!("{}: {e}", root.display());
        if version == Version::V2 {
            enable_memory(&own).map_err(wrong)?;
        }
        fs::create_dir(&root).map_err(wrong)?;
        let cgroups = Cgroups { version, root };
        if version == Version::V2 {
            enable_memory(&cgroups.root).map_err(|e| e.to_string())?;
        }
        // A trial tells whether the files are there and writable.
        let trial = cgroups
            .group(InstanceId(0), 128)
            .map_err(|e| e.to_string())?;
        trial.procs().map_err(|e| e.to_string())?;
        let _ = fs::remove_dir(&trial.path);
        Ok(cgroups)
    }

    /// Makes the group of an instance, limited to `memory_mb` MiB without swap.
    pub(crate) fn group(&self, id: InstanceId, memory_mb: u32) -> io::Result<Group> {
        let path = self.root.join(id.to_string());
        fs::create_dir(&path)?;
        let group = Group {
            version: self.version,
            path,
        };
        match group.limit(memory_mb) {
            Ok(()) => Ok(group),
            Err(error) => {
                let _ = fs::remove_dir(&group.path);
                Err(error)
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        remove_tree(&self.root);
    }
}

impl Group {
    fn limit(&self, memory_mb: u32) -> io::Result<()> {
        let bytes = (u64::from(memory_mb) << 20).to_string();
        match self.version {
            Version::V1 => {
                fs::write(self.path.join("memory.limit_in_bytes"), &bytes)?;
                // Absent where the kernel does not account swap.
                let _ = fs::write(self.path.join("memory.memsw.limit_in_bytes"), &bytes);
            }
            Version::V2 => {
                fs::write(self.path.join("memory.max"), &bytes)?;
                let _ = fs::write(self.path.join("memory.swap.max"), "0");
            }
        }
        Ok(())
    }

    /// The file to which a process writes `0` to enter.
    pub(crate) fn procs(&self) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.procs"))
    }

    /// Whether the kernel killed something in here for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        fs::read_to_string(self.path.join(file)).is_ok_and(|text| oom_kills(&text) > 0)
    }

    /// Removes the group once its processes are dead; the kernel may take a
    /// moment to notice that.
    pub(crate) async fn remove(self, spawner: &Spawner) {
        for pause_ms in [1, 5, 20, 100, 500] {
            let path = self.path.clone();
            match spawner.run(move || fs::remove_dir(path)).await {
                Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
                _ => return,
            }
        }
    }
}

fn oom_kills(text: &str) -> u64 {
    let count = text.lines().find_map(|l| l.strip_prefix("oom_kill "));
    count.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

fn enable_memory(group: &Path) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    if fs::read_to_string(&file)?
        .split_whitespace()
        .any(|c| c == "memory")
    {
        return Ok(());
    }
    fs::write(file, "+memory")
}

/// The folder of this process's memory cgroup, from `/proc/self/cgroup` and
/// `/proc/self/mountinfo`.
fn locate(cgroup: &str, mountinfo: &str) -> Option<(Version, PathBuf)> {
    let fields: Vec<(&str, &str)> = cgroup
        .lines()
        .filter_map(|l| l.split_once(':')?.1.split_once(':'))
        .collect();
    let v1 = fields
        .iter()
        .find(|(controllers, _)| controllers.split(',').any(|c| c == "memory"));
    let (version, path) = match v1 {
        Some((_, path)) => (Version::V1, *path),
        None => (
            Version::V2,
            fields
                .iter()
                .find(|(controllers, _)| controllers.is_empty())?
                .1,
        ),
    };
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut source = source.split(' ');
        let (kind, options) = (source.next()?, source.nth(1)?);
        let fits = match version {
            Version::V1 => kind == "cgroup" && options.split(',').any(|o| o == "memory"),
            Version::V2 => kind == "cgroup2",
        };
        let below = path
            .strip_prefix(root.trim_end_matches('/'))
            .filter(|_| fits)?;
        Some((
            version,
            Path::new(point).join(below.trim_start_matches('/')),
        ))
    })
}

/// Removes what platforms left that are no longer alive.
fn sweep(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|n| n.strip_prefix(PREFIX)?.split_once('-'))
            .map(|(pid, _)| pid);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove_tree(&entry.path());
        }
    }
}

fn remove_tree(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    let _ = fs::remove_dir(root);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_own_group_in_v1_and_v2() {
        let v1 = "9:name=systemd:/\n4:memory:/jobs/7\n0::/\n";
        let mounts = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            locate(v1, mounts),
            Some((Version::V1, "/sys/fs/cgroup/memory/jobs/7".into()))
        );
        let v2 = "0::/user.slice/session-1.scope\n";
        assert_eq!(
            locate(
                v2,
                "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
            ),
            Some((
                Version::V2,
                "/sys/fs/cgroup/user.slice/session-1.scope".into()
            ))
        );
        let inside_a_container = "29 23 0:26 /docker/a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            locate("0::/docker/a\n", inside_a_container),
            Some((Version::V2, "/sys/fs/cgroup/".into()))
        );
        assert_eq!(locate(v2, ""), None);
        assert_eq!(locate("", mounts), None);
    }

    #[test]
    fn counts_kills_for_want_of_memory() {
        assert_eq!(
            oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            2
        );
        assert_eq!(
            oom_kills("low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n"),
            1
        );
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\n"), 0);
    }
}
