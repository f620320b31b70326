//! Publish and subscribe over real sockets.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use redis::Commands;

use crate::server::{CLIENT_LIMIT, Server, until};

/// Sends requests as they are and reads what comes until it ends like this.
fn talk(stream: &mut TcpStream, requests: &str, end: &str) -> String {
    stream.write_all(requests.as_bytes()).unwrap();
    let mut got = Vec::new();
    while !got.ends_with(end.as_bytes()) {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&piece[..n]);
    }
    String::from_utf8(got).unwrap()
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(CLIENT_LIMIT)).unwrap();
    stream
}

#[test]
fn what_is_published_comes_to_channels_and_patterns() {
    let server = Server::start(&[]);
    let mut publisher = server.client();
    let mut other = server.client();
    let mut subscriber = other.as_pubsub();
    subscriber.set_read_timeout(Some(CLIENT_LIMIT)).unwrap();
    subscriber.subscribe("news").unwrap();
    subscriber.psubscribe("n*").unwrap();
    let payload = vec![7u8; 300_000];
    let receivers: usize = publisher.publish("news", &payload).unwrap();
    assert_eq!(receivers, 2);
    for pattern in [false, true] {
        let message = subscriber.get_message().unwrap();
        assert_eq!(message.get_channel_name(), "news");
        assert_eq!(message.get_payload_bytes(), payload);
        assert_eq!(message.from_pattern(), pattern);
    }
    let channels: Vec<String> = redis::cmd("PUBSUB")
        .arg("CHANNELS")
        .query(&mut publisher)
        .unwrap();
    assert_eq!(channels, ["news"]);
    drop(subscriber);
    drop(other);
    until("the subscriber is gone", CLIENT_LIMIT, || {
        let receivers: usize = publisher.publish("news", "x").unwrap();
        receivers == 0
    });
}

#[test]
fn subscribers_of_resp2_may_ask_for_little_and_those_of_resp3_for_all() {
    let server = Server::start(&[]);
    let mut two = connect(&server);
    let got = talk(
        &mut two,
        "SUBSCRIBE a b\r\nGET a\r\nPING\r\nUNSUBSCRIBE\r\nPING\r\n",
        "+PONG\r\n",
    );
    let expected = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n\
        *3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n\
        -ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n\
        *2\r\n$4\r\npong\r\n$0\r\n\r\n\
        *3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n\
        *3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n+PONG\r\n";
    assert_eq!(got, expected);

    let mut three = connect(&server);
    talk(&mut three, "HELLO 3\r\nPING\r\n", "+PONG\r\n");
    let got = talk(
        &mut three,
        "SUBSCRIBE a\r\nGET nothing\r\nPUBLISH a x\r\nPING\r\n",
        "+PONG\r\n",
    );
    // as redis-server 7.0.15: one's own message goes out before the reply
    let expected = ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n_\r\n\
        >3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n:1\r\n+PONG\r\n";
    assert_eq!(got, expected);
}

/// The first and the last reply to a pipeline lie around what others published while
/// it was carried out.
#[test]
fn messages_come_before_the_replies_that_follow_them() {
    let server = Server::start(&[]);
    let mut two = connect(&server);
    talk(&mut two, "SUBSCRIBE a\r\n", ":1\r\n");
    let mut publisher = server.client();
    for reset in [false, true] {
        let () = publisher.publish("a", "seen").unwrap();
        // the socket's order: what was published is there before this arrives
        let end = if reset {
            "RESET\r\n"
        } else {
            "UNSUBSCRIBE a\r\nSUBSCRIBE a\r\n"
        };
        let got = talk(
            &mut two,
            end,
            if reset {
                "+RESET\r\n"
            } else {
                "subscribe\r\n$1\r\na\r\n:1\r\n"
            },
        );
        let at = |text: &str| {
            got.find(text)
                .unwrap_or_else(|| panic!("no {text} in {got:?}"))
        };
        let confirmed = if reset { "+RESET" } else { "unsubscribe" };
        assert!(at("seen") < at(confirmed), "{got:?}");
    }
    let received: usize = publisher.publish("a", "x").unwrap();
    assert_eq!(received, 0);
}

