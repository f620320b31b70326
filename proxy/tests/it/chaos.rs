//! Nodes that are killed in the middle of a transfer or stop without a word, and a
//! platform that takes no invocations for a while. What is longer and more mixed
//! is in `scatterhoard-bench chaos`.

use std::{
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use local_lambda::{Down, FaultKind, FaultRule, Faults, InstanceState, ThrottleReason, When};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    platform::Platform,
    server::{Server, until},
};

pub(crate) const NODES: usize = 8;
pub(crate) const PARITY: usize = 2;
pub(crate) const LARGE: usize = 48 << 20;
/// Of every proxy here.
pub(crate) const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// No request takes this long: it would hang. A busy machine does not either.
pub(crate) const HANGS: Duration = Duration::from_secs(20);

/// How long requests of one kind took.
#[derive(Default)]
pub(crate) struct Took(Vec<Duration>);

impl Took {
    pub(crate) fn add(&mut self, took: Duration) {
        assert!(took < HANGS, "a request took {took:?}");
        self.0.push(took);
    }

    pub(crate) fn longest(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    /// Most of them did not wait until a silent node was given up.
    pub(crate) fn assert_prompt(mut self, what: &str) {
        self.0.sort();
        let (median, longest) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
        println!("{what}: median {median:?}, longest {longest:?}");
        assert!(median < NODE_TIMEOUT / 2, "{what} wait: {median:?}");
    }
}
/// How long no invocation is taken: longer than a node is waited for.
const DOWN_FOR: Duration = Duration::from_secs(6);
/// Once for a minute.
const DOWN_FOR_LONG: Duration = Duration::from_secs(60);
pub(crate) const RECOVERS_WITHIN: Duration = Duration::from_secs(30);

/// A proxy, and a platform that can be harmed.
pub(crate) struct World {
    pub(crate) server: Server,
    platform: Platform,
    random: Random,
}

pub(crate) fn world(seed: u64, more: &[&str]) -> World {
    world_on(Platform::start(NODES), seed, more)
}

fn world_on(platform: Platform, seed: u64, more: &[&str]) -> World {
    let url = platform.url();
    let (nodes, chunks) = (NODES.to_string(), format!("4+{PARITY}"));
    let timeout = NODE_TIMEOUT.as_millis().to_string();
    let mut arguments = vec!["--lambda-endpoint", &url, "--nodes", &nodes];
    arguments.extend(["--data-parity", &chunks, "--node-timeout-ms", &timeout]);
    if !more.contains(&"--linger-max-ms") {
        // as long as somebody reads, nodes stay awake
        arguments.extend(["--linger-max-ms", "2000"]);
    }
    let server = Server::start(&[&arguments[..], more].concat());
    World {
        server,
        platform,
        random: Random::new(seed),
    }
}

impl World {
    /// Processes that work for an invocation now.
    pub(crate) fn busy(&self) -> Vec<Pid> {
        let instances = self.platform.handle().instances();
        let busy = instances
            .iter()
            .filter(|i| i.state == InstanceState::Busy && !i.frozen);
        busy.map(|i| Pid::from_raw(i.pid.unwrap().try_into().unwrap()))
            .collect()
    }

    fn signal_busy(&self, count: usize, signal: Signal) -> Vec<Pid> {
        let mut pids = Vec::new();
        until("enough nodes are at work", Duration::from_secs(10), || {
            pids = self.busy();
            pids.len() >= count
        });
        pids.truncate(count);
        pids.iter().for_each(|pid| kill(*pid, signal).unwrap());
        pids
    }

    /// Whatever they do: some sleep, and are needed only when others are gone.
    fn kill_all(&self) {
        let instances = self.platform.handle().instances();
        for pid in instances.iter().filter_map(|i| i.pid) {
            // one may have ended meanwhile
            let _ = kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL);
        }
    }

