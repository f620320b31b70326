//! A backing store in a folder: what all nodes have lost is read from there, what
//! was deleted or overwritten is not, and in the end nothing lies there that no
//! key names.

mod trouble;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use redis::Commands;

use crate::{
    contents::{self, Random, Values, delete, store},
    platform::Platform,
    server::{Server, until},
};

const NODES: usize = 6;
const SOON: Duration = Duration::from_secs(40);

/// A pool that outlives proxies, their data folder, and the backing store.
struct World {
    platform: Platform,
    data: tempfile::TempDir,
    cold: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            platform: Platform::start(NODES),
            data: tempfile::tempdir().unwrap(),
            cold: tempfile::tempdir().unwrap(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.cold.path().join("store")
    }

    fn proxy(&self, more: &[&str]) -> Server {
        let location = format!("file://{}", self.folder().display());
        let url = self.platform.url();
        let mut arguments = vec![
            "--lambda-endpoint",
            &url,
            "--nodes",
            "6",
            "--data-parity",
            "3+2",
            "--node-timeout-ms",
            "2000",
            "--data-dir",
            self.data.path().to_str().unwrap(),
            "--backing-store",
            &location,
        ];
        arguments.extend(more);
        Server::start(&arguments)
    }

    /// Every instance of every function goes, with all that it had.
    fn lose_everything(&self) {
        let order = local_lambda::Reclaim {
            count: Some(1000),
            seed: Some(1),
            busy: true,
            ..Default::default()
        };
        assert!(self.platform.handle().reclaim(&order).len() >= NODES);
    }

    /// The backing store is not there any more.
    fn take_away(&self) {
        std::fs::rename(self.folder(), self.cold.path().join("away")).unwrap();
    }

    fn bring_back(&self) {
        std::fs::rename(self.cold.path().join("away"), self.folder()).unwrap();
    }

    /// Names of the writes that are there.
    fn stored(&self) -> Vec<PathBuf> {
        let is_write = |path: &PathBuf| path.file_name().is_some_and(|name| name != "cache");
        let mut files = files(&self.folder());
        files.retain(is_write);
        files
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![path],
    };
    paths.flat_map(below).collect()
}

/// Alone, in segments, in several stripes, and longer than a part of an upload.
fn fill(server: &Server, seed: u64) -> Values {
    let sizes = [0, 1, 900, 70_000, 262_144, 700_000, 3_000_000, 21_000_000];
    let (mut redis, mut random) = (server.client(), Random::new(seed));
    contents::fill(&mut redis, &mut random, &format!("{seed}:"), &sizes, 100)
}

#[track_caller]
fn verify(server: &Server, values: &Values) {
    contents::verify(&mut server.client(), values, "");
}

#[track_caller]
fn assert_gone<'a>(server: &Server, keys: impl IntoIterator<Item = &'a String>) {
    let mut redis = server.client();
    for key in keys {
        let read: Option<Vec<u8>> = redis.get(key).unwrap();
        assert_eq!(read.map(|value| value.len()), None, "{key}");
    }
}

/// Nothing waits to be uploaded or deleted.
fn until_settled(server: &Server) {
    until("the backing store is up to date", SOON, || {
        ["uploads", "deletions"]
            .map(|what| server.metric(&format!("scatterhoard_backing_waiting_{what}")))
            == [0.0, 0.0]
    });
}

fn until_stock_is_taken(server: &Server) {
    until("stock is taken", SOON, || {
        server.metric("scatterhoard_backing_stocks_total") > 0.0
    });
}

fn lost_and_read_again(mode: &str) {
    let world = World::new();
    let server = world.proxy(&["--backing-mode", mode]);
    let values = fill(&server, 1);
    until_settled(&server);
    let mut redis = server.client();
    for round in 0..2 {
        world.lose_everything();
        verify(&server, &values);
        let range: Vec<u8> = redis
            .getrange("1:alone:21000000", 9_999_000, 12_345_678)
            .unwrap();
        assert_eq!(
            range,
            values["1:alone:21000000"][9_999_000..=12_345_678],
            "round {round}"
        );
        assert!(server.metric("scatterhoard_backing_reads_total") > 10.0);
    }
    assert_eq!(server.metric("scatterhoard_lost_objects_total"), 0.0);
    // put on nodes again: then they are asked
    until("nodes have it again", Duration::from_secs(60), || {
        let before = server.metric("scatterhoard_backing_reads_total");
        verify(&server, &values);
        server.metric("scatterhoard_backing_reads_total") == before
    });
    server.stop();
}

#[test]
fn what_all_nodes_have_lost_is_read_and_put_on_nodes_again() {
    lost_and_read_again("write-through");
}

#[test]
fn what_was_written_behind_is_there_soon() {
    lost_and_read_again("write-behind");
}

