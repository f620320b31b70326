//! The end of the program, and of its node processes with it.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use nix::sys::signal::Signal;
use redis::Commands;

use crate::{
    contents::Random,
    server::{Server, client, stat, until},
};

#[test]
fn sigterm_under_load_ends_in_good_order() {
    let mut server = Server::start(&["--shutdown-timeout-s", "3"]);
    let children = server.children();
    assert!(children.len() >= 14, "{children:?}");
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = server.address;
    let mut half = server.socket();
    half.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\nand no more")
        .unwrap();
    let mut deaf = server.socket();
    let value = Random::new(1).bytes(16 << 20);
    let () = server.client().set("large", &value).unwrap();
    deaf.write_all(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n")
        .unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                let (mut redis, mut random) = (client(address), Random::new(seed));
                while !stop.load(Ordering::Relaxed) {
                    let size = random.size(20);
                    let key = format!("key:{seed}");
                    let value = random.bytes(size);
                    // an error is all right as soon as the end has begun
                    if redis.set::<_, _, ()>(&key, &value).is_err() {
                        return;
                    }
                    match redis.get::<_, Option<Vec<u8>>>(&key) {
                        Ok(read) => assert!(read.as_ref() == Some(&value), "WRONG BYTES or nil"),
                        Err(_) => return,
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        until("load", Duration::from_secs(30), || {
            done.load(Ordering::Relaxed) > 20
        });
        server.signal(Signal::SIGTERM);
        let status = server.ended(Duration::from_secs(20));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(status.and_then(|s| s.code()), Some(0), "{}", server.log());
    });
    until("no orphans", Duration::from_secs(5), || {
        children.iter().all(|pid| stat(*pid).is_none())
    });
}

#[test]
fn an_idle_server_stops_at_once() {
    let mut server = Server::start(&[]);
    let mut redis = server.client();
    let () = redis.set("key", "value").unwrap();
    server.signal(Signal::SIGTERM);
    // far below the bound of 10 s, which is for clients in the middle of something
    let status = server.ended(Duration::from_secs(6));
    assert_eq!(status.and_then(|s| s.code()), Some(0), "{}", server.log());
}

#[test]
fn node_processes_go_with_a_killed_proxy() {
    let mut server = Server::start(&[]);
    let () = server
        .client()
        .set("key", Random::new(2).bytes(3_000_000))
        .unwrap();
    let children = server.children();
    assert!(children.len() >= 14, "{children:?}");
    // most of them are frozen
    server.signal(Signal::SIGKILL);
    server.ended(Duration::from_secs(5)).unwrap();
    until("no orphans", Duration::from_secs(5), || {
        children.iter().all(|pid| stat(*pid).is_none())
    });
}
