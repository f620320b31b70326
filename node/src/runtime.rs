//! The process: Lambda's runtime loop around [`crate::serve`].

use std::{cell::RefCell, io, panic::AssertUnwindSafe, time::Duration};

use anyhow::Context;
use futures_util::FutureExt;
use lambda_runtime::{LambdaEvent, service_fn};
use scatterhoard_wire::{
    SPOKEN, Version,
    invoke::{Ending, Invocation, InvokeError, Purpose, Report},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    clock,
    end::End,
    instance::Instance,
    serve::{self, Deadlines},
};

/// Runs until the platform ends the process. One thread: an instance below
/// 1.8 GB has at most one processor's share, and a second stack costs memory.
pub fn run() -> anyhow::Result<()> {
    let level = std::env::var("SCATTERHOARD_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::WARN))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve_invocations())
}

/// An invocation, and where its report goes.
type Job = (LambdaEvent<serde_json::Value>, oneshot::Sender<Outcome>);
type Outcome = Result<Report, lambda_runtime::Error>;

/// Lambda's loop is a task beside this one: what arrives on a link need not go through all
/// its layers.
async fn serve_invocations() -> anyhow::Result<()> {
    let memory_mb = std::env::var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        .ok()
        .and_then(|mb| mb.parse().ok())
        .unwrap_or(128);
    let instance = RefCell::new(Instance::new(memory_mb, SPOKEN));
    let (sender, mut jobs) = mpsc::channel::<Job>(1);
    let handler = service_fn(move |event| {
        let sender = sender.clone();
        async move {
            let (reply, outcome) = oneshot::channel();
            sender.send((event, reply)).await?;
            outcome.await?
        }
    });
    let tasks = TaskTracker::new();
    let ended = tasks.spawn(lambda_runtime::run(handler));
    while let Some((event, reply)) = jobs.recv().await {
        let invoked = AssertUnwindSafe(invoked(&instance, event));
        let outcome = invoked.catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| Err("the instance panicked".into()));
        if let Ok(report) = &outcome
            && report.ending == Ending::Retired
        {
            // never answered: an instance that returned would be kept
            return Ok(());
        }
        let _ = reply.send(outcome);
    }
    let ended = ended.await.context("lambda runtime")?;
    ended.map_err(|e| anyhow::anyhow!("lambda runtime: {e}"))
}

/// One invocation. Its error is what Lambda reports as a function error.
async fn invoked(instance: &RefCell<Instance>, event: LambdaEvent<serde_json::Value>) -> Outcome {
    let payload = event.payload.to_string();
    let speaks = instance.borrow().speaks();
    let (invocation, version) = match Invocation::from_json(payload.as_bytes(), speaks) {
        Ok(read) => read,
        Err(InvokeError::NoCommon(error)) => {
            // the proxy hears which of us is to be updated
            tracing::warn!(%error, "the proxy is of a release too far from this one");
            return Ok(instance.borrow().report(Ending::NoVersion));
        }
        Err(error) => return Err(error.into()),
    };
    let deadline = event.context.deadline;
    Ok(answer(instance, &invocation, version, deadline, serve::dial).await)
}

/// Does what an invocation is for, in the version that both sides speak.
pub(crate) async fn answer(
    instance: &RefCell<Instance>,
    invocation: &Invocation,
    version: Version,
    deadline_unix_ms: u64,
    dial: impl AsyncFnOnce(&RefCell<Instance>, &Invocation) -> io::Result<End>,
) -> Report {
    if !instance.borrow_mut().admit(invocation.epoch) {
        return instance.borrow().report(Ending::StaleEpoch);
    }
    let ending = match invocation.purpose {
        Purpose::Warm => Ending::Pinged,
        Purpose::Serve | Purpose::Backup => {
            let deadlines = deadlines(deadline_unix_ms, invocation);
            serve::serve(instance, invocation, version, deadlines, dial).await
        }
    };
    tracing::debug!(invocation = %invocation.invocation, ?ending, "returning");
    instance.borrow().report(ending)
}

/// The margin that was asked for, but at most a third of the time there is: a
/// function with a short time-out must get to work, too.
fn deadlines(deadline_unix_ms: u64, invocation: &Invocation) -> Deadlines {
    let left = Duration::from_millis(deadline_unix_ms.saturating_sub(clock::unix_ms()));
    let margin = Duration::from_millis(invocation.deadline_margin_ms.into()).min(left / 3);
    let now = Instant::now();
    Deadlines {
        goodbye: now + left - margin,
        give_up: now + left - margin / 4,
    }
}
