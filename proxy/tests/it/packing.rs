//! Small values that are written together lie in segments together, and nobody
//! notices: each is read, overwritten, deleted and lost on its own.

use std::{collections::BTreeMap, time::Duration};

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    server::{Server, until},
};

type Values = BTreeMap<String, Vec<u8>>;

fn set_together(redis: &mut redis::Connection, values: &Values) {
    let mut pipe = redis::pipe();
    values.iter().for_each(|(key, value)| {
        pipe.set(key, value).ignore();
    });
    let () = pipe.query(redis).unwrap();
}

#[track_caller]
fn verify(redis: &mut redis::Connection, values: &Values) {
    for (key, value) in values {
        let read: Option<Vec<u8>> = redis.get(key).unwrap();
        assert_same(key, read.as_deref(), value);
    }
}

fn values(random: &mut Random, prefix: &str, count: usize) -> Values {
    let value = |i| {
        let size = random.size(14);
        (format!("{prefix}:{i}"), random.any_bytes(size))
    };
    (0..count).map(value).collect()
}

#[test]
fn values_that_share_segments_live_on_their_own() {
    let server = Server::start(&["--hot-tier-mb", "0"]);
    let (mut redis, mut random) = (server.client(), Random::new(7));
    let mut stored = Values::new();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (mut redis, values) = (
                server.client(),
                values(&mut random, &format!("writer:{n}"), 100),
            );
            stored.extend(values.clone());
            scope.spawn(move || set_together(&mut redis, &values));
        }
    });
    verify(&mut redis, &stored);
    let packed = server.metric("scatterhoard_packed_values_total");
    assert!(packed > 400.0, "{packed} of 800 values are packed");
    // some go, some are written again, one by one
    for (i, key) in stored.clone().keys().enumerate() {
        match i % 4 {
            0 | 1 => {
                let () = redis.del(key).unwrap();
                stored.remove(key);
            }
            2 => {
                let value = random.any_bytes(1000);
                let () = redis.set(key, &value).unwrap();
                stored.insert(key.clone(), value);
            }
            _ => {}
        }
    }
    verify(&mut redis, &stored);
    until(
        "segments full of holes are cleaned",
        Duration::from_secs(30),
        || server.metric("scatterhoard_moved_values_total") > 50.0,
    );
    verify(&mut redis, &stored);
    let keys: usize = redis::cmd("DBSIZE").query(&mut redis).unwrap();
    assert_eq!(keys, stored.len());
    server.reclaim(2, 3);
    verify(&mut redis, &stored);
    let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
    assert_eq!(server.metric("scatterhoard_segments"), 0.0);
    server.stop();
}

#[test]
fn a_pipeline_of_writes_is_carried_out_in_order() {
    let server = Server::start(&[]);
    let mut redis = server.client();
    let mut pipe = redis::pipe();
    pipe.cmd("SET").arg("a").arg("1");
    pipe.cmd("SET").arg("a").arg("2");
    pipe.cmd("SETNX").arg("a").arg("3");
    pipe.cmd("GETSET").arg("a").arg("4");
    pipe.cmd("SET").arg("b").arg("x").arg("XX");
    pipe.cmd("GET").arg("a");
    pipe.cmd("SET").arg("a").arg("5").arg("GET");
    pipe.cmd("SETEX").arg("c").arg(100).arg("6");
    pipe.cmd("DEL").arg("a");
    pipe.cmd("SET").arg("b").arg("7").arg("NX");
    pipe.cmd("SET").arg("a").arg("");
    pipe.cmd("MGET").arg("a").arg("b").arg("c");
    type Text = Option<String>;
    type Replies = (
        (Text, Text, i64, Text, Text, Text),
        (Text, Text, i64, Text, Text, Vec<Text>),
    );
    let all: Vec<redis::Value> = pipe.query(&mut redis).unwrap();
    let take = |range: std::ops::Range<usize>| redis::Value::Array(all[range].to_vec());
    let replies: Replies = (
        redis::from_redis_value(take(0..6)).unwrap(),
        redis::from_redis_value(take(6..12)).unwrap(),
    );
    let text = |t: &str| Some(t.to_owned());
    let ok = || text("OK");
    assert_eq!(
        replies.0,
        (ok(), ok(), 0, text("2"), None, text("4")),
        "the first half"
    );
    let last = vec![text(""), text("7"), text("6")];
    assert_eq!(
        replies.1,
        (text("4"), ok(), 1, ok(), ok(), last),
        "the second half"
    );
    server.stop();
}

#[test]
fn full_nodes_evict_whole_segments_and_keep_what_is_new() {
    let server = Server::start(&[
        "--nodes",
        "3",
        "--data-parity",
        "2+1",
        "--node-memory-mb",
        "128",
        "--hot-tier-mb",
        "0",
    ]);
    let (mut redis, mut random) = (server.client(), Random::new(9));
    let block = random.bytes(1 << 20);
    let value = |i: usize| &block[i % 1_000_000..][..16_000];
    let count = 18_000;
    for first in (0..count).step_by(50) {
        let mut pipe = redis::pipe();
        (first..first + 50).for_each(|i| {
            pipe.set(i, value(i)).ignore();
        });
        let () = pipe.query(&mut redis).unwrap();
    }
    let evicted = server.metric("scatterhoard_evicted_objects_total");
    assert!(evicted > 1000.0, "{evicted} values were evicted");
    for i in count - 2000..count {
        let read: Option<Vec<u8>> = redis.get(i).unwrap();
        assert_same(&i.to_string(), read.as_deref(), value(i));
    }
    let old: usize = redis.exists((0..2000).collect::<Vec<usize>>()).unwrap();
    assert!(old < 500, "{old} of the 2,000 oldest are still there");
    server.stop();
}
