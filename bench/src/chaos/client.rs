//! The clients: each writes keys of its own, reads those of all, and has every byte judged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::{sleep, timeout};

use super::losses::Losses;
use super::tally::{Found, Op, Tally};
use crate::client::Connection;
use crate::reply::Reply;
use scatterhoard_judge::bodies::Bodies;
use scatterhoard_judge::model::{Content, Ending, Key, Verdict};

/// Longest object.
pub(super) const LARGEST: usize = 10_000_000;
/// An operation that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);
const RECONNECT_EVERY: Duration = Duration::from_millis(20);
/// Who is refused does not ask again at once.
const AFTER_REFUSAL: Duration = Duration::from_millis(5);

/// What clients and faults share.
pub(super) struct Shared {
    pub(super) address: String,
    pub(super) keys: Vec<Mutex<Key>>,
    pub(super) bodies: Bodies,
    pub(super) losses: Mutex<Losses>,
    pub(super) tally: Mutex<Tally>,
    pub(super) phase: Mutex<String>,
    pub(super) stopped: AtomicBool,
    /// Clients wait: nodes fall asleep.
    pub(super) paused: AtomicBool,
    started: Instant,
    prefix: String,
}

/// Nothing panics while it has one: what is inside is whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(address: String, keys: usize, parity: usize, seed: u64) -> Self {
        Self {
            address,
            keys: (0..keys).map(|key| Mutex::new(Key::new(key))).collect(),
            bodies: Bodies::new(LARGEST, seed),
            losses: Mutex::new(Losses::new(parity)),
            tally: Mutex::default(),
            phase: Mutex::new("quiet".to_owned()),
            stopped: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            started: Instant::now(),
            prefix: format!("chaos:{seed}"),
        }
    }

    /// Since the start of the run.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn name(&self, key: usize) -> Vec<u8> {
        format!("{}:{key}", self.prefix).into_bytes()
    }

    fn phase(&self) -> String {
        lock(&self.phase).clone()
    }
}

/// One client with its connection, if it has one.
pub(super) struct Client<'a> {
    shared: &'a Shared,
    connection: Option<Connection>,
    was_refused: bool,
}