/// Messages that flood in while subscriptions begin and end never come behind the
/// confirmation of an end.
#[test]
fn nothing_comes_behind_the_end_of_a_subscription() {
    // with one worker nothing gets between two requests that arrive together
    let server = Server::start(&["--threads", "2"]);
    let (mut two, mut publisher) = (connect(&server), server.client());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let pipe = &mut redis::pipe();
                (0..50).for_each(|_| {
                    pipe.publish("a", "m");
                });
                let () = pipe.query(&mut publisher).unwrap();
            }
        });
        let mut got = String::new();
        let message = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n";
        let began = std::time::Instant::now();
        let mut rounds = 0;
        // until some came, and often
        while rounds < 300 || (!got.contains(message) && began.elapsed() < CLIENT_LIMIT) {
            rounds += 1;
            let requests = "SUBSCRIBE a\r\nPING\r\nUNSUBSCRIBE a\r\nPING\r\n";
            got.push_str(&talk(&mut two, requests, "+PONG\r\n"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(got.contains(message), "nothing was received");
        for round in got.split_inclusive("+PONG\r\n") {
            let begin = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
            let end = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n+PONG\r\n";
            assert!(
                round.starts_with(begin) && round.ends_with(end),
                "{round:?}"
            );
        }
    });
}

#[test]
fn subscriptions_have_a_limit() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut many = redis::cmd("SUBSCRIBE");
    (0..=65_536).for_each(|i| {
        many.arg(i);
    });
    let refused: redis::RedisResult<redis::Value> = many.query(&mut client);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("at most 65536 subscriptions"), "{refused}");
    let channels: Vec<String> = redis::cmd("PUBSUB")
        .arg("CHANNELS")
        .query(&mut client)
        .unwrap();
    assert!(channels.is_empty());
    let long = "*x".repeat(1000);
    let refused: redis::RedisResult<redis::Value> = redis::cmd("KEYS").arg(long).query(&mut client);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("pattern with a star")
    );
}

#[test]
fn messages_of_a_transaction_go_out_with_its_commit() {
    let server = Server::start(&[]);
    let mut subscriber = connect(&server);
    talk(&mut subscriber, "SUBSCRIBE a\r\n", ":1\r\n");
    let mut publisher = connect(&server);
    let got = talk(
        &mut publisher,
        "MULTI\r\nSET k 1\r\nPUBLISH a done\r\nEXEC\r\n",
        ":1\r\n",
    );
    assert_eq!(got, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n");
    let got = talk(&mut subscriber, "", "done\r\n");
    assert_eq!(got, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\ndone\r\n");
    talk(
        &mut publisher,
        "MULTI\r\nPUBLISH a never\r\nDISCARD\r\n",
        "+OK\r\n+QUEUED\r\n+OK\r\n",
    );
    talk(&mut publisher, "PUBLISH a later\r\n", ":1\r\n");
    let got = talk(&mut subscriber, "", "later\r\n");
    assert!(!got.contains("never"));
}

#[test]
fn a_subscriber_that_takes_nothing_is_let_go_and_nobody_waits_for_it() {
    let server = Server::start(&[]);
    let mut slow = connect(&server);
    talk(&mut slow, "SUBSCRIBE a\r\n", ":1\r\n");
    let mut publisher = server.client();
    let payload = vec![1u8; 1 << 20];
    let mut sent = 0;
    // 32 MB in the proxy and what the sockets take
    until("it is let go", CLIENT_LIMIT, || {
        let receivers: usize = publisher.publish("a", &payload).unwrap();
        sent += 1;
        receivers == 0
    });
    assert!((32..100).contains(&sent), "let go after {sent} MB");
    slow.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // what the socket took comes, and then the end
    let mut piece = vec![0; 1 << 20];
    while slow.read(&mut piece).unwrap_or(0) > 0 {}
}
