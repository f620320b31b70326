//! One running process with its Runtime API: initialise, serve, freeze, end.
//!
//! Invariant: once an end has been reported, the process is reaped and nothing
//! more is asked of it.

use crate::answer::{Failure, Outcome};
use crate::cgroup::Group;
use crate::fleet::InstanceId;
use crate::function::FunctionConfig;
use crate::http;
use crate::launch::Launch;
use crate::platform::Platform;
use crate::process::{Exit, Process, Spawner, spawn};
use crate::runtime_api::{Delivery, Mailbox, Posted, RuntimeEvent};
use crate::settings::Output;
use rustix::process::Signal;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) struct Sandbox {
    pub(crate) process: Arc<Process>,
    started: Instant,
    exit: Exit,
    kill: CancellationToken,
    mailbox: Arc<Mailbox>,
    events: mpsc::Receiver<RuntimeEvent>,
    group: Option<Group>,
    spawner: Spawner,
}

/// How an invocation went.
pub(crate) struct Served {
    pub(crate) outcome: Outcome,
    pub(crate) run: Duration,
    /// The process may serve again.
    pub(crate) alive: bool,
}

/// Connections that one process may have open to its Runtime API.
const RUNTIME_CONNECTIONS: usize = 16;

impl Sandbox {
    /// Opens the Runtime API, then starts the process: the order matters, since
    /// the process asks at once. `kill` ends both.
    pub(crate) async fn start(
        platform: &Arc<Platform>,
        id: InstanceId,
        config: &FunctionConfig,
        kill: &CancellationToken,
    ) -> io::Result<Sandbox> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (sender, events) = mpsc::channel(8);
        let mailbox = Arc::new(Mailbox::new(sender, Arc::clone(&platform.response_budget)));
        let desk = Arc::clone(&mailbox);
        let handler = move |request| Arc::clone(&desk).handle(request);
        let tracker = platform.tracker.clone();
        platform.tracker.spawn(http::serve(
            listener,
            RUNTIME_CONNECTIONS,
            kill.clone(),
            tracker,
            handler,
        ));

        let mut launch = launch(config, &platform.settings.region, id, address);
        launch.output = output(&platform.settings.output, &config.name)?;
        let spawner = platform.spawner.clone();
        // Queued work must not keep the groups of a platform that has ended.
        let cgroups = platform.cgroups.as_ref().map(Arc::downgrade);
        let memory_mb = config.memory_mb;
        let spawned = spawner.run(move || {
            let group = match cgroups.map(|c| c.upgrade()) {
                Some(Some(cgroups)) => Some(cgroups.group(id, memory_mb)?),
                Some(None) => return Err(io::Error::other("the platform has ended")),
                None => None,
            };
            let started = Instant::now();
            Ok((spawn_in(group.as_ref(), launch), group, started))
        });
        let (process, group, started) = spawned.await?;
        let watched = process.and_then(|process| {
            let process = Arc::new(process);
            Ok((Arc::clone(&process), Exit::watch(process)?))
        });
        let (process, exit) = match watched {
            Ok(watched) => watched,
            Err(error) => {
                if let Some(group) = group {
                    group.remove(&spawner).await;
                }
                return Err(error);
            }
        };
        Ok(Sandbox {
            process,
            spawner,
            started,
            exit,
            kill: kill.clone(),
            mailbox,
            events,
            group,
        })
    }

    /// Waits until the process asks for its first event; says how long it took.
    pub(crate) async fn initialise(
        &mut self,
        limit: Duration,
    ) -> Result<Duration, (Outcome, Duration)> {
        let outcome = tokio::select! {
            biased;
            event = self.events.recv() => match event {
                Some(RuntimeEvent::InitError(body)) => Outcome::FunctionError(body),
                _ => return Ok(self.started.elapsed()),
            },
            status = ended(&self.exit, &self.process, &self.kill) => {
                Outcome::Failed(self.cause(status))
            }
            () = tokio::time::sleep(limit) => Outcome::Failed(Failure::TimedOut(limit)),
        };
        Err((outcome, self.started.elapsed()))
    }

    /// Lets the process serve one event; then gives it `settle` to ask for the
    /// next one. Not cancel-safe: run it to its end.
    pub(crate) async fn serve(
        &mut self,
        delivery: Delivery,
        timeout: Duration,
        settle: Duration,
    ) -> Served {
        // Left from before a freeze that came too early; the next `Parked` must
        // be one that follows the answer.
        while self.events.try_recv().is_ok() {}
        let start = Instant::now();
        self.mailbox.deliver(delivery);
        self.process.thaw();
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let posted = loop {
            tokio::select! {
                biased;
                // Anything else is the `Parked` it was waiting in, or a runtime
                // that lost its connection and asks again.
                event = self.events.recv() => if let Some(RuntimeEvent::Answered(posted)) = event {
                    break posted;
                },
                status = ended(&self.exit, &self.process, &self.kill) => {
                    let outcome = Outcome::Failed(self.cause(status));
                    return Served { outcome, run: start.elapsed(), alive: false };
                }
                () = &mut deadline => {
                    self.end().await;
                    let outcome = Outcome::Failed(Failure::TimedOut(timeout));
                    return Served { outcome, run: timeout, alive: false };
                }
            }
        };
        let outcome = match posted {
            Posted::Response(body) => Outcome::Response(body),
            Posted::Error(body) => Outcome::FunctionError(body),
            Posted::TooLarge => Outcome::Failed(Failure::ResponseTooLarge),
        };
        let alive = self.settle(settle).await;
        Served {
            outcome,
            run: start.elapsed(),
            alive,
        }
    }

    /// Waits for the process to ask for its next event, then freezes it.
    async fn settle(&mut self, limit: Duration) -> bool {
        tokio::select! {
            biased;
            _ = self.events.recv() => {}
            _ = ended(&self.exit, &self.process, &self.kill) => return false,
            () = tokio::time::sleep(limit) => {}
        }
        self.process.freeze();
        true
    }

    /// The end of a process nobody wants to end, for the time between events.
    pub(crate) async fn ended(&self) -> ExitStatus {
        ended(&self.exit, &self.process, &self.kill).await
    }

    /// Kills the process and waits until it is gone.
    pub(crate) async fn end(&self) {
        self.process.kill();
        self.exit.wait().await;
    }

    /// Tidies up after the end.
    pub(crate) async fn close(mut self) {
        self.end().await;
        self.kill.cancel();
        if let Some(group) = self.group.take() {
            group.remove(&self.spawner).await;
        }
    }

    fn cause(&self, status: ExitStatus) -> Failure {
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        let memory =
            self.process.was_over_memory() || self.group.as_ref().is_some_and(Group::out_of_memory);
        if killed && memory {
            Failure::OutOfMemory(status)
        } else {
            Failure::Exited(status)
        }
    }
}

