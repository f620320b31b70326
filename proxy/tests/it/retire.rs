//! Instances that are replaced before the platform would take them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    platform::Platform,
    server::{Server, until},
};

const NODES: usize = 6;
const LIMIT: Duration = Duration::from_secs(150);

fn instances(platform: &Platform) -> BTreeMap<String, BTreeSet<u32>> {
    let mut pids = BTreeMap::<String, BTreeSet<u32>>::new();
    for instance in platform.handle().instances() {
        let own = pids.entry(instance.function).or_default();
        own.extend(instance.pid);
    }
    pids
}

/// Reads what is there, and writes and reads values of its own, some of them again
/// and again; how often.
fn load(
    server: &Server,
    client: u64,
    stored: &BTreeMap<String, Vec<u8>>,
    is_over: &AtomicBool,
) -> u64 {
    let (mut redis, mut random, mut turn) = (server.client(), Random::new(client), 0);
    let mut own = BTreeMap::new();
    while !is_over.load(Ordering::Relaxed) {
        let key = format!("new:{client}:{}", turn % 7);
        let value = random.bytes(3_000 + 150_000 * (turn % 11));
        let () = redis.set(&key, &value).unwrap();
        own.insert(key, value);
        for values in [stored, &own] {
            let (key, value) = values.iter().nth(turn % values.len()).unwrap();
            let read: Option<Vec<u8>> = redis.get(key).unwrap();
            assert_same(key, read.as_deref(), value);
        }
        turn += 1;
    }
    turn as u64
}

/// Under load every instance that there was in the beginning goes, and nobody
/// notices.
#[test]
fn old_instances_go_one_after_the_other_and_nothing_is_missed() {
    let platform = Platform::start(NODES);
    let url = platform.url();
    let server = Server::start(&[
        "--lambda-endpoint",
        &url,
        "--nodes",
        "6",
        "--data-parity",
        "4+1",
        "--backup-interval-s",
        "1",
        "--backup-mb-s",
        "0",
        "--hot-tier-mb",
        "0",
        "--pack-up-to-kb",
        "0",
        "--retire-after-s",
        "8",
    ]);
    let (mut redis, mut random) = (server.client(), Random::new(11));
    let mut stored = BTreeMap::new();
    for (i, size) in [1_500_000, 400_000, 90_000, 3_000]
        .iter()
        .cycle()
        .take(16)
        .enumerate()
    {
        stored.insert(format!("old:{i}"), random.bytes(*size));
    }
    for (key, value) in &stored {
        let () = redis.set(key, value).unwrap();
    }
    until("every node has a standby", Duration::from_secs(60), || {
        let instances = instances(&platform);
        instances.len() == NODES && instances.values().all(|own| own.len() == 2)
    });
    let first = instances(&platform);
    let is_over = AtomicBool::new(false);
    let turns = std::thread::scope(|scope| {
        let clients = (0..3).map(|n| {
            let (server, stored, is_over) = (&server, &stored, &is_over);
            scope.spawn(move || load(server, n, stored, is_over))
        });
        let clients: Vec<_> = clients.collect();
        let all_new = || {
            let now = instances(&platform);
            let is_new = |(function, own): (_, &BTreeSet<u32>)| own.is_disjoint(&now[function]);
            first.iter().all(is_new)
        };
        let ended = || clients.iter().any(|c| c.is_finished());
        until("all of them are replaced", LIMIT, || ended() || all_new());
        is_over.store(true, Ordering::Relaxed);
        let turns = clients.into_iter().map(|c| c.join().unwrap());
        turns.sum::<u64>()
    });
    assert!(turns > 100, "{turns} turns");
    let mut redis = server.client();
    for (key, value) in &stored {
        let read: Option<Vec<u8>> = redis.get(key).unwrap();
        assert_same(key, read.as_deref(), value);
    }
    let retired = server.metric("scatterhoard_instances_retired_total");
    assert!(retired >= 2.0 * NODES as f64, "{retired}");
    for unwanted in ["lost_objects", "instances_lost"] {
        assert_eq!(
            server.metric(&format!("scatterhoard_{unwanted}_total")),
            0.0,
            "{unwanted}"
        );
    }
    server.stop();
}
