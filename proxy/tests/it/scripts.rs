//! Scripts over real sockets.

use std::time::{Duration, Instant};

use redis::Commands;

use crate::server::{CLIENT_LIMIT, Server, until};

fn eval(
    connection: &mut redis::Connection,
    text: &str,
    keys: &[&str],
) -> redis::RedisResult<redis::Value> {
    eval_with(connection, text, keys, &[])
}

fn eval_with(
    connection: &mut redis::Connection,
    text: &str,
    keys: &[&str],
    argv: &[&str],
) -> redis::RedisResult<redis::Value> {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(keys.len());
    keys.iter().chain(argv).for_each(|word| {
        command.arg(word);
    });
    command.query(connection)
}

#[track_caller]
fn refusal(reply: redis::RedisResult<redis::Value>) -> String {
    let error = reply.unwrap_err();
    let (code, detail) = (error.code().unwrap_or_default(), error.detail());
    format!("{code} {}", detail.unwrap_or_default())
}

#[test]
fn a_script_is_one_step_however_many_run_at_once() {
    for ack in ["quorum", "proxy"] {
        let server = Server::start(&["--ack", ack, "--hot-tier-mb", "16"]);
        // reads two keys and writes both: a lost or torn update shows
        let script = "local a = tonumber(redis.call('GET', KEYS[1]) or 0)
            local b = tonumber(redis.call('GET', KEYS[2]) or 0)
            if a ~= b then return redis.error_reply('ERR torn') end
            redis.call('SET', KEYS[1], a + 1)
            redis.call('SET', KEYS[2], b + 1)
            return a + 1";
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    let mut redis = server.client();
                    for _ in 0..50 {
                        eval(&mut redis, script, &["a", "b"]).unwrap();
                    }
                });
            }
        });
        let both: (i64, i64) = server.client().mget(&["a", "b"]).unwrap();
        assert_eq!(both, (200, 200), "{ack}");
    }
}

#[test]
fn scripts_do_what_applications_ask_of_them() {
    let server = Server::start(&["--hot-tier-mb", "16"]);
    let mut redis = server.client();
    // a lock is given back by whoever has it
    let unlock = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";
    let () = redis.set("lock", "me").unwrap();
    let other = eval_with(&mut redis, unlock, &["lock"], &["you"]).unwrap();
    let mine = eval_with(&mut redis, unlock, &["lock"], &["me"]).unwrap();
    assert_eq!((other, mine), (redis::Value::Int(0), redis::Value::Int(1)));
    // keys that are found, not declared
    for i in 0..20 {
        let () = redis.set(format!("ns:{i}"), i).unwrap();
    }
    let text =
        "for _, k in ipairs(redis.call('KEYS', 'ns:*')) do redis.call('DEL', k) end return 'done'";
    eval(&mut redis, text, &[]).unwrap();
    let left: Vec<String> = redis.keys("ns:*").unwrap();
    assert!(left.is_empty(), "{left:?}");
    // values from nodes, larger than what is kept in memory
    let large = "x".repeat(3_000_000);
    let () = redis.set("large", &large).unwrap();
    let len = eval(&mut redis, "return #redis.call('GET', KEYS[1])", &["large"]).unwrap();
    assert_eq!(len, redis::Value::Int(3_000_000));
    // and hashes
    let text = "redis.call('HSET', KEYS[1], 'f', 1) return redis.call('HINCRBY', KEYS[1], 'f', 4)";
    assert_eq!(
        eval(&mut redis, text, &["h"]).unwrap(),
        redis::Value::Int(5)
    );
    // a name that is not known makes clients send the text
    let unknown = "0123456789012345678901234567890123456789";
    let reply = redis::cmd("EVALSHA").arg(unknown).arg(0).query(&mut redis);
    assert_eq!(
        refusal(reply),
        "NOSCRIPT No matching script. Please use EVAL."
    );
}

#[test]
fn errors_keep_what_was_written_before_and_ends_do_not() {
    let server = Server::start(&["--script-timeout-ms", "400"]);
    let mut redis = server.client();
    let text = "redis.call('SET', KEYS[1], 1) return redis.call('INCR', KEYS[1], 2)";
    assert!(refusal(eval(&mut redis, text, &["a"])).starts_with("ERR Wrong number of args"));
    let there: Option<i64> = redis.get("a").unwrap();
    assert_eq!(there, Some(1));
    let text = "redis.call('SET', KEYS[1], 1) while true do end";
    let began = Instant::now();
    assert!(eval(&mut redis, text, &["b"]).is_err());
    assert!(began.elapsed() < CLIENT_LIMIT);
    let there: Option<i64> = redis.get("b").unwrap();
    assert_eq!(there, None);
}

#[test]
fn a_script_that_runs_for_ever_can_be_killed_and_keeps_nobody_waiting() {
    let server = Server::start(&["--script-timeout-ms", "600000"]);
    std::thread::scope(|threads| {
        let endless = threads.spawn(|| {
            let text = "redis.call('SET', KEYS[1], 1) while true do pcall(function() while true do end end) end";
            eval(&mut server.client(), text, &["c"])
        });
        let mut redis = server.client();
        until("it is killed", CLIENT_LIMIT, || {
            // others go on meanwhile
            let () = redis.set("other", 1).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            let killed: redis::RedisResult<()> = redis::cmd("SCRIPT").arg("KILL").query(&mut redis);
            killed.is_ok()
        });
        let said = refusal(endless.join().unwrap());
        assert!(said.contains("killed"), "{said}");
        let there: Option<i64> = redis.get("c").unwrap();
        assert_eq!(there, None);
    });
}

#[test]
fn scripts_are_part_of_transactions_and_read_only_ones_do_not_write() {
    let server = Server::start(&[]);
    let mut redis = server.client();
    let (sum, got): (i64, String) = redis::pipe()
        .atomic()
        .set("n", 5)
        .ignore()
        .cmd("EVAL")
        .arg("return redis.call('INCRBY', KEYS[1], 2)")
        .arg(1)
        .arg("n")
        .get("n")
        .query(&mut redis)
        .unwrap();
    assert_eq!((sum, &got[..]), (7, "7"));
    let reply = redis::cmd("EVAL_RO")
        .arg("return redis.call('SET', KEYS[1], 1)")
        .arg(1)
        .arg("n")
        .query(&mut redis);
    assert!(refusal(reply).starts_with("ERR Write commands are not allowed from read-only"));
}
