//! MULTI, EXEC, WATCH, RENAME and COPY over real sockets, where values are
//! acknowledged by nodes and where by the proxy's memory.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use redis::{Commands, Connection, Value, cmd, pipe};

use crate::{
    contents::{Random, assert_same},
    differential::Peer,
    server::{Server, until},
};

const POOL: [&str; 4] = ["--data-parity", "4+2", "--nodes", "8"];
const LARGE: usize = 1 << 20;

/// One of each kind.
fn servers() -> [Server; 2] {
    let memory = ["--hot-tier-mb", "16", "--ack", "proxy"];
    [&[][..], &memory].map(|more| Server::start(&[&POOL[..], more].concat()))
}

fn say(redis: &mut Connection, line: &str) -> Result<Value, redis::RedisError> {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(redis)
}

#[track_caller]
fn error(redis: &mut Connection, line: &str) -> String {
    say(redis, line).expect_err(line).to_string()
}

#[test]
fn large_values_are_queued_and_read_within_their_transaction() {
    for server in servers() {
        let (mut redis, mut other) = (server.client(), server.client());
        let mut random = Random::new(71);
        let [first, second] = [0, 1].map(|_| random.bytes(LARGE));
        say(&mut redis, "MULTI").unwrap();
        let queued: String = cmd("SET").arg("a").arg(&first).query(&mut redis).unwrap();
        assert_eq!(queued, "QUEUED");
        let mut queue = |command: &mut redis::Cmd| {
            let queued: String = command.query(&mut redis).unwrap();
            assert_eq!(queued, "QUEUED");
        };
        queue(cmd("SET").arg("b").arg(&second));
        queue(cmd("GET").arg("a"));
        queue(cmd("APPEND").arg("a").arg("tail"));
        queue(cmd("STRLEN").arg("a"));
        queue(cmd("GETRANGE").arg("a").arg(LARGE - 2).arg(-1));
        queue(cmd("SETBIT").arg("b").arg(8 * (LARGE - 1)).arg(1));
        queue(cmd("GETDEL").arg("b"));
        queue(cmd("EXISTS").arg("a").arg("b"));
        assert!(!other.exists::<_, bool>("a").unwrap());
        type Replies = (
            (String, String, Vec<u8>, usize, usize, Vec<u8>),
            (u8, Vec<u8>, u8),
        );
        let replies: Vec<Value> = cmd("EXEC").query(&mut redis).unwrap();
        let head = Value::Array(replies[..6].to_vec());
        let tail = Value::Array(replies[6..].to_vec());
        let (head, tail): Replies = (
            redis::from_redis_value(head).unwrap(),
            redis::from_redis_value(tail).unwrap(),
        );
        assert_same("a", Some(&head.2), &first);
        assert_eq!((head.3, head.4), (LARGE + 4, LARGE + 4));
        assert_eq!(head.5, [&first[LARGE - 2..], b"tail"].concat());
        assert_eq!(tail.0, second[LARGE - 1] >> 7);
        let mut changed = second;
        changed[LARGE - 1] |= 0x80;
        assert_same("b", Some(&tail.1), &changed);
        assert_eq!(tail.2, 1);
        let stored: Vec<u8> = other.get("a").unwrap();
        assert_same("a", Some(&stored), &[&first[..], b"tail"].concat());
    }
}

#[test]
fn what_is_not_understood_ends_in_execabort() {
    let server = Server::start(&POOL);
    let mut redis = server.client();
    for bad in ["FOO", "GET", "SET k", "CLIENT NONE", "DISCARD now", "WATCH"] {
        say(&mut redis, "MULTI").unwrap();
        say(&mut redis, "SET k v").unwrap();
        error(&mut redis, bad);
        let error = error(&mut redis, "EXEC");
        assert!(error.contains("Transaction discarded"), "{bad}: {error}");
    }
    // an error that only the values show stops nothing
    let mut peer = Peer::of(&server);
    for line in ["MULTI", "SET k text", "INCR k", "SET other 1"] {
        peer.say(line);
    }
    let replies = format!("{:?}", peer.say("EXEC"));
    assert!(
        replies.contains("-ERR value is not an integer"),
        "{replies}"
    );
    // it went away with its watches and its queue
    say(&mut redis, "WATCH k").unwrap();
    say(&mut redis, "SET k w").unwrap();
    say(&mut redis, "MULTI").unwrap();
    say(&mut redis, "DISCARD").unwrap();
    say(&mut redis, "MULTI").unwrap();
    assert_eq!(say(&mut redis, "EXEC").unwrap(), Value::Array(vec![]));
}

