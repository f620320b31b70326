//! Clients that ask for what the trace asks for, when it does; a miss is stored. Every byte
//! that comes back is compared.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;
use scatterhoard_judge::bodies::Bodies;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::evictions::{Heard, name};
use super::judge::{Counts, Found, Known};
use super::plan::Plan;
use crate::client::{Connection, Timing};
use crate::measure::latency_histogram;
use crate::reply::Reply;
use crate::trace::{Op, Request, Trace};

/// An operation that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);
const DELETE_ATTEMPTS: usize = 5;
const RECONNECT_EVERY: Duration = Duration::from_millis(20);

/// What all clients share.
pub(super) struct Shared {
    pub(super) address: String,
    pub(super) plan: Plan,
    pub(super) trace: Trace,
    /// Whether a cache of the same capacity without losses hits each of the requests.
    pub(super) lru_hits: Vec<bool>,
    /// Larger objects are not stored, in bytes of the trace.
    pub(super) largest_bytes: u64,
    pub(super) bodies: Bodies,
    pub(super) heard: Heard,
    pub(super) begin: Instant,
    /// The next request that nobody has taken.
    pub(super) next: AtomicUsize,
    /// Requests that were answered, for whoever watches.
    pub(super) done: AtomicUsize,
    pub(super) reclaimed: AtomicU64,
    keys: Vec<Mutex<Known>>,
    tally: StdMutex<Tally>,
}

/// What came of it so far.
#[derive(Clone)]
pub(super) struct Tally {
    /// By the hour of the trace.
    pub(super) hours: Vec<Counts>,
    /// From the moment at which a GET that hit was due, and from that at which it was sent.
    pub(super) hit_due_ns: Histogram<u64>,
    pub(super) hit_ns: Histogram<u64>,
    pub(super) set_ns: Histogram<u64>,
    pub(super) read_bytes: u64,
    pub(super) stored_bytes: u64,
    /// GETs of which the reply broke off.
    pub(super) broken: u64,
    /// By the first word of what was said.
    pub(super) errors: std::collections::BTreeMap<String, u64>,
}

