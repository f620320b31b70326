//! Functions that are cut off after 5 s, and clients that do not notice.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    server::{Server, until},
};

const SHORT_LIVED: [&str; 4] = ["--function-timeout-s", "5", "--node-memory-mb", "256"];

#[test]
fn load_goes_on_while_functions_time_out() {
    let server = Server::start(&SHORT_LIVED);
    let end = Instant::now() + Duration::from_secs(12);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let server = &server;
            scope.spawn(move || {
                let (mut redis, mut random) = (server.client(), Random::new(seed));
                let mut turn = 0;
                while Instant::now() < end {
                    let key = format!("{seed}:{}", turn % 5);
                    let size = (1 << 10) + random.size(22);
                    let value = random.any_bytes(size);
                    let () = redis.set(&key, &value).expect("a SET failed");
                    let read: Option<Vec<u8>> = redis.get(&key).expect("a GET failed");
                    assert_same(&key, read.as_deref(), &value);
                    turn += 1;
                }
                assert!(turn > 5, "only {turn} turns");
            });
        }
    });
    assert!(
        server.metric("scatterhoard_invocations_total") > 28.0,
        "no node was invoked again"
    );
}

const LARGE: usize = 64 << 20;
const TRANSFER: Duration = Duration::from_secs(8);

/// Lets `pieces` equal parts of a transfer take [`TRANSFER`] in all.
fn paced(pieces: usize, mut piece: impl FnMut(usize)) {
    let started = Instant::now();
    for i in 0..pieces {
        piece(i);
        let due = TRANSFER.mul_f64((i + 1) as f64 / pieces as f64);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
    }
    assert!(started.elapsed() >= TRANSFER);
}

#[test]
fn a_slow_reader_gets_every_byte_across_several_invocations() {
    let server = Server::start(&SHORT_LIVED);
    let value = Random::new(5).bytes(LARGE);
    let () = server.client().set("large", &value).unwrap();
    let mut socket = server.socket();
    socket
        .write_all(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n")
        .unwrap();
    let header = format!("${LARGE}\r\n");
    let mut reply = vec![0; header.len() + LARGE + 2];
    let step = reply.len().div_ceil(256);
    let mut parts = reply.chunks_mut(step);
    paced(parts.len(), |_| {
        socket.read_exact(parts.next().unwrap()).unwrap()
    });
    assert!(reply.starts_with(header.as_bytes()) && reply.ends_with(b"\r\n"));
    assert_same(
        "large",
        Some(&reply[header.len()..header.len() + LARGE]),
        &value,
    );
}

#[test]
fn a_slow_writer_is_stored_whole() {
    let server = Server::start(&SHORT_LIVED);
    let value = Random::new(6).bytes(LARGE);
    let mut socket = server.socket();
    let head = format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${LARGE}\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let mut parts = value.chunks(LARGE / 256);
    paced(parts.len(), |_| {
        socket.write_all(parts.next().unwrap()).unwrap()
    });
    socket.write_all(b"\r\n").unwrap();
    let mut reply = [0; 5];
    socket.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+OK\r\n");
    let read: Option<Vec<u8>> = server.client().get("large").unwrap();
    assert_same("large", read.as_deref(), &value);
}

/// Pings keep instances warm and open no link; the instances stay the same.
#[test]
fn silent_nodes_are_pinged() {
    // rounds keep instances warm, too, and start standbys
    let server = Server::start(&["--warm-interval-s", "1", "--standby", "false"]);
    let mut redis = server.client();
    let () = redis::cmd("SET")
        .arg("k")
        .arg("v")
        .query(&mut redis)
        .unwrap();
    let pids = server.children();
    let pinged = || {
        let metrics = server.admin("GET", "/metrics");
        let line = "scatterhoard_invocations_total{purpose=\"warm\",outcome=\"ok\"} ";
        let count = metrics
            .lines()
            .find_map(|l| l.strip_prefix(line))
            .map(str::parse::<u64>);
        count.is_some_and(|n| n.unwrap() >= 42)
    };
    until("three pings of each node", Duration::from_secs(20), pinged);
    assert_eq!(server.children(), pids);
    assert_eq!(server.metric("scatterhoard_instances_replaced_total"), 0.0);
    let value: String = redis::cmd("GET").arg("k").query(&mut redis).unwrap();
    assert_eq!(value, "v");
}
