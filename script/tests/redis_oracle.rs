//! Holds the engine against a real redis-server 7.0: the same scripts give the
//! same replies, errors and their places included. Commands of scripts go to
//! that server, too. Passes over, and says so, where none is installed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use scatterhoard_script::{Call, Caller, Engine, Limits, LogLevel, Reply, Run, Script, Stop};

/// A server of our own on a Unix socket, ended with the test.
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
        let name = format!("scatterhoard-scripts-{}-{number}.sock", std::process::id());
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
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { process, socket })
    }

    fn connect(&self, resp3: bool) -> Client {
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "no redis-server: {error}"),
            }
            std::thread::yield_now();
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut client = Client(BufReader::new(stream));
        if resp3 {
            client.ask(&["HELLO", "3"].map(Bytes::from));
        }
        client
    }
}

struct Client(BufReader<UnixStream>);

impl Client {
    fn ask(&mut self, args: &[Bytes]) -> Reply {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend(format!("${}\r\n", arg.len()).into_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request).unwrap();
        self.reply()
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        assert!(line.ends_with(b"\r\n"), "redis-server ended the connection");
        line.truncate(line.len() - 2);
        line
    }

    fn reply(&mut self) -> Reply {
        let line = self.line();
        let (kind, rest) = line.split_first().unwrap();
        let text = Bytes::copy_from_slice(rest);
        let number = || std::str::from_utf8(rest).unwrap().parse::<i64>().unwrap();
        let mut many = |count: i64| (0..count).map(|_| self.reply()).collect::<Vec<_>>();
        match kind {
            b'+' => Reply::Status(text),
            b'-' => Reply::Error(text),
            b':' => Reply::Integer(number()),
            b'_' => Reply::Nil,
            b'#' => Reply::Bool(rest == b"t"),
            b',' => Reply::Double(std::str::from_utf8(rest).unwrap().parse().unwrap()),
            b'(' => Reply::BigNumber(text),
            b'*' if number() < 0 => Reply::Nil,
            b'*' => Reply::Array(many(number())),
            b'~' => Reply::Set(many(number())),
            b'%' => Reply::Map(
                (0..number())
                    .map(|_| (self.reply(), self.reply()))
                    .collect(),
            ),
            b'$' if number() < 0 => Reply::Nil,
            b'$' | b'=' => {
                let mut body = vec![0; usize::try_from(number()).unwrap() + 2];
                self.0.read_exact(&mut body).unwrap();
                body.truncate(body.len() - 2);
                if *kind == b'$' {
                    return Reply::Bulk(body.into());
                }
                let format = body[..3].try_into().unwrap();
                Reply::Verbatim {
                    format,
                    text: Bytes::copy_from_slice(&body[4..]),
                }
            }
            other => panic!("a reply of kind {}", char::from(*other)),
        }
    }
}

/// Sends commands to the server, and refuses as scripts are refused.
struct Forward {
    resp2: Client,
    resp3: Client,
}

impl Caller for Forward {
    fn call(&mut self, call: Call) -> Reply {
        let client = if call.resp3 {
            &mut self.resp3
        } else {
            &mut self.resp2
        };
        let reply = client.ask(&call.args);
        let Reply::Error(text) = &reply else {
            return reply;
        };
        if text.starts_with(b"ERR unknown command") {
            return Reply::Error("ERR Unknown Redis command called from script".into());
        }
        if text.starts_with(b"ERR wrong number of arguments") {
            return Reply::Error(
                "ERR Wrong number of args calling Redis command from script".into(),
            );
        }
        reply
    }

    fn log(&mut self, _: LogLevel, _: &[u8]) {}

    fn may_call(&mut self, args: &[Bytes]) -> Option<bool> {
        let mut request: Vec<Bytes> = ["COMMAND", "INFO"].map(Bytes::from).into();
        request.push(args[0].clone());
        let known = self.resp2.ask(&request);
        (known != Reply::Array(vec![Reply::Nil])).then_some(true)
    }
}

/// What has no order, in one.
fn sorted(reply: Reply) -> Reply {
    let all = |items: Vec<Reply>| items.into_iter().map(sorted).collect::<Vec<_>>();
    match reply {
        Reply::Array(items) => Reply::Array(all(items)),
        Reply::Set(items) => {
            let mut items = all(items);
            items.sort_by_key(support::text);
            Reply::Set(items)
        }
        Reply::Map(pairs) => {
            let mut pairs: Vec<_> = pairs
                .into_iter()
                .map(|(key, value)| (sorted(key), sorted(value)))
                .collect();
            pairs.sort_by_key(|(key, _)| support::text(key));
            Reply::Map(pairs)
        }
        other => other,
    }
}

