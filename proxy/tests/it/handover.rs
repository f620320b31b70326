//! One proxy after another on the same functions: who comes later owns them.

use std::time::Duration;

use nix::sys::signal::Signal;
use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    platform::Platform,
    server::{Server, until},
};

const NODES: usize = 6;

fn proxy(platform: &Platform) -> Server {
    Server::start(&[
        "--lambda-endpoint",
        &platform.url(),
        "--nodes",
        "6",
        "--data-parity",
        "4+2",
    ])
}

#[test]
fn a_later_proxy_ends_the_reign_of_the_first() {
    let platform = Platform::start(NODES);
    let mut first = proxy(&platform);
    let (mut redis, mut random) = (first.client(), Random::new(1));
    let old = random.bytes(1_500_000);
    let () = redis.set("key", &old).unwrap();
    let second = proxy(&platform);
    let (mut later, new) = (second.client(), random.bytes(1_500_000));
    let () = later.set("key", &new).unwrap();
    // the first learns of it as soon as it uses the nodes, and says nothing wrong
    for _ in 0..20 {
        match redis.get::<_, Option<Vec<u8>>>("key") {
            Ok(read) => assert_same("key", Some(&read.unwrap_or(old.clone())), &old),
            Err(_) => break,
        }
    }
    assert!(
        redis.set::<_, _, ()>("key", &old).is_err(),
        "a superseded proxy may not store"
    );
    let status = first
        .ended(Duration::from_secs(20))
        .expect("the first stops");
    assert_eq!(status.code(), Some(3), "{}", first.log());
    let log = first.log();
    assert!(
        log.lines()
            .last()
            .is_some_and(|l| l.contains("another proxy")),
        "{log}"
    );
    // the first's invokes may have made the platform start new instances in
    // the place of those that have it: then it is a miss, never the old value
    match later.get::<_, Option<Vec<u8>>>("key") {
        Ok(read) => assert_same("key", Some(&read.unwrap_or(new.clone())), &new),
        Err(error) => assert_eq!(error.code(), Some("UNAVAILABLE"), "{error}"),
    }
    let () = later.set("key", &old).unwrap();
    let read: Option<Vec<u8>> = later.get("key").unwrap();
    assert_same("key", read.as_deref(), &old);
}

#[test]
fn what_a_killed_proxy_left_is_dropped() {
    let platform = Platform::start(NODES);
    let mut first = proxy(&platform);
    let (mut redis, mut random) = (first.client(), Random::new(2));
    for i in 0..20 {
        let () = redis
            .set(format!("old:{i}"), random.bytes(1_500_000))
            .unwrap();
    }
    assert!(first.metric("scatterhoard_node_bytes_held") > 30e6);
    first.signal(Signal::SIGKILL);
    first.ended(Duration::from_secs(5)).unwrap();
    let second = proxy(&platform);
    let mut redis = second.client();
    assert_eq!(redis.get::<_, Option<Vec<u8>>>("old:3").unwrap(), None);
    let value = random.bytes(1_500_000);
    until("the old chunks are gone", Duration::from_secs(20), || {
        let () = redis.set("new", &value).unwrap();
        let read: Option<Vec<u8>> = redis.get("new").unwrap();
        assert_same("new", read.as_deref(), &value);
        second.metric("scatterhoard_node_bytes_held") < 8e6
    });
    let _: u8 = redis.del("new").unwrap();
    let () = redis.set("small", "1").unwrap();
    assert_eq!(redis.get::<_, String>("small").unwrap(), "1");
}

#[test]
fn nodes_that_a_killed_proxy_left_full_take_new_values() {
    let platform = Platform::start(NODES);
    let mut first = proxy(&platform);
    let (mut redis, mut random) = (first.client(), Random::new(3));
    let value = random.bytes(8 << 20);
    // 6 * 96 MB hold 48 of them
    for i in 0..50 {
        let () = redis.set(format!("old:{i}"), &value).unwrap();
    }
    first.signal(Signal::SIGKILL);
    first.ended(Duration::from_secs(5)).unwrap();
    let second = proxy(&platform);
    let mut redis = second.client();
    until(
        "old chunks are garbage and make room",
        Duration::from_secs(10),
        || redis.set::<_, _, ()>("new", &value).is_ok(),
    );
    let read: Option<Vec<u8>> = redis.get("new").unwrap();
    assert_same("new", read.as_deref(), &value);
}
