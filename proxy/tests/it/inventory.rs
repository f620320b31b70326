//! A proxy whose disk is gone makes its index anew from what nodes hold, if it was
//! asked to; else it begins empty.

use std::{collections::BTreeMap, path::Path, time::Duration};

use nix::sys::signal::Signal;
use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    platform::Platform,
    server::{Server, until},
};

const NODES: usize = 6;
const SOON: [[&str; 2]; 2] = [["--warm-interval-s", "1"], ["--backup-interval-s", "1"]];
const INVENTORY: [&str; 2] = ["--recover", "inventory"];

fn proxy(platform: &Platform, folder: Option<&Path>, more: &[&str]) -> Server {
    let url = platform.url();
    let mut arguments = vec!["--lambda-endpoint", &url, "--nodes", "6"];
    arguments.extend(["--data-parity", "3+2"]);
    if let Some(folder) = folder {
        arguments.extend(["--data-dir", folder.to_str().unwrap()]);
    }
    arguments.extend(more);
    Server::start(&arguments)
}

fn kill(mut server: Server) {
    server.signal(Signal::SIGKILL);
    server.ended(Duration::from_secs(5)).unwrap();
}

type Stored = BTreeMap<String, Vec<u8>>;

fn write(redis: &mut redis::Connection, random: &mut Random) -> Stored {
    let mut stored = Stored::new();
    for size in [1, 900, 100_000, 700_000, 6_000_000] {
        let value = random.any_bytes(size);
        let () = redis.set(format!("alone:{size}"), &value).unwrap();
        stored.insert(format!("alone:{size}"), value);
    }
    let mut pipe = redis::pipe();
    for i in 0..200 {
        let value = random.any_bytes(10 + i * 20);
        pipe.set(format!("packed:{i}"), &value).ignore();
        stored.insert(format!("packed:{i}"), value);
    }
    let () = pipe.query(redis).unwrap();
    for i in (1..200).step_by(7) {
        let value = random.any_bytes(3000);
        let () = redis.set(format!("packed:{i}"), &value).unwrap();
        stored.insert(format!("packed:{i}"), value);
    }
    for key in ["alone:700000", "alone:1", "alone:6000000"] {
        for _ in 0..3 {
            let value = random.any_bytes(400_000);
            let () = redis.set(key, &value).unwrap();
            stored.insert(key.to_owned(), value);
        }
    }
    stored
}

#[track_caller]
fn check(server: &Server, stored: &Stored) {
    let mut redis = server.client();
    for (key, value) in stored {
        let read: Option<Vec<u8>> = redis.get(key).unwrap();
        assert_same(key, read.as_deref(), value);
    }
}

#[test]
fn a_proxy_without_its_disk_serves_what_nodes_hold() {
    let platform = Platform::start(NODES);
    let folder = tempfile::tempdir().unwrap();
    let server = proxy(&platform, Some(folder.path()), &INVENTORY);
    let (mut redis, mut random) = (server.client(), Random::new(8));
    let mut stored = write(&mut redis, &mut random);
    for i in (0..200).step_by(9) {
        let key = format!("packed:{i}");
        let () = redis.del(&key).unwrap();
        stored.remove(&key);
    }
    let () = redis.set_ex("short", "gone soon", 1).unwrap();
    let () = redis.set_ex("long", "stays", 1000).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    kill(server);
    drop(folder);
    std::thread::sleep(Duration::from_secs(1));

    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let server = match round {
            // one of the next reign goes by its journal, and the third has none again
            0 | 1 => proxy(&platform, Some(folder.path()), &INVENTORY),
            _ => proxy(&platform, None, &[INVENTORY, SOON[0], SOON[1]].concat()),
        };
        let made_anew = server.log().contains("index made anew");
        assert_eq!(made_anew, round != 1, "round {round}:\n{}", server.log());
        check(&server, &stored);
        let mut redis = server.client();
        assert_eq!(redis.get::<_, Option<String>>("short").unwrap(), None);
        let ttl: i64 = redis.ttl("long").unwrap();
        assert!((900..=1000).contains(&ttl), "{ttl}");
        // what is written and deleted over what was found
        let value = random.any_bytes(300_000);
        let () = redis.set("alone:900", &value).unwrap();
        stored.insert("alone:900".to_owned(), value);
        std::thread::sleep(Duration::from_millis(500));
        if round < 2 {
            kill(server);
            std::thread::sleep(Duration::from_millis(500));
            continue;
        }
        let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
        until("nothing is left", Duration::from_secs(30), || {
            server.metric("scatterhoard_node_bytes_held") < 10_000.0
        });
        server.stop();
    }
}

#[test]
fn without_the_setting_it_begins_empty() {
    let platform = Platform::start(NODES);
    let server = proxy(&platform, None, &INVENTORY);
    let stored = write(&mut server.client(), &mut Random::new(9));
    kill(server);
    std::thread::sleep(Duration::from_millis(500));
    let server = proxy(&platform, None, &[]);
    let mut redis = server.client();
    let keys: usize = redis::cmd("DBSIZE").query(&mut redis).unwrap();
    assert_eq!(keys, 0);
    assert!(!server.log().contains("index made anew"));
    for key in stored.keys() {
        assert_eq!(redis.get::<_, Option<Vec<u8>>>(key).unwrap(), None);
    }
    server.stop();
}

#[test]
fn labels_reach_standbys_and_instances_that_slept() {
    let platform = Platform::start(NODES);
    let server = proxy(&platform, None, &[INVENTORY, SOON[1]].concat());
    let (mut redis, mut random) = (server.client(), Random::new(10));
    let stored = write(&mut redis, &mut random);
    let before = server.metric("scatterhoard_backup_chunks_total");
    until("standbys have it", Duration::from_secs(40), || {
        std::thread::sleep(Duration::from_secs(3));
        let now = server.metric("scatterhoard_backup_chunks_total");
        now > before && now == server.metric("scatterhoard_backup_chunks_total")
    });
    // changed while nodes sleep: rounds tell
    let () = redis.expire("alone:900", 1000).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    kill(server);
    std::thread::sleep(Duration::from_millis(500));
    let order = local_lambda::Reclaim {
        count: Some(2),
        seed: Some(4),
        busy: true,
        ..Default::default()
    };
    assert_eq!(platform.handle().reclaim(&order).len(), 2);
    let server = proxy(&platform, None, &INVENTORY);
    check(&server, &stored);
    let ttl: i64 = server.client().ttl("alone:900").unwrap();
    assert!((900..=1000).contains(&ttl), "{ttl}");
    server.stop();
}
