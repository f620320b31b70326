//! The life of one instance, as one task: start, serve, freeze, wait, end.
//!
//! Invariants: every invocation given to it is answered exactly once or handed
//! back to the platform; it is idle in the fleet, and frozen, before its caller
//! gets the answer, so that the next invoke reaches the same instance.

use crate::answer::{Failure, Outcome, Refusal};
use crate::clock;
use crate::fleet::{After, InstanceId};
use crate::function::FunctionConfig;
use crate::http::Admitted;
use crate::ledger::Charge;
use crate::platform::Platform;
use crate::runtime_api::Delivery;
use crate::sandbox::{Sandbox, Served};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Who asked for an invocation, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) function: String,
    pub(crate) request_id: String,
    pub(crate) trace_id: String,
    pub(crate) reply: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// One invocation on its way to an instance.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) call: Call,
    pub(crate) payload: Admitted,
}

/// How an invocation ended, for the caller and the bill.
struct Ending {
    outcome: Outcome,
    init: Option<Duration>,
    run: Duration,
    /// The process may serve again.
    alive: bool,
}

/// The task of one instance.
#[derive(Debug)]
pub(crate) struct InstanceTask {
    pub(crate) id: InstanceId,
    pub(crate) platform: Arc<Platform>,
    pub(crate) config: Arc<FunctionConfig>,
    pub(crate) work: mpsc::Receiver<Work>,
    /// Told when the function's time-outs have changed.
    pub(crate) recheck: Arc<Notify>,
    pub(crate) kill: CancellationToken,
}

enum Next {
    Serve(Work),
    End,
}

impl InstanceTask {
    /// Starts the process, serves `first`, and whatever comes until the end.
    pub(crate) async fn run(mut self, first: Work) {
        if let Some(mut sandbox) = self.start(first).await {
            while let Next::Serve(work) = self.wait(&sandbox).await {
                wait_unless_ended(&sandbox, self.platform.warm_delay()).await;
                if !self.serve(&mut sandbox, work, None).await {
                    break;
                }
            }
            self.leave();
            sandbox.close().await;
        }
        self.leave();
        // Its Runtime API ends too, if the process never came to be.
        self.kill.cancel();
    }

    /// Nothing is sent here any more. What was sent before met a process that
    /// had died while idle, which is nobody's error: another serves it, without
    /// waiting for this one to be tidied away.
    fn leave(&mut self) {
        self.platform.forget(self.id);
        while let Ok(work) = self.work.try_recv() {
            self.platform.dispatch(work);
        }
    }

    /// A running sandbox that has served `first`, or none.
    async fn start(&self, first: Work) -> Option<Sandbox> {
        tokio::select! {
            () = tokio::time::sleep(self.platform.cold_delay()) => {}
            () = self.kill.cancelled() => {}
        }
        let started = match Sandbox::start(&self.platform, self.id, &self.config, &self.kill).await
        {
            Ok(sandbox) => sandbox,
            Err(error) => {
                tracing::warn!(function = %self.config.name, %error, "cannot start an instance");
                let why = format!("fork/exec {}: {error}", self.config.program.display());
                self.answer(
                    first.call,
                    dead(Outcome::Failed(Failure::CannotStart(why)), None),
                );
                return None;
            }
        };
        let mut sandbox = started;
        let pid = sandbox.process.pid();
        tracing::debug!(instance = %self.id, function = %self.config.name, pid, "instance started");
        self.platform.attach(self.id, Arc::clone(&sandbox.process));
        let alive = match sandbox
            .initialise(self.platform.settings.init_timeout)
            .await
        {
            Ok(init) => {
                self.platform.world.lock().fleet.initialised(self.id);
                self.serve(&mut sandbox, first, Some(init)).await
            }
            Err((outcome, init)) => {
                sandbox.end().await;
                self.answer(first.call, dead(outcome, Some(init)))
            }
        };
        if alive {
            return Some(sandbox);
        }
        self.platform.forget(self.id);
        sandbox.close().await;
        None
    }

    /// Waits, frozen, for the next invocation or the end.
    async fn wait(&mut self, sandbox: &Sandbox) -> Next {
        loop {
            let expiry = self.platform.world.lock().fleet.expiry(self.id);
            let due = async {
                match expiry {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                status = sandbox.ended() => {
                    if !self.kill.is_cancelled() {
                        let function = &self.config.name;
                        tracing::info!(instance = %self.id, function, %status, "idle instance ended");
                    }
                    return Next::End;
                }
                work = self.work.recv() => return work.map_or(Next::End, Next::Serve),
                () = self.recheck.notified() => {}
                () = due => {
                    if self.platform.world.lock().fleet.expire(self.id, Instant::now()) {
                        let function = &self.config.name;
                        tracing::info!(instance = %self.id, function, "instance expired");
                        return Next::End;
                    }
                }
            }
        }
    }

    /// Serves one invocation; `false` when the process is dead or must die.
    async fn serve(&self, sandbox: &mut Sandbox, work: Work, init: Option<Duration>) -> bool {
        let settings = &self.platform.settings;
        let delivery = Delivery {
            request_id: work.call.request_id.clone(),
            deadline_ms: (clock::since_epoch() + self.config.timeout).as_millis(),
            function_arn: arn(&settings.region, &self.config.name),
            trace_id: work.call.trace_id.clone(),
            payload: work.payload,
        };
        let Served {
            outcome,
            run,
            alive,
        } = sandbox
            .serve(delivery, self.config.timeout, settings.settle)
            .await;
        self.answer(
            work.call,
            Ending {
                outcome,
                init,
                run,
                alive,
            },
        )
    }

    /// Bills the invocation, makes the instance idle or lets it leave, and only
    /// then answers. `true` when it stays.
    fn answer(&self, call: Call, ending: Ending) -> bool {
        let failed = !matches!(ending.outcome, Outcome::Response(_));
        let charge = Charge {
            arch: self.config.architecture,
            memory_mb: self.config.memory_mb,
            init: ending.init,
            run: ending.run,
            failed,
        };
        let mut world = self.platform.world.lock();
        world.books.charge(&call.function, charge);
        let stays = if ending.alive {
            world.fleet.finished(self.id, Instant::now()) == After::Idle
        } else {
            world.fleet.leave(self.id);
            false
        };
        drop(world);
        tracing::debug!(
            instance = %self.id, function = %call.function, request = %call.request_id,
            init = ?ending.init, run = ?ending.run, failed, stays, "invocation ended"
        );
        // A caller that went away does not mind.
        let _ = call.reply.send(Ok(ending.outcome));
        stays
    }
}

fn dead(outcome: Outcome, init: Option<Duration>) -> Ending {
    Ending {
        outcome,
        init,
        run: Duration::ZERO,
        alive: false,
    }
}

/// The function's name as Lambda writes it; the account is a dummy.
pub(crate) fn arn(region: &str, function: &str) -> String {
    format!("arn:aws:lambda:{region}:000000000000:function:{function}")
}

async fn wait_unless_ended(sandbox: &Sandbox, delay: Duration) {
    if !delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = sandbox.ended() => {}
        }
    }
}
