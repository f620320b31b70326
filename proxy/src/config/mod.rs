//! Settings: flags over environment over file over defaults, checked once.

mod clients;
mod elastic;
mod options;
mod times;
mod upkeep;

use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZero, NonZeroU64},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use scatterhoard_wire::{
    Geometry, GeometryPolicy, SPOKEN, Versions,
    limits::{MAX_CELL_BYTES, MAX_OBJECT_BYTES},
};

use crate::{
    acl::Acl,
    backing, client_limits, client_tls,
    cluster::Topology,
    codec::Backend,
    journal::Fsync,
    keyspace::EvictionPolicy,
    pool::{autoscale, backup, linger, link_tls::leaves_the_machine, retire, warmth},
    pubsub::Classes,
    slow_log,
    store::{Ack, Recover},
};
use clients::{acl, client_limits, cluster, tls};
pub use options::{LogFormat, Options, Secret};
pub use times::Architecture;
pub use upkeep::Upkeep;

/// Where functions run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Functions {
    /// On this machine, started by this program.
    Local,
    /// Behind this endpoint.
    Endpoint(String),
    /// On AWS, with the usual credential chain.
    Aws,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file has a setting that does not exist.
    #[error("{path}, line {line}: unknown setting `{key}`{}", .nearest.as_ref().map(|n| format!(", did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What it says.
        key: String,
        /// What it may mean.
        nearest: Option<String>,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{path}: {error}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: toml::de::Error,
    },
    /// A value that cannot work.
    #[error("{setting}: {why}")]
    Value {
        /// The setting's name in the file.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Redis clients connect.
    pub listen: SocketAddr,
    /// Where nodes dial; port 0 takes a free one.
    pub link_listen: SocketAddr,
    /// The address of that as nodes see it, if it differs.
    pub link_advertise: Option<SocketAddr>,
    /// Whether links are TLS.
    pub link_tls: bool,
    /// Metrics and health; `None` switches them off.
    pub admin: Option<SocketAddr>,
    /// Number of nodes.
    pub nodes: u16,
    /// When nodes are added and drained without being asked.
    pub autoscale: Option<autoscale::Settings>,
    /// Memory of each node's function in MB.
    pub node_memory_mb: u32,
    /// Its processor.
    pub node_architecture: Architecture,
    /// Time-out of the functions: set for a local pool, compared elsewhere.
    pub function_timeout: Duration,
    /// Functions are named PREFIX-000, PREFIX-001 and so on.
    pub function_prefix: String,
    /// Where they run.
    pub functions: Functions,
    /// How often their configurations are looked at; zero: at the start only.
    pub function_check: Duration,
    /// Layouts by size.
    pub geometry: GeometryPolicy,
    /// Erasure code implementation.
    pub codec: Backend,
    /// Budget of the hot tier in bytes.
    pub hot_bytes: u64,
    /// Longest value of the hot tier in bytes.
    pub hot_value_bytes: u64,
    /// Longest value that shares a segment with others, in bytes; 0: none does.
    pub pack_up_to_bytes: u64,
    /// When small writes are acknowledged.
    pub ack: Ack,
    /// Budget of values acknowledged from memory, in bytes.
    pub dirty_bytes: u64,
    /// Where the journal and the epoch are kept.
    pub data_dir: Option<PathBuf>,
    /// When the journal is forced to the disk.
    pub appendfsync: Fsync,
    /// What a start goes by.
    pub recover: Recover,
    /// Where values are kept besides.
    pub backing: Option<backing::Settings>,
    /// How long an idle invocation is held open.
    pub linger: linger::Settings,
    /// Bytes of objects read a second for repairs; none: no limit.
    pub repair_bytes_per_s: Option<NonZeroU64>,
    /// When a node's instances are brought together.
    pub backup: backup::Settings,
    /// Bytes copied between instances a second; none: no limit.
    pub backup_bytes_per_s: Option<NonZeroU64>,
    /// Longest silence before a ping: its bounds.
    pub warmth: warmth::Settings,
    /// At which age instances are replaced.
    pub retire: retire::Settings,
    /// Which versions of payloads and links it speaks: no setting, but tests and
    /// simulations play a later release.
    pub speaks: Versions,
    /// How long before its deadline an instance returns.
    pub deadline_margin: Duration,
    /// Longest wait for a node.
    pub patience: Duration,
    /// How long a read waits before it asks for parity.
    pub hedge_after: Duration,
    /// What goes when nodes are full.
    pub eviction: EvictionPolicy,
    /// Longest value that a client may send, in bytes.
    pub proto_max_bulk_bytes: u64,
    /// The proxies that share the slots, if it is not alone.
    pub cluster: Option<Arc<Topology>>,
    /// Connections at a time.
    pub max_clients: usize,
    /// TLS for clients, if there is to be any.
    pub tls: Option<client_tls::Settings>,
    /// How long a script may run.
    pub script_limit: Duration,
    /// Who may do what.
    pub acl: Arc<Acl>,
    /// Longest value that is no string, in bytes.
    pub structure_max_bytes: u64,
    /// What connections may take, to begin with.
    pub client_limits: client_limits::Settings,
    /// What a client must move of a large value that it sends or takes, in bytes a
    /// second; 0: any rate will do.
    pub client_min_bytes_per_s: u64,
    /// What the slow log takes, to begin with.
    pub slow_log: slow_log::Settings,
    /// Which events of keys are published, to begin with.
    pub key_events: Classes,
    /// Keys that are remembered for CLIENT TRACKING, to begin with.
    pub tracking_table_max_keys: usize,
    /// Bytes of request bodies under way.
    pub inflight_bytes: u64,
    /// Refuse clients from other machines while there are no passwords.
    pub protected_mode: bool,
    /// Longest shutdown.
    pub shutdown_timeout: Duration,
    /// Worker threads.
    pub threads: usize,
    /// Log filter.
    pub log: String,
    /// Log format.
    pub log_format: LogFormat,
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Nodes and clients on the same machine want processors, too: with a worker for each,
/// the workers take turns with those that they wait for (figures in docs/performance.md).
fn default_threads(processors: usize, functions: &Functions) -> usize {
    match functions {
        Functions::Local => (processors / 2).max(1),
        _ => processors,
    }
}

fn bad(setting: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        setting,
        why: why.into(),
    }
}

