//! What connections may take, and how long they may be silent: by Redis's names, as
//! CONFIG SET changes it. Parsing is pure.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    clients::Clients,
    pubsub,
    resp::{self, number::parse_i64},
};

/// How often idle connections are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What subscribers may have waiting where Redis's limit is off.
const MOST_WAITING: usize = 1 << 30;
/// Redis's least query buffer.
const LEAST_QUERY_BYTES: u64 = 1 << 20;

/// One class of `client-output-buffer-limit`; 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// More bytes end the connection at once.
    pub hard_bytes: u64,
    /// More bytes end it after [`Self::soft_s`].
    pub soft_bytes: u64,
    /// See there.
    pub soft_s: u64,
}

/// All that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `timeout`: who asks for nothing for so long is let go, in s; 0: never.
    pub timeout_s: u64,
    /// `tcp-keepalive`: silence after which the peer's system is asked whether it is
    /// still there, in s; 0: never.
    pub tcp_keepalive_s: u64,
    /// `client-query-buffer-limit`: what the arguments of one request may have.
    pub query_bytes: u64,
    /// `client-output-buffer-limit normal`.
    pub normal: OutputLimit,
    /// The same of replicas, of which there are none.
    pub replica: OutputLimit,
    /// The same of subscribers.
    pub pubsub: OutputLimit,
}

/// Redis's defaults.
impl Default for Settings {
    fn default() -> Self {
        let limit = |hard_mb: u64, soft_mb: u64, soft_s| OutputLimit {
            hard_bytes: hard_mb << 20,
            soft_bytes: soft_mb << 20,
            soft_s,
        };
        Self {
            timeout_s: 0,
            tcp_keepalive_s: 300,
            query_bytes: 1 << 30,
            normal: limit(0, 0, 0),
            replica: limit(256, 64, 60),
            pubsub: limit(32, 8, 60),
        }
    }
}

/// Redis's name of [`Settings::timeout_s`].
pub const TIMEOUT: &str = "timeout";
/// Of [`Settings::tcp_keepalive_s`].
pub const KEEPALIVE: &str = "tcp-keepalive";
/// Of [`Settings::query_bytes`].
pub const QUERY: &str = "client-query-buffer-limit";
/// Of the limits of what waits for a client.
pub const OUTPUT: &str = "client-output-buffer-limit";

impl Settings {
    /// Names and values, as CONFIG GET shows them.
    pub fn shown(&self) -> [(&'static str, String); 4] {
        let class = |name: &str, l: &OutputLimit| {
            format!("{name} {} {} {}", l.hard_bytes, l.soft_bytes, l.soft_s)
        };
        let classes = [
            class("normal", &self.normal),
            class("slave", &self.replica),
            class("pubsub", &self.pubsub),
        ];
        [
            (TIMEOUT, self.timeout_s.to_string()),
            (KEEPALIVE, self.tcp_keepalive_s.to_string()),
            (QUERY, self.query_bytes.to_string()),
            (OUTPUT, classes.join(" ")),
        ]
    }

    /// Changes what this name means; says what is wrong in Redis's words.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            TIMEOUT => self.timeout_s = seconds(value)?,
            KEEPALIVE => self.tcp_keepalive_s = seconds(value)?,
            QUERY => {
                let bytes = memory(value).ok_or("argument must be a memory value")?;
                if !(LEAST_QUERY_BYTES..=i64::MAX.cast_unsigned()).contains(&bytes) {
                    return Err(
                        "argument must be between 1048576 and 9223372036854775807 inclusive",
                    );
                }
                self.query_bytes = bytes;
            }
            OUTPUT => self.set_outputs(value)?,
            _ => return Err("can't set immutable config"),
        }
        Ok(())
    }

    fn set_outputs(&mut self, value: &str) -> Result<(), &'static str> {
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        let (classes, rest) = words.as_chunks::<4>();
        if !rest.is_empty() || classes.is_empty() {
            return Err("Wrong number of arguments in buffer limit configuration.");
        }
        let mut changed = *self;
        for [class, hard, soft, soft_s] in classes {
            let class = match class.to_ascii_lowercase().as_str() {
                "normal" => &mut changed.normal,
                "slave" | "replica" => &mut changed.replica,
                "pubsub" => &mut changed.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration."),
            };
            let wrong =
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
            *class = OutputLimit {
                hard_bytes: memory(hard).ok_or(wrong)?,
                soft_bytes: memory(soft).ok_or(wrong)?,
                soft_s: soft_s.parse().map_err(|_| wrong)?,
            };
        }
        *self = changed;
        Ok(())
    }
}

