//! The end of the program, and of its node processes with it.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::Commands;

use crate::{
    contents::Random,
    fakes::{Fakes, Manner},
    server::{Server, client, program, stat, until},
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
fn who_is_told_to_end_before_it_is_ready_does() {
    // functions that are invoked and never answer: the start waits for them
    let platform = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", platform.local_addr().unwrap());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = program(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--lambda-endpoint",
            &url,
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let invoked = platform.accept().unwrap();
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        // a start may take 20 s
        let mut status = None;
        until("end", Duration::from_secs(15), || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.and_then(|s| s.code()), Some(0), "{signal}");
        let mut said = String::new();
        child.stdout.unwrap().read_to_string(&mut said).unwrap();
        assert!(!said.contains("ready"), "{said}");
        drop(invoked);
        // what else it had begun to ask
        platform.set_nonblocking(true).unwrap();
        while platform.accept().is_ok() {}
        platform.set_nonblocking(false).unwrap();
    }
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

#[test]
fn a_node_that_is_silent_at_the_end_holds_up_no_values_of_others() {
    let fakes = Fakes::start(8);
    let mut server = Server::start(&[
        "--lambda-endpoint",
        &fakes.url(),
        "--nodes",
        "8",
        "--data-parity",
        "4+2",
        "--ack",
        "proxy",
        "--hot-tier-mb",
        "16",
        // a change of manners shows in the next invocation
        "--linger-max-ms",
        "10",
        "--shutdown-timeout-s",
        "30",
    ]);
    fakes.misbehave(&[0], Manner::Mute);
    let (mut redis, mut random) = (server.client(), Random::new(9));
    let mut pipe = redis::pipe();
    for i in 0..600 {
        // longer than what shares segments: each goes alone
        pipe.set(i, random.bytes(20_000)).ignore();
    }
    let () = pipe.query(&mut redis).unwrap();
    server.signal(Signal::SIGTERM);
    let status = server.ended(Duration::from_secs(60));
    assert_eq!(status.and_then(|s| s.code()), Some(0), "{}", server.log());
    let log = server
        .log()
        .replace("acknowledged values not on nodes yet", "");
    assert!(!log.contains("not on nodes"), "{log}");
}
