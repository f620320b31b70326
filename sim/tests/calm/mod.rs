//! A proxy in virtual time on a platform on which nothing goes wrong, but for what a
//! test does to it.
#![allow(dead_code, reason = "each test uses some of it")]

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use bytes::Bytes;
use scatterhoard_node::{clock, random};
use scatterhoard_proxy::{
    apply::{self, Outcome, ValueReply},
    command::Named,
    config::{Config, Options},
    journal::memory::MemoryDisk,
    keyspace::{KeyRef, Object},
    resp::reply::Reply,
    value::Value,
};
use scatterhoard_sim::{
    history::History,
    network::Weather,
    platform::{Platform, Routing, Settings},
    proxy::Proxy,
};
use scatterhoard_wire::{Epoch, NodeId, WriteId};
use tokio::{task::LocalSet, time::sleep};

pub(crate) const S: Duration = Duration::from_secs(1);
const BEGINS: Duration = Duration::from_secs(1_600_000_000);
/// Leaves 1 MiB for chunks.
const MEMORY_MB: u64 = 33;
const FIRST_PORT: u16 = 10_000;

/// A proxy and its platform.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) platform: Rc<Platform>,
    pub(crate) disk: Option<MemoryDisk>,
    pub(crate) proxy: Proxy,
    epoch: Epoch,
    port: u16,
}

/// Runs something in virtual time, with small chunks of 2+1 and no hot values.
pub(crate) fn simulated<T>(
    seed: u64,
    nodes: usize,
    adjust: impl FnOnce(&mut Config),
    work: impl AsyncFnOnce(World) -> T,
) -> T {
    run(seed, None, nodes, adjust, work)
}

/// The same, with a journal.
pub(crate) fn with_journal<T>(
    seed: u64,
    nodes: usize,
    adjust: impl FnOnce(&mut Config),
    work: impl AsyncFnOnce(World) -> T,
) -> T {
    run(seed, Some(MemoryDisk::default()), nodes, adjust, work)
}

fn run<T>(
    seed: u64,
    disk: Option<MemoryDisk>,
    nodes: usize,
    adjust: impl FnOnce(&mut Config),
    work: impl AsyncFnOnce(World) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    random::simulate(Some(seed));
    let result = LocalSet::new().block_on(&runtime, async {
        clock::simulate(Some(BEGINS));
        let options = Options {
            nodes: Some(nodes as u16),
            data_parity: Some("2+1".into()),
            ..Options::default()
        };
        let mut config = Config::from_options(options).unwrap();
        config.geometry.cell_bytes = 4096;
        config.geometry.bytes_per_chunk = 1024;
        config.geometry.whole_up_to_bytes = 700;
        config.hot_bytes = 0;
        config.pack_up_to_bytes = 0;
        adjust(&mut config);
        work(World::start(config, disk).await).await
    });
    drop(runtime);
    clock::simulate(None);
    random::simulate(None);
    result
}

fn settings() -> Settings {
    let millis = Duration::from_millis;
    Settings {
        memory_mb: MEMORY_MB,
        routing: Routing::LatestFirst,
        restless: 0.0,
        latency: millis(5),
        cold_start: millis(100),
        timeout: 60 * S,
        idle_timeout: 3_600 * S,
        concurrency: 4,
        weather: Weather {
            latency: millis(1),
            jitter: millis(1),
            loss: 0.0,
        },
    }
}

impl World {
    async fn start(config: Config, disk: Option<MemoryDisk>) -> Self {
        let platform = Platform::new(settings(), Rc::new(History::new(false)));
        let mut epoch = Epoch(0);
        let start = Proxy::start(&config, &platform, disk.as_ref(), &mut epoch, FIRST_PORT);
        let proxy = start.await.unwrap().unwrap();
        Self {
            config,
            platform,
            disk,
            proxy,
            epoch,
            port: FIRST_PORT,
        }
    }

    /// The proxy dies, and another one takes its place.
    pub(crate) async fn restart(&mut self) {
        self.replace(false).await;
    }

    /// The same with its machine: nodes are not told.
    pub(crate) async fn restart_elsewhere(&mut self) {
        self.replace(true).await;
    }

