//! Settings of the whole platform, all with defaults that imitate Lambda.

use crate::faults::Faults;
use crate::prices::Prices;
use crate::reclaim::ReclaimPolicy;
use crate::text;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How an instance is kept within its function's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryEnforcement {
    /// A cgroup for each instance where one can be made, else [`Self::Rss`].
    #[default]
    Auto,
    /// A cgroup (v1 or v2 memory controller) or fail to start.
    Cgroup,
    /// The resident size of instances that are not frozen, read every 200 ms.
    Rss,
    /// Nothing.
    Off,
}

/// Where the standard output and error of instances go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// To this process's own.
    Inherit,
    /// Nowhere.
    #[default]
    Null,
    /// Appended to `NAME.log` of the function in this folder, which is created.
    Directory(PathBuf),
}

/// What happens to `Event` (asynchronous) invocations. Lambda's own values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// Most events waiting or running; more are refused with 429.
    pub queue_events: usize,
    /// Most bytes of their payloads; more are refused with 429.
    pub queue_bytes: usize,
    /// After a function error, run again after these delays, once each.
    #[serde(rename = "retry_delays_s", with = "text::seconds_list")]
    pub retry_delays: Vec<Duration>,
    /// After throttling or a service error, try again after this; doubles each
    /// time, up to 300 times as long.
    #[serde(rename = "throttle_backoff_s", with = "text::seconds")]
    pub throttle_backoff: Duration,
    /// An event older than this is dropped.
    #[serde(rename = "max_age_s", with = "text::seconds")]
    pub max_age: Duration,
}

impl Default for EventSettings {
    fn default() -> EventSettings {
        EventSettings {
            queue_events: 10_000,
            queue_bytes: 64 << 20,
            retry_delays: vec![Duration::from_secs(60), Duration::from_secs(120)],
            throttle_backoff: Duration::from_secs(1),
            max_age: Duration::from_secs(6 * 3600),
        }
    }
}

/// Settings of a [`LocalLambda`](crate::LocalLambda).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address of the Invoke and control API; loopback only, port 0 for any.
    pub listen: SocketAddr,
    /// Concurrent invocations of all functions together.
    pub account_concurrency: u32,
    /// Most instances at a time. One more reclaims the longest idle instance.
    pub max_instances: usize,
    /// Most connections to the Invoke and control API; more wait to be accepted.
    pub max_connections: usize,
    /// Most bytes of request payloads held, and as many of responses; more wait
    /// before they are read. Raised to 16 MiB if less.
    pub buffer_bytes: usize,
    /// Region in ARNs and the environment.
    pub region: String,
    /// What invocations cost.
    pub prices: Prices,
    /// How memory limits are kept.
    pub memory_enforcement: MemoryEnforcement,
    /// Where instances print.
    pub output: Output,
    /// Longest initialisation (Lambda: 10 s).
    #[serde(rename = "init_timeout_s", with = "text::seconds")]
    pub init_timeout: Duration,
    /// How long after its response a runtime may take to ask for the next event
    /// before it is frozen where it stands.
    #[serde(rename = "settle_ms", with = "text::millis")]
    pub settle: Duration,
    /// Refuse invocations above ten a second for each unit of concurrency, as
    /// Lambda does.
    pub rate_limit: bool,
    /// Asynchronous invocations.
    pub events: EventSettings,
    /// Which instances the platform takes away, and when.
    pub reclaim: ReclaimPolicy,
    /// Faults in force from the start.
    pub faults: Faults,
    /// Seed of request ids and of every choice that names no seed of its own.
    /// `None`: from the operating system.
    pub seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            account_concurrency: 1000,
            max_instances: 2000,
            max_connections: 4096,
            buffer_bytes: 256 << 20,
            region: "us-east-1".to_owned(),
            prices: Prices::default(),
            memory_enforcement: MemoryEnforcement::default(),
            output: Output::default(),
            init_timeout: Duration::from_secs(10),
            settle: Duration::from_millis(50),
            rate_limit: false,
            events: EventSettings::default(),
            reclaim: ReclaimPolicy::default(),
            faults: Faults::default(),
            seed: None,
        }
    }
}