/// At most a day: longer ones mean "never" and must not overflow a clock.
fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms.min(86_400_000))
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s.min(86_400))
}

/// A rate in bytes a second; 0: none.
fn megabytes(mb: u32) -> Option<NonZeroU64> {
    NonZeroU64::new(u64::from(mb) * 1_000_000)
}

impl Config {
    /// Fills in defaults and checks what belongs together.
    pub fn from_options(options: Options) -> Result<Self, ConfigError> {
        let full = options.data_parity.as_deref().unwrap_or("10+2");
        let full: Geometry = full
            .parse()
            .map_err(|e| bad("data_parity", format!("{e}")))?;
        let defaults = GeometryPolicy::with_full(full);
        let kib = |n: Option<u32>, default: u64| n.map_or(default, |n| u64::from(n) << 10);
        let cell_bytes = kib(options.cell_kb, u64::from(defaults.cell_bytes));
        let geometry = GeometryPolicy {
            full,
            whole_up_to_bytes: kib(options.whole_up_to_kb, defaults.whole_up_to_bytes),
            bytes_per_chunk: kib(options.chunk_from_kb, defaults.bytes_per_chunk),
            cell_bytes: u32::try_from(cell_bytes).unwrap_or(u32::MAX),
        };
        if geometry.cell_bytes == 0 || geometry.cell_bytes > MAX_CELL_BYTES {
            return Err(bad(
                "cell_kb",
                format!("must be 1 to {}", MAX_CELL_BYTES >> 10),
            ));
        }
        let nodes = options.nodes.unwrap_or_else(|| default_nodes(full));
        if usize::from(nodes) < full.total() || nodes == u16::MAX {
            return Err(bad(
                "nodes",
                format!("{full} needs at least {} nodes", full.total()),
            ));
        }
        let hot_bytes = u64::from(options.hot_tier_mb.unwrap_or(64)) << 20;
        let functions = match options.lambda_endpoint.as_deref() {
            None => Functions::Local,
            Some("aws") => Functions::Aws,
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                Functions::Endpoint(url.to_owned())
            }
            Some(_) => return Err(bad("lambda_endpoint", "must be an http(s) URL, or `aws`")),
        };
        let max_bulk = options
            .proto_max_bulk_mb
            .map_or(512 << 20, |mb| u64::from(mb) << 20);
        if max_bulk == 0 || max_bulk > MAX_OBJECT_BYTES {
            return Err(bad(
                "proto_max_bulk_mb",
                format!("must be 1 to {}", MAX_OBJECT_BYTES >> 20),
            ));
        }
        let node_memory_mb = options.node_memory_mb.unwrap_or(512);
        if !(128..=10_240).contains(&node_memory_mb) {
            return Err(bad("node_memory_mb", "must be 128 to 10240, as on Lambda"));
        }
        let timeout_s = options.function_timeout_s.unwrap_or(900);
        if !(1..=900).contains(&timeout_s) {
            return Err(bad("function_timeout_s", "must be 1 to 900, as on Lambda"));
        }
        let listen = options
            .listen
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 6379)));
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (wait_worth, upkeep) = match functions {
            // processes on this machine cost nothing while they wait
            Functions::Local => (10.0 * linger::USD_PER_WAIT, Upkeep::LOCAL),
            _ => (linger::USD_PER_WAIT, Upkeep::REMOTE),
        };
        let autoscale = elastic::autoscale(&options, full, nodes)?;
        let threads = match options.threads.unwrap_or(0) {
            0 => default_threads(processors(), &functions),
            chosen => chosen,
        };
        let backing = backing_settings(&options)?;
        let advice = times::advice(&options, wait_worth, upkeep)?;
        let architecture = options.node_architecture.unwrap_or_default();
        let usd_per_wait = advice.usd_per_wait;
        let linger = times::linger_settings(&options, node_memory_mb, architecture, usd_per_wait)?;
        let warmth = times::warmth_settings(&options, &advice);
        let slow_log = slow_log_settings(&options)?;
        let key_events = options
            .notify_keyspace_events
            .as_deref()
            .unwrap_or_default();
        let key_events = Classes::parse(key_events.as_bytes())
            .ok_or_else(|| bad("notify_keyspace_events", Classes::UNKNOWN))?;
        let link_listen = options.link_listen.unwrap_or(local(0));
        let advertised = options.link_advertise.map(|address| address.ip());
        let link_tls = options.link_tls.unwrap_or_default();
        let acl = Arc::new(acl(&options)?);
        let cluster = cluster(&options, listen)?;
        let tls = tls(&options)?;
        let client_limits = client_limits(&options)?;
        Ok(Self {
            listen,
            link_listen,
            link_advertise: options.link_advertise,
            link_tls: link_tls.applies(link_listen.ip(), advertised),
            admin: match options.admin.as_deref() {
                None => Some(local(9121)),
                Some("off") => None,
                Some(text) => Some(
                    text.parse()
                        .map_err(|_| bad("admin", "must be ADDR:PORT, or `off`"))?,
                ),
            },
            nodes,
            autoscale,
            node_memory_mb,
            node_architecture: architecture,
            function_timeout: Duration::from_secs(timeout_s.into()),
            function_prefix: options
                .function_prefix
                .unwrap_or_else(|| "scatterhoard-node".into()),
            functions,
            function_check: seconds(options.function_check_s.unwrap_or(300)),
            geometry,
            codec: options.codec.unwrap_or(Backend::RustyErasure),
            hot_bytes,
            hot_value_bytes: kib(options.hot_value_kb, 64 << 10),
            pack_up_to_bytes: kib(options.pack_up_to_kb, 16 << 10),
            ack: options.ack.unwrap_or_default(),
            dirty_bytes: u64::from(options.dirty_mb.unwrap_or(32)) << 20,
            data_dir: options.data_dir,
            appendfsync: options.appendfsync.unwrap_or_default(),
            recover: options.recover.unwrap_or_default(),
            backing,
            linger,
            repair_bytes_per_s: megabytes(options.repair_mb_s.unwrap_or(upkeep.repair_mb_s)),
            backup: backup::Settings {
                standby: options.standby.unwrap_or(true),
                interval: seconds(
                    options
                        .backup_interval_s
                        .unwrap_or(upkeep.backup_interval_s)
                        .max(1),
                ),
                after_bytes: options
                    .backup_after_mb
                    .unwrap_or(upkeep.backup_after_mb)
                    .clamp(1, 1 << 30)
                    << 20,
            },
            backup_bytes_per_s: megabytes(options.backup_mb_s.unwrap_or(upkeep.backup_mb_s)),
            warmth,
            retire: times::retire_settings(options.retire_after_s.as_deref())?,
            speaks: SPOKEN,
            deadline_margin: millis(options.deadline_margin_ms.unwrap_or(10_000)),
            patience: millis(options.node_timeout_ms.unwrap_or(5_000).max(100)),
            hedge_after: millis(
                options
                    .hedge_after_ms
                    .unwrap_or(advice.hedge_after_ms)
                    .max(1),
            ),
            eviction: options.maxmemory_policy.unwrap_or_default(),
            proto_max_bulk_bytes: max_bulk,
            max_clients: options.max_clients.unwrap_or(10_000).max(1),
            script_limit: millis(options.script_timeout_ms.unwrap_or(5000).max(1)),
            acl,
            tls,
            cluster,
            structure_max_bytes: u64::from(options.structure_max_mb.unwrap_or(8).clamp(1, 256))
                << 20,
            client_limits,
            client_min_bytes_per_s: kib(options.client_min_kb_s, 64 << 10),
            slow_log,
            key_events,
            tracking_table_max_keys: options
                .tracking_table_max_keys
                .unwrap_or(1_000_000)
                .clamp(1, crate::apply::MAX_TRACKED),
            inflight_bytes: u64::from(options.inflight_mb.unwrap_or(256).max(1)) << 20,
            protected_mode: options.protected_mode.unwrap_or(true),
            shutdown_timeout: seconds(options.shutdown_timeout_s.unwrap_or(10)),
            threads,
            log: options.log.unwrap_or_else(|| "info".into()),
            log_format: options.log_format.unwrap_or_default(),
        })
    }

    /// The names of the nodes' functions.
    pub fn function_names(&self) -> Vec<String> {
        (0..self.nodes)
            .map(|i| format!("{}-{i:03}", self.function_prefix))
            .collect()
    }

    /// As many nodes as there will be, unless somebody adds some by hand.
    pub fn most_nodes(&self) -> u16 {
        let most = self.autoscale.map_or(0, |scale| scale.max_nodes);
        self.nodes.max(u16::try_from(most).unwrap_or(u16::MAX))
    }

    /// Whether links leave this machine as plain text.
    pub fn links_can_be_read(&self) -> bool {
        let advertised = self.link_advertise.unwrap_or(self.link_listen);
        let leave = [self.link_listen, advertised].map(|address| address.ip());
        !self.link_tls && leave.into_iter().any(leaves_the_machine)
    }

    /// Whether small writes wait for a quorum although the proxy was to acknowledge them:
    /// it may hold none.
    pub fn holds_no_writes(&self) -> bool {
        self.ack == Ack::Proxy && (self.hot_bytes == 0 || self.dirty_bytes == 0)
    }

    /// What CONFIG GET shows of what cannot be changed, by Redis's names.
    pub fn redis_settings(&self) -> Vec<(&'static str, String)> {
        let bind = match self.listen.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => ip.to_string(),
        };
        vec![
            ("appendonly", "no".into()),
            ("bind", bind),
            ("databases", crate::keyspace::DATABASES.to_string()),
            ("maxclients", self.max_clients.to_string()),
            ("maxmemory-policy", self.eviction.name().into()),
            ("port", self.listen.port().to_string()),
            ("proto-max-bulk-len", self.proto_max_bulk_bytes.to_string()),
            (
                "protected-mode",
                if self.protected_mode { "yes" } else { "no" }.into(),
            ),
            ("save", String::new()),
        ]
    }
}

