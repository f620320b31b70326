//! Links in TLS: everything works as without, nothing can be read on the way, and
//! whoever speaks plain text on the link port is refused.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use redis::Commands;
use scatterhoard_wire::{InvocationId, Token, message::Message};

use crate::{
    contents::{Random, assert_same},
    link::{Heard, Link, encode, hello},
    server::{Server, connect, free_address, until},
};

/// Strangers have 5 s to show who they are; more than that only tells a hang.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn values_of_all_sizes_survive_two_lost_nodes() {
    let server = Server::start(&["--link-tls", "on"]);
    let (mut redis, mut random) = (server.client(), Random::new(1));
    let sizes = [
        1_000, 50_000, 262_144, 262_145, 1_000_000, 5_000_000, 20_000_000,
    ];
    let values = sizes.map(|size| random.bytes(size));
    for (size, value) in sizes.iter().zip(&values) {
        let () = redis.set(size, value).unwrap();
    }
    let mut verify = || {
        for (size, value) in sizes.iter().zip(&values) {
            let read: Option<Vec<u8>> = redis.get(size).unwrap();
            assert_same(&size.to_string(), read.as_deref(), value);
        }
    };
    verify();
    server.reclaim(2, 7);
    verify();
    // nodes return, and shake hands again in their next invocation
    let before = server.metric("scatterhoard_invocations_total");
    until("nodes returned", CLOSED_WITHIN, || {
        server.metric("scatterhoard_invocations_total") >= before + 12.0
    });
    verify();
    // none but those of the killed nodes
    let lost = server.metric("scatterhoard_links_lost_total");
    assert!(lost <= 2.0, "{lost}: {}", server.log());
    server.stop();
}

#[test]
fn strangers_who_do_not_speak_tls_are_refused_and_delay_nobody() {
    let links = free_address();
    let server = Server::start(&["--link-tls", "on", "--link-listen", &links.to_string()]);
    let assert_serves = |seed| {
        let (mut redis, value) = (server.client(), Random::new(seed).bytes(900_000));
        let () = redis.set("served", &value).unwrap();
        let read: Option<Vec<u8>> = redis.get("served").unwrap();
        assert_same("served", read.as_deref(), &value);
    };
    let greeting = Message::Hello(hello(Token(0x5eed), InvocationId(1)));
    let said: [&[u8]; 4] = [
        &encode(0, &greeting, &[]),
        b"*1\r\n$4\r\nPING\r\n",
        &Random::new(2).bytes(100_000),
        // a record that is no handshake
        b"\x17\x03\x03\x00\x10                ",
    ];
    for bytes in said {
        let mut stream = connect(links);
        stream.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        // an alert at most
        assert!(
            answer.len() < 16 && !answer.starts_with(b"HS"),
            "{answer:?}"
        );
        assert_serves(3);
    }
    until("all were refused", CLOSED_WITHIN, || {
        server.log().matches("link refused").count() == said.len()
    });
    // at once: none because nothing came in time
    let log = server.log();
    let mut refused = log.lines().filter(|line| line.contains("link refused"));
    assert!(refused.all(|line| !line.contains("timed out")), "{log}");
    let mut link = Link::dial(links).unwrap();
    link.say(0, &greeting, &[]).unwrap();
    assert!(matches!(link.hear(CLOSED_WITHIN), Heard::Closed));
    // more who say nothing, or not enough, than the listener takes at once
    let crowd: Vec<_> = (0..300)
        .map(|i| {
            let mut stream = connect(links);
            stream.write_all(&b"\x16\x03\x01\x02\x00"[..i % 6]).unwrap();
            stream
        })
        .collect();
    assert_serves(4);
    for mut stream in crowd {
        stream.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    until("the crowd was refused", CLOSED_WITHIN, || {
        server.log().matches("link refused").count() >= 300
    });
    assert_serves(5);
    server.stop();
}

/// Where nodes dial; passes everything on to `links` and remembers it.
struct Tap {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    fn start(links: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        std::thread::spawn(move || {
            for node in listener.incoming().flatten() {
                let Ok(proxy) = TcpStream::connect(links) else {
                    return;
                };
                pass_on(node.try_clone().unwrap(), proxy.try_clone().unwrap(), &all);
                pass_on(proxy, node, &all);
            }
        });
        Self { address, heard }
    }

    fn has_heard(&self, what: &[u8]) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.windows(what.len()).any(|window| window == what)
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, heard: &Arc<Mutex<Vec<u8>>>) {
    let heard = heard.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            heard.lock().unwrap().extend_from_slice(&buffer[..n]);
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[test]
fn nothing_of_a_value_can_be_read_on_the_way() {
    for (setting, readable) in [("auto", true), ("on", false)] {
        let links = free_address();
        let tap = Tap::start(links);
        let server = Server::start(&[
            "--link-tls",
            setting,
            "--link-listen",
            &links.to_string(),
            "--link-advertise",
            &tap.address.to_string(),
        ]);
        let (mut redis, value) = (server.client(), Random::new(4).bytes(100_000));
        let () = redis.set("secret", &value).unwrap();
        let read: Option<Vec<u8>> = redis.get("secret").unwrap();
        assert_same("secret", read.as_deref(), &value);
        // the beginning of the only cell, which is sent as it is
        assert_eq!(tap.has_heard(&value[..32]), readable, "{setting}");
        server.stop();
    }
}
