//! The `redis` crate, with RESP2 and RESP3, blocking and asynchronous: the same
//! scenario at a real redis-server and at ours, the same answers. What came out is
//! kept for docs/compatibility.md.

use std::{collections::BTreeSet, fmt::Debug, path::Path};

use redis::{
    AsyncCommands, Client, Commands, Connection, PushInfo, RedisResult, SetExpiry, SetOptions,
    Value, cmd,
};

use crate::{
    contents::Random,
    differential::Redis,
    server::{CLIENT_LIMIT, Server},
};

const NAME: &str = "the redis crate";
const EXERCISED: &str = "RESP2 and RESP3, blocking and multiplexed: values of 1 byte to 3 MB, \
    typed replies, expiry, hashes, pipelines, transactions with WATCH, scripts, scans, pub/sub and \
    pushes, errors";

/// What was seen, with names.
#[derive(Default)]
struct Notes(Vec<(String, String)>);

impl Notes {
    fn see(&mut self, name: &str, value: impl Debug) {
        self.0.push((name.to_owned(), format!("{value:?}")));
    }

    fn ask(&mut self, connection: &mut Connection, words: &[&str]) {
        let command = redis::cmd(words[0]).arg(&words[1..]).to_owned();
        let reply = command.query::<Value>(connection);
        self.see(&words.join(" "), reply.map_err(|error| error.to_string()));
    }
}

fn connect(client: &Client) -> Connection {
    let connection = client.get_connection().unwrap();
    connection.set_read_timeout(Some(CLIENT_LIMIT)).unwrap();
    connection
}

fn values(client: &Client, notes: &mut Notes) {
    let mut c = connect(client);
    let mut random = Random::new(5);
    for length in [1, 100, 9_000, 300_000, 3_000_000] {
        let body = random.bytes(length);
        let () = c.set_ex(format!("body:{length}"), &body, 100).unwrap();
        let read: Vec<u8> = c.get(format!("body:{length}")).unwrap();
        assert!(read == body, "{length} bytes");
    }
    let options = SetOptions::default().with_expiration(SetExpiry::EX(100));
    let () = c.set_options("k", "v", options).unwrap();
    let left: i64 = c.ttl("k").unwrap();
    assert!((97..=100).contains(&left), "{left} s");
    notes.see("typed", c.get::<_, Option<u64>>("absent"));
    notes.see("a float", c.incr::<_, _, f64>("f", 2.5));
    notes.see(
        "many",
        c.mget::<_, Vec<Option<String>>>(&["k", "absent", "f"]),
    );
    let words: &[&[&str]] = &[
        &["SET", "k", "w", "GET", "KEEPTTL"],
        &["SET", "k", "x", "NX"],
        &["INCR", "n"],
        &["APPEND", "k", "yz"],
        &["HSET", "h", "a", "1", "b", "2"],
        &["HGETALL", "h"],
        &["HRANDFIELD", "absent", "2", "WITHVALUES"],
        &["HINCRBY", "h", "a", "5"],
        &["HSCAN", "h", "0"],
        &["GET", "h"],
        &["INCR", "k"],
        &["NOSUCH", "a"],
        &["SET", "k"],
        &["EXPIRE", "k", "50", "GT"],
        &["EXPIRE", "k", "200", "GT"],
        &["EXPIRETIME", "absent"],
        &["LCS", "k", "k", "IDX"],
        &["SETBIT", "bits", "9", "1"],
        &["BITFIELD", "bits", "GET", "u4", "8"],
        &["OBJECT", "ENCODING", "n"],
        &["CONFIG", "GET", "databases"],
        &["EVAL", "return {1, 'a', false, {ok = 'fine'}, {2}}", "0"],
        &["EVAL", "redis.setresp(3); return {double = 1.5}", "0"],
        &["EVAL", "return redis.call('INCR', KEYS[1])", "1", "h"],
        &["EVALSHA", "no", "0"],
    ];
    for words in words {
        notes.ask(&mut c, words);
    }
}

fn together(client: &Client, notes: &mut Notes) {
    let mut c = connect(client);
    let mut pipe = redis::pipe();
    for n in 0..300 {
        pipe.set(format!("p:{n}"), n).ignore().get(format!("p:{n}"));
    }
    let read: Vec<u32> = pipe.query(&mut c).unwrap();
    assert_eq!(read, (0..300).collect::<Vec<_>>());
    let mut pipe = redis::pipe();
    pipe.atomic().set("t", 1).incr("t", 1).cmd("HSET").arg("h");
    pipe.arg("f").arg("v").get("absent");
    notes.see("a transaction", pipe.query::<Value>(&mut c));
    let mut pipe = redis::pipe();
    pipe.atomic().set("t", "x").incr("t", 1).get("t");
    let failed = pipe.query::<Value>(&mut c);
    notes.see("one that fails", failed.map_err(|error| error.to_string()));

    // Somebody else changes it the first time.
    let (mut other, mut tries) = (connect(client), 0);
    let result: (i64,) = redis::transaction(&mut c, &["w"], |c, pipe| {
        let before: Option<i64> = c.get("w")?;
        tries += 1;
        if tries == 1 {
            let () = other.set("w", 10)?;
        }
        pipe.set("w", before.unwrap_or(0) + 1).ignore().get("w");
        pipe.query(c)
    })
    .unwrap();
    notes.see("a watched key", (result, tries));

    let load = cmd("SCRIPT")
        .arg("LOAD")
        .arg("return ARGV[1]")
        .query(&mut c);
    let sha: String = load.unwrap();
    let said = cmd("EVALSHA")
        .arg(&sha)
        .arg(0)
        .arg("said")
        .query::<Value>(&mut c);
    notes.see("a loaded script", (sha, said));
    let found: BTreeSet<String> = c
        .scan_match("*")
        .and_then(Iterator::collect::<RedisResult<_>>)
        .unwrap();
    notes.see("a scan", found.len());
}