/// Without a data folder nobody would know after a restart what lies there.
fn backing_settings(options: &Options) -> Result<Option<backing::Settings>, ConfigError> {
    let Some(place) = options.backing_store.as_deref() else {
        return Ok(None);
    };
    if options.data_dir.is_none() {
        return Err(bad("backing_store", "needs a data_dir"));
    }
    let endpoint = options.backing_s3_endpoint.clone();
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if !endpoint.iter().all(is_url) {
        return Err(bad("backing_s3_endpoint", "must be an http(s) URL"));
    }
    let location = place
        .parse()
        .map_err(|why: &str| bad("backing_store", why))?;
    Ok(Some(backing::Settings {
        location,
        mode: options.backing_mode.unwrap_or_default(),
        s3_endpoint: endpoint,
        behind_bytes: u64::from(options.backing_behind_mb.unwrap_or(256).max(1)) << 20,
        timeout: millis(options.backing_timeout_ms.unwrap_or(10_000).max(100)),
    }))
}

fn slow_log_settings(options: &Options) -> Result<slow_log::Settings, ConfigError> {
    let defaults = slow_log::Settings::default();
    let slower_than_us = options.slowlog_log_slower_than;
    let slower_than_us = slower_than_us.unwrap_or(defaults.slower_than_us);
    if slower_than_us < -1 {
        return Err(bad(
            "slowlog_log_slower_than",
            "must be microseconds, 0 or -1",
        ));
    }
    Ok(slow_log::Settings {
        slower_than_us,
        max_len: options.slowlog_max_len.unwrap_or(defaults.max_len),
    })
}

/// Enough for every chunk on its own node, and two to step in.
fn default_nodes(full: Geometry) -> u16 {
    u16::try_from(full.total() + 2).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
