//! Holds our understanding of commands against a real redis-server 7.0: the
//! same requests are refused, in the same words, and COMMAND INFO says the same
//! of what both have. Passes over, and says so, where no redis-server of that
//! version is installed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use redis_protocol::resp2;
use redis_protocol::resp2::types::OwnedFrame as Frame;
use scatterhoard_proxy::command::describe::CommandQuery;
use scatterhoard_proxy::command::fuzzing::any_request;
use scatterhoard_proxy::command::table::commands;
use scatterhoard_proxy::command::{
    BitCommand, Command, CommandError, StringCommand, glob, lcs::Lcs,
};
use scatterhoard_proxy::resp::fuzzing::{drain, parse};
use scatterhoard_proxy::resp::{Limits, OutBuffer, Protocol, Reply};
use scatterhoard_proxy::value::Value;

/// A server of our own on a Unix socket (a free port may be another test's a
/// moment later), ended with the test.
struct Redis {
    process: Child,
    socket: PathBuf,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Redis {
    fn start() -> Option<Self> {
        let version = Process::new("redis-server").arg("--version").output().ok();
        let version = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        if !version.as_deref().unwrap_or_default().contains("v=7.0.") {
            eprintln!("SKIPPED: no redis-server 7.0 here, but {version:?}");
            return None;
        }
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("scatterhoard-oracle-{}-{number}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let process = Process::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--daemonize",
                "no",
                "--unixsocket",
            ])
            .arg(&socket)
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { process, socket })
    }

    fn connect(&self) -> Client {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => {
                    stream
                        .set_read_timeout(Some(Duration::from_secs(10)))
                        .unwrap();
                    return Client {
                        stream,
                        buf: BytesMut::new(),
                    };
                }
                Err(error) => assert!(Instant::now() < deadline, "no redis-server: {error}"),
            }
            std::thread::yield_now();
        }
    }
}

struct Client {
    stream: UnixStream,
    buf: BytesMut,
}

impl Client {
    fn send(&mut self, request: &[Value]) {
        let mut out = OutBuffer::new();
        Reply::Array(request.iter().cloned().map(Reply::Bulk).collect())
            .encode(Protocol::Resp2, &mut out);
        self.stream.write_all(&drain(out)).unwrap();
    }

    fn read_more(&mut self) {
        let mut more = [0; 65_536];
        let n = self.stream.read(&mut more).unwrap();
        assert!(n > 0, "redis-server closed the connection");
        self.buf.extend_from_slice(&more[..n]);
    }

    /// The RESP2 reply's error text, if it is an error.
    fn error_of(&mut self, request: &[Value]) -> Option<String> {
        self.send(request);
        loop {
            // errors first: theirs may hold bytes that are not text
            if self.buf.first() == Some(&b'-') && self.buf.ends_with(b"\r\n") {
                let line = self.buf.split();
                return Some(String::from_utf8_lossy(&line[1..line.len() - 2]).into_owned());
            }
            if !self.buf.is_empty()
                && let Some((_, used)) = resp2::decode::decode(&self.buf).unwrap()
            {
                assert_eq!(used, self.buf.len());
                self.buf.clear();
                return None;
            }
            self.read_more();
        }
    }

    /// The RESP2 reply. (redis-protocol cannot decode their RESP3 sets of
    /// statuses: it refuses statuses as hash keys.)
    fn reply_to(&mut self, request: &[Value]) -> Frame {
        self.send(request);
        loop {
            if !self.buf.is_empty()
                && let Some((frame, used)) = resp2::decode::decode(&self.buf).unwrap()
            {
                assert_eq!(used, self.buf.len());
                self.buf.clear();
                return frame;
            }
            self.read_more();
        }
    }

    /// All that comes until the server closes the connection.
    fn last_words(&mut self, bytes: &[u8]) -> String {
        self.stream.write_all(bytes).unwrap();
        let mut words = Vec::new();
        let _ = self.stream.read_to_end(&mut words);
        String::from_utf8_lossy(&words).trim_end().to_owned()
    }
}