fn publish(client: &Client, notes: &mut Notes) {
    let (mut listener, mut publisher) = (connect(client), connect(client));
    let mut listener = listener.as_pubsub();
    listener.subscribe("news").unwrap();
    listener.psubscribe("n*").unwrap();
    let receivers: i64 = publisher.publish("news", vec![7_u8; 400_000]).unwrap();
    notes.see("receivers", receivers);
    for _ in 0..2 {
        let message = listener.get_message().unwrap();
        let channel = message.get_channel_name().to_owned();
        let length = message.get_payload_bytes().len();
        notes.see("a message", (channel, length, message.from_pattern()));
    }
    listener.unsubscribe("news").unwrap();
    let receivers: i64 = publisher.publish("news", "x").unwrap();
    notes.see("only the pattern", receivers);
}

/// One connection that many tasks share; with RESP3 messages come on it, too.
async fn multiplexed(client: &Client, resp3: bool, notes: &mut Notes) {
    let (sender, mut pushes) = tokio::sync::mpsc::channel::<PushInfo>(64);
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(CLIENT_LIMIT));
    let config = if resp3 {
        config.set_push_sender(move |push| sender.try_send(push))
    } else {
        config
    };
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    let mut c = connected.await.unwrap();
    let adds = (0..200).map(|_| {
        let mut c = c.clone();
        async move { c.incr::<_, _, i64>("count", 1).await.unwrap() }
    });
    let counted: BTreeSet<i64> = futures_join(adds).await.into_iter().collect();
    notes.see("200 at once", (counted.len(), counted.last().copied()));
    if resp3 {
        c.subscribe("news").await.unwrap();
        let receivers: i64 = c.publish("news", "hello").await.unwrap();
        notes.see("published to itself", receivers);
        for _ in 0..2 {
            let push = tokio::time::timeout(CLIENT_LIMIT, pushes.recv());
            let push = push.await.unwrap().unwrap();
            notes.see("a push", (push.kind, push.data));
        }
    }
}

async fn futures_join<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures_util::future::join_all(futures).await
}

fn scenario(url: &str, resp3: bool) -> Notes {
    let url = format!("{url}?{}", if resp3 { "protocol=resp3" } else { "" });
    let client = Client::open(url).unwrap();
    let mut c = connect(&client);
    let () = cmd("FLUSHALL").query(&mut c).unwrap();
    let mut notes = Notes::default();
    values(&client, &mut notes);
    together(&client, &mut notes);
    publish(&client, &mut notes);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(multiplexed(&client, resp3, &mut notes));
    notes
}

/// Commands that redis-server was asked for, but for those about the counting.
fn sent(redis: &mut Connection) -> BTreeSet<String> {
    let text: String = cmd("INFO").arg("commandstats").query(redis).unwrap();
    let names = text.lines().filter_map(|line| {
        let name = line.strip_prefix("cmdstat_")?.split(':').next()?;
        (!["info", "flushall", "config|resetstat"].contains(&name)).then(|| name.to_owned())
    });
    names.collect()
}

fn version() -> String {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    let (_, rest) = lock.split_once("name = \"redis\"\nversion = \"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn the_crate_sees_the_same_at_both_servers() {
    let Some(redis) = Redis::start() else { return };
    redis.connect();
    let theirs = format!("redis+unix://{}", redis.socket().display());
    let server = Server::start(&[]);
    let ours = format!("redis://{}", server.address);

    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("../compatibility/the-redis-crate.jsonl");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut lines = String::new();
    for resp3 in [false, true] {
        let expected = scenario(&theirs, resp3).0;
        let got = scenario(&ours, resp3).0;
        for (expected, got) in expected.iter().zip(&got) {
            assert_eq!(got, expected, "RESP3: {resp3}");
        }
        assert_eq!(got.len(), expected.len());
        let mut counting = connect(&Client::open(theirs.as_str()).unwrap());
        let result = serde_json::json!({
            "application": NAME, "versions": {"redis": version()}, "exercised": EXERCISED,
            "scenario": if resp3 { "RESP3" } else { "RESP2" }, "answers": got.len(),
            "commands": sent(&mut counting), "differs": {},
        });
        lines += &format!("{result}\n");
    }
    std::fs::write(file, lines).unwrap();
}