/// Why an operation brought no answer to judge.
enum Failure {
    /// The first word of the error that came instead.
    Refused(String),
    /// The connection broke, or nothing came in time.
    Broken(&'static str),
}

impl<'a> Client<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            connection: None,
            was_refused: false,
        }
    }

    /// Works until stopped, on its own keys: those that leave `index` when divided by `clients`.
    pub(super) async fn work(
        &mut self,
        index: usize,
        clients: usize,
        rng: &mut SmallRng,
    ) -> Result<()> {
        let count = self.shared.keys.len();
        while !self.shared.stopped.load(Ordering::Relaxed) {
            if self.shared.paused.load(Ordering::Relaxed) {
                sleep(RECONNECT_EVERY).await;
                continue;
            }
            if std::mem::take(&mut self.was_refused) {
                sleep(AFTER_REFUSAL).await;
            }
            let own = rng.random_range(0..count / clients) * clients + index;
            match rng.random_range(0..100) {
                0..58 => self.get(rng.random_range(0..count)).await?,
                58..90 => self.set(own, size(rng), None).await?,
                90..95 => {
                    let ttl = Duration::from_millis(rng.random_range(100..4000));
                    self.set(own, size(rng), Some(ttl)).await?;
                }
                _ => self.del(own).await?,
            }
        }
        Ok(())
    }

    pub(super) async fn get(&mut self, key: usize) -> Result<()> {
        let Some((mut connection, phase)) = self.connected().await else {
            return Ok(());
        };
        let shared = self.shared;
        connection.push(&[b"GET", &shared.name(key)])?;
        let read = lock(&shared.keys[key]).begin_read(shared.now());
        let outcome = attempt(connection.exchange(1)).await;
        let now = shared.now();
        let reply = match &outcome {
            Ok(_) => connection.reply(0),
            Err(_) => None,
        };
        let value = match (&outcome, reply) {
            (Ok(_), Some(Reply::Bulk(value))) => Ok(Some(value)),
            (Ok(_), Some(Reply::Nil)) => Ok(None),
            (outcome, reply) => Err(failure(outcome, reply)),
        };
        let value = match value {
            Ok(value) => value,
            Err(failure) => return self.fail(&phase, Op::Get, failure, Some(connection)),
        };
        let verdict = lock(&shared.keys[key]).end_read(&read, value, &shared.bodies, now);
        let found = match verdict {
            Verdict::Hit => Found::Hit,
            Verdict::Absent => Found::Absent,
            Verdict::Miss { written } if lock(&shared.losses).explain(written) => Found::Lost,
            Verdict::Miss { .. } => Found::Unexplained,
            Verdict::Stale { .. } => Found::Stale,
            Verdict::Wrong => Found::Wrong,
        };
        let describe = || {
            let len = value.map(<[u8]>::len);
            format!("{verdict:?}, key {key}, {len:?} bytes, at {now:?}")
        };
        let mut tally = lock(&shared.tally);
        tally.found(&phase, found, describe)?;
        if let Ok(took) = outcome {
            tally.answered(&phase, Op::Get, took)?;
        }
        drop(tally);
        self.connection = Some(connection);
        Ok(())
    }

    pub(super) async fn set(
        &mut self,
        key: usize,
        len: usize,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let Some((mut connection, phase)) = self.connected().await else {
            return Ok(());
        };
        let shared = self.shared;
        let (version, body) = {
            let mut key = lock(&shared.keys[key]);
            let version = key.begin_write(Content::Value { len, ttl }, shared.now());
            (version, key.body(version, &shared.bodies))
        };
        let name = shared.name(key);
        let outcome = match ttl {
            None => attempt(connection.set(&name, body)).await,
            Some(ttl) => {
                let ttl = ttl.as_millis().to_string();
                connection.push(&[b"SET", &name, body, b"PX", ttl.as_bytes()])?;
                attempt(connection.exchange(1)).await
            }
        };
        self.wrote(Op::Set, key, version, &phase, outcome, connection)
    }

    async fn del(&mut self, key: usize) -> Result<()> {
        let Some((mut connection, phase)) = self.connected().await else {
            return Ok(());
        };
        let shared = self.shared;
        connection.push(&[b"DEL", &shared.name(key)])?;
        let version = lock(&shared.keys[key]).begin_write(Content::Nothing, shared.now());
        let outcome = attempt(connection.exchange(1)).await;
        self.wrote(Op::Del, key, version, &phase, outcome, connection)
    }

    fn wrote(
        &mut self,
        op: Op,
        key: usize,
        version: usize,
        phase: &str,
        outcome: Result<Duration, &'static str>,
        connection: Connection,
    ) -> Result<()> {
        let shared = self.shared;
        let is_done = outcome.is_ok() && matches!(connection.reply(0), Some(Reply::Line(_)));
        let ending = match &outcome {
            Ok(_) if is_done => Ending::Acknowledged,
            Ok(_) => Ending::Refused,
            Err(_) => Ending::Unknown,
        };
        lock(&shared.keys[key]).end_write(version, ending, shared.now());
        if let Ok(took) = outcome {
            lock(&shared.tally).answered(phase, op, took)?;
        }
        if is_done {
            self.connection = Some(connection);
            return Ok(());
        }
        let failure = failure(
            &outcome,
            outcome.is_ok().then(|| connection.reply(0)).flatten(),
        );
        self.fail(phase, op, failure, Some(connection))
    }

    /// Counts it; only what was refused in order leaves the connection usable.
    fn fail(
        &mut self,
        phase: &str,
        op: Op,
        failure: Failure,
        connection: Option<Connection>,
    ) -> Result<()> {
        let mut tally = lock(&self.shared.tally);
        match failure {
            Failure::Refused(kind) => {
                self.connection = connection;
                self.was_refused = true;
                tally.failed(phase, op, &kind)
            }
            Failure::Broken(how) => tally.failed(phase, op, how),
        }
    }

    /// A connection, and what is going on now; none if stopped while there is nobody to talk to.
    async fn connected(&mut self) -> Option<(Connection, String)> {
        loop {
            if let Some(connection) = self.connection.take() {
                return Some((connection, self.shared.phase()));
            }
            match Connection::open(&self.shared.address, 1, 0).await {
                Ok(connection) => self.connection = Some(connection),
                Err(_) if self.shared.stopped.load(Ordering::Relaxed) => return None,
                Err(_) => sleep(RECONNECT_EVERY).await,
            }
        }
    }
}

async fn attempt(
    operation: impl Future<Output = Result<crate::client::Timing>>,
) -> Result<Duration, &'static str> {
    match timeout(PATIENCE, operation).await {
        Ok(Ok(timing)) => Ok(timing.done),
        Ok(Err(_)) => Err("connection closed"),
        Err(_) => Err("no answer"),
    }
}

fn failure(outcome: &Result<Duration, &'static str>, reply: Option<Reply<'_>>) -> Failure {
    match (outcome, reply) {
        (Err(how), _) => Failure::Broken(how),
        (Ok(_), Some(Reply::Error(text))) => {
            let text = String::from_utf8_lossy(text);
            Failure::Refused(text.split(' ').next().unwrap_or_default().to_owned())
        }
        (Ok(_), _) => Failure::Refused("unexpected reply".to_owned()),
    }
}

/// 1 KB to 10 MB: half of them small, one in eight longer than 2 MB.
fn size(rng: &mut SmallRng) -> usize {
    match rng.random_range(0..100) {
        0..50 => rng.random_range(1_000..16_000),
        50..70 => rng.random_range(16_000..256_000),
        70..88 => rng.random_range(256_000..2_000_000),
        _ => rng.random_range(2_000_000..=LARGEST),
    }
}