/// Errors of commands that are right as such.
fn depends_on_state(error: &str) -> bool {
    [
        "ERR AUTH <password> called without",
        "WRONGPASS",
        "ERR Unknown option or number of arguments for CONFIG SET",
        "ERR CONFIG SET failed",
        // we have none of these subcommands' texts to compare
        "ERR Invalid command specified",
        "ERR Invalid number of arguments specified",
        "ERR The command has no key arguments",
        "ERR Unknown category",
        "ERR DB index is out of range",
        "ERR string exceeds maximum allowed size",
        "WRONGTYPE",
        "ERR CLIENT CACHING can be called only",
        "ERR The server is running without a config file",
        "ERR EXEC without MULTI",
        "ERR DISCARD without MULTI",
        "ERR no such key",
        "NOSCRIPT",
        "ERR The specified keys must contain string values",
        "ERR User '",
        "ERR Command '",
        "ERR This instance is not configured to use an ACL file",
        "NOTBUSY",
        "ERR This instance has cluster support disabled",
        // what scripts say
        "ERR Error compiling script",
        "ERR source and destination objects are the same",
        "ERR increment or decrement would overflow",
        "ERR value is not an integer",
        "ERR hash value is not",
        "ERR value is not a valid float",
        "ERR increment would produce NaN or Infinity",
        "ERR bit offset is not an integer or out of range",
        "ERR DISCARD without MULTI",
        "ERR CLIENT CACHING can be called only",
        "ERR The server is running without a config file",
        "ERR EXEC without MULTI",
        "ERR no such key",
        "ERR source and destination objects are the same",
        "ERR increment or decrement would overflow",
        "ERR value is not an integer or out of range",
        "ERR An LFU maxmemory policy is not selected",
    ]
    .iter()
    .any(|known| error.starts_with(known))
}

/// The text as it arrives at the client.
fn as_sent(error: CommandError) -> String {
    let mut out = OutBuffer::new();
    Reply::from(error).encode(Protocol::Resp2, &mut out);
    let line = String::from_utf8(drain(out)).unwrap();
    line.trim_start_matches('-')
        .trim_end_matches("\r\n")
        .to_owned()
}

