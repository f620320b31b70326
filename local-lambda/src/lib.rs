//! A Lambda for one machine.
//!
//! Real processes, built on any Lambda runtime, are its instances: started when
//! an invoke finds none idle, frozen between invocations, reclaimed without
//! notice. They speak the Runtime API to it; an unmodified AWS SDK speaks the
//! Invoke API to it. It throttles, times out, limits memory, bills, and fails
//! on demand. The README tells what it does not imitate.
//!
//! One invoke's way through the files: [`invoke_api`] reads and checks it ->
//! [`platform`] asks the [`faults`] and the [`fleet`] -> the task of the
//! [`instance`] -> its [`sandbox`], the process -> [`runtime_api`], which the
//! process asks and answers -> and back as return values. `fleet`, `faults`,
//! `reclaim`, `ledger`, `prices` and `rate` are pure.
//!
//! ```no_run
//! # async fn f() -> Result<(), local_lambda::Error> {
//! use local_lambda::{FunctionConfig, LocalLambda, Settings};
//! let lambda = LocalLambda::start(Settings::default()).await?;
//! lambda.handle().put_function(FunctionConfig::new("hello", "target/debug/hello"))?;
//! println!("point the SDK's endpoint_url to {}", lambda.endpoint_url());
//! lambda.shutdown(std::time::Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![allow(rustdoc::private_intra_doc_links)]

mod answer;
mod cgroup;
mod clock;
pub mod config;
mod control_api;
mod error;
mod events;
mod faults;
mod fleet;
mod function;
mod http;
mod instance;
mod invoke_api;
mod kernel;
mod launch;
mod ledger;
mod local;
mod platform;
mod prices;
mod process;
mod rate;
mod reaper;
mod reclaim;
mod runtime_api;
mod sandbox;
mod settings;
mod text;
mod world;

pub use answer::{MAX_EVENT_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, ThrottleReason};
pub use error::Error;
pub use faults::{Down, FaultKind, FaultRule, Faults, When};
pub use fleet::{InstanceId, InstanceState};
pub use function::{FunctionConfig, Routing};
pub use ledger::{Bill, Ledger};
pub use local::{Handle, LocalLambda};
pub use prices::{Architecture, Prices, Tier};
pub use reclaim::{Reclaim, ReclaimPolicy, ReclaimProcess, Scheduled};
pub use settings::{EventSettings, MemoryEnforcement, Output, Settings};
pub use world::InstanceInfo;

#[cfg(not(target_os = "linux"))]
compile_error!("local-lambda freezes, watches and kills processes the Linux way");
