//! What bad clients cost: the proxy's memory, which is asserted, and another
//! client's time, which is only printed: docs/robustness.md has the figures.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    server::{CLIENT_LIMIT, Server, memory_bytes, until},
};

const VALUE_BYTES: usize = 10_000;
const QUIET: Duration = Duration::from_secs(1);
const MB: u64 = 1 << 20;

/// A server with a client that minds its own business.
struct Street {
    server: Server,
    value: Vec<u8>,
}

/// How long the neighbour's GETs took.
struct Took(Vec<Duration>);

impl Took {
    fn worst(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }
}

impl Street {
    fn new(arguments: &[&str]) -> Self {
        let (server, value) = (Server::start(arguments), Random::new(1).bytes(VALUE_BYTES));
        let () = server.client().set("neighbour", &value).unwrap();
        Self { server, value }
    }

    /// The neighbour's GETs until that is set; each brings the value.
    fn read_until(&self, over: &AtomicBool) -> Took {
        let (mut redis, mut took) = (self.server.client(), Vec::new());
        while !over.load(Ordering::Relaxed) || took.is_empty() {
            let began = Instant::now();
            let read: Option<Vec<u8>> = redis.get("neighbour").unwrap();
            took.push(began.elapsed());
            assert_same("neighbour", read.as_deref(), &self.value);
            std::thread::sleep(Duration::from_millis(1));
        }
        took.sort_unstable();
        Took(took)
    }

    /// The neighbour reads while `others` do something.
    fn beside(&self, others: impl FnOnce() + Send) -> Took {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let neighbour = scope.spawn(|| self.read_until(&over));
            let others = scope.spawn(others);
            let ended = others.join();
            over.store(true, Ordering::Relaxed);
            let took = neighbour.join().unwrap();
            ended.unwrap();
            took
        })
    }

    fn peak_bytes(&self) -> u64 {
        memory_bytes(self.server.pid(), "VmHWM:")
    }

    fn forget_peak(&self) {
        let file = format!("/proc/{}/clear_refs", self.server.pid());
        std::fs::write(file, "5").unwrap();
    }

    /// Only the connection that asks is left.
    fn wait_until_alone(&self) {
        let mut redis = self.server.client();
        until("bad clients are gone", CLIENT_LIMIT, || {
            let info: String = redis::cmd("INFO").arg("clients").query(&mut redis).unwrap();
            info.contains("connected_clients:1\r\n")
        });
    }

    /// Twice the same: it takes no more than so much memory while it lasts, and the
    /// second time leaves no more behind than the first.
    #[track_caller]
    fn endure(&self, what: &str, most_bytes: u64, bad: impl Fn(&Server) + Sync) {
        let quiet = self.beside(|| std::thread::sleep(QUIET));
        let mut left = Vec::new();
        for round in 1..=2 {
            self.forget_peak();
            let before = self.server.resident_bytes();
            let began = Instant::now();
            let took = self.beside(|| bad(&self.server));
            let lasted = began.elapsed();
            self.wait_until_alone();
            let (peak, after) = (self.peak_bytes(), self.server.resident_bytes());
            left.push(after);
            println!(
                "{what}, {round}: {lasted:.1?}; resident {} MB, at most {} MB, {} MB after it; \
                 GETs median {:.1?}, worst {:.1?} ({} in all), alone {:.1?} and {:.1?}: \
                 {:.1} times the worst",
                before / MB,
                peak / MB,
                after / MB,
                took.median(),
                took.worst(),
                took.0.len(),
                quiet.median(),
                quiet.worst(),
                took.worst().as_secs_f64() / quiet.worst().as_secs_f64(),
            );
            let grown = peak.saturating_sub(before);
            assert!(grown < most_bytes, "{what}: grew by {} MB", grown / MB);
        }
        let grown = left[1].saturating_sub(left[0]);
        assert!(grown < 16 * MB, "{what}: each time {} MB stay", grown / MB);
    }
}

/// Sends all of it in pieces of that size, while the replies are read; how many
/// bytes these were.
fn exchange(server: &Server, request: &[u8], piece: usize) -> u64 {
    let mut writer = server.socket();
    let mut reader = writer.try_clone().unwrap();
    std::thread::scope(|scope| {
        let replies =
            scope.spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap());
        for piece in request.chunks(piece) {
            writer.write_all(piece).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
        replies.join().unwrap()
    })
}

#[test]
fn hundreds_of_thousands_of_tiny_commands_in_a_pipeline() {
    const TIMES: usize = 50_000;
    let street = Street::new(&[]);
    street.endure("tiny pipelined commands", 48 * MB, |server| {
        let () = server.client().set("n", 0).unwrap();
        let pings = b"PING\r\n".repeat(TIMES);
        let increments = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(TIMES / 25);
        let misses = b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n".repeat(TIMES);
        std::thread::scope(|scope| {
            for piece in [1 << 20, 1 << 10] {
                let count = |reply: &str, times| (reply.len() * times) as u64;
                let (pings, misses) = (&pings, &misses);
                scope.spawn(move || {
                    assert_eq!(exchange(server, pings, piece), count("+PONG\r\n", TIMES));
                });
                scope.spawn(move || {
                    assert_eq!(exchange(server, misses, piece), count("$-1\r\n", TIMES));
                });
            }
            scope.spawn(|| exchange(server, &increments, 1 << 16));
        });
        let n: usize = server.client().get("n").unwrap();
        assert_eq!(n, TIMES / 25);
    });
}

