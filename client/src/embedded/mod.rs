//! The proxy within the program: the same [`Client`], without another process in
//! between and without a socket. Needs the feature `embedded`.
//!
//! ```no_run
//! use scatterhoard_client::embedded::{self, Embedded, Nodes, Settings};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // first: started as a node, it stays one and does not return
//!     let program = embedded::this_program()?;
//!     let runtime = tokio::runtime::Runtime::new()?;
//!     runtime.block_on(async {
//!         let settings = Settings::new(Nodes::Processes(program)).nodes(6).data_parity(4, 2);
//!         let cache = Embedded::start(settings).await?;
//!         let client = cache.client();
//!         client.set("key", "value").await?;
//!         client.close(std::time::Duration::from_secs(5)).await;
//!         cache.shutdown().await?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! - **What runs.** All of the proxy but its ports: nothing else can connect, there
//!   is no admin port, and its metrics go to the recorder of the crate `metrics` that
//!   the program has installed, if any. Connections are pipes in memory to sessions
//!   as the program `scatterhoard` has them.
//! - **Where.** On the tokio runtime on which it was started; one with several threads
//!   is recommended, for it encodes and checks values there.
//! - **Nodes** dial back into the program: over the loopback, or where
//!   [`Settings::link_listen`] says.
//! - **The end.** [`Embedded::shutdown`] finishes what was acknowledged; dropping it
//!   does the same in the background, as long as the runtime lives.

mod error;
mod nodes;
mod settings;

use std::{
    io,
    sync::{Arc, OnceLock},
};

use scatterhoard_node::socket;
use scatterhoard_proxy::{
    engine::{Engine, Entrance},
    serve::ServeError,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use self::{
    error::{EndError, StartError},
    nodes::{NodeProgram, Nodes, this_program},
    settings::{Acknowledge, Settings},
};
use crate::{Client, Options, connection::socket::Stream};

/// A proxy that runs within the program.
pub struct Embedded {
    inside: Inside,
    /// Set when it has ended.
    end: Arc<OnceLock<Result<(), EndError>>>,
    task: TaskTracker,
    stop: DropGuard,
}

impl Embedded {
    /// Starts it; nodes have answered when it returns.
    ///
    /// # Errors
    /// When a setting cannot work, no node answers, or the data folder cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let (config, program) = settings.checked()?;
        let address = config.link_listen;
        let listen = |error| {
            let flag = "link_listen";
            StartError::from(ServeError::Listen {
                address,
                error,
                flag,
            })
        };
        let links = socket::listen(address).await.map_err(listen)?;
        // large: it is all of a start
        let engine = Box::pin(Engine::start(config, links, &program)).await?;
        let (stop, task) = (CancellationToken::new(), TaskTracker::new());
        let end = Arc::new(OnceLock::new());
        let inside = Inside {
            entrance: engine.entrance(),
            end: Arc::clone(&end),
        };
        task.spawn(run(engine, stop.clone(), Arc::clone(&end)));
        task.close();
        Ok(Self {
            inside,
            end,
            task,
            stop: stop.drop_guard(),
        })
    }

    /// A client, with options as they are by default.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.options())
    }

    /// For [`Client::new`] with other bounds, deadlines or metrics. Host, port and TLS
    /// mean nothing here.
    #[must_use]
    pub fn options(&self) -> Options {
        let mut options = Options::new("embedded", 0);
        options.inside = Some(self.inside.clone());
        options
    }

    /// Whether it has ended by itself: another proxy has taken its nodes.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    /// Takes no more requests, waits for those under way and for what was acknowledged
    /// to be where it belongs, within [`Settings::shutdown_timeout`], and ends the nodes
    /// that are processes. To be called behind [`Client::close`].
    ///
    /// # Errors
    /// When not all was done in time, or another proxy had taken the nodes before.
    pub async fn shutdown(self) -> Result<(), EndError> {
        drop(self.stop);
        self.task.wait().await;
        // a task that has panicked has not ended well
        let end = self.end.get().cloned();
        end.unwrap_or(Err(EndError::CutOff))
    }
}

async fn run(engine: Engine, stop: CancellationToken, end: Arc<OnceLock<Result<(), EndError>>>) {
    let superseded = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        epoch = engine.superseded() => Some(epoch),
    };
    let is_done = engine.end().await;
    let result = match (superseded, is_done) {
        (Some(epoch), _) => Err(EndError::Superseded(epoch.0)),
        (None, true) => Ok(()),
        (None, false) => Err(EndError::CutOff),
    };
    // nobody else sets it
    let _ = end.set(result);
}

/// Where connections go that stay within the program.
#[derive(Clone)]
pub(crate) struct Inside {
    entrance: Entrance,
    end: Arc<OnceLock<Result<(), EndError>>>,
}

impl Inside {
    pub(crate) fn connect(&self) -> io::Result<Box<dyn Stream>> {
        if let Some(stream) = self.entrance.connect() {
            return Ok(Box::new(stream));
        }
        let why = match self.end.get() {
            Some(Err(error)) => error.to_string(),
            _ => "it has been shut down".to_owned(),
        };
        let kind = io::ErrorKind::ConnectionRefused;
        Err(io::Error::new(
            kind,
            format!("the proxy within the program: {why}"),
        ))
    }
}
