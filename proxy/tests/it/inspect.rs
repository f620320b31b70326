//! OBJECT, MEMORY, SLOWLOG, LASTSAVE, and what CONFIG SET changes.

use redis::{Commands, Connection, Value, cmd};

use crate::{
    differential::{Peer, Redis, Reply},
    server::Server,
};

const POOL: [&str; 4] = ["--data-parity", "4+2", "--nodes", "8"];

fn number(redis: &mut Connection, words: &[&str]) -> i64 {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]).query(redis).unwrap()
}

#[test]
fn what_looks_inside_is_answered_as_by_redis() {
    let Some(redis) = Redis::start() else { return };
    let server = Server::start(&POOL);
    let (mut ours, mut theirs) = (Peer::of(&server), redis.connect());
    let (embstr, raw) = ("x".repeat(44), "x".repeat(45));
    let lines = [
        "set a 123456",
        "object encoding a",
        "set a -9223372036854775808",
        "object encoding a",
        "set a 9223372036854775808",
        "object encoding a",
        "set a 0123",
        "object encoding a",
        &format!("set a {embstr}"),
        "object encoding a",
        &format!("set a {raw}"),
        "object encoding a",
        "object refcount a",
        "object freq a",
        "object idletime a",
        "object encoding none",
        "object refcount none",
        "object freq none",
        "object idletime none",
        "object foo a",
        "object encoding",
        "memory usage none",
        "memory usage a samples -1",
        "memory usage a samples x",
        "memory usage a foo",
        "memory purge",
        "memory foo",
        "slowlog get x",
        "slowlog get -2",
        "SLOWLOG Get 1 2",
        "slowlog foo",
        "config set slowlog-max-len x",
        "config set slowlog-max-len -1",
        "config set slowlog-log-slower-than -2",
        "config set slowlog-max-len 3 foo 4",
        "config set foo 4 slowlog-max-len 3",
        "config set slowlog-max-len 3 slowlog-max-len 4",
        "config set slowlog-max-len",
        "config get slowlog*",
        "config set slowlog-max-len 7 slowlog-log-slower-than -1",
        "config get slowlog*",
        "config get slowlog-max-len",
        "slowlog reset",
        "slowlog len",
        "slowlog get",
        "config set slowlog-log-slower-than 0",
        "slowlog reset",
        "get a",
    ];
    for line in lines {
        let (ours, theirs) = (ours.say(line), theirs.say(line));
        match (line, &ours, &theirs) {
            // in any order
            ("config get slowlog*", Reply::Several(_, a), Reply::Several(_, b)) => {
                let [mut a, mut b] = [a.clone(), b.clone()];
                a.sort();
                b.sort();
                assert_eq!(a, b, "{line}");
            }
            _ => assert_eq!(ours, theirs, "{line}"),
        }
    }
    let many = "x ".repeat(40);
    let many = format!("del {}{}", many, "y".repeat(200));
    let arguments = |reply: Reply| match reply {
        Reply::Several(_, entries) => entries
            .into_iter()
            .map(|entry| match entry {
                Reply::Several(_, mut fields) => fields.swap_remove(3),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<Reply>>(),
        other => panic!("{other:?}"),
    };
    let mut logs = Vec::new();
    for ask in [&mut |line: &str| ours.say(line), &mut |line: &str| {
        theirs.say(line)
    }] as [&mut dyn FnMut(&str) -> Reply; 2]
    {
        let _ = ask("slowlog reset");
        let long = format!("set a {}", "z".repeat(300));
        for line in [
            many.as_str(),
            &long,
            "get a",
            "multi",
            "incr n",
            "exec",
            "auth me secret",
        ] {
            ask(line);
        }
        logs.push(arguments(ask("slowlog get 100")));
    }
    assert_eq!(logs[0], logs[1]);
}

#[test]
fn estimates_are_near_and_times_are_sane() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data-dir", folder.path().to_str().unwrap()];
    let server = Server::start(&[&POOL[..], &data].concat());
    let mut redis = server.client();
    let () = redis.set("k", vec![1; 1_000_000]).unwrap();
    let usage = number(&mut redis, &["MEMORY", "USAGE", "k", "SAMPLES", "5"]);
    assert!((1_000_000..1_010_000).contains(&usage), "{usage}");
    let saved = number(&mut redis, &["LASTSAVE"]);
    let now: (i64, i64) = cmd("TIME").query(&mut redis).unwrap();
    assert!((now.0 - 1000..=now.0).contains(&saved), "{saved}");
    for words in [
        ["MEMORY", "STATS"],
        ["MEMORY", "DOCTOR"],
        ["MEMORY", "HELP"],
        ["OBJECT", "HELP"],
    ] {
        let _: Value = cmd(words[0]).arg(words[1]).query(&mut redis).unwrap();
    }
}

#[test]
fn common_subsequences_of_long_values() {
    let server = Server::start(&POOL);
    let mut redis = server.client();
    let [mut a, mut b] = [b'a', b'b'].map(|byte| vec![byte; 8_000]);
    a[1_000..4_000].fill(b'-');
    b[3_000..6_000].fill(b'-');
    let () = redis.set("a", &a).unwrap();
    let () = redis.set("b", &b).unwrap();
    assert_eq!(number(&mut redis, &["LCS", "a", "b", "LEN"]), 3_000);
    let common: Vec<u8> = cmd("LCS").arg("a").arg("b").query(&mut redis).unwrap();
    assert_eq!(common, vec![b'-'; 3_000]);
    let () = redis.set("a", vec![0; 100_000]).unwrap();
    let () = redis.set("b", vec![0; 100_000]).unwrap();
    let refused = cmd("LCS").arg("a").arg("b").query::<Value>(&mut redis);
    let refused = refused.expect_err("too large").to_string();
    assert!(
        refused.contains("transient memory for LCS exceeds"),
        "{refused}"
    );
}

/// Values that were on nodes before their command was carried out: what is shown of them
/// was kept.
#[test]
fn the_slow_log_has_the_beginning_of_every_value() {
    let server = Server::start(&POOL);
    let mut client = server.client();
    let slower_than = ["SET", "slowlog-log-slower-than", "0"];
    let () = cmd("CONFIG").arg(&slower_than).query(&mut client).unwrap();
    let values = [
        "short",
        &"w".repeat(128),
        &"l".repeat(5000),
        &"s".repeat(300_000),
    ];
    let pipe = &mut redis::pipe();
    for value in values {
        pipe.set("k", value).ignore();
    }
    pipe.atomic();
    let () = pipe.query(&mut client).unwrap();
    let mut pipe = redis::pipe();
    for value in values {
        pipe.set("k", value).ignore();
    }
    let () = pipe.query(&mut client).unwrap();
    let log: Vec<Vec<Value>> = cmd("SLOWLOG").arg("GET").query(&mut client).unwrap();
    let shown = log.iter().rev().filter_map(|entry| {
        let words: Vec<String> = redis::from_redis_value(entry[3].clone()).unwrap();
        (words[0] == "SET").then(|| words[2].clone())
    });
    let cut = |value: &str| match value.len() {
        ..=128 => value.to_owned(),
        len => format!("{}... ({} more bytes)", &value[..128], len - 128),
    };
    let expected: Vec<String> = values.iter().chain(&values).map(|v| cut(v)).collect();
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}
