//! What is assumed of platform, network and proxy. `docs/availability.md` says where
//! each figure is from.

use std::time::Duration;

use local_lambda::Architecture;
use scatterhoard_proxy::assembly::LOST_AFTER;
use scatterhoard_proxy::config::Upkeep;
use scatterhoard_proxy::pool::{PING_SLACK, backup, lifecycle, linger, retire, warmth};

use scatterhoard_proxy::store::{REPAIRS_AT_ONCE, ROUNDS_AT_ONCE};

use super::node::Us;

/// From an invoke to the hello of a warm instance: FAST 2020.
const WARM: Us = 13_000;
/// The same when the platform starts one: "some tens of ms" for a small program.
const COLD: Us = 60_000;
/// What is billed of a warm invocation before its hello: it dials.
pub(crate) const DIAL: Us = 2_000;
/// What a ping takes in the function.
pub(crate) const PING: Us = 1_000;
/// Listing what two instances hold.
pub(crate) const LIST: Us = 2_000;
/// Bytes a second from or to one instance of 1 GB or more: FAST 2020, VLDB 2023.
pub(crate) const FUNCTION_BYTES_PER_S: u64 = 75_000_000;

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
    /// From an invoke to the hello: of a warm instance, and where one has to be started.
    pub(crate) warm_hello: Us,
    pub(crate) cold_hello: Us,
    /// What sparing a request the wait for an invoke is worth.
    pub(crate) usd_per_wait: f64,
    /// Bytes a second from or to one instance.
    pub(crate) function_bytes_per_s: u64,
    /// Bytes a second that the proxy's machine moves for one object; none: as fast as
    /// the functions.
    pub(crate) proxy_bytes_per_s: Option<u64>,
    /// Bytes a second that a client takes or sends of an object; none: as fast as it comes.
    pub(crate) client_bytes_per_s: Option<f64>,
    pub(crate) arch: Architecture,
}

/// MB/s of a function by its memory in MiB: what 10 to 100 MB take in Fig. 11 of FAST
/// 2020 with 10+2, a tenth of it from each; not beyond what is taken as typical.
const MB_S: [(u32, u64); 4] = [(128, 47), (256, 63), (512, 67), (1024, 75)];

/// Bytes a second from or to an instance of so much memory.
fn function_bytes_per_s(memory_mb: u32) -> u64 {
    let fits = MB_S.iter().rev().find(|(memory, _)| *memory <= memory_mb);
    let rate = fits.map_or(MB_S[0].1, |(_, rate)| *rate) * 1_000_000;
    rate.min(FUNCTION_BYTES_PER_S)
}

impl Settings {
    /// What the proxy does with functions on Lambda unless told otherwise.
    pub(crate) fn proxy_defaults(nodes: usize, memory_mb: u32) -> Self {
        let upkeep = Upkeep::REMOTE;
        let rate = |mb_s: u32| u64::from(mb_s) * 1_000_000;
        let mut settings = Self {
            nodes,
            memory_gb: f64::from(memory_mb) / 1024.0,
            data: 10,
            parity: 2,
            node_bytes: 0,
            hours: 24,
            correlation: 0.0,
            backup: backup::Settings {
                standby: true,
                interval: Duration::from_secs(upkeep.backup_interval_s),
                after_bytes: upkeep.backup_after_mb << 20,
            },
            life: lifecycle::Settings::default(),
            warmth: warmth::Settings::default(),
            retire: retire::Settings::Never,
            lost_after: LOST_AFTER,
            rounds_at_once: ROUNDS_AT_ONCE,
            backup_bytes_per_s: rate(upkeep.backup_mb_s),
            repair_bytes_per_s: rate(upkeep.repair_mb_s),
            repairs_at_once: REPAIRS_AT_ONCE,
            warm_hello: WARM,
            cold_hello: COLD,
            usd_per_wait: linger::USD_PER_WAIT,
            function_bytes_per_s: function_bytes_per_s(memory_mb),
            proxy_bytes_per_s: None,
            client_bytes_per_s: None,
            arch: Architecture::X86,
        };
        settings.set_warm_interval(upkeep.warm_interval_s);
        settings
    }

    /// Seconds between rounds; 0: no standbys.
    pub(crate) fn set_interval(&mut self, seconds: u64) {
        self.backup.standby = seconds > 0;
        self.backup.interval = Duration::from_secs(seconds.max(1));
    }

    /// Most seconds without an invoke; pings wait for rounds that are about to come.
    pub(crate) fn set_warm_interval(&mut self, seconds: u64) {
        self.life.warm_interval = Duration::from_secs(seconds.max(1)) + PING_SLACK;
        self.warmth.least = Duration::from_secs(seconds.max(1));
        self.warmth.most = self.warmth.least;
    }

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
        micros(self.linger().least)
    }

    /// Bounds of that time.
    pub(crate) fn linger(&self) -> linger::Settings {
        let costs = linger::Costs {
            memory_gb: self.memory_gb,
            usd_per_gb_s: match self.arch {
                Architecture::X86 => linger::X86_USD_PER_GB_S,
                Architecture::Arm => linger::ARM_USD_PER_GB_S,
            },
            usd_per_request: linger::USD_PER_REQUEST,
            usd_per_wait: self.usd_per_wait,
        };
        let break_even = costs.break_even();
        linger::Settings {
            least: break_even.min(Duration::from_millis(10)),
            break_even,
        }
    }

    /// How long so many bytes take on one instance's link.
    pub(crate) fn transfer(&self, bytes: u64) -> Us {
        bytes * 1_000_000 / self.function_bytes_per_s.max(1)
    }

    /// How long an object takes of which every instance has a chunk: `all_bytes` pass the
    /// proxy, `object_bytes` its client.
    pub(crate) fn stream(&self, chunk_bytes: u64, all_bytes: u64, object_bytes: u64) -> Us {
        let by_proxy = |rate: u64| (all_bytes as f64 * 1e6 / rate.max(1) as f64) as Us;
        let proxy = self.proxy_bytes_per_s.map_or(0, by_proxy);
        let by_client = |rate: f64| (object_bytes as f64 * 1e6 / rate) as Us;
        let client = self.client_bytes_per_s.map_or(0, by_client);
        self.transfer(chunk_bytes).max(proxy).max(client)
    }
}

/// A duration in microseconds.
pub(crate) fn micros(duration: Duration) -> Us {
    duration.as_micros() as Us
}
