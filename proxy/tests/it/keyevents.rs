//! Keyspace notifications: the same commands at ours and at a real redis-server, and
//! the same messages in the same order. Passes over, and says so, where no such
//! redis-server is installed.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

use crate::{
    contents::Random,
    differential::{POOL, Peer, Redis, Reply},
    generator::steps,
    server::{CLIENT_LIMIT, Server, until},
};

/// A server with two clients, and one that hears what happens to keys.
struct Heard<S> {
    clients: [Peer<S>; 2],
    listener: Peer<S>,
    marks: u32,
}

impl<S: Read + Write> Heard<S> {
    fn new(mut connect: impl FnMut() -> Peer<S>, classes: &str) -> Self {
        let mut heard = Self {
            clients: [connect(), connect()],
            listener: connect(),
            marks: 0,
        };
        heard.marker().say("flushall");
        let set = format!("config set notify-keyspace-events {classes}");
        assert_eq!(heard.marker().say(&set), Reply::Plain("+OK".into()));
        heard.listener.say("psubscribe __key*__:*");
        heard
    }

    /// Never in a transaction.
    fn marker(&mut self) -> &mut Peer<S> {
        &mut self.clients[1]
    }

    /// What has been published until now.
    fn messages(&mut self) -> Vec<String> {
        self.marks += 1;
        let mark = format!("publish __key__:mark {}", self.marks);
        assert_eq!(self.marker().say(&mark), Reply::Integer(1));
        let mut messages = Vec::new();
        loop {
            let message = self.next();
            if message == format!("__key__:mark {}", self.marks) {
                return messages;
            }
            messages.push(message);
        }
    }

    fn next(&mut self) -> String {
        let Reply::Several(_, parts) = self.listener.reply() else {
            panic!("no message");
        };
        let text = |part: &Reply| match part {
            Reply::Plain(text) => text[1..].to_owned(),
            other => panic!("{other:?}"),
        };
        format!("{} {}", text(&parts[2]), text(&parts[3]))
    }
}

fn ours(server: &Server, classes: &str) -> Heard<TcpStream> {
    Heard::new(|| Peer::of(server), classes)
}

fn theirs(redis: &Redis, classes: &str) -> Heard<UnixStream> {
    Heard::new(|| redis.connect(), classes)
}

const ON_HASHES: &[&str] = &[
    "hset K a 1",
    "hset K a 1 b x",
    "hmset K c 1.5",
    "hsetnx K a 5",
    "hincrby K a 2",
    "hincrby K a 0",
    "hincrby K b 1",
    "hincrbyfloat K a 0.5",
    "hincrbyfloat K b 1",
    "hdel K a",
    "hdel K a b c",
    "hget K a",
    "hmget K a b",
    "hgetall K",
    "hkeys K",
    "hvals K",
    "hlen K",
    "hexists K a",
    "hstrlen K a",
    "hrandfield K",
    "hscan K 0",
    "eval return{redis.call('set',KEYS[1],1),redis.call('publish','x',1),redis.call('del',KEYS[2])} 2 K k1",
    "del K",
];

fn words(line: &str, random: &mut Random) -> Vec<Vec<u8>> {
    let key = format!("k{}", random.below(7));
    let word = |word: &str| match word {
        "K" => key.clone().into_bytes(),
        word => word.as_bytes().to_vec(),
    };
    line.split(' ').map(word).collect()
}

/// Redis lets a key whose time was over when it was set lie until somebody looks.
fn sets_in_the_past(request: &[Vec<u8>]) -> bool {
    request[0].eq_ignore_ascii_case(b"set")
        && request.windows(2).any(|pair| {
            let at = pair[0].eq_ignore_ascii_case(b"exat") || pair[0].eq_ignore_ascii_case(b"pxat");
            at && pair[1] == b"1"
        })
}

#[track_caller]
fn compare(seed: u64, server: &Server, redis: &Redis) -> usize {
    let mut random = Random::new(seed);
    let (mut ours, mut theirs) = (ours(server, "KEAmn"), theirs(redis, "KEAmn"));
    let mut count = 0;
    for (at, step) in steps(seed, 1500).into_iter().enumerate() {
        let request = match random.below(3) {
            0 => words(ON_HASHES[random.below(ON_HASHES.len())], &mut random),
            _ => step.request,
        };
        if sets_in_the_past(&request) {
            continue;
        }
        let _ = ours.clients[0].ask(&request);
        let _ = theirs.clients[0].ask(&request);
        let (a, b) = (ours.messages(), theirs.messages());
        let shown: Vec<String> = request
            .iter()
            .map(|w| w[..w.len().min(60)].escape_ascii().to_string())
            .collect();
        assert_eq!(a, b, "ours, theirs; seed {seed}, step {at}: {shown:?}");
        count += a.len();
    }
    count
}