impl Shared {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        address: String,
        plan: Plan,
        trace: Trace,
        lru_hits: Vec<bool>,
        largest_bytes: u64,
        seed: u64,
        begin: Instant,
    ) -> Result<Self> {
        let stored = trace.requests.iter().map(|r| r.bytes);
        let largest = stored.filter(|b| *b <= largest_bytes).max().unwrap_or(1);
        let hours = (trace.seconds() / 3600.0) as usize + 1;
        Ok(Self {
            address,
            bodies: Bodies::new(plan.len(largest), seed),
            plan,
            keys: trace.keys.iter().map(|_| Mutex::default()).collect(),
            trace,
            lru_hits,
            largest_bytes,
            heard: Heard::default(),
            begin,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            reclaimed: AtomicU64::new(0),
            tally: StdMutex::new(Tally {
                hours: vec![Counts::default(); hours],
                hit_due_ns: latency_histogram()?,
                hit_ns: latency_histogram()?,
                set_ns: latency_histogram()?,
                read_bytes: 0,
                stored_bytes: 0,
                broken: 0,
                errors: std::collections::BTreeMap::new(),
            }),
        })
    }

    /// Nothing panics while it is held: what is inside is whole.
    fn count(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn tally(&self) -> Tally {
        let tally = self.tally.lock();
        tally.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes one request after the other until none is left.
pub(super) async fn work(shared: &Shared) -> Result<()> {
    let mut client = Client {
        shared,
        connection: None,
    };
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = shared.trace.requests.get(index) else {
            return Ok(());
        };
        let due = shared.begin + shared.plan.due(request.at_s);
        sleep_until(due).await;
        client.request(index, *request, due).await?;
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
}

struct Client<'a> {
    shared: &'a Shared,
    connection: Option<Connection>,
}

/// What came instead of an answer.
enum Failure {
    Refused(String),
    Broken,
}

fn ns(took: Duration) -> u64 {
    took.as_nanos().try_into().unwrap_or(u64::MAX)
}

impl Client<'_> {
    async fn request(&mut self, index: usize, request: Request, due: Instant) -> Result<()> {
        let shared = self.shared;
        let hour = (request.at_s / 3600.0) as usize;
        let is_too_large = request.bytes > shared.largest_bytes;
        shared.count(|tally| {
            let counts = &mut tally.hours[hour];
            counts.gets += u64::from(request.op == Op::Get);
            counts.lru_hits += u64::from(shared.lru_hits[index]);
            counts.too_large += u64::from(is_too_large);
        });
        // one at a time for each key: so what is known of it is exact
        let mut known = shared.keys[request.key as usize].lock().await;
        if request.op == Op::Get && !is_too_large {
            let found = self.get(&request, &mut known, due).await?;
            shared.count(|tally| match found {
                Some(found) => tally.hours[hour].found(found),
                None => tally.hours[hour].errors += 1,
            });
            if matches!(found, Some(Found::Hit) | None) {
                return Ok(());
            }
        }
        if known.stored.is_some() {
            self.delete(&request, &mut known).await?;
        }
        if is_too_large {
            return Ok(());
        }
        let is_stored = self.set(&request, &mut known).await?;
        shared.count(|tally| match is_stored {
            true => tally.hours[hour].stores += 1,
            false => tally.hours[hour].errors += 1,
        });
        Ok(())
    }

    /// None: an error was answered.
    async fn get(
        &mut self,
        request: &Request,
        known: &mut Known,
        due: Instant,
    ) -> Result<Option<Found>> {
        let (shared, key) = (self.shared, request.key);
        let mut connection = self.connected().await?;
        connection.push(&[b"GET", &name(key)])?;
        let outcome = attempt(connection.exchange(1)).await;
        let answered = Instant::now();
        let reply = outcome.is_some().then(|| connection.reply(0)).flatten();
        let found = match (outcome, reply) {
            (Some(timing), Some(Reply::Bulk(read))) => {
                let Some(len) = known.stored else {
                    bail!("GET of key {key}: a value that was never acknowledged, or evicted");
                };
                let expected = shared.bodies.body(key as usize, known.generation, len);
                ensure!(read == expected, "GET of key {key}: WRONG BYTES came back");
                if len == shared.plan.len(request.bytes) {
                    shared.count(|tally| {
                        tally.hit_ns.saturating_record(ns(timing.done));
                        let since_due = answered.saturating_duration_since(due);
                        tally.hit_due_ns.saturating_record(ns(since_due));
                        tally.read_bytes += len as u64;
                    });
                    Ok(Found::Hit)
                } else {
                    Ok(Found::OtherVersion)
                }
            }
            (Some(_), Some(Reply::Nil)) => {
                if known.stored.is_some() {
                    shared.heard.sync(&mut connection).await?;
                }
                let found = known.missed(shared.heard.is_evicted(key));
                known.stored = None;
                Ok(found)
            }
            (outcome, reply) => Err(failure(outcome, reply)),
        };
        match found {
            Ok(found) => {
                self.connection = Some(connection);
                Ok(Some(found))
            }
            Err(Failure::Refused(word)) => {
                self.connection = Some(connection);
                shared.count(|tally| *tally.errors.entry(word).or_default() += 1);
                Ok(None)
            }
            // it broke off where data was missing: that is lost, too
            Err(Failure::Broken) => {
                shared.count(|tally| tally.broken += 1);
                let was_there = known.stored.is_some();
                Ok(was_there.then_some(Found::Lost))
            }
        }
    }

    /// So that an eviction that is heard of later is one of the next version.
    async fn delete(&mut self, request: &Request, known: &mut Known) -> Result<()> {
        for _ in 0..DELETE_ATTEMPTS {
            let mut connection = self.connected().await?;
            connection.push(&[b"DEL", &name(request.key)])?;
            if attempt(connection.exchange(1)).await.is_none() {
                continue;
            }
            self.shared.heard.sync(&mut connection).await?;
            self.connection = Some(connection);
            known.stored = None;
            return Ok(());
        }
        bail!("key {} can not be deleted", request.key)
    }

    async fn set(&mut self, request: &Request, known: &mut Known) -> Result<bool> {
        let (shared, key) = (self.shared, request.key);
        let len = shared.plan.len(request.bytes);
        known.generation += 1;
        known.stored = None;
        shared.heard.forget(key);
        let mut connection = self.connected().await?;
        let body = shared.bodies.body(key as usize, known.generation, len);
        let outcome = attempt(connection.set(&name(key), body)).await;
        let reply = outcome.is_some().then(|| connection.reply(0)).flatten();
        match (outcome, reply) {
            (Some(timing), Some(Reply::Line(_))) => {
                known.stored = Some(len);
                shared.count(|tally| {
                    tally.set_ns.saturating_record(ns(timing.done));
                    tally.stored_bytes += len as u64;
                });
                self.connection = Some(connection);
                Ok(true)
            }
            (outcome, reply) => {
                let word = match failure(outcome, reply) {
                    Failure::Refused(word) => {
                        self.connection = Some(connection);
                        word
                    }
                    // whether it was stored is not known: it must not be there
                    Failure::Broken => "broken".to_owned(),
                };
                shared.count(|tally| *tally.errors.entry(word).or_default() += 1);
                self.delete(request, known).await?;
                Ok(false)
            }
        }
    }

    async fn connected(&mut self) -> Result<Connection> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let until = Instant::now() + PATIENCE;
        loop {
            match Connection::open(&self.shared.address, 1, 0).await {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => sleep(RECONNECT_EVERY).await,
            }
        }
    }
}

async fn attempt(operation: impl Future<Output = Result<Timing>>) -> Option<Timing> {
    match timeout(PATIENCE, operation).await {
        Ok(Ok(timing)) => Some(timing),
        Ok(Err(_)) | Err(_) => None,
    }
}

fn failure(outcome: Option<Timing>, reply: Option<Reply<'_>>) -> Failure {
    match (outcome, reply) {
        (Some(_), Some(Reply::Error(text))) => {
            let text = String::from_utf8_lossy(text);
            Failure::Refused(text.split(' ').next().unwrap_or_default().to_owned())
        }
        (Some(_), reply) => Failure::Refused(format!("{reply:?}").chars().take(40).collect()),
        (None, _) => Failure::Broken,
    }
}
