//! Draining where room is scarce: refused with what lacks, or at the cost of other
//! objects if that is asked for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::{num::NonZeroU64, rc::Rc, time::Duration};

use bytes::Bytes;
use scatterhoard_node::{clock, random};
use scatterhoard_proxy::{
    apply::{self, Outcome, ValueReply},
    command::Named,
    config::{Config, Options},
    elastic::{ElasticError, Which},
    pool::membership::{Refusal, State},
    resp::reply::Reply,
    value::Value,
};
use scatterhoard_sim::{
    history::History,
    network::Weather,
    platform::{Platform, Routing, Settings},
    proxy::Proxy,
};
use scatterhoard_wire::{Epoch, NodeId};
use tokio::{task::LocalSet, time::sleep};

const NODES: usize = 5;
const S: Duration = Duration::from_secs(1);
const BEGINS: Duration = Duration::from_secs(1_600_000_000);
/// Leaves 1 MiB for chunks.
const MEMORY_MB: u64 = 33;

/// Runs something in virtual time, on a platform on which nothing goes wrong.
fn simulated(repair_bytes_per_s: u64, work: impl AsyncFnOnce(&Proxy)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    random::simulate(Some(7));
    LocalSet::new().block_on(&runtime, async {
        clock::simulate(Some(BEGINS));
        let millis = Duration::from_millis;
        let settings = Settings {
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
        };
        let options = Options {
            nodes: Some(NODES as u16),
            data_parity: Some("2+1".into()),
            ..Options::default()
        };
        let mut config = Config::from_options(options).unwrap();
        config.geometry.cell_bytes = 4096;
        config.geometry.bytes_per_chunk = 1024;
        config.geometry.whole_up_to_bytes = 700;
        config.hot_bytes = 0;
        config.pack_up_to_bytes = 0;
        config.repair_bytes_per_s = NonZeroU64::new(repair_bytes_per_s);
        let platform = Platform::new(settings, Rc::new(History::new(false)));
        let proxy = Proxy::start(&config, &platform, None, &mut Epoch(0), 10_000).await;
        let proxy = proxy.unwrap().unwrap();
        work(&proxy).await;
        proxy.kill(&platform, None, false);
        proxy.bury().await;
    });
    drop(runtime);
    clock::simulate(None);
    random::simulate(None);
}

async fn ask(proxy: &Proxy, words: &[&[u8]]) -> Outcome {
    let mut client = proxy.client();
    let word = |word: &&[u8]| Value::from_segments(vec![Bytes::copy_from_slice(word)]);
    let request: Vec<Value> = words.iter().map(word).collect();
    apply::carry_out(&proxy.context, &mut client, Named::of(&request), request).await
}

fn value(i: usize) -> Vec<u8> {
    vec![i as u8; 40_000]
}

async fn set(proxy: &Proxy, i: usize) {
    let (key, value) = (i.to_string(), value(i));
    let outcome = ask(proxy, &[b"SET", key.as_bytes(), &value]).await;
    if let Outcome::Reply(Reply::Error(why)) = outcome {
        panic!("SET {key}: {why}");
    }
}

/// Whether the key is there; if so, its value is as it was stored.
async fn is_there(proxy: &Proxy, i: usize) -> bool {
    let key = i.to_string();
    let outcome = match ask(proxy, &[b"GET", key.as_bytes()]).await {
        Outcome::Lookup(lookup) => Outcome::Value(apply::ready(proxy.store(), lookup).await),
        other => other,
    };
    let read = match outcome {
        Outcome::Reply(Reply::Null) | Outcome::Value(ValueReply::Whole(Reply::Null)) => {
            return false;
        }
        Outcome::Value(ValueReply::Stream { first, mut rest }) => {
            let mut bytes: Vec<u8> = first.concat();
            while let Some(cells) = rest.next_cells().await.unwrap() {
                cells.iter().for_each(|cell| bytes.extend_from_slice(cell));
            }
            bytes
        }
        Outcome::Value(ValueReply::Whole(Reply::Bulk(value))) => value.segments().concat(),
        _ => panic!("GET {key} has another answer"),
    };
    assert_eq!(read, value(i), "{key}");
    true
}

async fn count(proxy: &Proxy, keys: usize) -> usize {
    let mut there = 0;
    for i in 0..keys {
        there += usize::from(is_there(proxy, i).await);
    }
    there
}

async fn until_gone(proxy: &Proxy, node: NodeId) {
    for _ in 0..600 {
        if proxy.store().pool().states()[usize::from(node.0)] == State::Gone {
            return;
        }
        sleep(S).await;
    }
    panic!("not drained: {:?}", proxy.elastic.status());
}

#[test]
fn a_full_pool_says_how_much_room_lacks_and_may_be_forced() {
    simulated(0, async |proxy| {
        // as many as there is room for, or nearly
        let keys = 70;
        for i in 0..keys {
            set(proxy, i).await;
        }
        sleep(30 * S).await;
        let before = count(proxy, keys).await;
        assert!(before > 40, "{before}");
        let last = NodeId(4);
        let refused = proxy.elastic.drain(Which::Nodes(vec![last]), false).await;
        let Err(ElasticError::Refused(Refusal::NoRoom { lacking_bytes })) = refused else {
            panic!("{refused:?}");
        };
        // it holds less than a MiB, and others have little room
        assert!((1..1_048_576).contains(&lacking_bytes), "{lacking_bytes}");
        assert_eq!(count(proxy, keys).await, before, "nothing has changed");
        let forced = proxy.elastic.drain(Which::Nodes(vec![last]), true).await;
        assert_eq!(forced.unwrap(), [last]);
        until_gone(proxy, last).await;
        let after = count(proxy, keys).await;
        assert!(after < before && after > before / 2, "{before} {after}");
        // with as many nodes as before nothing else goes
        assert_eq!(proxy.elastic.add(Which::Count(1)).await.unwrap(), [last]);
        // what it held before is freed first
        sleep(10 * S).await;
        let moved = proxy
            .elastic
            .drain(Which::Nodes(vec![NodeId(0)]), false)
            .await;
        assert_eq!(moved.unwrap(), [NodeId(0)]);
        until_gone(proxy, NodeId(0)).await;
        assert_eq!(count(proxy, keys).await, after);
    });
}

#[test]
fn a_drain_waits_for_room_that_others_took_and_can_be_forced_later() {
    simulated(20_000, async |proxy| {
        for i in 0..35 {
            set(proxy, i).await;
        }
        sleep(10 * S).await;
        let last = NodeId(4);
        let going = proxy.elastic.drain(Which::Nodes(vec![last]), false).await;
        going.unwrap();
        // faster than chunks are moved, and evicting each other
        for i in 35..120 {
            set(proxy, i).await;
            if i % 8 == 0 {
                assert_eq!(count(proxy, 35).await, 35);
            }
        }
        sleep(60 * S).await;
        let state = proxy.store().pool().states()[4];
        assert_eq!(state, State::Draining { force: false });
        assert!(proxy.elastic.status().without_room > 0);
        let forced = proxy.elastic.drain(Which::Nodes(vec![last]), true).await;
        assert_eq!(forced.unwrap(), [last]);
        until_gone(proxy, last).await;
        assert!(is_there(proxy, 119).await);
    });
}
