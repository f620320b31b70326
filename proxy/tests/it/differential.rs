//! Our proxy and a real redis-server 7.0 get the same random commands on two
//! connections each, and must answer alike, byte for byte; times to live to within
//! a second. Passes over, and says so, where no such redis-server is installed.
//!
//! `SCATTERHOARD_TEST_SEEDS` runs so many seeds, or, where it is FIRST..END, these. A
//! failure is shortened: commands that it does not need are left out.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use scatterhoard_proxy::strings::extended::Extended;
use tempfile::TempDir;

use crate::{
    contents::Random,
    generator::{Step, pipelined_steps, steps},
    server::{CLIENT_LIMIT, Server},
};

/// Commands of a seed.
const COMMANDS: usize = 2000;
/// Attempts to do without some commands of a failure.
const REPLAYS: usize = 80;

/// A redis-server of our own, ended with the test.
pub(crate) struct Redis {
    process: Child,
    folder: TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Redis {
    pub(crate) fn start() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").output().ok();
        let version = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        if !version.as_deref().unwrap_or_default().contains("v=7.0.") {
            eprintln!("SKIPPED: no redis-server 7.0 here, but {version:?}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["--port", "0", "--save", "", "--daemonize", "no"];
        let process = Command::new("redis-server")
            .args(arguments)
            .arg("--unixsocket")
            .arg(folder.path().join("socket"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { process, folder })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn connect(&self) -> Peer<UnixStream> {
        let end = Instant::now() + CLIENT_LIMIT;
        loop {
            match UnixStream::connect(self.socket()) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(CLIENT_LIMIT)).unwrap();
                    return Peer(BufReader::new(stream));
                }
                Err(error) => assert!(Instant::now() < end, "no redis-server: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A reply, with what must be compared with care told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reply {
    /// Anything else: its bytes.
    Plain(String),
    Integer(i64),
    /// Its mark, and what is in it.
    Several(char, Vec<Reply>),
}

/// A connection to either of them.
pub(crate) struct Peer<S>(pub(crate) BufReader<S>);

impl Peer<TcpStream> {
    pub(crate) fn of(server: &Server) -> Self {
        Self(BufReader::new(server.socket()))
    }
}

impl<S: Read + Write> Peer<S> {
    pub(crate) fn ask(&mut self, request: &[Vec<u8>]) -> Reply {
        self.send([request].into_iter());
        self.reply()
    }

    /// Sends requests in one go.
    fn send<'a>(&mut self, requests: impl Iterator<Item = &'a [Vec<u8>]>) {
        let mut bytes = Vec::new();
        for request in requests {
            bytes.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
            for argument in request {
                bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                bytes.extend_from_slice(argument);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        self.0.get_mut().write_all(&bytes).unwrap();
    }

    pub(crate) fn say(&mut self, line: &str) -> Reply {
        let words: Vec<Vec<u8>> = line.split(' ').map(|w| w.as_bytes().to_vec()).collect();
        self.ask(&words)
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let mark = text.chars().next().expect("the connection was closed");
        let number: Option<i64> = text[1..].parse().ok();
        match (mark, number) {
            (':', Some(number)) => Reply::Integer(number),
            ('$' | '=', Some(len @ 0..)) => {
                let mut bulk = vec![0; len as usize + 2];
                self.0.read_exact(&mut bulk).unwrap();
                let bulk = bulk[..len as usize].escape_ascii().to_string();
                Reply::Plain(format!("{mark}{bulk}"))
            }
            ('*' | '~' | '%' | '>', Some(len @ 0..)) => {
                let len = if mark == '%' { 2 * len } else { len };
                Reply::Several(mark, (0..len).map(|_| self.reply()).collect())
            }
            _ => Reply::Plain(text),
        }
    }
}

/// How the replies to a command are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    Exact,
    /// Times.
    Near,
    /// Keys.
    AnyOrder,
}

fn care(request: &[Vec<u8>]) -> Care {
    match &request[0].to_ascii_lowercase()[..] {
        b"ttl" | b"pttl" | b"expiretime" | b"pexpiretime" => Care::Near,
        b"keys" | b"scan" => Care::AnyOrder,
        _ => Care::Exact,
    }
}

fn alike(ours: &Reply, theirs: &Reply, care: Care) -> bool {
    match (ours, theirs, care) {
        (Reply::Integer(a), Reply::Integer(b), Care::Near) if *a > 0 && *b > 0 => {
            (a - b).abs() <= 1000
        }
        (Reply::Several(a, ours), Reply::Several(b, theirs), Care::AnyOrder) => {
            let sorted = |all: &[Reply]| {
                let mut all = all.to_vec();
                all.sort();
                all
            };
            let (ours, theirs) = (sorted(ours), sorted(theirs));
            let mut pairs = ours.iter().zip(&theirs);
            a == b && ours.len() == theirs.len() && pairs.all(|(a, b)| alike(a, b, care))
        }
        _ => ours == theirs,
    }
}

fn all_alike(ours: &Reply, theirs: &Reply, cares: &[Care]) -> bool {
    match (ours, theirs) {
        (Reply::Several(_, ours), Reply::Several(_, theirs)) => {
            let same = ours.len() == theirs.len() && ours.len() == cares.len();
            let mut all = ours.iter().zip(theirs).zip(cares);
            same && all.all(|((a, b), care)| alike(a, b, *care))
        }
        _ => ours == theirs,
    }
}

struct Difference {
    at: usize,
    ours: Reply,
    theirs: Reply,
}

/// How steps are said.
#[derive(Clone, Copy)]
struct Manner {
    hello: &'static str,
    /// So many that one client says in a row go out at once, at most.
    at_once: usize,
}

/// What is sent at once of these steps: of one client, and no more than sockets take in
/// while the replies are not read.
fn together(steps: &[Step], at_once: usize) -> Vec<&[Vec<u8>]> {
    const MOST_BYTES: usize = 64 << 10;
    let mut bytes = 0;
    let of_client = steps.iter().take_while(|s| s.client == steps[0].client);
    let few = of_client.take(at_once).enumerate().take_while(|(i, step)| {
        bytes += step
            .request
            .iter()
            .map(|word| word.len() + 16)
            .sum::<usize>();
        *i == 0 || bytes <= MOST_BYTES
    });
    few.map(|(_, step)| &step.request[..]).collect()
}

/// The first step that is answered differently.
fn first_difference(
    server: &Server,
    redis: &Redis,
    steps: &[Step],
    Manner { hello, at_once }: Manner,
) -> Option<Difference> {
    let mut ours = [0, 1].map(|_| Peer::of(server));
    let mut theirs = [0, 1].map(|_| redis.connect());
    for (ours, theirs) in ours.iter_mut().zip(&mut theirs) {
        ours.say(hello);
        theirs.say(hello);
        ours.say("flushall");
        theirs.say("flushall");
    }
    let mut queued: [Vec<Care>; 2] = Default::default();
    let mut sent = 0;
    for (at, step) in steps.iter().enumerate() {
        let (client, request) = (step.client, &step.request);
        let (ours, theirs) = (&mut ours[client], &mut theirs[client]);
        if at == sent {
            let requests = together(&steps[at..], at_once);
            ours.send(requests.iter().copied());
            theirs.send(requests.iter().copied());
            sent += requests.len();
        }
        let (ours, theirs) = (ours.reply(), theirs.reply());
        let queue = &mut queued[client];
        let same = if request[0].eq_ignore_ascii_case(b"exec") {
            all_alike(&ours, &theirs, &std::mem::take(queue))
        } else {
            alike(&ours, &theirs, care(request))
        };
        if theirs == Reply::Plain("+QUEUED".into()) {
            queue.push(care(request));
        } else if request[0].eq_ignore_ascii_case(b"discard") {
            queue.clear();
        }
        if !same {
            return Some(Difference { at, ours, theirs });
        }
    }
    None
}

fn short(text: &str) -> String {
    match text.len() {
        ..200 => text.to_owned(),
        len => format!(
            "{}... ({len} bytes)",
            text.chars().take(150).collect::<String>()
        ),
    }
}

fn describe(step: &Step) -> String {
    let words = step
        .request
        .iter()
        .map(|w| short(&w.escape_ascii().to_string()));
    format!("{}: {}", step.client, words.collect::<Vec<_>>().join(" "))
}

#[track_caller]
fn compare(seed: u64, server: &Server, redis: &Redis) {
    compare_all(seed, server, redis, &steps(seed, COMMANDS), 1);
}

#[track_caller]
fn compare_all(seed: u64, server: &Server, redis: &Redis, all: &[Step], at_once: usize) {
    // both versions of the protocol
    let hello = if seed.is_multiple_of(2) {
        "hello 2"
    } else {
        "hello 3"
    };
    let manner = Manner { hello, at_once };
    let Some(mut difference) = first_difference(server, redis, all, manner) else {
        return;
    };
    let mut needed: Vec<Step> = all[..=difference.at].to_vec();
    let (mut size, mut from) = (needed.len() / 2, 0);
    for _ in 0..REPLAYS {
        if from + 1 >= needed.len() {
            (size, from) = (size / 2, 0);
        }
        if size == 0 {
            break;
        }
        let end = (from + size).min(needed.len() - 1);
        let mut fewer = needed.clone();
        fewer.drain(from..end);
        match first_difference(server, redis, &fewer, manner) {
            Some(found) => {
                fewer.truncate(found.at + 1);
                (needed, difference) = (fewer, found);
            }
            None => from = end,
        }
    }
    let lines: Vec<String> = needed.iter().map(describe).collect();
    panic!(
        "seed {seed}, command {}, {hello}; needed:\n{}\nours:   {}\ntheirs: {}",
        difference.at,
        lines.join("\n"),
        short(&format!("{:?}", difference.ours)),
        short(&format!("{:?}", difference.theirs)),
    );
}

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SCATTERHOARD_TEST_SEEDS") else {
        return default;
    };
    match text.split_once("..") {
        Some((first, end)) => first.parse().unwrap()..end.parse().unwrap(),
        None => default.start..default.start + text.parse::<u64>().unwrap(),
    }
}

pub(crate) const POOL: [&str; 4] = ["--data-parity", "4+2", "--nodes", "8"];

#[test]
fn random_commands_are_answered_alike_from_nodes() {
    let Some(redis) = Redis::start() else { return };
    let server = Server::start(&POOL);
    for seed in seeds(0..2) {
        compare(seed, &server, &redis);
    }
}

#[test]
fn random_commands_are_answered_alike_from_memory() {
    let Some(redis) = Redis::start() else { return };
    let memory = ["--hot-tier-mb", "16", "--ack", "proxy"];
    let server = Server::start(&[&POOL[..], &memory].concat());
    for seed in seeds(2..4) {
        compare(seed, &server, &redis);
    }
}

/// What is answered from the read buffer, beside what is not.
#[test]
fn random_pipelines_are_answered_alike_from_memory() {
    let Some(redis) = Redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let memory = ["--hot-tier-mb", "16", "--ack", "proxy"];
    let journal = ["--data-dir", folder, "--dirty-mb", "1"];
    for more in [&[][..], &journal] {
        let server = Server::start(&[&POOL[..], &memory, more].concat());
        for seed in seeds(4..6) {
            let all = pipelined_steps(seed, COMMANDS);
            compare_all(seed, &server, &redis, &all, 16);
        }
    }
}

/// Texts of numbers as people, programs and enemies write them.
fn float(random: &mut Random) -> String {
    let sign = ["", "", "-", "+"][random.below(4)];
    let number = match random.below(9) {
        0 => format!("{:e}", f64::from_bits(random.next())),
        1 => f64::from_bits(random.next())
            .to_string()
            .trim_start_matches('-')
            .to_owned(),
        2 => format!(
            "0x{:x}.{:x}p{}",
            random.next(),
            random.next(),
            random.below(200) as i64 - 100
        ),
        3 => format!("{}e{}", random.next(), random.below(10_000) as i64 - 5_000),
        // in the middle between two, or nearly
        4 => format!("{}.5", (1_u64 << 63) + random.next() % 1000),
        5 => format!(
            "{}.{:017}5",
            random.below(4),
            random.next() % 100_000_000_000_000_000
        ),
        6 => format!(
            "0x{:x}p{}",
            random.next(),
            -16_440 - random.below(20) as i64
        ),
        _ => format!("{}.{}", random.below(100_000), random.below(100_000)),
    };
    format!("{sign}{number}")
}

/// Sums in fields of hashes, and what is refused: both answer the same.
#[test]
fn sums_in_hashes_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let server = Server::start(&POOL);
    let (mut ours, mut theirs) = (Peer::of(&server), redis.connect());
    let mut random = Random::new(11);
    for peer in ["string", "hash"] {
        let set = match peer {
            "string" => "set k 1",
            _ => "del k",
        };
        assert_eq!(ours.say("del k"), theirs.say("del k"));
        ours.say(set);
        theirs.say(set);
        for n in 0..300 {
            let increment = match n % 12 {
                0 => ["inf", "-inf", "nan", "x", "", "1e4000", "1e5000"][random.below(7)].into(),
                _ => float(&mut random),
            };
            let set = match n % 9 {
                0 => format!(
                    "hset k f {}",
                    ["abc", "inf", "1.50", " 1"][random.below(4)].trim()
                ),
                1 => "hdel k f".into(),
                _ => "ping".into(),
            };
            assert_eq!(ours.say(&set), theirs.say(&set), "{set}");
            let add = format!("hincrbyfloat k f {increment}");
            assert_eq!(ours.say(&add), theirs.say(&add), "{add}");
            assert_eq!(ours.say("hget k f"), theirs.say("hget k f"), "{add}");
        }
    }
}

#[test]
fn sums_are_those_of_redis_to_the_last_digit() {
    let Some(redis) = Redis::start() else { return };
    let mut redis = redis.connect();
    let mut random = Random::new(seeds(5..6).start);
    for _ in 0..6_000 {
        let [old, increment] = [0, 1].map(|_| float(&mut random));
        redis.say(&format!("set k {old}"));
        let theirs = redis.say(&format!("incrbyfloat k {increment}"));
        let parse = |text: &str| Extended::parse(text.as_bytes());
        let ours = match (parse(&old), parse(&increment)) {
            (Some(old), Some(increment)) => match old.plus(increment) {
                Some(sum) => format!("${sum}"),
                None => "-ERR increment would produce NaN or Infinity".to_owned(),
            },
            _ => "-ERR value is not a valid float".to_owned(),
        };
        assert_eq!(Reply::Plain(ours), theirs, "{old} + {increment}");
    }
}
