//! What can go wrong when the platform is started or configured. Errors of an
//! invocation are not here: they are the platform's answers (`answer.rs`).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the platform could not be started or a setting could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control API starts programs, so it is offered to this machine only.
    #[error("{0} is not a loopback address; listen on 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The listening socket could not be opened; choose another port, or 0.
    #[error("cannot listen on {addr}; choose another port, or 0 for any free one")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The thread that starts processes could not be started.
    #[error("cannot start the spawning thread")]
    Spawner(#[source] io::Error),
    /// `memory_enforcement = "cgroup"` was asked for and is not possible here.
    #[error("no writable cgroup memory controller ({0}); use auto, rss or off")]
    NoCgroup(String),
    /// The function's settings are outside of what Lambda takes.
    #[error("function {name:?}: {reason}")]
    InvalidFunction {
        /// The function's name as given.
        name: String,
        /// What to change.
        reason: String,
    },
    /// The reserved concurrency of all functions may not exceed the account's.
    #[error(
        "function {name:?} reserves {asked} concurrent invocations, {available} of the account's are left; \
         raise account_concurrency or reserve less"
    )]
    ReservedConcurrency {
        /// The function's name.
        name: String,
        /// The reservation asked for.
        asked: u32,
        /// What the account can still give.
        available: u32,
    },
    /// No function of that name; put it first.
    #[error("no function {0:?}")]
    UnknownFunction(String),
    /// A file given in the settings could not be read or understood.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
