//! The client against redis-server, against the proxy, and against servers that
//! misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "servers that fail with their test, and the clock as programs read it"
)]

mod broken;
mod cluster;
mod commands;
#[cfg(feature = "embedded")]
mod embedded;
mod examples;
mod fill;
mod hung_members;
mod lanes;
mod login;
mod metrics;
mod servers;
mod spans;
mod streams;