#[test]
fn what_happens_to_keys_is_told_as_redis_tells_it() {
    let Some(redis) = Redis::start() else { return };
    let server = Server::start(&POOL);
    let memory = ["--hot-tier-mb", "16", "--ack", "proxy"];
    let from_memory = Server::start(&[&POOL[..], &memory].concat());
    for seed in 0..2 {
        assert!(compare(seed, &server, &redis) > 500);
        assert!(compare(seed + 2, &from_memory, &redis) > 500);
    }
}

#[test]
fn keys_whose_time_is_over_are_told() {
    let server = Server::start(&["--notify-keyspace-events", "Ex"]);
    let mut heard = ours(&server, "xE");
    heard.clients[0].say("set a 1 px 20");
    heard.clients[0].say("mset b 2 c 3");
    heard.clients[0].say("select 3");
    heard.clients[0].say("set d 1 px 30");
    // by the walk, or by whoever looks
    assert_eq!(heard.next(), "__keyevent@0__:expired a");
    assert_eq!(heard.next(), "__keyevent@3__:expired d");
    heard.clients[0].say("set e 1 pxat 5");
    assert_eq!(heard.messages(), ["__keyevent@3__:expired e"]);
    heard.clients[0].say("flushall");
    assert!(heard.messages().is_empty());
}

#[test]
fn settings_of_events_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let server = Server::start(&["--notify-keyspace-events", "KA"]);
    let (mut ours, mut theirs) = (Peer::of(&server), redis.connect());
    let mut get = ours.say("config get notify-keyspace-events");
    assert!(format!("{get:?}").contains("AK"), "{get:?}");
    let mut random = Random::new(7);
    for _ in 0..300 {
        let letters: String = (0..1 + random.below(8))
            .map(|_| char::from(b"Ag$lshzxeKEtmdnQ"[random.below(16)]))
            .collect();
        let set = format!("config set notify-keyspace-events {letters}");
        assert_eq!(ours.say(&set), theirs.say(&set), "{letters}");
        get = ours.say("config get notify-keyspace-events");
        let expected = theirs.say("config get notify-keyspace-events");
        assert_eq!(get, expected, "{letters}");
    }
}

#[test]
fn events_of_a_transaction_come_with_its_commit_or_not_at_all() {
    let server = Server::start(&[]);
    let mut heard = ours(&server, "KA");
    let client = &mut heard.clients[0];
    for line in ["multi", "set a 1", "incr a", "rename a b", "exec"] {
        client.say(line);
    }
    for line in ["multi", "set never 1", "discard"] {
        client.say(line);
    }
    let script = b"redis.call('set',KEYS[1],1) error('x')".to_vec();
    let eval = [b"eval".to_vec(), script, b"1".to_vec(), b"b".to_vec()];
    client.ask(&eval);
    let expected = [
        "__keyspace@0__:a set",
        "__keyspace@0__:a incrby",
        "__keyspace@0__:a rename_from",
        "__keyspace@0__:b rename_to",
        "__keyspace@0__:b set",
    ];
    assert_eq!(heard.messages(), expected);
    heard
        .marker()
        .ask(&["config", "set", "notify-keyspace-events", ""].map(|w| w.as_bytes().to_vec()));
    heard.clients[0].say("set quiet 1");
    assert!(heard.messages().is_empty());
}

#[test]
fn keys_that_make_room_are_told() {
    // one node holds everything: 128 MB
    let server = Server::start(&[
        "--nodes",
        "2",
        "--data-parity",
        "1+1",
        "--node-memory-mb",
        "128",
        "--hot-tier-mb",
        "0",
        "--standby",
        "false",
    ]);
    let mut heard = ours(&server, "Ee");
    let value = vec![b'x'; 4 << 20];
    let mut at = 0;
    until("something was evicted", CLIENT_LIMIT, || {
        at += 1;
        let key = format!("k{at}").into_bytes();
        heard.clients[0].ask(&[b"set".to_vec(), key, value.clone()]);
        !heard.messages().is_empty()
    });
    let left = heard.clients[0].say("exists k1");
    assert_eq!(left, Reply::Integer(0));
}