#[test]
fn nothing_old_comes_back_and_nothing_stays() {
    let world = World::new();
    let server = world.proxy(&[]);
    let mut values = fill(&server, 2);
    let (mut redis, mut random) = (server.client(), Random::new(3));
    let keys: Vec<String> = values.keys().cloned().collect();
    for key in keys.iter().step_by(3) {
        delete(&mut redis, &mut values, key);
    }
    for key in keys.iter().skip(1).step_by(3) {
        let value = random.bytes(300_000);
        store(&mut redis, &mut values, key.clone(), value);
    }
    let () = redis.set_ex("short", random.bytes(400_000), 1).unwrap();
    world.lose_everything();
    verify(&server, &values);
    assert_gone(&server, keys.iter().step_by(3));
    // of the values of a segment, one is enough to keep it
    let own = values.values().filter(|v| v.len() > 16_384).count();
    until("what nothing names is deleted", SOON, || {
        redis.get::<_, Option<Vec<u8>>>("short").unwrap().is_none()
            && (own..own + 20).contains(&world.stored().len())
    });
    for key in keys.iter().skip(1).step_by(2) {
        delete(&mut redis, &mut values, key);
    }
    verify(&server, &values);
    let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
    let () = redis.set("after", "flush").unwrap();
    until("only what came after the flush is there", SOON, || {
        world.stored().len() == 1
    });
    world.lose_everything();
    assert_gone(&server, &keys);
    assert_eq!(redis.get::<_, String>("after").unwrap(), "flush");
    server.stop();
}

#[test]
fn a_killed_proxy_leaves_neither_gaps_nor_garbage() {
    let world = World::new();
    for (round, mode) in ["write-through", "write-behind", "write-behind"]
        .iter()
        .enumerate()
    {
        let mut server = world.proxy(&["--backing-mode", mode]);
        let seed = 10 + round as u64;
        let mut values = fill(&server, seed);
        let deleted: Vec<String> = (0..50).map(|i| format!("{seed}:packed:{i}")).collect();
        // large ones under way, and some that are deleted, when it dies
        std::thread::scope(|scope| {
            let mut redis = server.client();
            scope.spawn(move || {
                let value = Random::new(1).bytes(2_000_000);
                while redis.set::<_, _, ()>("changing", &value).is_ok() {}
            });
            let mut redis = server.client();
            for key in &deleted {
                delete(&mut redis, &mut values, key);
            }
            server.signal(Signal::SIGKILL);
            server.ended(Duration::from_secs(5)).unwrap();
        });
        // nodes still have what was not uploaded
        let server = world.proxy(&["--backing-mode", mode]);
        until_stock_is_taken(&server);
        until_settled(&server);
        world.lose_everything();
        verify(&server, &values);
        assert_gone(&server, &deleted);
        let mut redis = server.client();
        let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
        until("nothing is left", SOON, || world.stored().is_empty());
        server.stop();
    }
}

#[test]
fn values_that_were_there_before_are_taken_in() {
    let world = World::new();
    let url = world.platform.url();
    let data = world.data.path().to_str().unwrap();
    let before = [
        "--lambda-endpoint",
        &url,
        "--nodes",
        "6",
        "--data-parity",
        "3+2",
    ];
    let server = Server::start(&[&before[..], &["--data-dir", data]].concat());
    let values = fill(&server, 7);
    server.stop();
    let server = world.proxy(&[]);
    until_stock_is_taken(&server);
    world.lose_everything();
    verify(&server, &values);
    server.stop();
}

/// The pool on this machine ends with its proxy, and everything with it.
#[test]
fn a_pool_that_ended_is_filled_again() {
    let (data, cold) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let location = format!("file://{}", cold.path().join("store").display());
    let start = |mode| {
        Server::start(&[
            "--nodes",
            "6",
            "--data-parity",
            "3+2",
            "--data-dir",
            data.path().to_str().unwrap(),
            "--backing-store",
            &location,
            "--backing-mode",
            mode,
        ])
    };
    // what waits to be uploaded is, before it ends
    let server = start("write-behind");
    let mut values = fill(&server, 8);
    server.stop();
    let server = start("write-through");
    verify(&server, &values);
    values.extend(fill(&server, 9));
    let mut redis = server.client();
    let info: String = redis::cmd("INFO")
        .arg("persistence")
        .query(&mut redis)
        .unwrap();
    assert!(
        info.contains(&format!("backing_store:{location}")),
        "{info}"
    );
    server.stop();
    let server = start("write-through");
    verify(&server, &values);
    server.stop();
}

