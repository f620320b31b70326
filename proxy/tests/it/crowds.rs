//! Transactions and scripts of many clients at once, and of clients that ask for too
//! much: nobody waits for ever, and nothing grows without bound.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::{Commands, Connection, Value, cmd, pipe};

use crate::{
    contents::{Random, assert_same},
    server::{CLIENT_LIMIT, Server, until},
};

const POOL: [&str; 4] = ["--data-parity", "4+2", "--nodes", "8"];
const LARGE: usize = 8 << 20;

fn eval(redis: &mut Connection, text: &str, key: &str) -> redis::RedisResult<Value> {
    cmd("EVAL").arg(text).arg(1).arg(key).query(redis)
}

fn queue(redis: &mut Connection, line: &[&str]) {
    let mut command = cmd(line[0]);
    line[1..].iter().for_each(|word| {
        command.arg(word);
    });
    let queued: String = command.query(redis).unwrap();
    assert_eq!(queued, "QUEUED");
}

#[test]
fn exec_reads_more_large_values_than_memory_holds() {
    let server = Server::start(&[&POOL[..], &["--inflight-mb", "24"]].concat());
    let value = Random::new(5).bytes(LARGE);
    let mut redis = server.client();
    let keys: Vec<String> = (0..6).map(|n| format!("k{n}")).collect();
    for key in &keys {
        redis.set::<_, _, ()>(key, &value).unwrap();
    }
    let end = (LARGE - 1).to_string();
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let mut redis = server.client();
                let mut all = pipe();
                all.atomic();
                for key in &keys {
                    all.cmd("GETRANGE").arg(key).arg(0).arg(&end);
                    all.cmd("GETEX").arg(key).arg("EX").arg(100);
                }
                let values: Vec<Vec<u8>> = all.query(&mut redis).unwrap();
                assert_eq!(values.len(), 12);
                for read in &values {
                    assert_same("value", Some(read), &value);
                }
            });
        }
    });
    let taken: (Vec<u8>, Vec<u8>) = pipe()
        .atomic()
        .cmd("GETDEL")
        .arg("k0")
        .cmd("GETDEL")
        .arg("k1")
        .query(&mut redis)
        .unwrap();
    assert_same("k0", Some(&taken.0), &value);
    assert_same("k1", Some(&taken.1), &value);
    assert_eq!(redis.exists::<_, u8>(&["k0", "k1", "k2"]).unwrap(), 1);
}

#[test]
fn what_a_transaction_reads_may_be_written_all_the_time() {
    for ack in ["quorum", "proxy"] {
        let server = Server::start(&["--ack", ack, "--hot-tier-mb", "16"]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let mut redis = server.client();
                    let mut n = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        redis.set::<_, _, ()>("busy", n).unwrap();
                    }
                });
            }
            let mut redis = server.client();
            until("the writers write", CLIENT_LIMIT, || {
                redis.exists("busy").unwrap()
            });
            for n in 0..100 {
                let text =
                    "local n = redis.call('GET', KEYS[1]) redis.call('SET', 'copy', n) return n";
                let read = eval(&mut redis, text, "busy").expect("a script gets through");
                let copy: Value = redis.get("copy").unwrap();
                assert_eq!(read, copy, "{n}");
                let (read, _): (Value, Value) = pipe()
                    .atomic()
                    .cmd("GET")
                    .arg("busy")
                    .cmd("COPY")
                    .arg("busy")
                    .arg("twin")
                    .arg("REPLACE")
                    .query(&mut redis)
                    .expect("so does a transaction");
                assert_eq!(redis.get::<_, Value>("twin").unwrap(), read, "{n}");
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn more_scripts_in_transactions_than_run_at_once() {
    let server = Server::start(&["--hot-tier-mb", "16"]);
    let text = "for i = 1, 200 do redis.call('INCR', KEYS[1]) end return 1";
    std::thread::scope(|threads| {
        for client in 0..60 {
            let server = &server;
            threads.spawn(move || {
                let mut redis = server.client();
                let key = format!("k{}", client % 7);
                let done: (u8, u8) = pipe()
                    .atomic()
                    .cmd("EVAL")
                    .arg(text)
                    .arg(1)
                    .arg(&key)
                    .cmd("EVAL")
                    .arg(text)
                    .arg(1)
                    .arg(&key)
                    .query(&mut redis)
                    .unwrap();
                assert_eq!(done, (1, 1));
            });
        }
    });
    let mut redis = server.client();
    let keys: Vec<String> = (0..7).map(|n| format!("k{n}")).collect();
    let sums: Vec<u64> = redis.mget(keys).unwrap();
    assert_eq!(sums.iter().sum::<u64>(), 60 * 400);
}

#[test]
fn a_script_that_is_killed_takes_its_transaction_along() {
    let server = Server::start(&["--hot-tier-mb", "16"]);
    let mut redis = server.client();
    cmd("MULTI").query::<()>(&mut redis).unwrap();
    queue(&mut redis, &["SET", "before", "1"]);
    queue(&mut redis, &["EVAL", "while true do end", "0"]);
    queue(&mut redis, &["SET", "after", "1"]);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut other = server.client();
            until("a script runs, and is killed", CLIENT_LIMIT, || {
                cmd("SCRIPT").arg("KILL").query::<()>(&mut other).is_ok()
            });
        });
        let error = cmd("EXEC").query::<Value>(&mut redis).unwrap_err();
        assert!(error.to_string().contains("killed"), "{error}");
    });
    assert_eq!(redis.exists::<_, u8>(&["before", "after"]).unwrap(), 0);
    // and the connection is out of it
    redis.set::<_, _, ()>("then", 1).unwrap();
}

