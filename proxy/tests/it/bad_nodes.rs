//! Nodes that send garbage, lie, or say nothing: right bytes while at most p of
//! them do, else a miss or a clear error; never wrong bytes, never a hang, and
//! all is well again when they are.

use std::time::{Duration, Instant};

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    fakes::{Fakes, Manner},
    server::{Server, until},
};

const NODES: usize = 8;
const PARITY: usize = 2;
/// Several times what a node may take (1 s), the way from one to the next
/// included.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

const ALL: [Manner; 23] = [
    Manner::BadReport,
    Manner::Crash,
    Manner::Boast,
    Manner::Sleep,
    Manner::WrongToken,
    Manner::WrongVersion,
    Manner::Later,
    Manner::FarLater,
    Manner::FarEarlier,
    Manner::Garbage,
    Manner::Usurper,
    Manner::Mute,
    Manner::PutGarbage,
    Manner::PutFlood,
    Manner::PutRefused,
    Manner::CorruptCells,
    Manner::OtherStripe,
    Manner::MislabelledStripe,
    Manner::TooManyCells,
    Manner::ShortCells,
    Manner::CloseMidCell,
    Manner::StallMidCell,
    Manner::EndlessGoodbye,
];

struct World {
    fakes: Fakes,
    server: Server,
    objects: Vec<(String, Vec<u8>)>,
}

/// Eight good nodes, objects of 4+2 chunks (and smaller ones) on them.
fn world() -> World {
    let fakes = Fakes::start(NODES);
    let server = Server::start(&[
        "--lambda-endpoint",
        &fakes.url(),
        "--nodes",
        &NODES.to_string(),
        "--data-parity",
        &format!("4+{PARITY}"),
        "--node-timeout-ms",
        "1000",
        // a change of manners shows in the next invocation
        "--linger-max-ms",
        "10",
    ]);
    let (mut redis, mut random) = (server.client(), Random::new(21));
    let sizes = [10, 200_000, 400_000, 1_200_000, 3_500_000, 3_500_000];
    let mut objects = Vec::new();
    for (i, size) in sizes.into_iter().enumerate() {
        let value = random.bytes(size);
        let () = redis.set(format!("object:{i}"), &value).unwrap();
        objects.push((format!("object:{i}"), value));
    }
    World {
        fakes,
        server,
        objects,
    }
}

/// A command's answer, within the limit.
#[track_caller]
fn timed<T>(what: &str, command: impl FnOnce() -> redis::RedisResult<T>) -> redis::RedisResult<T> {
    let started = Instant::now();
    let answer = command();
    let took = started.elapsed();
    assert!(took < ANSWER_LIMIT, "{what} took {took:?}");
    answer
}

/// The code of an error that tells what to do; anything else is a failure.
#[track_caller]
fn assert_clear(what: &str, error: &redis::RedisError) {
    let clear = ["UNAVAILABLE", "OOM"].contains(&error.code().unwrap_or_default());
    assert!(clear, "{what}: {error}");
}

impl World {
    /// Reads all. An error must be clear, a value right; how many were.
    fn read_all(&self, what: &str) -> usize {
        let (mut redis, mut right) = (self.server.client(), 0);
        for (key, stored) in &self.objects {
            let what = format!("{what}: GET {key}");
            let get = || redis.get::<_, Option<Vec<u8>>>(key);
            match timed(&what, get) {
                Ok(None) => {}
                Ok(Some(read)) => {
                    assert_same(&what, Some(&read), stored);
                    right += 1;
                }
                // more chunks failed after the header: no other way to say so
                Err(error) if error.is_io_error() => redis = self.server.client(),
                Err(error) => assert_clear(&what, &error),
            }
        }
        right
    }

    /// Writes and reads back. What is acknowledged is right.
    fn write_some(&self, what: &str) {
        self.server.admin("GET", "/metrics");
        let (mut redis, mut random) = (self.server.client(), Random::new(5));
        for size in [1_000, 300_000, 2_500_000] {
            let value = random.bytes(size);
            let what = format!("{what}: {size} bytes");
            match timed(&what, || redis.set::<_, _, ()>("new", &value)) {
                Ok(()) => {}
                Err(error) => {
                    assert_clear(&what, &error);
                    continue;
                }
            }
            let get = || redis.get::<_, Option<Vec<u8>>>("new");
            match timed(&what, get) {
                Ok(read) => assert_same(&what, Some(&read.unwrap_or(value.clone())), &value),
                Err(error) if error.is_io_error() => redis = self.server.client(),
                Err(error) => assert_clear(&what, &error),
            }
        }
    }

    /// Good nodes are taken up again.
    #[track_caller]
    fn recover(&self, what: &str) {
        self.fakes.misbehave(&[], Manner::Good);
        let (mut redis, value) = (self.server.client(), Random::new(6).bytes(1_500_000));
        until(
            &format!("{what}: as before"),
            Duration::from_secs(25),
            || redis.set::<_, _, ()>("after", &value).is_ok(),
        );
        let read: Option<Vec<u8>> = redis.get("after").unwrap();
        assert_same("after", read.as_deref(), &value);
        assert_eq!(
            redis::cmd("PING").query::<String>(&mut redis).unwrap(),
            "PONG"
        );
        self.server.admin("GET", "/metrics");
        let info: String = redis::cmd("INFO").query(&mut redis).unwrap();
        assert!(info.contains("used_memory"), "{info}");
    }
}

/// A world of its own for each manner, a few of them at a time.
fn each(manners: &[Manner], test: impl Fn(World, Manner) + Sync) {
    for group in manners.chunks(5) {
        std::thread::scope(|scope| {
            for manner in group {
                scope.spawn(|| test(world(), *manner));
            }
        });
    }
}

#[test]
fn up_to_p_bad_nodes_are_invisible() {
    each(&ALL, |world, manner| {
        let what = format!("{manner:?} on {PARITY}");
        world.fakes.misbehave(&[1, 4], manner);
        let right = world.read_all(&what);
        assert_eq!(right, world.objects.len(), "{what}: that may not matter");
        world.write_some(&what);
        world.recover(&what);
        let right = world.read_all(&what);
        assert_eq!(right, world.objects.len(), "{what}: nothing may be lost");
    });
}

#[test]
fn more_bad_nodes_cost_values_but_never_give_wrong_ones() {
    each(&ALL, |world, manner| {
        let what = format!("{manner:?} on 5");
        world.fakes.misbehave(&[0, 2, 3, 5, 6], manner);
        world.read_all(&what);
        world.write_some(&what);
        world.recover(&what);
        world.read_all(&what);
    });
}

#[test]
fn cells_that_fail_their_checksum_are_repaired() {
    let world = world();
    world.fakes.rot(2);
    world.fakes.rot(5);
    let bad_cells = || world.server.metric("scatterhoard_bad_cells_total");
    let all = world.objects.len();
    assert_eq!(world.read_all("rotten"), all);
    assert!(bad_cells() > 0.0, "nothing was rotten");
    until("all are repaired", Duration::from_secs(15), || {
        let before = bad_cells();
        // small ones are read from any of their copies
        (0..5).for_each(|_| assert_eq!(world.read_all("being repaired"), all));
        bad_cells() == before
    });
}