fn seconds(value: &str) -> Result<u64, &'static str> {
    let number = parse_i64(value.as_bytes());
    let number = number.ok_or("argument couldn't be parsed into an integer")?;
    let seconds = u64::try_from(number).ok().filter(|s| *s <= 0x7fff_ffff);
    seconds.ok_or("argument must be between 0 and 2147483647 inclusive")
}

/// Bytes with one of Redis's units: `k` is 1000, `kb` 1024.
fn memory(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The settings in force.
pub struct ClientLimits {
    settings: Mutex<Settings>,
    subscribers: pubsub::SharedLimits,
    normal_hard_bytes: AtomicU64,
    normal_soft_bytes: AtomicU64,
    normal_soft_s: AtomicU64,
}

impl ClientLimits {
    /// These.
    pub fn new(settings: Settings) -> Self {
        let limits = Self {
            settings: Mutex::new(settings),
            subscribers: pubsub::Limits::default().into(),
            normal_hard_bytes: AtomicU64::new(0),
            normal_soft_bytes: AtomicU64::new(0),
            normal_soft_s: AtomicU64::new(0),
        };
        limits.set(settings);
        limits
    }

    /// What is set.
    pub fn settings(&self) -> Settings {
        *self.settings.lock()
    }

    /// Others, also for connections that there are.
    pub fn set(&self, settings: Settings) {
        *self.settings.lock() = settings;
        let or_most = |bytes: u64| match usize::try_from(bytes) {
            Ok(1..) => usize::try_from(bytes)
                .unwrap_or(MOST_WAITING)
                .min(MOST_WAITING),
            _ => MOST_WAITING,
        };
        let OutputLimit {
            hard_bytes,
            soft_bytes,
            soft_s,
        } = settings.pubsub;
        self.subscribers.set(pubsub::Limits {
            hard_bytes: or_most(hard_bytes),
            soft_bytes: or_most(soft_bytes),
            soft_for: Duration::from_secs(soft_s.min(u64::from(u32::MAX))),
        });
        let normal = settings.normal;
        self.normal_hard_bytes
            .store(normal.hard_bytes, Ordering::Relaxed);
        self.normal_soft_bytes
            .store(normal.soft_bytes, Ordering::Relaxed);
        self.normal_soft_s.store(normal.soft_s, Ordering::Relaxed);
    }

    /// What replies may have waiting.
    pub fn of_replies(&self) -> OutputLimit {
        OutputLimit {
            hard_bytes: self.normal_hard_bytes.load(Ordering::Relaxed),
            soft_bytes: self.normal_soft_bytes.load(Ordering::Relaxed),
            soft_s: self.normal_soft_s.load(Ordering::Relaxed),
        }
    }

    /// What messages to subscribers may have waiting.
    pub fn of_subscribers(&self) -> pubsub::SharedLimits {
        self.subscribers.clone()
    }

    /// What a new connection's requests may take, each argument so many bytes.
    pub fn of_requests(&self, max_bulk_bytes: u64) -> resp::Limits {
        let query_bytes = self.settings().query_bytes;
        let defaults = resp::Limits::default();
        let small = usize::try_from(query_bytes).unwrap_or(usize::MAX);
        resp::Limits {
            max_bulk_bytes,
            // one value may be longer: it is not kept in memory
            max_large_bytes: match query_bytes == Settings::default().query_bytes {
                true => defaults.max_large_bytes.max(max_bulk_bytes),
                false => query_bytes,
            },
            max_small_bytes: defaults.max_small_bytes.min(small),
            ..defaults
        }
    }

    /// Lets idle connections go, until stopped.
    pub async fn keep(self: Arc<Self>, clients: Clients, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let timeout_s = self.settings().timeout_s;
            if timeout_s == 0 {
                continue;
            }
            let count = clients.end_idle(Duration::from_secs(timeout_s));
            if count > 0 {
                ended("idle", count as u64);
            }
        }
    }
}

