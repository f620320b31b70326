//! Values that are larger than any buffer: they pass through in bounded memory,
//! and whoever breaks off, stalls or asks too much harms nobody else.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    server::{Server, until},
};

/// A long value without a short period of a power of two, made of one block.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new() -> Self {
        let block = Random::new(41).bytes((8 << 20) + 13);
        // twice, so that any part of a period is one slice
        Self([&block[..], &block[..]].concat())
    }

    fn at(&self, offset: u64, len: usize) -> &[u8] {
        let period = self.0.len() / 2;
        let start = (offset % period as u64) as usize;
        &self.0[start..start + len]
    }

    fn send(&self, stream: &mut TcpStream, bytes: u64) -> std::io::Result<()> {
        let mut at = 0;
        while at < bytes {
            let len = (bytes - at).min(1 << 20) as usize;
            stream.write_all(self.at(at, len))?;
            at += len as u64;
        }
        Ok(())
    }

    /// Asserts that the next bytes are those of the pattern.
    #[track_caller]
    fn expect(&self, reader: &mut impl Read, from: u64, bytes: u64) {
        let (mut at, mut buffer) = (from, vec![0; 1 << 20]);
        while at < from + bytes {
            let len = (from + bytes - at).min(1 << 20) as usize;
            reader.read_exact(&mut buffer[..len]).unwrap();
            assert_same(
                &format!("from {at}"),
                Some(&buffer[..len]),
                self.at(at, len),
            );
            at += len as u64;
        }
    }
}

fn begin_set(stream: &mut TcpStream, key: &str, bytes: u64) {
    let key_len = key.len();
    write!(
        stream,
        "*3\r\n$3\r\nSET\r\n${key_len}\r\n{key}\r\n${bytes}\r\n"
    )
    .unwrap();
}