/// The same of what is carried out where it lies in the read buffer.
#[test]
fn pipelines_that_are_answered_from_memory() {
    const TIMES: usize = 50_000;
    let street = Street::new(&["--hot-tier-mb", "16", "--ack", "proxy"]);
    street.endure("pipelines answered from memory", 48 * MB, |server| {
        let mut redis = server.client();
        let () = redis.set("hot", "v").unwrap();
        // a value is kept as soon as nodes have it, or it was read from them
        until("no dirty values", CLIENT_LIMIT, || {
            server.metric("scatterhoard_dirty_values") == 0.0
        });
        let gets = b"*2\r\n$3\r\nGET\r\n$3\r\nhot\r\n".repeat(TIMES);
        let sets = b"*3\r\n$3\r\nSET\r\n$1\r\ns\r\n$1\r\nv\r\n".repeat(TIMES);
        std::thread::scope(|scope| {
            for piece in [1 << 20, 1 << 10] {
                let count = |reply: &str| (reply.len() * TIMES) as u64;
                let (gets, sets) = (&gets, &sets);
                scope.spawn(move || {
                    assert_eq!(exchange(server, gets, piece), count("$1\r\nv\r\n"));
                });
                scope.spawn(move || {
                    assert_eq!(exchange(server, sets, piece), count("+OK\r\n"));
                });
            }
        });
    });
}

#[test]
fn inline_lines_of_a_megabyte() {
    let street = Street::new(&[]);
    street.endure("inline lines of 1 MB", 48 * MB, |server| {
        let line = [&b"GET "[..], &vec![b'a'; 1 << 20], b"\r\n"].concat();
        for _ in 0..200 {
            let mut socket = server.socket();
            // it is closed before the end
            let _ = socket.write_all(&line);
            let mut reply = Vec::new();
            let _ = socket.read_to_end(&mut reply);
            let text = String::from_utf8_lossy(&reply);
            let is_told = text.is_empty() || text.contains("too big inline request");
            assert!(is_told, "{text}");
        }
    });
}

#[test]
fn nesting_and_half_commands() {
    let street = Street::new(&[]);
    street.endure("nesting and half commands", 48 * MB, |server| {
        let nested = b"*1\r\n".repeat(250_000);
        let halves: [&[u8]; 5] = [
            b"*",
            b"*1048576\r\n$3\r\nDEL\r\n",
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nx",
            b"GET \"",
            &nested,
        ];
        let open = |half: &[u8]| {
            let mut socket = server.socket();
            let _ = socket.write_all(half);
            socket
        };
        let sockets: Vec<TcpStream> = (0..400).map(|i| open(halves[i % 5])).collect();
        std::thread::sleep(Duration::from_millis(500));
        drop(sockets);
    });
}

#[test]
fn a_client_that_leaves_at_any_byte_of_a_large_set() {
    const LEN: usize = 1_000_000;
    let street = Street::new(&[]);
    let head = format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${LEN}\r\n");
    let whole = [head.as_bytes(), &Random::new(2).bytes(LEN), b"\r\n"].concat();
    let old = Random::new(3).bytes(5_000);
    let () = street.server.client().set("key", &old).unwrap();
    let last = whole.len() - 1;
    // all of the head and near the ends, a few near the borders of buffers, and
    // some of the rest
    let mut offsets: Vec<usize> = (0..head.len() + 40).chain(last - 40..=last).collect();
    for border in [16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10] {
        offsets.extend(border - 4..border + 4);
        offsets.extend(head.len() + border - 4..head.len() + border + 4);
    }
    offsets.extend((0..LEN).step_by(9_973));
    street.endure("leaving at any byte", 48 * MB, |server| {
        for (i, offset) in offsets.iter().enumerate() {
            let mut socket = server.socket();
            socket.write_all(&whole[..*offset]).unwrap();
            if i % 2 == 0 {
                let _ = socket.shutdown(Shutdown::Write);
                let mut reply = Vec::new();
                let _ = socket.read_to_end(&mut reply);
                assert!(reply.is_empty(), "{offset}: {reply:?}");
            }
        }
        let read: Option<Vec<u8>> = server.client().get("key").unwrap();
        assert_same("key", read.as_deref(), &old);
    });
    let held = street.server.metric("scatterhoard_keys");
    assert_eq!(held, 2.0);
}

#[test]
fn clients_that_send_a_byte_now_and_then() {
    let street = Street::new(&[]);
    street.endure("a byte now and then", 48 * MB, |server| {
        let lines: [&[u8]; 4] = [
            &b"*3\r\n$3\r\nSET\r\n$9\r\nslow:loris\r\n".repeat(10),
            &[
                b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$400000000\r\n",
                &[7; 400][..],
            ]
            .concat(),
            &b"PING\r\n".repeat(100),
            &[b'a'; 400],
        ];
        let mut sockets: Vec<TcpStream> = (0..200).map(|_| server.socket()).collect();
        for at in 0..250 {
            for (i, socket) in sockets.iter_mut().enumerate() {
                // who errs is closed
                let _ = socket.write_all(&lines[i % 4][at..=at]);
            }
            std::thread::sleep(Duration::from_millis(8));
        }
    });
}