    async fn replace(&mut self, machine: bool) {
        let disk = self.disk.clone();
        self.proxy.kill(&self.platform, disk.as_ref(), machine);
        self.proxy.bury().await;
        self.port += 1;
        let (platform, port) = (&self.platform, self.port);
        let start = Proxy::start(&self.config, platform, disk.as_ref(), &mut self.epoch, port);
        self.proxy = start.await.unwrap().unwrap();
    }

    pub(crate) async fn end(self) {
        self.proxy.kill(&self.platform, None, false);
        self.proxy.bury().await;
    }

    pub(crate) async fn ask(&self, words: &[&[u8]]) -> Outcome {
        let context = self.proxy.context.clone();
        let mut client = self.proxy.client();
        let word = |word: &&[u8]| Value::from_segments(vec![Bytes::copy_from_slice(word)]);
        let request: Vec<Value> = words.iter().map(word).collect();
        apply::carry_out(&context, &mut client, Named::of(&request), request).await
    }

    pub(crate) async fn set(&self, key: &str, value: &[u8]) {
        let outcome = self.ask(&[b"SET", key.as_bytes(), value]).await;
        if let Outcome::Reply(Reply::Error(why)) = outcome {
            panic!("SET {key}: {why}");
        }
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let read = self.try_get(key).await;
        read.unwrap_or_else(|why| panic!("GET {key}: {why}"))
    }

    /// What a GET answers; how it failed otherwise.
    pub(crate) async fn try_get(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let outcome = match self.ask(&[b"GET", key.as_bytes()]).await {
            Outcome::Lookup(lookup) => {
                Outcome::Value(apply::ready(self.proxy.store(), lookup).await)
            }
            other => other,
        };
        match outcome {
            Outcome::Value(ValueReply::Stream { first, mut rest }) => {
                let mut value: Vec<u8> = first.concat();
                loop {
                    match rest.next_cells().await {
                        Ok(Some(cells)) => cells.iter().for_each(|c| value.extend_from_slice(c)),
                        Ok(None) => return Ok(Some(value)),
                        Err(why) => return Err(format!("broken off: {why}")),
                    }
                }
            }
            Outcome::Reply(Reply::Bulk(value))
            | Outcome::Value(ValueReply::Whole(Reply::Bulk(value))) => {
                Ok(Some(value.segments().concat()))
            }
            Outcome::Reply(Reply::Null) | Outcome::Value(ValueReply::Whole(Reply::Null)) => {
                Ok(None)
            }
            Outcome::Reply(Reply::Error(why))
            | Outcome::Value(ValueReply::Whole(Reply::Error(why))) => Err(format!("{why:?}")),
            _ => Err("answered by something else".into()),
        }
    }

    pub(crate) fn object(&self, key: &str) -> Object {
        let key = key.as_bytes();
        let mut index = self.proxy.store().index();
        let found = index.peek(KeyRef { db: 0, key }, clock::unix_ms());
        (*found.unwrap().object).clone()
    }

    /// Which instances of a node have something of a write.
    pub(crate) fn holders(&self, node: NodeId, id: WriteId) -> BTreeSet<String> {
        let holds = |ids: &Vec<scatterhoard_wire::ChunkId>| ids.iter().any(|c| c.write_id == id);
        let all = self.platform.holdings().into_iter();
        let those = all.filter(|(name, ids)| is_of(name, node) && holds(ids));
        those.map(|(name, _)| name).collect()
    }

    /// How many chunks each instance of a node holds.
    pub(crate) fn held_by(&self, node: NodeId) -> Vec<usize> {
        let all = self.platform.holdings().into_iter();
        let those = all.filter(|(name, _)| is_of(name, node));
        those.map(|(_, ids)| ids.len()).collect()
    }

    pub(crate) fn instances(&self) -> BTreeSet<String> {
        self.platform.holdings().into_keys().collect()
    }
}

fn is_of(instance: &str, node: NodeId) -> bool {
    instance.split('/').next().unwrap().parse() == Ok(node.0)
}

pub(crate) async fn until(what: &str, limit: Duration, is_so: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + limit;
    while !is_so() {
        assert!(tokio::time::Instant::now() < end, "not so: {what}");
        sleep(S).await;
    }
}
