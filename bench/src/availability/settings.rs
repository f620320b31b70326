//! What is assumed of platform, network and proxy. `docs/availability.md` says where
//! each figure is from.

use std::time::Duration;

use scatterhoard_proxy::pool::{backup, lifecycle, linger, retire, warmth};

use super::node::Us;

/// From an invoke to the hello of a warm instance: FAST 2020.
pub(crate) const WARM: Us = 13_000;
/// The same when the platform starts one: "some tens of ms" for a small program.
pub(crate) const COLD: Us = 60_000;
/// What is billed of a warm invocation before its hello: it dials.
pub(crate) const DIAL: Us = 2_000;
/// What a ping takes in the function.
pub(crate) const PING: Us = 1_000;
/// Listing what two instances hold.
pub(crate) const LIST: Us = 2_000;
/// Bytes a second from or to one instance: FAST 2020, VLDB 2023.
const FUNCTION_BYTES_PER_S: u64 = 75_000_000;

/// One setting of pool and proxy.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) nodes: usize,
    pub(crate) memory_gb: f64,
    pub(crate) data: usize,
    pub(crate) parity: usize,
    /// Chunks on each node on the average.
    pub(crate) node_bytes: u64,
    pub(crate) hours: usize,
    /// Share of the losses that take all instances of a function.
    pub(crate) correlation: f64,
    pub(crate) backup: backup::Settings,
    pub(crate) life: lifecycle::Settings,
    pub(crate) warmth: warmth::Settings,
    pub(crate) retire: retire::Settings,
    pub(crate) lost_after: u32,
    pub(crate) rounds_at_once: usize,
    pub(crate) backup_bytes_per_s: u64,
    pub(crate) repair_bytes_per_s: u64,
    pub(crate) repairs_at_once: usize,
}

impl Settings {
    pub(crate) fn chunks(&self) -> usize {
        self.data + self.parity
    }

    /// Whether what becomes of instances decides anything.
    pub(crate) fn learns(&self) -> bool {
        self.is_adaptive() || self.retire == retire::Settings::Typical
    }

    /// Whether instances are left alone for longer as they prove to live.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.warmth.most > self.warmth.least
    }

    /// Bytes of objects that the pool holds.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.node_bytes * self.nodes as u64 * self.data as u64 / self.chunks() as u64
    }

    /// How long an instance waits for another request when it is asked rarely.
    pub(crate) fn hold(&self) -> Us {
        let costs = linger::Costs {
            memory_gb: self.memory_gb,
            usd_per_gb_s: linger::X86_USD_PER_GB_S,
            usd_per_request: linger::USD_PER_REQUEST,
            usd_per_wait: linger::USD_PER_WAIT,
        };
        micros(costs.break_even().min(Duration::from_millis(10)))
    }
}

/// How long so many bytes take on one instance's link.
pub(crate) fn transfer(bytes: u64) -> Us {
    bytes * 1_000_000 / FUNCTION_BYTES_PER_S
}

/// A duration in microseconds.
pub(crate) fn micros(duration: Duration) -> Us {
    duration.as_micros() as Us
}
