//! Full nodes: what goes, what is refused, and that no node dies of it.

use std::time::Duration;

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    server::{Server, memory_bytes, stat, until},
};

const VALUE: usize = 4_000_000;

/// Two data and one parity chunks on four nodes of 96 MB: 268 MB of values.
const SMALL_POOL: [&str; 4] = ["--nodes", "4", "--data-parity", "2+1"];
const POOL_VALUES: usize = 4 * (96 << 20) / 3 * 2 / VALUE;

/// Values that are all different and quick to make: one block, rotated.
struct Values(Vec<u8>);

impl Values {
    fn new() -> Self {
        Self(Random::new(9).bytes(VALUE))
    }

    fn nth(&self, i: usize) -> Vec<u8> {
        let at = (i * 7919) % VALUE;
        [&self.0[at..], &self.0[..at]].concat()
    }
}

fn key(i: usize) -> String {
    format!("key:{i}")
}

fn get(redis: &mut redis::Connection, i: usize) -> Option<Vec<u8>> {
    redis.get(key(i)).unwrap()
}

#[test]
fn three_times_the_capacity_evicts_what_was_used_longest_ago() {
    let server = Server::start(&SMALL_POOL);
    let (mut redis, values) = (server.client(), Values::new());
    let nodes = server.children();
    let count = 3 * POOL_VALUES;
    for i in 0..count {
        let () = redis.set(key(i), values.nth(i)).unwrap();
        // used all the time: it stays
        if i % 10 == 0 {
            assert_same("key:0", get(&mut redis, 0).as_deref(), &values.nth(0));
        }
    }
    let mut there = 0;
    for i in 0..count {
        if let Some(read) = get(&mut redis, i) {
            assert_same(&key(i), Some(&read), &values.nth(i));
            there += 1;
        }
    }
    // no object went without need, and the latest are the ones that stay
    assert!(
        (POOL_VALUES / 2..=POOL_VALUES).contains(&there),
        "{there} of {POOL_VALUES}"
    );
    for i in count - POOL_VALUES / 2..count {
        assert!(get(&mut redis, i).is_some(), "{} went too early", key(i));
    }
    for pid in nodes {
        assert!(stat(pid).is_some(), "a node was killed:\n{}", server.log());
    }
    let held = server.metric("scatterhoard_node_bytes_held");
    assert!(held <= server.metric("scatterhoard_node_bytes_budget"));
    assert_eq!(server.metric("scatterhoard_lost_objects_total"), 0.0);
}

#[test]
fn without_eviction_writes_are_refused_and_reads_go_on() {
    let server = Server::start(&[&SMALL_POOL[..], &["--maxmemory-policy", "noeviction"]].concat());
    let (mut redis, values) = (server.client(), Values::new());
    let mut stored = 0;
    let error = loop {
        match redis.set::<_, _, ()>(key(stored), values.nth(stored)) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored <= POOL_VALUES, "more than fits");
    };
    assert_eq!(error.code(), Some("OOM"), "{error}");
    assert!(stored > POOL_VALUES * 3 / 4, "{stored} of {POOL_VALUES}");
    for i in 0..stored {
        assert_same(&key(i), get(&mut redis, i).as_deref(), &values.nth(i));
    }
    // an overwrite that is refused leaves the old value
    let refused = redis.set::<_, _, ()>(key(1), values.nth(1_000));
    let expected = if refused.is_ok() { 1_000 } else { 1 };
    assert_same(
        "key:1",
        get(&mut redis, 1).as_deref(),
        &values.nth(expected),
    );
    assert_eq!(
        redis.del::<_, u32>(&[key(2), key(3), key(4)][..]).unwrap(),
        3
    );
    until("room again", Duration::from_secs(10), || {
        redis.set::<_, _, ()>("again", values.nth(7)).is_ok()
    });
}

#[test]
fn a_value_larger_than_the_pool_is_refused_clearly() {
    let server = Server::start(&["--nodes", "2", "--data-parity", "1+1"]);
    let mut redis = server.client();
    let () = redis.set("small", "stays").unwrap();
    let error = redis
        .set::<_, _, ()>("large", vec![7_u8; 130 << 20])
        .unwrap_err();
    assert_eq!(error.code(), Some("OOM"), "{error}");
    assert!(error.to_string().contains("too large"), "{error}");
    assert_eq!(redis.get::<_, Option<Vec<u8>>>("large").unwrap(), None);
    assert_eq!(
        redis.get::<_, String>("small").unwrap(),
        "stays",
        "nothing had to go for it"
    );
}

/// Lambda ends an instance that takes more than its memory, and what it held is
/// lost: what nodes claim to hold must be no less than what they take.
#[test]
fn full_nodes_stay_below_their_memory() {
    let server = Server::start(&["--nodes", "2", "--data-parity", "1+1"]);
    let (mut redis, values) = (server.client(), Values::new());
    let nodes = server.children();
    let value = values.nth(0);
    // lengths that allocators like least, twice what the nodes hold
    for batch in 0..200 {
        let mut pipeline = redis::pipe();
        for (i, len) in [1025, 2050, 4100, 8200, 16_400, 33_000, 66_000, 150_000]
            .iter()
            .cycle()
            .take(32)
            .enumerate()
        {
            pipeline.set(key(32 * batch + i), &value[..*len]).ignore();
        }
        let () = pipeline.query(&mut redis).unwrap();
    }
    let held = server.metric("scatterhoard_node_bytes_held");
    assert!(held > 0.9 * server.metric("scatterhoard_node_bytes_budget"));
    assert_eq!(server.metric("scatterhoard_lost_objects_total"), 0.0);
    for pid in nodes {
        let peak = memory_bytes(pid, "VmHWM:");
        println!("node: at most {peak} bytes resident");
        assert!(peak < 128 << 20, "{peak} bytes in a node of 128 MB");
    }
}