#[test]
fn a_watched_key_is_dirty_after_any_change() {
    for server in servers() {
        let (mut redis, mut other) = (server.client(), server.client());
        for (change, is_dirty) in [
            ("SET k other", true),
            ("SET k v", true),
            ("DEL k", true),
            ("EXPIRE k 1000", true),
            ("APPEND k x", true),
            ("RENAME k l", true),
            ("RENAME l k", true),
            ("COPY l k REPLACE", true),
            ("BITOP NOT k k", true),
            ("FLUSHDB", true),
            ("FLUSHALL", true),
            ("GET k", false),
            ("STRLEN k", false),
            ("TOUCH k", false),
            ("SETNX k w", false),
            ("COPY k m", false),
            ("PERSIST k", false),
            ("DEL m", false),
            ("SET m v", false),
        ] {
            say(&mut redis, "FLUSHALL").unwrap();
            say(&mut redis, "MSET k v l w").unwrap();
            say(&mut redis, "WATCH k").unwrap();
            say(&mut other, change).unwrap();
            say(&mut redis, "MULTI").unwrap();
            say(&mut redis, "SET done 1").unwrap();
            let replies = say(&mut redis, "EXEC").unwrap();
            assert_eq!(replies == Value::Nil, is_dirty, "{change}: {replies:?}");
            assert_eq!(redis.exists::<_, bool>("done").unwrap(), !is_dirty);
        }
        // a key that is not there, and stays so
        say(&mut redis, "WATCH never").unwrap();
        say(&mut other, "FLUSHALL").unwrap();
        say(&mut redis, "MULTI").unwrap();
        assert_eq!(say(&mut redis, "EXEC").unwrap(), Value::Array(vec![]));
    }
}

#[test]
fn a_repair_does_not_make_a_watched_key_dirty() {
    // so few that two of them have a chunk at least
    let pool = ["--data-parity", "4+2", "--nodes", "7", "--standby", "false"];
    let server = Server::start(&pool);
    let mut redis = server.client();
    let value = Random::new(72).bytes(LARGE);
    let () = redis.set("k", &value).unwrap();
    say(&mut redis, "WATCH k").unwrap();
    let mut other = server.client();
    server.reclaim(2, 5);
    until("it is repaired", Duration::from_secs(30), || {
        let read: Vec<u8> = other.get("k").unwrap();
        assert_same("k", Some(&read), &value);
        server.metric("scatterhoard_repaired_chunks_total") > 0.0
    });
    say(&mut redis, "MULTI").unwrap();
    say(&mut redis, "STRLEN k").unwrap();
    let replies = say(&mut redis, "EXEC").unwrap();
    assert_eq!(replies, Value::Array(vec![Value::Int(LARGE as i64)]));
}

/// Two keys that are only written together are never seen apart.
#[test]
fn keys_written_together_are_seen_together() {
    const WRITES: usize = 150;
    for server in servers() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let mut redis = server.client();
                    scope.spawn(move || {
                        for i in 0..WRITES {
                            // small, and on nodes of its own now and then
                            let len = [10, 10, 100_000][i % 3];
                            let value = vec![b'a' + (i % 20) as u8 + writer; len];
                            let mut both = pipe();
                            both.atomic().set("a", &value).set("b", &value);
                            if i % 4 == 0 {
                                both.cmd("RENAME").arg("a").arg("t");
                                both.cmd("RENAME").arg("b").arg("a");
                                both.cmd("RENAME").arg("t").arg("b");
                            }
                            let _: Value = both.query(&mut redis).unwrap();
                        }
                    })
                })
                .collect();
            let (server, stop) = (&server, &stop);
            for reader in 0..2 {
                let mut redis = server.client();
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let (a, b): (Option<Vec<u8>>, Option<Vec<u8>>) = match reader {
                            0 => redis.mget(&["a", "b"]).unwrap(),
                            _ => pipe().atomic().get("a").get("b").query(&mut redis).unwrap(),
                        };
                        assert!(
                            a == b,
                            "torn: {:?} {:?}",
                            a.map(|a| a.len()),
                            b.map(|b| b.len())
                        );
                    }
                });
            }
            let ends: Vec<_> = writers.into_iter().map(|w| w.join()).collect();
            stop.store(true, Ordering::Relaxed);
            ends.into_iter().for_each(|end| end.unwrap());
        });
    }
}

#[test]
fn counters_in_transactions_lose_nothing() {
    for server in servers() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut redis = server.client();
                scope.spawn(move || {
                    for _ in 0..60 {
                        let mut add = pipe();
                        add.atomic().incr("n", 1).incr("m", -1);
                        let _: (i64, i64) = add.query(&mut redis).unwrap();
                        let _: i64 = redis.incr("n", 1).unwrap();
                        let _: Value = cmd("SETBIT")
                            .arg("bits")
                            .arg(7)
                            .arg(1)
                            .query(&mut redis)
                            .unwrap();
                    }
                });
            }
        });
        let (n, m): (i64, i64) = server.client().mget(&["n", "m"]).unwrap();
        assert_eq!((n, m), (480, -240));
    }
}