fn words(line: &[&'static str]) -> Vec<Value> {
    line.iter().map(|word| Value::from(*word)).collect()
}

/// What changes how a connection talks, or came with Redis 7.2, or is known to
/// be different on purpose.
fn not_compared(request: &[Value]) -> bool {
    let word = |at: usize| {
        let word = request
            .get(at)
            .cloned()
            .unwrap_or_default()
            .into_contiguous();
        String::from_utf8_lossy(&word).to_lowercase()
    };
    match (word(0).as_str(), word(1).as_str()) {
        ("quit" | "reset" | "hello" | "multi" | "monitor", _) => true,
        // users come from our configuration; theirs would change
        ("acl", "setuser" | "deluser" | "load" | "save" | "dryrun") => true,
        // theirs ends the connection
        ("script", "debug") => true,
        // as many replies as there are channels, and other commands are refused
        (name, _) if name.ends_with("subscribe") => true,
        ("client", "reply" | "setinfo" | "no-touch") => true,
        // theirs would hold every command, or end the connection
        ("client", "pause" | "kill") => true,
        // theirs take what strtoul takes, -1 and +1 included
        // options are looked at only if there is such a hash
        ("hscan", _) if request.len() > 3 => true,
        ("hscan", _) => word(2).parse::<u64>().is_err() || word(2).starts_with('+'),
        ("scan", _) => word(1).parse::<u64>().is_err() || word(1).starts_with('+'),
        // VERSION's operands are of no use to us
        ("lolwut", _) => true,
        // FLUSHALL would delete the key that GETEX needs
        ("flushall" | "flushdb" | "getdel" | "del" | "unlink", _) => true,
        _ => false,
    }
}

#[test]
fn requests_are_refused_in_the_same_words() {
    let Some(redis) = Redis::start() else { return };
    let mut client = redis.connect();
    let config = Config {
        cases: 20_000,
        rng_seed: RngSeed::Fixed(7),
        ..Config::default()
    };
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..config
    });
    let data = prop::collection::vec(any::<u8>(), 1..7);
    let client = std::cell::RefCell::new(&mut client);
    runner
        .run(&data, |data| {
            let mut request = any_request(&data);
            // these look at their options only if there is a value
            let late = ["getex", "bitcount", "bitpos"];
            if request.len() > 1 && late.iter().any(|name| request[0] == (*name).into()) {
                request[1] = "kept".into();
                client.borrow_mut().error_of(&words(&["set", "kept", "v"]));
            }
            if not_compared(&request) {
                return Ok(());
            }
            let theirs = client.borrow_mut().error_of(&request);
            let ours = match Command::parse(request.clone()) {
                // an error only if there is such a key, and there is, or if it
                // holds a string, and all do
                Ok(Command::String(StringCommand::GetEx {
                    expiry: Err(error), ..
                }))
                | Ok(Command::String(StringCommand::AddFloat {
                    increment: Err(error),
                    ..
                }))
                | Ok(Command::String(StringCommand::Lcs(Lcs {
                    answer: Err(error), ..
                })))
                | Ok(Command::Bit(
                    BitCommand::Count {
                        range: Err(error), ..
                    }
                    | BitCommand::Position {
                        range: Err(error), ..
                    },
                )) => Err(error),
                other => other,
            };
            match (ours, theirs) {
                // theirs looks at the kinds first
                (Err(_), Some(error))
                    if error.starts_with("ERR The specified keys")
                        || error.starts_with("WRONGTYPE") => {}
                (Err(ours), theirs) => {
                    prop_assert_eq!(Some(as_sent(ours)), theirs, "{:?}", request)
                }
                // what the script says
                (Ok(Command::Script(_)), Some(_)) => {}
                (Ok(_), Some(error)) => {
                    prop_assert!(depends_on_state(&error), "{}: {:?}", error, request)
                }
                (Ok(_), None) => {}
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn unknown_commands_are_quoted_alike() {
    let Some(redis) = Redis::start() else { return };
    let mut client = redis.connect();
    let (x, y) = ("x".repeat(200), "y".repeat(60));
    let cases: [&[&str]; 12] = [
        &["foo"],
        &["foo", ""],
        &["foo", "a b", "c"],
        &["fo\r\no", "a\nb"],
        &["f\0o", "a\0b", "c"],
        &[&x, &x, "z"],
        &["foo", &y, &y, &y],
        &["foo", &x[..124], "b"],
        &["foo", &x[..125], "b"],
        &["foo", &x[..126], "b"],
        &["client", "foo bar"],
        &["config", &x],
    ];
    for case in cases {
        let request: Vec<Value> = case
            .iter()
            .map(|word| Bytes::copy_from_slice(word.as_bytes()).into())
            .collect();
        let ours = Reply::from(Command::parse(request.clone()).unwrap_err());
        let mut out = OutBuffer::new();
        ours.encode(Protocol::Resp2, &mut out);
        let ours = String::from_utf8(drain(out)).unwrap();
        let theirs = client.error_of(&request).unwrap();
        assert_eq!(
            ours.trim_end_matches("\r\n"),
            format!("-{theirs}"),
            "{case:?}"
        );
    }
}

#[test]
fn protocol_errors_have_the_same_words() {
    let Some(redis) = Redis::start() else { return };
    let long = "1".repeat(70_000);
    let cases = [
        "*x\r\n".to_owned(),
        "*99999999999\r\n".to_owned(),
        "*1\r\n:1\r\n".to_owned(),
        "*1\r\n$x\r\n".to_owned(),
        "*1\r\n$-1\r\n".to_owned(),
        "*1\r\n$999999999999\r\n".to_owned(),
        "*1\r\n$+1\r\n".to_owned(),
        "GET \"k\r\n".to_owned(),
        "GET 'k'v\r\n".to_owned(),
        format!("*{long}"),
        format!("*1\r\n${long}"),
        long,
    ];
    for case in cases {
        let ours = parse([case.as_bytes()], Limits::default())
            .error
            .map(Reply::from);
        let theirs = redis.connect().last_words(case.as_bytes());
        let Some(Reply::Error(ours)) = ours else {
            panic!("{case:.40} is accepted")
        };
        assert_eq!(format!("-{ours}"), theirs, "{case:.40}");
    }
}

#[test]
fn inline_commands_are_split_alike() {
    let Some(redis) = Redis::start() else { return };
    let mut runner = TestRunner::new(Config {
        cases: 2000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7),
        ..Config::default()
    });
    runner
        .run(&"[ab\"' \\\\xn0\t\u{b}\u{c}]{0,12}", |word| {
            let line = format!("ECHO {word}\r\n");
            let parsed = parse([line.as_bytes()], Limits::default());
            let mut client = redis.connect();
            let theirs = client.last_words(format!("{line}QUIT\r\n").as_bytes());
            let ours = match (&parsed.error, parsed.requests.first()) {
                (Some(error), _) => format!("-ERR {error}"),
                (None, Some(request)) if request.len() == 2 => {
                    let mut out = OutBuffer::new();
                    Reply::Bulk(request[1].clone()).encode(Protocol::Resp2, &mut out);
                    String::from_utf8_lossy(&drain(out)).into_owned() + "+OK"
                }
                _ => "-ERR wrong number of arguments for 'echo' command\r\n+OK".to_owned(),
            };
            prop_assert_eq!(ours, theirs);
            Ok(())
        })
        .unwrap();
}

#[test]
fn globs_match_alike() {
    let Some(redis) = Redis::start() else { return };
    let mut client = redis.connect();
    let mut runner = TestRunner::new(Config {
        cases: 3000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7),
        ..Config::default()
    });
    let client = std::cell::RefCell::new(&mut client);
    runner
        .run(
            &(r"[ab*?\\\[\]^-]{1,10}", "[ab*\\-\\]]{1,6}"),
            |(pattern, key)| {
                let arg = |text: &str| Value::from(Bytes::copy_from_slice(text.as_bytes()));
                let mut client = client.borrow_mut();
                client.reply_to(&words(&["flushall"]));
                client.reply_to(&["set".into(), arg(&key), "v".into()]);
                let found = client.reply_to(&["keys".into(), arg(&pattern)]);
                let theirs = matches!(&found, Frame::Array(keys) if keys.len() == 1);
                let ours = glob::matches(pattern.as_bytes(), key.as_bytes());
                prop_assert_eq!(ours, theirs, "{} {}", pattern, key);
                Ok(())
            },
        )
        .unwrap();
}

/// Entries by name, with subcommands as a list of their own.
fn entries(frame: Frame) -> Vec<(String, Vec<Frame>)> {
    let Frame::Array(data) = frame else {
        panic!("{frame:?}")
    };
    let mut all = Vec::new();
    for entry in data {
        let Frame::Array(mut data) = entry else {
            panic!("{entry:?}")
        };
        assert_eq!(data.len(), 10);
        all.extend(data.pop().map(entries).unwrap());
        let Frame::BulkString(name) = data.remove(0) else {
            panic!("{data:?}")
        };
        all.push((String::from_utf8(name).unwrap(), data));
    }
    all
}

#[test]
fn command_info_says_the_same() {
    let Some(redis) = Redis::start() else { return };
    let mut client = redis.connect();
    let theirs = entries(client.reply_to(&words(&["command"])));
    let mut out = OutBuffer::new();
    CommandQuery::All
        .answer()
        .unwrap()
        .encode(Protocol::Resp2, &mut out);
    let (ours, _) = resp2::decode::decode(&drain(out)).unwrap().unwrap();
    let ours = entries(ours);
    assert!(ours.len() > commands().len());
    for (name, entry) in ours {
        let newer = ["client|setinfo", "client|no-touch"].contains(&name.as_str());
        match theirs.iter().find(|(theirs, _)| *theirs == name) {
            Some((_, theirs)) => assert_eq!(&entry, theirs, "{name}"),
            None => assert!(newer, "redis has no {name}"),
        }
    }
}
