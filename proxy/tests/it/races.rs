//! Commands that meet on the same key, and writes acknowledged from memory.

use std::time::Duration;

use redis::Commands;

use crate::{
    contents::Random,
    server::{Server, until},
};

/// Every value that was written is handed out once: by a GETDEL, by the SET that
/// replaced it, or by the last GET. None twice, none lost.
#[test]
fn getdel_and_set_get_hand_each_value_out_once() {
    const WRITES: u64 = 4_000;
    let server = Server::start(&["--hot-tier-mb", "16", "--ack", "proxy"]);
    let taken: Vec<u64> = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let mut redis = server.client();
                scope.spawn(move || {
                    let take = |_| redis.get_del::<_, Option<u64>>("k").unwrap();
                    (0..WRITES).filter_map(take).collect::<Vec<u64>>()
                })
            })
            .collect();
        let mut redis = server.client();
        let mut write = |i: u64| -> Option<u64> {
            redis::cmd("SET")
                .arg("k")
                .arg(i)
                .arg("GET")
                .query(&mut redis)
                .unwrap()
        };
        let mut all: Vec<u64> = (1..=WRITES).filter_map(&mut write).collect();
        all.extend(takers.into_iter().flat_map(|t| t.join().unwrap()));
        all.extend(redis.get::<_, Option<u64>>("k").unwrap());
        all
    });
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=WRITES).collect::<Vec<_>>());
}

/// More pairs than the queue of `ack = proxy` has places: they must not wait for
/// what only they can give back.
#[test]
fn a_long_mset_does_not_wait_for_itself() {
    let server = Server::start(&["--hot-tier-mb", "16", "--ack", "proxy", "--dirty-mb", "1"]);
    let mut redis = server.client();
    let pairs: Vec<(String, u8)> = (0..17_000).map(|i| (format!("k{i}"), 7)).collect();
    redis
        .set_read_timeout(Some(Duration::from_secs(100)))
        .unwrap();
    let () = redis.mset(&pairs).unwrap();
    assert_eq!(
        redis::cmd("DBSIZE").query::<u64>(&mut redis).unwrap(),
        17_000
    );
    let () = redis.set("after", 1).unwrap();
}

/// What was acknowledged from memory reaches the nodes, also when it is more
/// than the budget, and is read from there.
#[test]
fn values_acknowledged_from_memory_reach_the_nodes() {
    let server = Server::start(&["--hot-tier-mb", "1", "--ack", "proxy", "--dirty-mb", "1"]);
    let (mut redis, mut random) = (server.client(), Random::new(3));
    let values: Vec<Vec<u8>> = (0..400).map(|_| random.bytes(10_000)).collect();
    for (i, value) in values.iter().enumerate() {
        let () = redis.set(i, value).unwrap();
    }
    until("all are on nodes", Duration::from_secs(20), || {
        server.metric("scatterhoard_dirty_values") == 0.0
    });
    for (i, value) in values.iter().enumerate() {
        assert_eq!(
            redis.get::<_, Option<Vec<u8>>>(i).unwrap().as_ref(),
            Some(value)
        );
    }
    server.stop();
}
