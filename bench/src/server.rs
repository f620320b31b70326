//! A server that the comparison starts and ends: own free port, own folder, own log.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use rand::seq::SliceRandom;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::admin;
use crate::client::Connection;
use crate::pool::{Ack, Pool};
use crate::procfs;
use crate::target::{Protocol, Target};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// What the runtime of a function calls it, in its environment.
const FUNCTION_NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";

/// A child process with its port and folder. Dropped without [`Server::stop`], it is killed.
pub(crate) struct Server {
    pub(crate) target: Target,
    /// `host:port`; redis-server has none.
    admin: Option<String>,
    child: Child,
    folder: TempDir,
}

/// redis-server without persistence, or one of its descendants, of that name.
pub(crate) async fn start_redis(name: &str, program: &Path) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let arguments = [
        "--bind",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
    ]
    .map(OsString::from);
    let target = Target::new(name, format!("127.0.0.1:{port}"));
    start(target, program, &arguments, folder)
        .await
        .with_context(|| {
            format!(
                "cannot start {name}: install it (Debian: apt-get install {name}) \
                 or name it with --{name} PATH"
            )
        })
}

/// memcached for values up to `item_bytes`, in so much memory; it evicts nothing.
pub(crate) async fn start_memcached(
    program: &Path,
    item_bytes: usize,
    memory_mb: usize,
) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let mut arguments = ["-l", "127.0.0.1", "-U", "0", "-M", "-p"]
        .map(OsString::from)
        .to_vec();
    arguments.push(port.to_string().into());
    arguments.extend(["-m".into(), memory_mb.to_string().into()]);
    arguments.extend(["-I".into(), item_bytes.to_string().into()]);
    if nix::unistd::geteuid().is_root() {
        arguments.extend(["-u".into(), "root".into()]);
    }
    let target = Target {
        protocol: Protocol::Memcached,
        ..Target::new("memcached", format!("127.0.0.1:{port}"))
    };
    start(target, program, &arguments, folder)
        .await
        .context("cannot start memcached: name another with --memcached PATH")
}

/// scatterhoard with its local pool.
pub(crate) async fn start_scatterhoard(
    program: &Path,
    pool: &Pool,
    hot_tier_mb: u32,
    ack: Ack,
) -> Result<Server> {
    Proxy::new(pool, hot_tier_mb, ack)?.start(program).await
}

/// How scatterhoard is to be started, on ports that stay the same from one start to the next.
pub(crate) struct Proxy {
    name: &'static str,
    port: u16,
    admin_port: u16,
    pub(crate) arguments: Vec<OsString>,
}

impl Proxy {
    pub(crate) fn new(pool: &Pool, hot_tier_mb: u32, ack: Ack) -> Result<Self> {
        let (port, admin_port) = (free_port()?, free_port()?);
        let mut arguments: Vec<OsString> = vec!["serve".into()];
        let mut option = |name: &str, value: String| {
            arguments.extend([OsString::from(name), OsString::from(value)]);
        };
        option("--listen", format!("127.0.0.1:{port}"));
        option("--admin", format!("127.0.0.1:{admin_port}"));
        option("--nodes", pool.nodes.to_string());
        option("--node-memory-mb", pool.node_memory_mb.to_string());
        option("--data-parity", pool.data_parity.to_string());
        option("--hot-tier-mb", hot_tier_mb.to_string());
        option("--ack", ack.name().to_owned());
        arguments.extend(pool.extra.iter().cloned());
        let name = match ack {
            Ack::Quorum => "scatterhoard",
            Ack::Proxy => "scatterhoard ack=proxy",
        };
        Ok(Self {
            name,
            port,
            admin_port,
            arguments,
        })
    }

    /// Starts it; ready when this returns.
    pub(crate) async fn start(&self, program: &Path) -> Result<Server> {
        let folder = tempfile::tempdir()?;
        let target = Target::new(self.name, format!("127.0.0.1:{}", self.port));
        let mut server = start(target, program, &self.arguments, folder)
            .await
            .with_context(|| {
                "cannot start scatterhoard: build it with `cargo build --release`, \
                 or name it with --scatterhoard PATH"
            })?;
        server.admin = Some(format!("127.0.0.1:{}", self.admin_port));
        Ok(server)
    }
}

