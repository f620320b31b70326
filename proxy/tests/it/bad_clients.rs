//! Clients that break off, stall, flood or babble: no other client notices, and
//! the proxy's memory stays bounded.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    server::Server,
};

/// Other clients store and read.
#[track_caller]
fn assert_serves(server: &Server) {
    let (mut redis, mut random) = (server.client(), Random::new(4));
    for size in [3, 30_000, 2_000_000] {
        let value = random.bytes(size);
        let () = redis.set("other", &value).unwrap();
        let read: Option<Vec<u8>> = redis.get("other").unwrap();
        assert_same("other", read.as_deref(), &value);
    }
}

fn announce(server: &Server, key: &str, bytes: u64) -> TcpStream {
    let mut socket = server.socket();
    let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${bytes}\r\n", key.len());
    socket.write_all(head.as_bytes()).unwrap();
    socket
}

#[test]
fn announced_bodies_that_do_not_come() {
    let server = Server::start(&[]);
    let before = server.resident_bytes();
    let sockets: Vec<TcpStream> = (0..20).map(|_| announce(&server, "k", 512 << 20)).collect();
    assert_serves(&server);
    let grown = server.resident_bytes().saturating_sub(before) >> 20;
    assert!(grown < 150, "grew by {grown} MB");
    drop(sockets);
    assert_eq!(
        server.client().get::<_, Option<Vec<u8>>>("k").unwrap(),
        None
    );
    assert_serves(&server);
}

#[test]
fn a_client_that_leaves_in_the_middle_changes_nothing() {
    let server = Server::start(&[]);
    let (mut redis, old) = (server.client(), Random::new(1).bytes(1_000_000));
    let () = redis.set("key", &old).unwrap();
    let part = Random::new(2).bytes(3_000_000);
    for sent in [0, 1, 200_000, 262_144, 2_999_999, 3_000_000] {
        let mut socket = announce(&server, "key", 3_000_000);
        socket.write_all(&part[..sent]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        let _ = socket.read_to_end(&mut reply);
        assert!(
            !reply.starts_with(b"+"),
            "{sent}: {:?}",
            String::from_utf8_lossy(&reply)
        );
        let read: Option<Vec<u8>> = redis.get("key").unwrap();
        assert_same("key", read.as_deref(), &old);
    }
    for half in ["*", "*3\r\n$3\r\nSE", "*2\r\n$3\r\nGET\r\n$3\r\nke", "PIN"] {
        let mut socket = server.socket();
        socket.write_all(half.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Both).unwrap();
    }
    assert_serves(&server);
}

#[test]
fn babble_is_answered_with_an_error_and_closed() {
    let server = Server::start(&[]);
    let mut random = Random::new(3);
    let nested = "*1\r\n".repeat(100_000);
    let cases: [Vec<u8>; 10] = [
        b"*1\r\n$4\r\nPING\r\n*x\r\n$4\r\nPING\r\n".to_vec(),
        b"*-3\r\n*99999999999999999999\r\n".to_vec(),
        b"*2147483648\r\n".to_vec(),
        b"*1\r\n$-5\r\n".to_vec(),
        b"*1\r\n$99999999999999\r\n".to_vec(),
        b"*2\r\n$3\r\nGET\r\n$3\r\nabcd\r\n".to_vec(),
        nested.into_bytes(),
        random.bytes(1_000_000),
        vec![b'a'; 1_000_000],
        vec![0; 1_000_000],
    ];
    for (i, case) in cases.iter().enumerate() {
        let mut socket = server.socket();
        let _ = socket.write_all(case);
        let _ = socket.shutdown(Shutdown::Write);
        let mut reply = Vec::new();
        // closed, be it with a reset since not all was read
        let _ = socket.read_to_end(&mut reply);
        assert!(reply.len() < 1_000_000, "case {i}: {} bytes", reply.len());
        assert_serves(&server);
    }
}

#[test]
fn clients_that_do_not_read() {
    let server = Server::start(&["--node-memory-mb", "256"]);
    let value = Random::new(5).bytes(64 << 20);
    let () = server.client().set("large", &value).unwrap();
    drop(value);
    assert_serves(&server);
    let before = server.resident_bytes();
    let mut deaf: Vec<TcpStream> = (0..12).map(|_| server.socket()).collect();
    for socket in &mut deaf {
        // and a pipeline of them
        socket
            .write_all(&b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(50))
            .unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_serves(&server);
    // a window of stripes each, not 12 * 64 MB
    let grown = server.resident_bytes().saturating_sub(before) >> 20;
    assert!(grown < 500, "grew by {grown} MB");
}

#[test]
fn keys_may_be_any_bytes() {
    let server = Server::start(&[]);
    let mut redis = server.client();
    let keys: [&[u8]; 6] = [
        b"\xff\xfe\x00",
        b"\r\n",
        b"",
        b"*3\r\n$3\r\n",
        b"\xc3\x28",
        &[0; 4096],
    ];
    for (i, key) in keys.iter().enumerate() {
        let () = redis.set(*key, i.to_string()).unwrap();
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(redis.get::<_, String>(*key).unwrap(), i.to_string());
    }
    let all: Vec<Vec<u8>> = redis.scan().unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), keys.len());
    assert!(keys.iter().all(|key| all.iter().any(|k| k == key)));
}

#[test]
fn two_hundred_bad_clients_leave_no_trace() {
    let server = Server::start(&["--node-memory-mb", "256"]);
    let () = server
        .client()
        .set("large", Random::new(6).bytes(16 << 20))
        .unwrap();
    assert_serves(&server);
    let before = server.resident_bytes();
    let part = Random::new(7).bytes(1_000_000);
    for i in 0..200 {
        let mut socket = announce(&server, "large", 512 << 20);
        match i % 4 {
            0 => socket.write_all(&part).unwrap(),
            1 => {
                socket = server.socket();
                socket
                    .write_all(&b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(3))
                    .unwrap();
                socket.read_exact(&mut [0; 100_000]).unwrap();
            }
            2 => {
                socket = server.socket();
                let _ = socket.write_all(&part);
            }
            _ => {}
        }
    }
    assert_serves(&server);
    let grown = server.resident_bytes().saturating_sub(before) >> 20;
    assert!(grown < 300, "grew by {grown} MB");
    let held = server.admin("GET", "/healthz");
    assert!(held.contains("ok: 14 of 14"), "{held}");
}