    /// Sends a SET, and in the middle of its value does something; the reply, or
    /// none if the connection was closed.
    pub(crate) fn set_with(
        &self,
        key: &str,
        value: &[u8],
        strike: impl FnOnce(),
    ) -> Option<String> {
        let mut socket = self.server.socket();
        let head = format!(
            "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n",
            key.len(),
            value.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        let (first, second) = value.split_at(value.len() / 2);
        socket.write_all(first).unwrap();
        strike();
        let sent = socket
            .write_all(second)
            .and_then(|()| socket.write_all(b"\r\n"));
        let mut reply = Vec::new();
        let mut byte = [0];
        while sent.is_ok() && !reply.ends_with(b"\r\n") && socket.read(&mut byte).ok()? == 1 {
            reply.push(byte[0]);
        }
        let whole = reply.ends_with(b"\r\n");
        whole.then(|| String::from_utf8(reply).unwrap().trim().to_owned())
    }

    /// Reads a value, and behind its first quarter does something; what came, all
    /// of it or up to where the connection was closed.
    pub(crate) fn get_with(&self, key: &str, len: usize, strike: impl FnOnce()) -> Vec<u8> {
        let mut socket = self.server.socket();
        let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
        socket.write_all(request.as_bytes()).unwrap();
        let mut header = vec![0; format!("${len}\r\n").len()];
        socket.read_exact(&mut header).unwrap();
        assert_eq!(String::from_utf8(header).unwrap(), format!("${len}\r\n"));
        let mut value = vec![0; len];
        let quarter = len / 4;
        socket.read_exact(&mut value[..quarter]).unwrap();
        strike();
        let mut filled = quarter;
        while filled < len {
            match socket.read(&mut value[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("it hangs: {error}"),
            }
        }
        value.truncate(filled);
        value
    }

    pub(crate) fn set(&mut self, key: &str, len: usize) -> Vec<u8> {
        let value = self.random.bytes(len);
        let () = self.server.client().set(key, &value).unwrap();
        value
    }

    /// Some of each way to be stored: in a segment, as copies, in chunks.
    pub(crate) fn some(&mut self) -> Vec<(String, Vec<u8>)> {
        let sizes = [100, 3_000, 60_000, 200_000, 700_000, 5_000_000];
        let mut stored = Vec::new();
        for i in 0..18 {
            let key = format!("some:{i}");
            stored.push((key.clone(), self.set(&key, sizes[i % sizes.len()])));
        }
        stored
    }
}

#[track_caller]
fn assert_unavailable(what: &str, error: &redis::RedisError) {
    assert_eq!(error.code(), Some("UNAVAILABLE"), "{what}: {error}");
}

/// Right or a clear error; true if right. Nil is neither.
#[track_caller]
fn read_right_or_unavailable(redis: &mut redis::Connection, key: &str, value: &[u8]) -> bool {
    match redis.get::<_, Option<Vec<u8>>>(key) {
        Ok(read) => {
            assert_same(key, read.as_deref(), value);
            true
        }
        Err(error) => {
            assert_unavailable(key, &error);
            false
        }
    }
}

#[test]
fn nodes_killed_in_the_middle_of_a_put_leave_new_or_old() {
    let mut world = world(1, &[]);
    for kills in [1, PARITY, PARITY + 1] {
        let what = format!("{kills} killed");
        let (key, new) = (format!("put:{kills}"), world.random.bytes(LARGE));
        let old = world.set(&key, 2_000_000);
        let reply = world.set_with(&key, &new, || {
            world.signal_busy(kills, Signal::SIGKILL);
        });
        let is_stored = reply.as_deref() == Some("+OK");
        println!("{what}: {reply:?}");
        let clear = reply.as_ref().is_none_or(|r| r.starts_with("-UNAVAILABLE"));
        assert!(is_stored || clear, "{what}: {reply:?}");
        assert!(is_stored || kills > 1, "{what}: that may not matter");
        let read = world.server.client().get::<_, Option<Vec<u8>>>(&key);
        match read {
            Ok(Some(read)) => {
                assert_same(&what, Some(&read), if is_stored { &new } else { &old });
            }
            Ok(None) => assert!(kills > PARITY, "{what}: it is gone"),
            Err(error) => panic!("{what}: {error}"),
        }
        // and all is well again
        let again = world.set("again", 3_000_000);
        let read: Option<Vec<u8>> = world.server.client().get("again").unwrap();
        assert_same("again", read.as_deref(), &again);
        let () = world.server.client().del(&key).unwrap();
    }
    world.server.stop();
}

#[test]
fn nodes_killed_in_the_middle_of_a_get_cost_no_byte_up_to_p() {
    let mut world = world(2, &[]);
    for kills in [1, PARITY] {
        let value = world.set("got", LARGE);
        let read = world.get_with("got", LARGE, || {
            world.signal_busy(kills, Signal::SIGKILL);
        });
        assert_same(&format!("{kills} killed"), Some(&read), &value);
    }
    world.server.stop();
    // beyond that it ends early, never wrong. Without standbys: whether these have what is
    // lost is a matter of luck
    let mut world = self::world(2, &["--standby", "false"]);
    let value = world.set("got", LARGE);
    let read = world.get_with("got", LARGE, || {
        world.kill_all();
    });
    assert!(read.len() < LARGE, "no chunk gave all of it");
    assert_same("all killed", Some(&read), &value[..read.len()]);
    let read: Option<Vec<u8>> = world.server.client().get("got").unwrap();
    assert_eq!(read.map(|r| r.len()), None);
    world.server.stop();
}

#[test]
fn nodes_that_stop_without_notice_delay_nobody_for_long() {
    let mut world = world(3, &[]);
    let stored = world.some();
    let mut redis = world.server.client();
    let (mut reads, mut writes) = (Took::default(), Took::default());
    for _ in 0..3 {
        // awake, all of them
        let _ = world.set("awake", 5_000_000);
        let stopped = world.signal_busy(PARITY, Signal::SIGSTOP);
        let end = Instant::now() + NODE_TIMEOUT + Duration::from_secs(1);
        let mut turn = 0;
        while Instant::now() < end {
            let (key, value) = &stored[turn % stored.len()];
            let started = Instant::now();
            let read: Option<Vec<u8>> = redis.get(key).unwrap();
            reads.add(started.elapsed());
            assert_same(key, read.as_deref(), value);
            if turn % 7 == 0 {
                let started = Instant::now();
                let _ = world.set("written", 900_000);
                writes.add(started.elapsed());
            }
            turn += 1;
        }
        for pid in stopped {
            let _ = kill(pid, Signal::SIGCONT);
        }
        // what the stopped ones lacked meanwhile is repaired before the next go
        std::thread::sleep(Duration::from_millis(500));
    }
    reads.assert_prompt("GET");
    // of which some wait for a node that they had begun to use
    println!("longest SET {:?}", writes.longest());
    for (key, value) in &stored {
        let read: Option<Vec<u8>> = redis.get(key).unwrap();
        assert_same(key, read.as_deref(), value);
    }
    world.server.stop();
}

/// No invocation is taken for a while. Nodes that are awake go on to be read; of
/// others nothing is lost, and it recovers by itself.
#[track_caller]
fn goes_on_and_recovers(seed: u64, down: Down, down_for: Duration) {
    let platform = Platform::start(NODES);
    for mut function in platform.handle().functions() {
        // nobody has to return, and be invoked again, before it is over
        function.timeout = down_for + Duration::from_secs(60);
        platform.handle().put_function(function).unwrap();
    }
    // awake also where the machine lets a read wait for seconds
    let linger = ["--linger-ms", "5000", "--linger-max-ms", "5000"];
    let mut world = world_on(platform, seed, &linger);
    let stored = world.some();
    let mut redis = world.server.client();
    // read again and again, it keeps its nodes awake
    let (hot, value) = &stored[5];
    for _ in 0..10 {
        let _: Option<Vec<u8>> = redis.get(hot).unwrap();
    }
    world.platform.handle().set_faults(Faults {
        down: Some(down),
        ..Faults::default()
    });
    let end = Instant::now() + down_for;
    while Instant::now() < end {
        let read: Option<Vec<u8>> = redis.get(hot).unwrap();
        assert_same(hot, read.as_deref(), value);
    }
    let mut away = 0;
    for (key, value) in &stored {
        away += usize::from(!read_right_or_unavailable(&mut redis, key, value));
    }
    println!("{away} of {} cannot be read meanwhile", stored.len());
    match redis.set::<_, _, ()>("new", vec![1; 400_000]) {
        Ok(()) => {}
        Err(error) => assert_unavailable("SET", &error),
    }
    world.platform.handle().set_faults(Faults::default());
    until("all can be read again", RECOVERS_WITHIN, || {
        stored
            .iter()
            .all(|(key, value)| read_right_or_unavailable(&mut redis, key, value))
    });
    let () = redis.set("after", vec![2; 400_000]).unwrap();
    world.server.stop();
}

#[test]
fn awake_nodes_are_read_while_invokes_fail() {
    goes_on_and_recovers(4, Down::ServiceException, DOWN_FOR_LONG);
}

#[test]
fn awake_nodes_are_read_while_invokes_get_no_answer() {
    goes_on_and_recovers(5, Down::CloseConnection, DOWN_FOR);
}

#[test]
fn a_platform_that_takes_one_invoke_in_ten_loses_nothing() {
    let mut world = world(6, &[]);
    let stored = world.some();
    let mut redis = world.server.client();
    world.platform.handle().set_faults(Faults {
        seed: Some(6),
        rules: vec![FaultRule {
            function: None,
            when: When::Fraction(0.9),
            fault: FaultKind::Throttle {
                reason: ThrottleReason::default(),
            },
        }],
        ..Faults::default()
    });
    let (mut right, mut refused) = (0, 0);
    let end = Instant::now() + DOWN_FOR;
    for turn in 0.. {
        if Instant::now() > end {
            break;
        }
        // most nodes fall asleep in between
        if turn % 10 == 9 {
            std::thread::sleep(Duration::from_millis(2100));
        }
        let (key, value) = &stored[turn % stored.len()];
        match read_right_or_unavailable(&mut redis, key, value) {
            true => right += 1,
            false => refused += 1,
        }
        let value = world.random.bytes(300_000);
        match redis.set::<_, _, ()>("new", &value) {
            Ok(()) => {
                if read_right_or_unavailable(&mut redis, "new", &value) {
                    right += 1;
                }
            }
            Err(error) => {
                assert_unavailable("SET", &error);
                refused += 1;
            }
        }
    }
    println!("{right} right, {refused} refused");
    assert!(right > 0, "nothing went through of {refused}");
    world.platform.handle().set_faults(Faults::default());
    until("all can be read again", RECOVERS_WITHIN, || {
        stored
            .iter()
            .all(|(key, value)| read_right_or_unavailable(&mut redis, key, value))
    });
    world.server.stop();
}

/// Whoever is started again may take its time: parity is asked at once.
#[test]
fn reads_do_not_wait_for_nodes_that_are_started_again() {
    let platform = Platform::start(NODES);
    for mut function in platform.handle().functions() {
        // none has a standby, which would answer instead
        function.reserved_concurrency = Some(1);
        platform.handle().put_function(function).unwrap();
    }
    // longer than this test lets anybody wait, unless somebody is late
    let more = [
        "--hedge-after-ms",
        "3000",
        "--linger-ms",
        "5000",
        "--linger-max-ms",
        "5000",
        "--hot-tier-mb",
        "0",
    ];
    let mut world = world_on(platform, 8, &more);
    let lens = [5_000_000, 1_500_000, 5_000_000];
    let keys = ["a", "b", "c"].into_iter().zip(lens);
    let stored: Vec<_> = keys.map(|(key, len)| (key, world.set(key, len))).collect();
    world.platform.handle().set_faults(Faults {
        cold_start_delay: Duration::from_secs(60),
        ..Faults::default()
    });
    world.signal_busy(PARITY, Signal::SIGKILL);
    until("the proxy knows", Duration::from_secs(10), || {
        world.server.log().matches("link lost").count() >= PARITY
    });
    let mut redis = world.server.client();
    for (key, value) in &stored {
        let whole: Vec<u8> = redis.get(key).unwrap();
        assert_same(key, Some(&whole), value);
        let range: Vec<u8> = redis.getrange(key, 0, 999_999).unwrap();
        assert_same(key, Some(&range), &value[..1_000_000]);
    }
    let hedged = world.server.metric("scatterhoard_hedged_reads_total");
    assert_eq!(hedged, 0.0, "somebody was waited for");
    world.server.stop();
}
