//! Objects of all sizes, and what is left of them when instances go.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    server::{Server, until},
};

type Objects = BTreeMap<String, Vec<u8>>;

fn get(connection: &mut redis::Connection, key: &str) -> Option<Vec<u8>> {
    connection.get(key).unwrap()
}

#[track_caller]
fn verify(connection: &mut redis::Connection, objects: &Objects) {
    for (key, stored) in objects {
        assert_same(key, get(connection, key).as_deref(), stored);
    }
}

#[test]
fn more_than_300_objects_are_stored_overwritten_read_and_deleted() {
    let server = Server::start(&["--node-memory-mb", "256"]);
    let (mut redis, mut random) = (server.client(), Random::new(1));
    let mut sizes: Vec<usize> = (0..310).map(|_| random.size(20)).collect();
    // borders of the layouts, and some that take several stripes
    sizes.extend([
        1,
        256 << 10,
        (256 << 10) + 1,
        (2560 << 10) + 1,
        5 << 20,
        16 << 20,
        64 << 20,
    ]);
    let mut objects = Objects::new();
    for (i, size) in sizes.iter().enumerate() {
        let value = random.any_bytes(*size);
        let () = redis.set(format!("key:{i}"), &value).unwrap();
        objects.insert(format!("key:{i}"), value);
    }
    verify(&mut redis, &objects);
    for i in (0..sizes.len()).step_by(3) {
        let value = {
            let size = random.size(21);
            random.any_bytes(size)
        };
        let () = redis.set(format!("key:{i}"), &value).unwrap();
        objects.insert(format!("key:{i}"), value);
    }
    verify(&mut redis, &objects);
    for i in (0..sizes.len()).step_by(2) {
        let key = format!("key:{i}");
        assert_eq!(redis.del::<_, u32>(&key).unwrap(), 1);
        assert_eq!(get(&mut redis, &key), None);
        objects.remove(&key);
    }
    verify(&mut redis, &objects);
    assert_eq!(
        redis::cmd("DBSIZE").query::<usize>(&mut redis).unwrap(),
        objects.len()
    );
    server.stop();
}

fn store(server: &Server, seed: u64) -> Objects {
    let (mut redis, mut random) = (server.client(), Random::new(seed));
    let sizes = [1, 900, 70_000, 262_144, 300_000, 1_500_000, 4_000_000];
    let mut objects = Objects::new();
    for (i, size) in sizes.iter().chain(&sizes).enumerate() {
        let value = random.any_bytes(*size);
        let () = redis.set(format!("{seed}:{i}"), &value).unwrap();
        objects.insert(format!("{seed}:{i}"), value);
    }
    objects
}

#[test]
fn readers_do_not_notice_that_two_instances_are_reclaimed() {
    let server = Server::start(&[]);
    for seed in 1..=3 {
        let objects = store(&server, seed);
        let (stop, passes) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut redis = server.client();
                while !stop.load(Ordering::Relaxed) {
                    verify(&mut redis, &objects);
                    passes.fetch_add(1, Ordering::Relaxed);
                }
            });
            let pass = |more: usize| {
                let goal = passes.load(Ordering::Relaxed) + more;
                until("the reader goes on", Duration::from_secs(40), || {
                    passes.load(Ordering::Relaxed) >= goal || reader.is_finished()
                });
            };
            pass(1);
            server.reclaim(2, seed);
            pass(3);
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn the_loss_of_all_instances_is_a_miss_of_everything_and_the_pool_goes_on() {
    let server = Server::start(&["--node-timeout-ms", "2000"]);
    let objects = store(&server, 7);
    let mut redis = server.client();
    server.reclaim(1000, 7);
    let started = Instant::now();
    for key in objects.keys() {
        assert_eq!(get(&mut redis, key), None, "{key}");
    }
    assert!(started.elapsed() < Duration::from_secs(30));
    let again = store(&server, 8);
    verify(&mut redis, &again);
}