/// With WATCH, adding is exact without any other lock.
#[test]
fn watching_guards_what_was_read() {
    for server in servers() {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let mut redis = server.client();
                scope.spawn(move || {
                    for _ in 0..25 {
                        loop {
                            say(&mut redis, "WATCH n").unwrap();
                            let n: Option<i64> = redis.get("n").unwrap();
                            let mut set = pipe();
                            set.atomic().set("n", n.unwrap_or(0) + 1);
                            let done: Option<Value> = set.query(&mut redis).unwrap();
                            if done.is_some() {
                                break;
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(server.client().get::<_, i64>("n").unwrap(), 75);
    }
}

#[test]
fn names_are_chained_and_swapped_with_their_expiries() {
    for server in servers() {
        let (mut redis, mut random) = (server.client(), Random::new(73));
        for len in [5, 30_000, LARGE] {
            say(&mut redis, "FLUSHALL").unwrap();
            let [a, b] = [0, 1].map(|_| random.bytes(len));
            let () = redis.set_ex("a", &a, 5000).unwrap();
            let () = redis.set("b", &b).unwrap();
            let mut swap = pipe();
            swap.atomic();
            for (from, to) in [
                ("a", "t"),
                ("b", "a"),
                ("t", "b"),
                ("b", "c"),
                ("c", "d"),
                ("d", "b"),
            ] {
                swap.cmd("RENAME").arg(from).arg(to).ignore();
            }
            swap.get("a").get("b").cmd("DBSIZE").ttl("b").ttl("a");
            let (now_a, now_b, keys, ttl_b, ttl_a): (Vec<u8>, Vec<u8>, u8, i64, i64) =
                swap.query(&mut redis).unwrap();
            for (name, now, then) in [("a", &now_a, &b), ("b", &now_b, &a)] {
                assert_same(name, Some(now), then);
                let read: Vec<u8> = redis.get(name).unwrap();
                assert_same(name, Some(&read), then);
            }
            assert_eq!((keys, ttl_a), (2, -1));
            assert!((4900..=5000).contains(&ttl_b), "{ttl_b}");
            // and without a transaction
            say(&mut redis, "RENAME b e").unwrap();
            say(&mut redis, "COPY e f").unwrap();
            assert_eq!(say(&mut redis, "COPY e a").unwrap(), Value::Int(0));
            assert_eq!(say(&mut redis, "RENAMENX e a").unwrap(), Value::Int(0));
            for name in ["e", "f"] {
                let read: Vec<u8> = redis.get(name).unwrap();
                assert_same(name, Some(&read), &a);
                assert!((4900..=5000).contains(&redis.ttl::<_, i64>(name).unwrap()));
            }
            assert!(error(&mut redis, "RENAME b x").contains("no such key"));
        }
    }
}

/// What is queued is written when it is carried out, though it came before.
#[test]
fn queued_values_are_not_flushed_with_what_was_there() {
    let server = Server::start(&POOL);
    let (mut redis, mut other, mut random) = (server.client(), server.client(), Random::new(75));
    let [first, second] = [0, 1].map(|_| random.bytes(LARGE));
    let () = other.set("old", &second).unwrap();
    say(&mut redis, "MULTI").unwrap();
    for (key, value) in [("a", &first), ("b", &second)] {
        let _: Value = cmd("SET").arg(key).arg(value).query(&mut redis).unwrap();
    }
    say(&mut other, "FLUSHALL").unwrap();
    let () = other.set("new", &second).unwrap();
    say(&mut redis, "EXEC").unwrap();
    for (key, value) in [("a", &first), ("b", &second), ("new", &second)] {
        let read: Vec<u8> = other.get(key).unwrap();
        assert_same(key, Some(&read), value);
    }
    assert_eq!(say(&mut other, "DBSIZE").unwrap(), Value::Int(3));
    say(&mut other, "FLUSHALL").unwrap();
    until("all is freed", Duration::from_secs(20), || {
        let () = other.set("more", vec![1; 1 << 20]).unwrap();
        server.metric("scatterhoard_node_bytes_held") < 6e6
    });
}

/// A transaction that uses what others change all the time is done in the end, and
/// what is queued may be more than fits in memory at once.
#[test]
fn a_transaction_gets_through_among_writers() {
    let server = Server::start(&POOL);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (server, stop) = (&server, &stop);
        scope.spawn(move || {
            let mut redis = server.client();
            while !stop.load(Ordering::Relaxed) {
                let _: i64 = redis.incr("busy", 1).unwrap();
            }
        });
        let (mut redis, large) = (server.client(), Random::new(74).bytes(LARGE));
        for i in 0..10 {
            let mut all = pipe();
            all.atomic()
                .set("large", &large)
                .incr("busy", 1000)
                .get("large")
                .incr("mine", 1);
            let (_, _, read, mine): (Value, i64, Vec<u8>, i64) = all.query(&mut redis).unwrap();
            assert_same("large", Some(&read), &large);
            assert_eq!(mine, i + 1);
        }
        stop.store(true, Ordering::Relaxed);
    });
}
