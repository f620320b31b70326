//! Ctrl-C and SIGTERM: what was found until then is still told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How a shell says that a program ended by Ctrl-C.
const EXIT_CODE: i32 = 130;

/// Listens from when it is made until it is dropped.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Within a runtime.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next one, in a word.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

/// Does the work to its end, unless a signal comes: then it is dropped, and the servers that
/// it has started are killed with it.
pub(crate) async fn unless_told(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut signals = Signals::new()?;
    tokio::select! {
        biased;
        word = signals.next() => bail!(word),
        done = work => done,
    }
}

/// For what computes on threads: whether it is to stop. A second signal ends the program.
pub(crate) struct Watch {
    is_told: Arc<AtomicBool>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = {
            let _within = runtime.enter();
            Signals::new()?
        };
        let is_told = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_told);
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("signals".into());
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = ended => {}
                    () = listen(signals, &told) => {}
                }
            });
        });
        Ok(Self {
            is_told,
            end: Some(end),
            thread: Some(thread.context("no thread")?),
        })
    }

    pub(crate) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    /// An error if it was.
    pub(crate) fn end(&self) -> Result<()> {
        ensure!(
            !self.is_told(),
            "interrupted: figures are of what was played"
        );
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn listen(mut signals: Signals, is_told: &AtomicBool) {
    signals.next().await;
    is_told.store(true, Ordering::Relaxed);
    signals.next().await;
    std::process::exit(EXIT_CODE)
}