/// Connections were ended.
pub fn ended(reason: &'static str, count: u64) {
    metrics::counter!("scatterhoard_ended_clients_total", "reason" => reason).increment(count);
}

/// A client was ended for what it did, or did not do.
pub fn ended_with(reason: &'static str, peer: impl Display) {
    static LINES: crate::log_rate::LogRate = crate::log_rate::LogRate::new(5);
    ended(reason, 1);
    if let Some(left_out) = LINES.admits() {
        tracing::info!(%peer, reason, left_out, "client ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts and results are those of redis-server 7.0.15.
    #[test]
    fn settings_are_understood_as_redis_does() {
        let mut settings = Settings::default();
        let outputs = |s: &Settings| s.shown()[3].1.clone();
        assert_eq!(
            outputs(&settings),
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
        );
        settings
            .set(OUTPUT, "pubsub 5 6 7 normal 1mb 1k 0")
            .unwrap();
        assert_eq!(
            outputs(&settings),
            "normal 1048576 1000 0 slave 268435456 67108864 60 pubsub 5 6 7"
        );
        let before = settings;
        for (name, value, why) in [
            (OUTPUT, "pubsub 1mb 2mb", "Wrong number of arguments in"),
            (OUTPUT, "", "Wrong number of arguments in"),
            (
                OUTPUT,
                "pubsub 1mb 2mb 60 normal 1 2 x",
                "Error in hard, soft",
            ),
            (OUTPUT, "foo 1mb 2mb 3", "Invalid client class"),
            (QUERY, "5", "argument must be between 1048576 and"),
            (QUERY, "x", "argument must be a memory value"),
            (TIMEOUT, "-1", "argument must be between 0 and 2147483647"),
            (
                TIMEOUT,
                "99999999999",
                "argument must be between 0 and 2147483647",
            ),
            (
                KEEPALIVE,
                "x",
                "argument couldn't be parsed into an integer",
            ),
        ] {
            let said = settings.set(name, value).unwrap_err();
            assert!(said.starts_with(why), "{name} {value}: {said}");
            assert_eq!(settings, before);
        }
        settings.set(QUERY, "2mb").unwrap();
        settings.set(TIMEOUT, "7").unwrap();
        settings.set(KEEPALIVE, "0").unwrap();
        let shown: Vec<String> = settings.shown().into_iter().map(|(_, v)| v).collect();
        assert_eq!(shown[..3], ["7", "0", "2097152"]);
    }

    #[test]
    fn they_reach_subscribers_that_there_are() {
        let limits = ClientLimits::new(Settings::default());
        let seen = limits.of_subscribers();
        let mut settings = limits.settings();
        settings.set(OUTPUT, "pubsub 1000 0 5").unwrap();
        limits.set(settings);
        let now = seen.get();
        assert_eq!((now.hard_bytes, now.soft_bytes), (1000, MOST_WAITING));
        settings.set(QUERY, "1mb").unwrap();
        limits.set(settings);
        let requests = limits.of_requests(512 << 20);
        assert_eq!(
            (requests.max_large_bytes, requests.max_small_bytes),
            (1 << 20, 1 << 20)
        );
    }
}
