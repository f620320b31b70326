//! Scatterhoard in virtual time: the production proxy and nodes, on a simulated
//! platform and network, with everything going wrong that a seed says, and a judge
//! who looks at every answer.
//!
//! `world` runs a seed: `scenario` (what it decides), `platform` (Lambda), `network`
//! (links), `proxy` (a life of the production parts), `client` (operations and their
//! judgement), `history` (what happened, and its fingerprint).
//!
//! One thread and one paused clock: whatever is random comes from the seed, so a seed
//! gives one history.

#![allow(clippy::future_not_send, reason = "a run has one thread")]

pub mod client;
pub mod history;
pub mod network;
pub mod platform;
pub mod proxy;
pub mod scenario;
pub mod world;

use scatterhoard_wire::{SPOKEN, Versions};

/// What the next release may speak: this one's newest version, and another one.
pub fn next_release() -> Versions {
    let newest = SPOKEN.newest().0;
    Versions::new(newest, newest + 1).unwrap_or(SPOKEN)
}