async fn start(
    mut target: Target,
    program: &Path,
    arguments: &[OsString],
    folder: TempDir,
) -> Result<Server> {
    let log = File::create(log_path(&folder))?;
    let child = Command::new(program)
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("{} is not there", program.display()),
            _ => anyhow::anyhow!("{}: {error}", program.display()),
        })?;
    target.pids = vec![child.id()];
    let mut server = Server {
        target,
        admin: None,
        child,
        folder,
    };
    server.wait_until_ready().await?;
    Ok(server)
}

impl Server {
    /// Answers within the limit, or an error with the last lines of its log.
    async fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status}):\n{}", self.log_tail());
            }
            if self.pings().await {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        bail!("no answer within {START_LIMIT:?}:\n{}", self.log_tail())
    }

    async fn pings(&self) -> bool {
        let ping = async {
            let mut connection = Connection::to(&self.target, 1, 0).await?;
            connection.greet().await
        };
        tokio::time::timeout(Duration::from_secs(1), ping)
            .await
            .is_ok_and(|pong| pong.is_ok())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A counter of scatterhoard's.
    pub(crate) async fn counter(&self, name: &str) -> Result<u64> {
        let address = self.admin.as_deref().context("it has no admin port")?;
        admin::counter(address, name).await
    }

    /// The processes of scatterhoard's nodes, by pid.
    pub(crate) fn node_processes(&self) -> Vec<u32> {
        let mut pids = procfs::children_with_argument(self.pid(), "node");
        pids.sort_unstable();
        pids
    }

    /// Kills every process of `count` nodes, at random and without warning: the instance
    /// that serves, and the standby.
    pub(crate) fn kill_nodes(&self, count: usize, rng: &mut impl Rng) -> Result<()> {
        let mut by_function = BTreeMap::<String, Vec<u32>>::new();
        for pid in self.node_processes() {
            if let Some(function) = procfs::variable(pid, FUNCTION_NAME) {
                by_function.entry(function).or_default().push(pid);
            }
        }
        let mut nodes: Vec<Vec<u32>> = by_function.into_values().collect();
        ensure!(
            nodes.len() >= count,
            "{} nodes run, {count} were to be killed",
            nodes.len()
        );
        for &pid in nodes.partial_shuffle(rng, count).0.iter().flatten() {
            signal(pid, Signal::SIGKILL)?;
        }
        Ok(())
    }

    /// Adds the end of the log to an error.
    pub(crate) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| format!("{}'s log ends:\n{}", self.target.name, self.log_tail()))
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(log_path(&self.folder)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// SIGTERM, and SIGKILL after the limit (reported: a server must end by itself).
    pub(crate) async fn stop(mut self) -> Result<()> {
        signal(self.pid(), Signal::SIGTERM)?;
        let started = Instant::now();
        while started.elapsed() < STOP_LIMIT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        bail!(
            "{} did not end within {STOP_LIMIT:?} of SIGTERM",
            self.target.name
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
}

fn log_path(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

/// A port that was free a moment ago: both servers are told theirs, so that both
/// start alike. Whoever takes it in between makes the start fail, visibly.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where a program of another project is: as named, or in the search path; none if it is not there.
pub(crate) fn find(named: &Path) -> Option<PathBuf> {
    if named.components().count() > 1 {
        return named.canonicalize().ok();
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(named))
        .find(|path| path.is_file())
}

/// A program of this project, as named or the one that was built beside this one.
pub(crate) fn program(named: Option<&Path>, name: &str) -> Result<PathBuf> {
    match named {
        // It runs in a folder of its own: a relative path would miss.
        Some(path) => path
            .canonicalize()
            .with_context(|| format!("{} is not there", path.display())),
        None => Ok(std::env::current_exe()?.with_file_name(name)),
    }
}