/// The cases of a file: scripts, with a line of dashes between them.
fn cases(file: &'static str) -> Vec<&'static str> {
    file.split("\n----\n")
        .map(str::trim_end)
        .filter(|case| !case.is_empty())
        .collect()
}

#[test]
fn scripts_reply_as_in_redis() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let mut oracle = redis.connect(true);
    let mut caller = Forward {
        resp2: redis.connect(false),
        resp3: redis.connect(true),
    };
    let engine = Engine::new(Limits::default());
    let stop = Stop::new();
    let keys = ["k1", "k2"].map(Bytes::from);
    let argv = ["a1", "2", "\0\u{fffd}\r\n"].map(Bytes::from);
    let (mut differences, mut total) = (Vec::new(), 0);
    for file in [
        include_str!("cases/language.txt"),
        include_str!("cases/redis.txt"),
        include_str!("cases/libraries.txt"),
    ] {
        for case in cases(file) {
            total += 1;
            let fresh = |client: &mut Client| {
                client.ask(&["FLUSHALL"].map(Bytes::from));
            };
            fresh(&mut oracle);
            let mut request: Vec<Bytes> = vec!["EVAL".into(), case.into(), "2".into()];
            request.extend(keys.iter().chain(&argv).cloned());
            let theirs = sorted(oracle.ask(&request));
            fresh(&mut oracle);
            let ours = match Script::new(case.into()) {
                Ok(script) => {
                    let run = Run {
                        script: &script,
                        keys: &keys,
                        argv: &argv,
                        read_only: false,
                        stop: &stop,
                    };
                    sorted(engine.run(run, &mut caller))
                }
                Err(error) => Reply::Error(error.0),
            };
            let (ours, theirs) = (support::text(&ours), support::text(&theirs));
            if ours != theirs {
                differences.push(format!("{case}\n  ours:   {ours}\n  theirs: {theirs}\n"));
            }
        }
    }
    assert!(total > 300, "only {total} cases");
    assert!(
        differences.is_empty(),
        "{} of {total} differ\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// What a decoder makes of arbitrary input, and an encoder of that.
const DECODERS: &str = "
local out = {}
local function note(...) for i = 1, select('#', ...) do out[#out + 1] = tostring((select(i, ...))) end end
-- tables may have tables as keys, whose order is any: of those, the size
local function size(ok, packed) note(ok, #packed) end
local function flat(json, ok, ...)
  note(ok)
  for i = 1, select('#', ...) do
    local v = select(i, ...)
    if type(v) == 'table' then
      if json then note(pcall(cmsgpack.pack, v)) note(pcall(cjson.encode, v)) else size(pcall(cmsgpack.pack, v)) end
    elseif type(v) == 'userdata' then note('null')
    else note(v) end
  end
end
flat(true, pcall(cjson.decode, ARGV[1]))
flat(true, pcall(cjson.decode, ARGV[2]))
flat(false, pcall(cmsgpack.unpack, ARGV[2]))
flat(false, pcall(cmsgpack.unpack_limit, ARGV[2], 2, 1))
flat(false, pcall(struct.unpack, ARGV[3], ARGV[2]))
flat(false, pcall(struct.pack, ARGV[3], 1, -2, 'three', 4.5, 65, 66))
flat(false, pcall(struct.size, ARGV[3]))
local n = tonumber(ARGV[4])
note(n, redis.call('ECHO', n), cjson.encode(n), cmsgpack.pack(n), struct.pack('>d', n), struct.pack('>f', n),
  bit.tobit(n), bit.tohex(n), string.format('%.17g', cjson.decode(ARGV[4])))
return out";

#[test]
fn decoders_and_numbers_are_as_in_redis() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let engine = Engine::new(Limits::default());
    let script = Script::new(DECODERS.into()).unwrap();
    let stop = Stop::new();
    let both = std::cell::RefCell::new((
        redis.connect(true),
        Forward {
            resp2: redis.connect(false),
            resp3: redis.connect(true),
        },
    ));
    let numbers = prop_oneof![
        any::<f64>().prop_filter("finite", |number| number.is_finite()),
        any::<i32>().prop_map(f64::from),
        (any::<i64>(), 0..40).prop_map(|(number, shift)| (number >> shift) as f64),
        (any::<i32>(), 0..9).prop_map(|(number, digits)| f64::from(number) / 10_f64.powi(digits)),
    ];
    let json = "([\\[\\]{}:, ]|\"[a-c]?\"|\"\\\\(u00e9|ud83d|n|x|u12)\"|-?[0-9]{1,3}|0x1f|1e5|.5|true|false|null|nan|-inf|tru){0,9}";
    let bytes = proptest::collection::vec(
        prop_oneof![any::<u8>(), 0x80_u8..0xa8, 0xc0_u8..0xe0, 0_u8..3],
        0..24,
    );
    let format = "[<>!bBhHlLTiIcsfdx 0-9]{0,8}";
    let mut runner = TestRunner::new(Config {
        cases: 2_000,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(
        &(json, bytes, format, numbers),
        |(json, bytes, format, number)| {
            let (oracle, caller) = &mut *both.borrow_mut();
            let argv = [
                json.into(),
                Bytes::from(bytes),
                format.into(),
                format!("{number:e}").into(),
            ];
            let mut request: Vec<Bytes> = vec!["EVAL".into(), DECODERS.into(), "0".into()];
            request.extend(argv.iter().cloned());
            let theirs = oracle.ask(&request);
            let run = Run {
                script: &script,
                keys: &[],
                argv: &argv,
                read_only: false,
                stop: &stop,
            };
            let ours = engine.run(run, caller);
            prop_assert_eq!(support::text(&ours), support::text(&theirs));
            Ok(())
        },
    );
    if let Err(error) = result {
        panic!("{error}");
    }
}
