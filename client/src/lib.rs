//! A client for programs that keep large objects in Scatterhoard, or in any
//! other server that speaks Redis's protocol (RESP2 or RESP3).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use scatterhoard_client::{Client, Expiry, Options, SetOptions};
//! use std::time::Duration;
//!
//! let client = Client::connect(Options::from_url("redis://127.0.0.1:6379")?).await?;
//! let options = SetOptions::new().expiry(Expiry::In(Duration::from_secs(60)));
//! client.set_with("key", "value", options).await?;
//! assert_eq!(client.get("key").await?.as_deref(), Some(&b"value"[..]));
//!
//! // of any size, in little memory
//! let file = tokio::fs::File::open("video.mp4").await?;
//! let len = file.metadata().await?.len();
//! client.put_reader("video", len, file, SetOptions::new()).await?;
//! if let Some(mut video) = client.get_stream("video").await? {
//!     tokio::io::copy(&mut video, &mut tokio::io::sink()).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - **Connections.** Small requests share one, on which they are pipelined;
//!   large values and streams have connections of their own, so that nobody waits
//!   behind them. Which is which: [`Client::get`], [`Client::get_small`].
//! - **Copies.** Values of 4 KiB and more go to the socket from where they are,
//!   and values above 16 KiB are read to where they stay.
//! - **Errors** say whether to try again ([`Error::is_retryable`]), and whether
//!   what failed may have happened ([`Error::may_have_happened`]). What is tried
//!   again by itself: [`retry`].
//! - **Clusters.** A client of one member finds the others: keys go to whoever has
//!   their slot, MOVED and ASK are followed, commands of several keys are cut up.
//! - **Embedded.** With the feature `embedded` the proxy runs within the program,
//!   behind the same methods: module `embedded`.
//! - **Metrics.** Hooks for requests, retries, redirects, connections and loaders:
//!   [`metrics`].
//! - **Giving up.** Every future may be dropped at any time.
//! - **Bounds.** 1,024 small requests are queued and as many under way, then
//!   callers wait; [`Options::connections`] large ones, then callers wait; in a cluster at each
//!   member.
//!
//! Needs Rust 1.95, which rises with minor versions only. Versions follow semver;
//! [`rustls`] is part of the interface.

mod client;
mod cluster;
mod command;
mod connection;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod fill;
mod freshness;
pub mod metrics;
mod options;
pub mod protocol;
pub mod retry;
mod stream;

pub use client::Client;
pub use command::{Command, Condition, Expiry, Set, SetOptions, Ttl};
pub use error::{Error, ErrorCode, ServerError};
pub use freshness::{Freshness, Keep};
pub use options::{Options, Tls};
pub use protocol::Reply;
pub use rustls;
pub use stream::{Resume, ValueStream};

/// What stands in docs/client.md must compile.
#[cfg(all(doctest, feature = "embedded"))]
#[doc = include_str!("../../docs/client.md")]
struct Guide;