fn ask(stream: &mut TcpStream, words: &[&str]) {
    let mut request = format!("*{}\r\n", words.len());
    words
        .iter()
        .for_each(|word| request += &format!("${}\r\n{word}\r\n", word.len()));
    stream.write_all(request.as_bytes()).unwrap();
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn connect(server: &Server) -> (TcpStream, BufReader<TcpStream>) {
    let stream = server.socket();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let reader = BufReader::with_capacity(1 << 20, stream.try_clone().unwrap());
    (stream, reader)
}

fn store(server: &Server, pattern: &Pattern, key: &str, bytes: u64) {
    let (mut stream, mut reader) = connect(server);
    begin_set(&mut stream, key, bytes);
    pattern.send(&mut stream, bytes).unwrap();
    stream.write_all(b"\r\n").unwrap();
    assert_eq!(line(&mut reader), "+OK", "SET of {bytes} bytes");
}

/// Ends who waits for it, also when the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_value_of_two_and_a_half_gigabytes_passes_in_bounded_memory() {
    const BYTES: u64 = 2_500_000_000;
    let server = Server::start(&["--node-memory-mb", "512", "--proto-max-bulk-mb", "5000"]);
    let (pattern, done) = (Pattern::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (done, server) = (&done, &server);
        let _ends = SetOnDrop(done);
        let most = scope.spawn(move || {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(server.resident_bytes());
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        store(server, &pattern, "huge", BYTES);
        let (mut stream, mut reader) = connect(server);
        ask(&mut stream, &["GET", "huge"]);
        assert_eq!(line(&mut reader), format!("${BYTES}"));
        pattern.expect(&mut reader, 0, BYTES);
        assert_eq!(line(&mut reader), "");
        for from in [2_147_483_640u64, BYTES - 100_000] {
            let to = from + 99_999;
            ask(
                &mut stream,
                &["GETRANGE", "huge", &from.to_string(), &to.to_string()],
            );
            assert_eq!(line(&mut reader), "$100000");
            pattern.expect(&mut reader, from, 100_000);
            assert_eq!(line(&mut reader), "");
        }
        ask(&mut stream, &["STRLEN", "huge"]);
        assert_eq!(line(&mut reader), format!(":{BYTES}"));
        done.store(true, Ordering::Relaxed);
        let most = most.join().unwrap();
        assert!(most < 256 << 20, "the proxy took {} MiB", most >> 20);
    });
}

#[test]
fn a_value_larger_than_the_pool_is_refused_behind_its_body() {
    let server = Server::start(&["--nodes", "4", "--data-parity", "2+1"]);
    let (pattern, mut redis) = (Pattern::new(), server.client());
    let () = redis.set("small", "kept").unwrap();
    let (mut stream, mut reader) = connect(&server);
    let bytes = 450_000_000;
    begin_set(&mut stream, "large", bytes);
    pattern.send(&mut stream, bytes).unwrap();
    stream.write_all(b"\r\n*1\r\n$4\r\nPING\r\n").unwrap();
    let answer = line(&mut reader);
    assert!(
        answer.starts_with("-OOM") && answer.contains("too large"),
        "{answer}"
    );
    assert_eq!(line(&mut reader), "+PONG");
    assert_eq!(redis.get::<_, String>("small").unwrap(), "kept");
    assert!(!redis.exists::<_, bool>("large").unwrap());
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing_behind() {
    let server = Server::start(&[]);
    let (pattern, mut redis) = (Pattern::new(), server.client());
    let () = redis.set("k", "before").unwrap();
    let held = || server.metric("scatterhoard_node_bytes_held");
    for _ in 0..5 {
        let (mut stream, _reader) = connect(&server);
        begin_set(&mut stream, "k", 60_000_000);
        pattern.send(&mut stream, 40_000_000).unwrap();
        until("cells are on nodes", Duration::from_secs(10), || {
            held() > 10e6
        });
        stream.shutdown(Shutdown::Both).unwrap();
        drop(stream);
        until("they are freed", Duration::from_secs(20), || {
            // nodes are told in their next invocation
            let () = redis.set("other", vec![7; 1 << 20]).unwrap();
            held() < 8e6
        });
    }
    assert_eq!(redis.get::<_, String>("k").unwrap(), "before");
}

#[test]
fn writers_and_readers_share_little_memory_without_being_refused() {
    let server = Server::start(&["--inflight-mb", "7", "--node-memory-mb", "256"]);
    std::thread::scope(|scope| {
        for client in 0..8u64 {
            let server = &server;
            scope.spawn(move || {
                let (mut redis, mut random) = (server.client(), Random::new(client));
                for round in 0..4 {
                    let size = 3_000_000 + random.below(9_000_000);
                    let (key, value) = (format!("{client}:{round}"), random.bytes(size));
                    let () = redis.set(&key, &value).unwrap();
                    let more: usize = redis.append(&key, b"and more").unwrap();
                    assert_eq!(more, size + 8);
                    let read: Vec<u8> = redis.get(&key).unwrap();
                    assert_same(&key, Some(&read[..size]), &value);
                }
            });
        }
    });
}

#[test]
fn readers_that_take_a_byte_now_and_then_delay_nobody() {
    let server = Server::start(&["--node-memory-mb", "256", "--inflight-mb", "128"]);
    let pattern = Pattern::new();
    store(&server, &pattern, "large", 500_000_000);
    let mut slow: Vec<_> = (0..20)
        .map(|_| {
            let (mut stream, reader) = connect(&server);
            // next to nothing of it: the rest stays in the sockets
            let mut reader = BufReader::with_capacity(16, reader.into_inner());
            ask(&mut stream, &["GET", "large"]);
            assert_eq!(line(&mut reader), "$500000000");
            (stream, reader)
        })
        .collect();
    let (mut redis, value) = (server.client(), Random::new(42).bytes(10_000_000));
    for round in 0..10 {
        let begun = Instant::now();
        let () = redis.set("other", &value).unwrap();
        let read: Vec<u8> = redis.get("other").unwrap();
        assert_same("other", Some(&read), &value);
        // far above what it takes; far below any time-out that could end a wait
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "round {round} had to wait"
        );
        for (_, reader) in &mut slow {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            assert_eq!(byte, pattern.at(round, 1));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let most = server.resident_bytes();
    assert!(most < 400 << 20, "the proxy took {} MiB", most >> 20);
    drop(slow);
}

#[test]
fn a_value_whose_nodes_go_while_it_is_sent_breaks_off_without_wrong_bytes() {
    let server = Server::start(&["--node-memory-mb", "256"]);
    let pattern = Pattern::new();
    store(&server, &pattern, "large", 300_000_000);
    let (mut stream, mut reader) = connect(&server);
    ask(&mut stream, &["GET", "large"]);
    assert_eq!(line(&mut reader), "$300000000");
    pattern.expect(&mut reader, 0, 1_000_000);
    server.reclaim(1000, 1);
    // what was on its way is right; then the connection ends
    let (mut at, mut buffer) = (1_000_000, vec![0; 1 << 20]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                assert_same(&format!("from {at}"), Some(&buffer[..n]), pattern.at(at, n));
                at += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("after {at} bytes: {error}"),
        }
    }
    assert!(at < 300_000_000, "it was read to its end");
    assert_eq!(server.metric("scatterhoard_broken_values_total"), 1.0);
    let mut redis = server.client();
    until("the pool serves again", Duration::from_secs(20), || {
        redis.set::<_, _, ()>("new", vec![5; 3_000_000]).is_ok()
    });
    assert_eq!(redis.get::<_, Vec<u8>>("new").unwrap(), vec![5; 3_000_000]);
    assert_eq!(redis.get::<_, Option<Vec<u8>>>("large").unwrap(), None);
}

#[test]
fn bodies_that_are_only_announced_cost_nobody_a_value() {
    let server = Server::start(&["--nodes", "4", "--data-parity", "2+1"]);
    let (pattern, mut redis) = (Pattern::new(), server.client());
    let () = redis.set("kept", pattern.at(0, 5_000_000)).unwrap();
    let announced: Vec<_> = (0..10)
        .map(|_| {
            let (mut stream, reader) = connect(&server);
            begin_set(&mut stream, "large", 200_000_000);
            pattern.send(&mut stream, 100_000).unwrap();
            (stream, reader)
        })
        .collect();
    for _ in 0..5 {
        let () = redis.set("other", pattern.at(7, 3_000_000)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let kept: Vec<u8> = redis.get("kept").unwrap();
    assert_same("kept", Some(&kept), pattern.at(0, 5_000_000));
    assert_eq!(server.metric("scatterhoard_evicted_objects_total"), 0.0);
    drop(announced);
}

#[test]
fn readers_that_pause_longer_than_nodes_wait_get_the_rest() {
    let server = Server::start(&["--node-memory-mb", "256"]);
    let pattern = Pattern::new();
    let sizes = [100_000_000, 40_000_000, 50_000];
    for (key, bytes) in ["a", "b", "c"].iter().zip(sizes) {
        store(&server, &pattern, key, bytes);
    }
    let (mut stream, mut reader) = connect(&server);
    ask(&mut stream, &["MGET", "a", "b", "c"]);
    assert_eq!(line(&mut reader), "*3");
    assert_eq!(line(&mut reader), "$100000000");
    // in the middle, and again: every link is gone, and every deadline over
    let mut at = 0;
    for part in [3_000_000, 40_000_000, 57_000_000] {
        pattern.expect(&mut reader, at, part);
        at += part;
        std::thread::sleep(Duration::from_secs(6));
    }
    assert_eq!(line(&mut reader), "");
    for bytes in &sizes[1..] {
        assert_eq!(line(&mut reader), format!("${bytes}"));
        pattern.expect(&mut reader, 0, *bytes);
        assert_eq!(line(&mut reader), "");
    }
}

#[test]
fn patches_as_large_as_all_memory_wait_for_nobody() {
    let server = Server::start(&["--inflight-mb", "7", "--node-memory-mb", "256"]);
    let value = Random::new(43).bytes(9_000_000);
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (server, value) = (&server, &value);
            scope.spawn(move || {
                let (mut redis, key) = (server.client(), format!("log:{client}"));
                for round in 1..=2 {
                    let len: usize = redis.append(&key, value).unwrap();
                    assert_eq!(len, round * value.len());
                }
                let read: Vec<u8> = redis.get(&key).unwrap();
                assert_same(&key, Some(&read), &[&value[..], &value[..]].concat());
            });
        }
    });
}