#[test]
fn what_clients_watch_and_queue_is_bounded() {
    let server = Server::start(&["--hot-tier-mb", "16"]);
    let mut redis = server.client();
    let mut watch = cmd("WATCH");
    (0..(1 << 16)).for_each(|n| {
        watch.arg(n);
    });
    watch.query::<()>(&mut redis).unwrap();
    // those that it has already are no more
    watch.query::<()>(&mut redis).unwrap();
    let error = cmd("WATCH").arg("one more").query::<()>(&mut redis);
    assert!(error.unwrap_err().to_string().contains("too many keys"));
    cmd("UNWATCH").query::<()>(&mut redis).unwrap();
    cmd("WATCH")
        .arg("one more")
        .query::<()>(&mut redis)
        .unwrap();
    cmd("MULTI").query::<()>(&mut redis).unwrap();
    let small = vec![b'x'; 48 << 10];
    let mut refused = None;
    for _ in 0..1500 {
        let reply = cmd("SET").arg("k").arg(&small).query::<String>(&mut redis);
        if let Err(error) = reply {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("64 MiB are enough for one client");
    assert!(
        refused.to_string().contains("too much is queued"),
        "{refused}"
    );
    let mut other = server.client();
    let one: (Value,) = pipe().atomic().set("k", 1).query(&mut other).unwrap();
    assert_eq!(one.0, Value::Okay);
    let error = cmd("EXEC").query::<Value>(&mut redis).unwrap_err();
    assert_eq!(error.code(), Some("EXECABORT"));
    redis.set::<_, _, ()>("k", 2).unwrap();
}

#[test]
fn values_that_wait_for_exec_may_not_fill_the_pool() {
    let server = Server::start(&[&POOL[..], &["--node-memory-mb", "128"]].concat());
    let value = Random::new(6).bytes(32 << 20);
    let mut redis = server.client();
    cmd("MULTI").query::<()>(&mut redis).unwrap();
    let mut queued = 0;
    let refused = (0..40).find_map(|n| {
        let reply = cmd("SET").arg(n).arg(&value).query::<String>(&mut redis);
        queued += 1;
        reply.err()
    });
    let refused = refused.expect("a quarter of the pool is enough");
    assert!(refused.to_string().contains("OOM"), "{refused}");
    assert!(queued > 1, "one fits");
    let error = cmd("EXEC").query::<Value>(&mut redis).unwrap_err();
    assert_eq!(error.code(), Some("EXECABORT"));
    // and the room is there again
    until("there is room again", CLIENT_LIMIT, || {
        let reply = pipe()
            .atomic()
            .set("k", &value)
            .query::<(Value,)>(&mut redis);
        reply.is_ok()
    });
    let read: Vec<u8> = redis.get("k").unwrap();
    assert_same("k", Some(&read), &value);
}

#[test]
fn a_value_is_taken_while_many_append_to_it() {
    // all the memory for values under way is with those who wait for the same key
    let server = Server::start(&[&POOL[..], &["--inflight-mb", "24"]].concat());
    let tail = Random::new(8).bytes(6 << 20);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                let mut redis = server.client();
                for _ in 0..3 {
                    let _: u64 = redis.append("k", &tail).unwrap();
                }
            });
        }
        threads.spawn(|| {
            let mut redis = server.client();
            for _ in 0..10 {
                let (taken, _): (Option<Vec<u8>>, Value) = pipe()
                    .atomic()
                    .cmd("GETDEL")
                    .arg("k")
                    .cmd("APPEND")
                    .arg("other")
                    .arg("x")
                    .query(&mut redis)
                    .unwrap();
                let bytes = taken.map_or(0, |t| t.len());
                assert_eq!(bytes % tail.len(), 0);
            }
        });
    });
}

#[test]
fn a_script_that_asks_for_too_much_ends_at_once() {
    let server = Server::start(&["--hot-tier-mb", "16", "--script-timeout-ms", "60000"]);
    let mut redis = server.client();
    let text = "local s = string.rep('x', 1000000)
        while true do redis.pcall('PUBLISH', KEYS[1], s) end";
    let error = eval(&mut redis, text, "k").unwrap_err();
    assert!(error.to_string().contains("publishes too much"), "{error}");
    let text = "local i = 0
        while true do i = i + 1 redis.pcall('GET', KEYS[1] .. i) end";
    let error = eval(&mut redis, text, "k").unwrap_err();
    assert!(error.to_string().contains("too many keys"), "{error}");
}

#[test]
fn who_ends_itself_within_a_transaction_is_gone_after_it() {
    let server = Server::start(&["--hot-tier-mb", "16"]);
    let mut redis = server.client();
    let id: u64 = cmd("CLIENT").arg("ID").query(&mut redis).unwrap();
    cmd("MULTI").query::<()>(&mut redis).unwrap();
    let id = id.to_string();
    queue(&mut redis, &["CLIENT", "KILL", "ID", &id, "SKIPME", "NO"]);
    queue(&mut redis, &["SET", "k", "1"]);
    let done: Vec<Value> = cmd("EXEC").query(&mut redis).unwrap();
    assert_eq!(done, [Value::Int(1), Value::Okay]);
    assert!(cmd("PING").query::<()>(&mut redis).is_err());
    assert_eq!(server.client().get::<_, u8>("k").unwrap(), 1);
}
