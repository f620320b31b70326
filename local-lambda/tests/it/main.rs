//! A real platform, real processes on the official runtime, the real SDK.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod control;
mod events;
mod failures;
mod faults;
mod invoke;
mod limits;
mod orphans;
mod reclaim;
mod support;