/// Acknowledged from memory, then on nodes, then here.
#[test]
fn values_acknowledged_from_memory_get_there_too() {
    let world = World::new();
    let server = world.proxy(&["--ack", "proxy", "--hot-tier-mb", "4"]);
    let mut values = fill(&server, 11);
    world.take_away();
    let (mut redis, mut random) = (server.client(), Random::new(12));
    for i in 0..20 {
        let value = random.bytes(30_000);
        store(&mut redis, &mut values, format!("later:{i}"), value);
    }
    until("it was tried", SOON, || {
        server.metric("scatterhoard_settle_errors_total") > 2.0
    });
    world.bring_back();
    until("all are settled", SOON, || {
        server.metric("scatterhoard_dirty_values") == 0.0
    });
    until_settled(&server);
    // a new proxy has no hot tier that could help
    server.stop();
    let server = world.proxy(&[]);
    world.lose_everything();
    verify(&server, &values);
    server.stop();
}

/// What was overwritten before its turn never was here: nothing of it is to be deleted.
#[test]
fn values_that_no_node_ever_had_are_not_deleted_here() {
    const WRITES: usize = 5_000;
    let world = World::new();
    let server = world.proxy(&["--ack", "proxy", "--hot-tier-mb", "4"]);
    // deletions wait while it is away
    world.take_away();
    let mut redis = server.client();
    let mut pipe = redis::pipe();
    for i in 0..WRITES {
        pipe.set("hot", i).ignore();
    }
    let () = pipe.query(&mut redis).unwrap();
    // those that came to nodes meanwhile have to be: one each time that it was tried
    let waiting = server.metric("scatterhoard_backing_waiting_deletions");
    assert!(waiting < WRITES as f64 / 4.0, "{waiting} deletions");
    world.bring_back();
    until("all are settled", SOON, || {
        server.metric("scatterhoard_dirty_values") == 0.0
    });
    until_settled(&server);
    until("one value is there", SOON, || world.stored().len() == 1);
    world.lose_everything();
    assert_eq!(redis.get::<_, usize>("hot").unwrap(), WRITES - 1);
    server.stop();
}

/// Whatever is done and lost, a read gives what was acknowledged last.
#[test]
fn the_last_value_is_read_whatever_is_lost_in_between() {
    let world = World::new();
    let server = world.proxy(&["--standby", "false"]);
    let (mut redis, mut random) = (server.client(), Random::new(13));
    let mut values = Values::new();
    for step in 0..240 {
        let key = format!("key:{}", random.below(12));
        let size = random.size(21);
        match random.below(6) {
            0 => delete(&mut redis, &mut values, &key),
            1 => {
                let more = random.bytes(size);
                let () = redis.append(&key, &more).unwrap();
                values.entry(key).or_default().extend(more);
            }
            2 => {
                let old: Option<Vec<u8>> = redis.get_del(&key).unwrap();
                assert_eq!(old, values.remove(&key), "{key} in step {step}");
            }
            _ => {
                let value = random.any_bytes(size);
                store(&mut redis, &mut values, key, value);
            }
        }
        if step % 40 == 39 {
            world.lose_everything();
        }
        let key = format!("key:{}", random.below(12));
        let read: Option<Vec<u8>> = redis.get(&key).unwrap();
        let same = read.as_ref() == values.get(&key);
        assert!(same, "{key} in step {step}: {:?}", read.map(|r| r.len()));
    }
    verify(&server, &values);
    until("only what is named is there", SOON, || {
        world.stored().len() == values.values().filter(|v| !v.is_empty()).count()
    });
    server.stop();
}

#[test]
fn what_is_evicted_goes_here_too() {
    let world = World::new();
    let server = world.proxy(&[]);
    let mut redis = server.client();
    let value = Random::new(14).bytes(2_000_000);
    for i in 0.. {
        let () = redis.set(i, &value).unwrap();
        if server.metric("scatterhoard_evicted_objects_total") > 10.0 {
            break;
        }
        assert!(i < 1000, "nothing is evicted");
    }
    let keys: usize = redis::cmd("DBSIZE").query(&mut redis).unwrap();
    until("what was evicted is deleted", SOON, || {
        world.stored().len() == keys
    });
    assert_eq!(redis.get::<_, Option<Vec<u8>>>(0).unwrap(), None);
    server.stop();
}

/// A SIGTERM right behind the acknowledgement: what is only in memory goes to nodes
/// first, and has to be uploaded then.
#[test]
fn what_is_settled_at_the_end_is_uploaded_before_it() {
    let world = World::new();
    let server = world.proxy(&[
        "--ack",
        "proxy",
        "--hot-tier-mb",
        "4",
        "--backing-mode",
        "write-behind",
    ]);
    let (mut redis, mut random) = (server.client(), Random::new(16));
    let mut values = Values::new();
    for i in 0..20 {
        let value = random.bytes(30_000);
        store(&mut redis, &mut values, i.to_string(), value);
    }
    drop(redis);
    server.stop();
    assert_eq!(world.stored().len(), values.len());
    let server = world.proxy(&[]);
    world.lose_everything();
    verify(&server, &values);
    server.stop();
}
