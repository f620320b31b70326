//! What can be set, by the same names as flags, in the environment and in the
//! file: `--hot-tier-mb`, `SCATTERHOARD_HOT_TIER_MB`, `hot_tier_mb`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory, Parser, ValueEnum};
use serde::Deserialize;

use super::{ConfigError, times::Architecture};
use crate::{
    backing::Mode,
    client_tls::ClientCertificates,
    codec::Backend,
    journal::Fsync,
    keyspace::EvictionPolicy,
    pool::link_tls::LinkTls,
    store::{Ack, Recover},
};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// A setting that is not shown.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret(String);

impl Secret {
    /// What it is.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn backend(text: &str) -> Result<Backend, String> {
    named(text, "reed-solomon-erasure or rusty-erasure")
}

fn policy(text: &str) -> Result<EvictionPolicy, String> {
    named(
        text,
        "noeviction, allkeys-lru, volatile-lru, allkeys-random or volatile-ttl",
    )
}

fn named<T: serde::de::DeserializeOwned>(text: &str, names: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|_| format!("must be {names}"))
}

macro_rules! options {
    ($($(#[$meta:meta])* $name:ident: $type:ty,)+) => {
        /// Settings as they were given; what is `None` has its default.
        #[derive(Args, Clone, Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Options {
            $($(#[$meta])* pub $name: Option<$type>,)+
        }

        impl Options {
            /// These settings, and those of `other` where these say nothing.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)+ }
            }
        }
    };
}

options! {
    /// Address and port for Redis clients [default: 127.0.0.1:6379]
    #[arg(long, env = "SCATTERHOARD_LISTEN", value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Number of nodes, one function each [default: d + p + 2]
    #[arg(long, env = "SCATTERHOARD_NODES", value_name = "N")]
    nodes: u16,
    /// Memory of each node in MB [default: 512]
    #[arg(long, env = "SCATTERHOARD_NODE_MEMORY_MB", value_name = "M")]
    node_memory_mb: u32,
    /// Processor of the nodes' functions, by whose price they are held [default: this
    /// program's]
    #[arg(long, env = "SCATTERHOARD_NODE_ARCHITECTURE", value_name = "ARCH", value_enum)]
    node_architecture: Architecture,
    /// Data and parity chunks of large objects [default: 10+2]
    #[arg(long, env = "SCATTERHOARD_DATA_PARITY", value_name = "D+P")]
    data_parity: String,
    /// Memory for small hot values in the proxy, in MB; 0: none [default: 64]
    #[arg(long, env = "SCATTERHOARD_HOT_TIER_MB", value_name = "M")]
    hot_tier_mb: u32,
    /// Longest value that the hot tier keeps, in KB [default: 64]
    #[arg(long, env = "SCATTERHOARD_HOT_VALUE_KB", value_name = "K")]
    hot_value_kb: u32,
    /// Longest value that shares a segment with others written at the same time,
    /// in KB; 0: none does [default: 16]
    #[arg(long, env = "SCATTERHOARD_PACK_UP_TO_KB", value_name = "K")]
    pack_up_to_kb: u32,
    /// Longest value that is no string, in MB: it is read and written anew with each
    /// change [default: 8]
    #[arg(long, env = "SCATTERHOARD_STRUCTURE_MAX_MB", value_name = "M")]
    structure_max_mb: u32,
    /// How long a script may run, in ms; what takes longer leaves nothing
    /// [default: 5000]
    #[arg(long, env = "SCATTERHOARD_SCRIPT_TIMEOUT_MS", value_name = "MS")]
    script_timeout_ms: u64,
    /// Address and port for Redis clients that speak TLS [default: none]
    #[arg(long, env = "SCATTERHOARD_TLS_LISTEN", value_name = "ADDR:PORT")]
    tls_listen: SocketAddr,
    /// Certificate for them, with those that it rests on, PEM; taken anew when it
    /// changes
    #[arg(long, env = "SCATTERHOARD_TLS_CERT_FILE", value_name = "FILE")]
    tls_cert_file: PathBuf,
    /// Its key, PEM
    #[arg(long, env = "SCATTERHOARD_TLS_KEY_FILE", value_name = "FILE")]
    tls_key_file: PathBuf,
    /// Whether TLS clients must show a certificate, too [default: no]
    #[arg(long, env = "SCATTERHOARD_TLS_AUTH_CLIENTS", value_name = "WHETHER", value_enum)]
    tls_auth_clients: ClientCertificates,
    /// On which their certificates must rest, PEM
    #[arg(long, env = "SCATTERHOARD_TLS_CA_CERT_FILE", value_name = "FILE")]
    tls_ca_cert_file: PathBuf,
    /// Those of them that are revoked, PEM; taken anew when it changes [default: none]
    #[arg(long, env = "SCATTERHOARD_TLS_CRL_FILE", value_name = "FILE")]
    tls_crl_file: PathBuf,
    /// Password that clients must say (AUTH) [default: none]
    #[arg(long, env = "SCATTERHOARD_REQUIREPASS", value_name = "PASSWORD", hide_env_values = true)]
    requirepass: Secret,
    /// Users and what they may do, as in Redis's ACL files: a line `user NAME
    /// RULES...` each [default: none]
    #[arg(long, env = "SCATTERHOARD_ACL_FILE", value_name = "FILE")]
    acl_file: PathBuf,
    /// When small writes are acknowledged: by a quorum of nodes, or by the
    /// proxy's memory, which may lose the last ones if it dies; not without
    /// hot_tier_mb and dirty_mb [default: quorum]
    #[arg(long, env = "SCATTERHOARD_ACK", value_name = "WHO", value_enum)]
    ack: Ack,
    /// Values acknowledged from memory that may wait for nodes, in MB [default: 32]
    #[arg(long, env = "SCATTERHOARD_DIRTY_MB", value_name = "M")]
    dirty_mb: u32,
    /// Folder for the journal, the epoch and the ownership lock [default: none]
    #[arg(long, env = "SCATTERHOARD_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// When the journal in the data folder is forced to the disk
    /// [default: everysec]
    #[arg(long, env = "SCATTERHOARD_APPENDFSYNC", value_name = "WHEN", value_enum)]
    appendfsync: Fsync,
    /// What a start goes by: the journal alone, or, where there is none, what nodes
    /// say they hold; for that every value's key is kept with it [default: journal]
    #[arg(long, env = "SCATTERHOARD_RECOVER", value_name = "FROM", value_enum)]
    recover: Recover,
    /// Where values are kept besides, for when nodes lose them: file:///FOLDER or
    /// s3://BUCKET/PREFIX; needs a data folder [default: none]
    #[arg(long, env = "SCATTERHOARD_BACKING_STORE", value_name = "URL")]
    backing_store: String,
    /// When a write must be there: before its reply, or soon after
    /// [default: write-through]
    #[arg(long, env = "SCATTERHOARD_BACKING_MODE", value_name = "MODE", value_enum)]
    backing_mode: Mode,
    /// Values that write-behind may owe the backing store, in MB; then writes
    /// wait [default: 256]
    #[arg(long, env = "SCATTERHOARD_BACKING_BEHIND_MB", value_name = "M")]
    backing_behind_mb: u32,
    /// Another S3-compatible server [default: AWS's]
    #[arg(long, env = "SCATTERHOARD_BACKING_S3_ENDPOINT", value_name = "URL")]
    backing_s3_endpoint: String,
    /// Longest wait for an answer of the backing store, in ms [default: 10000]
    #[arg(long, env = "SCATTERHOARD_BACKING_TIMEOUT_MS", value_name = "MS")]
    backing_timeout_ms: u64,
    /// Health and metrics, or `off` [default: 127.0.0.1:9121]
    #[arg(long, env = "SCATTERHOARD_ADMIN", value_name = "ADDR:PORT")]
    admin: String,
    /// Invoke endpoint, or `aws` [default: functions on this machine]
    #[arg(long, env = "SCATTERHOARD_LAMBDA_ENDPOINT", value_name = "URL")]
    lambda_endpoint: String,
    /// Functions are named PREFIX-000 and so on [default: scatterhoard-node]
    #[arg(long, env = "SCATTERHOARD_FUNCTION_PREFIX", value_name = "PREFIX")]
    function_prefix: String,
    /// Time-out of the functions in seconds: set for a local pool, compared elsewhere [default: 900]
    #[arg(long, env = "SCATTERHOARD_FUNCTION_TIMEOUT_S", value_name = "S")]
    function_timeout_s: u32,
    /// How often functions' configurations are looked at, to notice changes, in s; 0: at
    /// the start only [default: 300]
    #[arg(long, env = "SCATTERHOARD_FUNCTION_CHECK_S", value_name = "S")]
    function_check_s: u64,
    /// What `scatterhoard probe` has measured of the platform: times that are not set go by
    /// it [default: none]
    #[arg(long, env = "SCATTERHOARD_PLATFORM_PROFILE", value_name = "FILE")]
    platform_profile: PathBuf,
    /// Where nodes dial [default: 127.0.0.1:0, a free port]
    #[arg(long, env = "SCATTERHOARD_LINK_LISTEN", value_name = "ADDR:PORT")]
    link_listen: SocketAddr,
    /// That address as nodes see it [default: as bound]
    #[arg(long, env = "SCATTERHOARD_LINK_ADVERTISE", value_name = "ADDR:PORT")]
    link_advertise: SocketAddr,
    /// TLS on links, with the proxy's certificate pinned [default: auto, off on the loopback only]
    #[arg(long, env = "SCATTERHOARD_LINK_TLS", value_name = "WHEN", value_enum)]
    link_tls: LinkTls,
    /// How long an idle invocation is held open at least, in ms [default: 10]
    #[arg(long, env = "SCATTERHOARD_LINGER_MS", value_name = "MS")]
    linger_ms: u64,
    /// What sparing a million requests the wait for an invoke is worth, in US dollars; an idle
    /// invocation is held for what that and the request price buy [default: 1.5; 15 for local ones]
    #[arg(long, env = "SCATTERHOARD_INVOKE_WAIT_USD_PER_MILLION", value_name = "USD")]
    invoke_wait_usd_per_million: f64,
    /// At most, whatever invokes cost, in ms [default: 2000]
    #[arg(long, env = "SCATTERHOARD_LINGER_MAX_MS", value_name = "MS")]
    linger_max_ms: u64,
    /// Longest silence before a node is pinged, in s, until the pool knows better
    /// [default: 45]
    #[arg(long, env = "SCATTERHOARD_WARM_INTERVAL_S", value_name = "S")]
    warm_interval_s: u64,
    /// The same once instances have proved to live through it [default: 45]
    #[arg(long, env = "SCATTERHOARD_WARM_INTERVAL_MAX_S", value_name = "S")]
    warm_interval_max_s: u64,
    /// Whether each node has a standby: a second instance that holds the same
    /// [default: true]
    #[arg(long, env = "SCATTERHOARD_STANDBY", value_name = "BOOL")]
    standby: bool,
    /// Longest time before a node's standby is brought up to date, in s [default: 45]
    #[arg(long, env = "SCATTERHOARD_BACKUP_INTERVAL_S", value_name = "S")]
    backup_interval_s: u64,
    /// It is brought up to date earlier when so many MB were stored
    /// [default: 4; 256 for local ones]
    #[arg(long, env = "SCATTERHOARD_BACKUP_AFTER_MB", value_name = "M")]
    backup_after_mb: u64,
    /// How much is copied to standbys a second, in MB; 0: no limit [default: 800; 50 for local ones]
    #[arg(long, env = "SCATTERHOARD_BACKUP_MB_S", value_name = "M")]
    backup_mb_s: u32,
    /// Age at which an instance is replaced by a young one before the platform takes it, in s:
    /// `auto`: the age at which it usually does, if age matters; or `off` [default: off]
    #[arg(long, env = "SCATTERHOARD_RETIRE_AFTER_S", value_name = "S")]
    retire_after_s: String,
    /// How long before its deadline a node returns, in ms [default: 10000]
    #[arg(long, env = "SCATTERHOARD_DEADLINE_MARGIN_MS", value_name = "MS")]
    deadline_margin_ms: u64,
    /// Longest wait for a node, in ms [default: 5000]
    #[arg(long, env = "SCATTERHOARD_NODE_TIMEOUT_MS", value_name = "MS")]
    node_timeout_ms: u64,
    /// How long a read waits at most for data before it asks for parity, in ms [default: 50]
    #[arg(long, env = "SCATTERHOARD_HEDGE_AFTER_MS", value_name = "MS")]
    hedge_after_ms: u64,
    /// Objects up to this many KB are whole copies on p + 1 nodes [default: 256]
    #[arg(long, env = "SCATTERHOARD_WHOLE_UP_TO_KB", value_name = "K")]
    whole_up_to_kb: u32,
    /// Above that, one data chunk for every so many KB, up to d [default: 256]
    #[arg(long, env = "SCATTERHOARD_CHUNK_FROM_KB", value_name = "K")]
    chunk_from_kb: u32,
    /// Longest cell, in KB [default: 256]
    #[arg(long, env = "SCATTERHOARD_CELL_KB", value_name = "K")]
    cell_kb: u32,
    /// Erasure code: rusty-erasure or reed-solomon-erasure [default: the first]
    #[arg(long, env = "SCATTERHOARD_CODEC", value_name = "NAME", value_parser = backend)]
    codec: Backend,
    /// What goes when nodes are full, by Redis's names [default: allkeys-lru]
    #[arg(long, env = "SCATTERHOARD_MAXMEMORY_POLICY", value_name = "POLICY", value_parser = policy)]
    maxmemory_policy: EvictionPolicy,
    /// Never fewer nodes than so many [default: d + p]
    #[arg(long, env = "SCATTERHOARD_POOL_MIN_NODES", value_name = "N")]
    pool_min_nodes: u16,
    /// Never more; their functions must be there [default: as many as at the start]
    #[arg(long, env = "SCATTERHOARD_POOL_MAX_NODES", value_name = "N")]
    pool_max_nodes: u16,
    /// Add nodes when more of their room is used than this, in percent [default: never]
    #[arg(long, env = "SCATTERHOARD_POOL_GROW_ABOVE", value_name = "PERCENT")]
    pool_grow_above: u8,
    /// Drain nodes when less of their room is used than this, in percent
    /// [default: never]
    #[arg(long, env = "SCATTERHOARD_POOL_SHRINK_BELOW", value_name = "PERCENT")]
    pool_shrink_below: u8,
    /// Least time between two such steps, in seconds [default: 300]
    #[arg(long, env = "SCATTERHOARD_POOL_STEP_S", value_name = "S")]
    pool_step_s: u64,
    /// Longest value that a client may send, in MB [default: 512]
    #[arg(long, env = "SCATTERHOARD_PROTO_MAX_BULK_MB", value_name = "M")]
    proto_max_bulk_mb: u32,
    /// The proxies of a Redis Cluster, each as `HOST:PORT FIRST-LAST...` with its slots (with TLS
    /// `HOST:PORT/TLS-PORT`), the same for all of them: this one among them owns its slots only
    #[arg(long, env = "SCATTERHOARD_CLUSTER", value_name = "MEMBERS", value_delimiter = ',')]
    cluster: Vec<String>,
    /// Which of them this one is [default: the address on which it listens]
    #[arg(long, env = "SCATTERHOARD_CLUSTER_SELF", value_name = "HOST:PORT")]
    cluster_self: String,
    /// Most clients at a time [default: 10000]
    #[arg(long, env = "SCATTERHOARD_MAX_CLIENTS", value_name = "N")]
    max_clients: usize,
    /// Clients that ask for nothing for so long are let go, in s; 0: never [default: 0]
    #[arg(long, env = "SCATTERHOARD_TIMEOUT", value_name = "S")]
    timeout: u32,
    /// Silence after which a client's system is asked whether it is still there, in s;
    /// 0: never [default: 300]
    #[arg(long, env = "SCATTERHOARD_TCP_KEEPALIVE", value_name = "S")]
    tcp_keepalive: u32,
    /// What replies and messages to a client may have waiting, as Redis writes it
    /// [default: normal 0 0 0 pubsub 32mb 8mb 60]
    #[arg(long, env = "SCATTERHOARD_CLIENT_OUTPUT_BUFFER_LIMIT", value_name = "LIMITS")]
    client_output_buffer_limit: String,
    /// What the arguments of one request may have together [default: 1gb]
    #[arg(long, env = "SCATTERHOARD_CLIENT_QUERY_BUFFER_LIMIT", value_name = "BYTES")]
    client_query_buffer_limit: String,
    /// What a client must move of a large value that it sends or takes, in KiB a
    /// second, on the average of 30 s; 0: any rate will do [default: 64]
    #[arg(long, env = "SCATTERHOARD_CLIENT_MIN_KB_S", value_name = "K")]
    client_min_kb_s: u32,
    /// Which events of keys are published, by the letters that Redis has for them: `KEA` is
    /// all but m and n; empty: none [default: empty]
    #[arg(long, env = "SCATTERHOARD_NOTIFY_KEYSPACE_EVENTS", value_name = "LETTERS")]
    notify_keyspace_events: String,
    /// Keys that are remembered for CLIENT TRACKING; beyond that some are forgotten, and who
    /// read them is told as if they had changed [default: 1000000]
    #[arg(long, env = "SCATTERHOARD_TRACKING_TABLE_MAX_KEYS", value_name = "N")]
    tracking_table_max_keys: usize,
    /// Commands that take so many microseconds are in the slow log; -1: none
    /// [default: 10000]
    #[arg(long, env = "SCATTERHOARD_SLOWLOG_LOG_SLOWER_THAN", value_name = "US", allow_hyphen_values = true)]
    slowlog_log_slower_than: i64,
    /// Entries that the slow log keeps [default: 128]
    #[arg(long, env = "SCATTERHOARD_SLOWLOG_MAX_LEN", value_name = "N")]
    slowlog_max_len: u64,
    /// Memory for large values on their way to and from clients, in MB [default: 256]
    #[arg(long, env = "SCATTERHOARD_INFLIGHT_MB", value_name = "M")]
    inflight_mb: u32,
    /// Refuse clients from other machines [default: true]
    #[arg(long, env = "SCATTERHOARD_PROTECTED_MODE", value_name = "BOOL")]
    protected_mode: bool,
    /// Longest shutdown, in s [default: 10]
    #[arg(long, env = "SCATTERHOARD_SHUTDOWN_TIMEOUT_S", value_name = "S")]
    shutdown_timeout_s: u64,
    /// How much of damaged objects is repaired a second, in MB; 0: no limit
    /// [default: 400; 200 for local ones]
    #[arg(long, env = "SCATTERHOARD_REPAIR_MB_S", value_name = "M")]
    repair_mb_s: u32,
    /// Worker threads; 0: one per processor, with a local pool one per two [default: 0]
    #[arg(long, env = "SCATTERHOARD_THREADS", value_name = "N")]
    threads: usize,
    /// What is logged, e.g. `warn` or `info,scatterhoard_proxy::pool=debug` [default: info]
    #[arg(long, env = "SCATTERHOARD_LOG", value_name = "FILTER")]
    log: String,
    /// How log lines look [default: human]
    #[arg(long, env = "SCATTERHOARD_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    log_format: LogFormat,
}

/// Only to ask clap for the names of the settings.
#[derive(Parser)]
struct Names {
    #[command(flatten)]
    _options: Options,
}

impl Options {
    /// Reads a TOML file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        Self::from_toml(path, &text)
    }

    /// Understands the text of a file; `path` is for errors.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let syntax = |error| ConfigError::Syntax {
            path: path.to_owned(),
            error,
        };
        let table = toml::de::DeTable::parse(text).map_err(syntax)?;
        let command = Names::command();
        let known: Vec<&str> = command
            .get_arguments()
            .map(|a| a.get_id().as_str())
            .collect();
        for key in table.get_ref().keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                return Err(ConfigError::UnknownKey {
                    path: path.to_owned(),
                    line: text[..key.span().start].lines().count().max(1)
                        + usize::from(text[..key.span().start].ends_with('\n')),
                    key: name.to_owned(),
                    nearest: nearest(name, &known),
                });
            }
        }
        toml::from_str(text).map_err(syntax)
    }
}

/// The known name that looks most like this one, if any does.
fn nearest(name: &str, known: &[&str]) -> Option<String> {
    let name = name.replace('-', "_");
    let likeness = |known: &&str| strsim::jaro_winkler(&name, known);
    let best = known
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.7).then(|| (*best).to_owned())
}
