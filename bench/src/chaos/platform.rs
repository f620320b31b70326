//! local-lambda in a process of its own, which outlives the proxy, and what is done to it and
//! to the node processes that it runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tempfile::TempDir;

use crate::admin;
use crate::pool::Pool;

/// Short, so that nodes return and are invoked again within a run.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const NO_FAULTS: &str = "{}";

/// A running local-lambda; killed when dropped, if it is ours.
pub(crate) struct Platform {
    address: String,
    /// Ends with this.
    process: Option<Process>,
}

struct Process {
    child: Child,
    _folder: TempDir,
}

/// A process of the platform's.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: u64,
    pub(crate) function: String,
    pub(crate) pid: Option<u32>,
    pub(crate) state: String,
    pub(crate) frozen: bool,
}

/// What the platform has charged for all functions.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct PlatformBill {
    pub(crate) requests: u64,
    pub(crate) cold_starts: u64,
    pub(crate) errors: u64,
    pub(crate) gb_s: f64,
}

#[derive(Deserialize)]
struct Ledger {
    total: PlatformBill,
}

impl Platform {
    /// Starts `program` with functions that run `node_program` as nodes.
    pub(crate) fn start(program: &Path, node_program: &Path, pool: &Pool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("local-lambda.toml");
        fs::write(&config, configuration(node_program, pool))?;
        let log = File::create(folder.path().join("log"))?;
        let mut child = Command::new(program)
            .args(["serve".as_ref(), "--config".as_ref(), config.as_os_str()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {}: build it with `cargo build --release --workspace`, \
                     or name it with --local-lambda PATH",
                    program.display()
                )
            })?;
        let out = child.stdout.take();
        let mut platform = Self {
            address: String::new(),
            process: Some(Process {
                child,
                _folder: folder,
            }),
        };
        // It prints where it listens, and then nothing.
        let mut line = String::new();
        BufReader::new(out.context("no standard output")?).read_line(&mut line)?;
        platform.address = host_and_port(&line)?;
        Ok(platform)
    }

    /// One that runs already, by its URL.
    pub(crate) fn at(url: &str) -> Result<Self> {
        Ok(Self {
            address: host_and_port(url)?,
            process: None,
        })
    }

    /// None of one that ran already.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The instances that have a process.
    pub(crate) async fn instances(&self) -> Result<Vec<Instance>> {
        let text = admin::request(&self.address, "GET", "/_local/instances", "").await?;
        let all: Vec<Instance> = serde_json::from_str(&text)?;
        Ok(all.into_iter().filter(|i| i.pid.is_some()).collect())
    }

    /// Takes these away at once, whatever they are doing; how many there were.
    pub(crate) async fn reclaim(&self, ids: &[u64]) -> Result<usize> {
        let order = serde_json::json!({"ids": ids, "busy": true}).to_string();
        let text = admin::request(&self.address, "POST", "/_local/reclaim", &order).await?;
        let taken: Vec<u64> = serde_json::from_str(&text)?;
        Ok(taken.len())
    }

    /// What was charged so far.
    pub(crate) async fn bill(&self) -> Result<PlatformBill> {
        let text = admin::request(&self.address, "GET", "/_local/ledger", "").await?;
        let ledger: Ledger = serde_json::from_str(&text)?;
        Ok(ledger.total)
    }

    /// What goes wrong from now on: JSON as in local-lambda's README.
    pub(crate) async fn set_faults(&self, faults: &str) -> Result<()> {
        admin::request(&self.address, "PUT", "/_local/faults", faults).await?;
        Ok(())
    }
}

impl Instance {
    /// Whether it works for an invocation at the moment.
    pub(crate) fn is_busy(&self) -> bool {
        self.state == "busy" && !self.frozen
    }

    /// False if it has ended already.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool> {
        let pid = self.pid.context("it has no process")?;
        match kill(Pid::from_raw(i32::try_from(pid)?), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("{signal} to process {pid}")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its node processes end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(node_program: &Path, pool: &Pool) -> String {
    format!(
        "[platform]\nlisten = \"127.0.0.1:0\"\n[[functions]]\nname = \"scatterhoard-node\"\n\
         count = {}\nprogram = {:?}\nargs = [\"node\"]\nmemory_mb = {}\ntimeout_s = {}\n",
        pool.nodes,
        node_program.display().to_string(),
        pool.node_memory_mb,
        FUNCTION_TIMEOUT.as_secs(),
    )
}

fn host_and_port(url: &str) -> Result<String> {
    let rest = url
        .trim()
        .strip_prefix("http://")
        .with_context(|| format!("{url:?}: want http://HOST:PORT"))?;
    Ok(rest.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_and_port() -> Result<()> {
        assert_eq!(host_and_port("http://127.0.0.1:9001\n")?, "127.0.0.1:9001");
        assert_eq!(host_and_port("http://localhost:1/")?, "localhost:1");
        assert!(host_and_port("").is_err());
        Ok(())
    }
}