impl Drop for Sandbox {
    /// Its task was dropped with the tokio runtime: nobody could thaw the
    /// process any more, or see it end.
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Starts a process in this group.
fn spawn_in(group: Option<&Group>, mut launch: Launch) -> io::Result<Process> {
    launch.cgroup_procs = group.map(Group::procs).transpose()?;
    spawn(&launch)
}

/// Waits for the end of a process, and brings it about when `kill` says so.
async fn ended(exit: &Exit, process: &Process, kill: &CancellationToken) -> ExitStatus {
    tokio::select! {
        biased;
        status = exit.wait() => status,
        () = kill.cancelled() => {
            process.kill();
            exit.wait().await
        }
    }
}

/// The process as Lambda would start it: its own environment and nothing of ours.
fn launch(
    config: &FunctionConfig,
    region: &str,
    id: InstanceId,
    runtime_api: SocketAddr,
) -> Launch {
    let root = config.program.parent().unwrap_or_else(|| Path::new("/"));
    Launch::new(&config.program)
        .args(&config.args)
        .env(&config.env)
        .env([("LAMBDA_TASK_ROOT", root)])
        .env([
            ("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", config.name.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            (
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                config.memory_mb.to_string(),
            ),
            (
                "AWS_LAMBDA_LOG_GROUP_NAME",
                format!("/aws/lambda/{}", config.name),
            ),
            ("AWS_LAMBDA_LOG_STREAM_NAME", format!("local/[$LATEST]{id}")),
            ("AWS_REGION", region.to_owned()),
            ("AWS_DEFAULT_REGION", region.to_owned()),
        ])
        .env([
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023"),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_SESSION_TOKEN", "local"),
            ("_HANDLER", "bootstrap"),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("LANG", "en_US.UTF-8"),
            ("TZ", ":UTC"),
        ])
}

/// Standard output and error; none: ours.
fn output(output: &Output, function: &str) -> io::Result<Option<(File, File)>> {
    let mut options = OpenOptions::new();
    let out = match output {
        Output::Inherit => return Ok(None),
        Output::Null => options.write(true).open("/dev/null")?,
        Output::Directory(folder) => {
            fs::create_dir_all(folder)?;
            let path = folder.join(format!("{function}.log"));
            options.create(true).append(true).open(path)?
        }
    };
    Ok(Some((out.try_clone()?, out)))
}
