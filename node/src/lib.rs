//! A node: chunks in the memory of a function instance.
//!
//! The process is an ordinary Lambda bootstrap on the official `lambda_runtime`.
//! Each invocation either answers a ping or dials the proxy and serves one link
//! until nothing was asked for the linger time or the deadline is near. Between
//! invocations the process is frozen; only the chunk store survives that.
//!
//! Flow: `runtime` (what was invoked) -> `serve` (the link of one invocation)
//! -> `store` (chunks by write id). The store knows no sockets.

pub mod clock;
pub mod conduit;
pub mod embedded;
mod end;
mod instance;
pub mod random;
pub mod runtime;
mod serve;
pub mod socket;
pub mod store;

pub use instance::budget_bytes;
pub use runtime::run;
