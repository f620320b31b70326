//! A proxy that is killed and starts again with the journal of its predecessor:
//! what was acknowledged is there, what was deleted or overwritten is not.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::sys::signal::Signal;
use redis::Commands;

use crate::{
    contents::{Random, assert_same, delete, fill, store, verify},
    platform::Platform,
    server::{Server, until},
};

const NODES: usize = 6;

fn proxy(platform: &Platform, folder: &Path, more: &[&str]) -> Server {
    let url = platform.url();
    let mut arguments = vec![
        "--lambda-endpoint",
        &url,
        "--nodes",
        "6",
        "--data-parity",
        "3+2",
        "--data-dir",
        folder.to_str().unwrap(),
    ];
    arguments.extend(more);
    Server::start(&arguments)
}

fn kill(mut server: Server) {
    server.signal(Signal::SIGKILL);
    server.ended(Duration::from_secs(5)).unwrap();
}

#[test]
fn what_was_acknowledged_survives_the_proxy() {
    let platform = Platform::start(NODES);
    let folder = tempfile::tempdir().unwrap();
    let server = proxy(&platform, folder.path(), &[]);
    let (mut redis, mut random) = (server.client(), Random::new(3));
    let sizes = [0, 1, 900, 100_000, 700_000, 6_000_000];
    let mut stored = fill(&mut redis, &mut random, "", &sizes, 200);
    for i in (0..200).step_by(3) {
        delete(&mut redis, &mut stored, &format!("packed:{i}"));
    }
    for key in ["packed:1", "alone:700000", "alone:1"] {
        let value = random.any_bytes(50_000);
        store(&mut redis, &mut stored, key.into(), value);
    }
    let () = redis.set_ex("short", "gone soon", 1).unwrap();
    let () = redis.set_ex("long", "stays", 1000).unwrap();
    let () = redis::pipe()
        .cmd("SELECT")
        .arg(5)
        .cmd("SET")
        .arg("elsewhere")
        .arg("x")
        .cmd("SELECT")
        .arg(0)
        .query(&mut redis)
        .map(|_: Vec<redis::Value>| ())
        .unwrap();
    let keys: usize = redis::cmd("DBSIZE").query(&mut redis).unwrap();
    kill(server);
    std::thread::sleep(Duration::from_secs(1));
    for round in 0..2 {
        let server = proxy(&platform, folder.path(), &[]);
        let mut redis = server.client();
        verify(&mut redis, &stored, &format!("in round {round}"));
        assert_eq!(redis.get::<_, Option<String>>("short").unwrap(), None);
        let ttl: i64 = redis.ttl("long").unwrap();
        assert!((900..=1000).contains(&ttl), "{ttl}");
        let now: usize = redis::cmd("DBSIZE").query(&mut redis).unwrap();
        assert_eq!(now, keys - 1);
        // written and deleted by the next one, too
        let value = random.any_bytes(300_000);
        store(&mut redis, &mut stored, "alone:900".into(), value);
        match round {
            0 => kill(server),
            _ => {
                let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
                let () = redis.set("after", "flush").unwrap();
                kill(server);
            }
        }
    }
    let server = proxy(&platform, folder.path(), &[]);
    let mut redis = server.client();
    let now: usize = redis::cmd("DBSIZE").query(&mut redis).unwrap();
    assert_eq!(now, 1);
    assert_eq!(redis.get::<_, String>("after").unwrap(), "flush");
    until(
        "what nothing names is freed",
        Duration::from_secs(20),
        || server.metric("scatterhoard_node_bytes_held") < 10_000.0,
    );
    server.stop();
}

/// A writer's view of one key: what it was told last, and what it asked since.
#[derive(Clone, Default)]
struct Belief {
    acknowledged: Option<Vec<u8>>,
    in_doubt: Option<Option<Vec<u8>>>,
}

/// How often the proxy is killed, unless the variable of this name says another
/// number.
const KILLS: usize = 6;
const KILLS_VARIABLE: &str = "SCATTERHOARD_TEST_KILLS";

#[test]
fn killed_again_and_again_under_load_it_forgets_nothing() {
    const WRITERS: usize = 4;
    const KEYS: usize = 12;
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().unwrap());
    let platform = Platform::start(NODES);
    let folder = tempfile::tempdir().unwrap();
    let mut beliefs = vec![vec![Belief::default(); KEYS]; WRITERS];
    for round in 0..kills {
        let ack = if round % 2 == 0 { "quorum" } else { "proxy" };
        let server = proxy(
            &platform,
            folder.path(),
            &["--ack", ack, "--hot-tier-mb", "4"],
        );
        // all of it is as it was left
        let mut redis = server.client();
        for (w, beliefs) in beliefs.iter_mut().enumerate() {
            for (k, belief) in beliefs.iter_mut().enumerate() {
                let read: Option<Vec<u8>> = redis.get(format!("{w}:{k}")).unwrap();
                let as_told = read == belief.acknowledged;
                let as_asked = belief.in_doubt.as_ref().is_some_and(|asked| *asked == read);
                let what = (
                    read.as_ref().map(Vec::len),
                    belief.acknowledged.as_ref().map(Vec::len),
                );
                assert!(as_told || as_asked, "round {round}, key {w}:{k}: {what:?}");
                *belief = Belief {
                    acknowledged: read,
                    in_doubt: None,
                };
            }
        }
        let stopped = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (w, beliefs) in beliefs.iter_mut().enumerate() {
                let (mut redis, stopped) = (server.client(), &stopped);
                scope.spawn(move || {
                    let mut random = Random::new((round * 10 + w) as u64);
                    while !stopped.load(Ordering::Relaxed) {
                        let k = random.below(KEYS);
                        let value = match random.below(5) {
                            0 => None,
                            1 => Some(random.any_bytes(800_000)),
                            _ => Some(random.bytes(2000)),
                        };
                        let key = format!("{w}:{k}");
                        beliefs[k].in_doubt = Some(value.clone());
                        let done = match &value {
                            Some(value) => redis.set::<_, _, ()>(&key, value),
                            None => redis.del::<_, ()>(&key),
                        };
                        if done.is_err() {
                            return;
                        }
                        beliefs[k] = Belief {
                            acknowledged: value,
                            in_doubt: None,
                        };
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(400 + 137 * (round % 6) as u64));
            kill(server);
            stopped.store(true, Ordering::Relaxed);
        });
    }
}

/// The end of what is written in the journal's latest log, and that file.
fn end_of_log(folder: &Path) -> (std::path::PathBuf, usize) {
    let files = std::fs::read_dir(folder.join("journal")).unwrap().flatten();
    let logs = files.map(|f| f.path());
    let log = logs
        .filter(|p| p.extension().is_some_and(|e| e == "jnl"))
        .max()
        .unwrap();
    let bytes = std::fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    (log, end)
}

/// Harms the end of the log behind the write of "last"; that is then gone, the
/// rest is there, and the log says so.
#[track_caller]
fn cut_behind_a_crash(harm: impl FnOnce(&std::fs::File, u64)) {
    let platform = Platform::start(NODES);
    let folder = tempfile::tempdir().unwrap();
    let server = proxy(&platform, folder.path(), &[]);
    let mut redis = server.client();
    for i in 0..50 {
        let () = redis.set(i, "before").unwrap();
    }
    let (_, before) = end_of_log(folder.path());
    let () = redis.set("last", "torn").unwrap();
    kill(server);
    let (log, end) = end_of_log(folder.path());
    assert!(end > before + 20);
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&log)
        .unwrap();
    harm(&file, end as u64);
    let server = proxy(&platform, folder.path(), &[]);
    let mut redis = server.client();
    for i in 0..49 {
        assert_eq!(redis.get::<_, String>(i).unwrap(), "before");
    }
    assert_eq!(redis.get::<_, Option<String>>("last").unwrap(), None);
    let log = server.log();
    assert!(log.contains("journal was cut"), "{log}");
    let () = redis.set("last", "again").unwrap();
    kill(server);
    let server = proxy(&platform, folder.path(), &[]);
    assert_eq!(server.client().get::<_, String>("last").unwrap(), "again");
    server.stop();
}

#[test]
fn a_torn_log_is_cut_and_said() {
    cut_behind_a_crash(|log, end| log.set_len(end - 11).unwrap());
}

#[test]
fn a_garbled_end_of_the_log_is_cut_and_said() {
    use std::os::unix::fs::FileExt;
    cut_behind_a_crash(|log, end| {
        let mut byte = [0];
        log.read_exact_at(&mut byte, end - 40).unwrap();
        log.write_all_at(&[byte[0] ^ 0x10], end - 40).unwrap();
    });
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let platform = Platform::start(NODES);
    let folder = tempfile::tempdir().unwrap();
    let (url, disk) = (platform.url(), folder.path().to_str().unwrap());
    let arguments = [
        "--lambda-endpoint",
        &url,
        "--nodes",
        "6",
        "--data-parity",
        "3+2",
        "--data-dir",
        disk,
    ];
    let server = Server::start_on_small_disk(disk, 1500, &arguments);
    let mut redis = server.client();
    // of the disk in the server's namespace: ours has nothing mounted there
    let filler = format!("/proc/{}/root{disk}/filler", server.pid());
    std::fs::write(&filler, vec![1; 1_000_000]).unwrap();
    let (mut stored, mut refusal) = (0, None);
    while refusal.is_none() {
        let long = format!("{stored}:{}", "k".repeat(5000));
        match redis.set::<_, _, ()>(&long, stored) {
            Ok(()) => stored += 1,
            Err(error) => refusal = Some(error.to_string()),
        }
        assert!(stored < 1000, "it is never full");
    }
    let refusal = refusal.unwrap();
    assert!(refusal.contains("MISCONF"), "{refusal}");
    let get = |redis: &mut redis::Connection, i: usize| {
        let long = format!("{i}:{}", "k".repeat(5000));
        redis.get::<_, Option<usize>>(&long).unwrap()
    };
    for i in 0..stored {
        assert_eq!(get(&mut redis, i), Some(i));
    }
    assert!(
        redis.del::<_, ()>("0").is_err(),
        "nothing is deleted, either"
    );
    // room again: it goes on by itself
    std::fs::remove_file(&filler).unwrap();
    until("writes are taken again", Duration::from_secs(20), || {
        redis.set::<_, _, ()>("after", "room").is_ok()
    });
    for i in 0..stored {
        assert_eq!(get(&mut redis, i), Some(i));
    }
    assert_eq!(redis.get::<_, String>("after").unwrap(), "room");
    server.stop();
}

#[test]
fn what_is_lost_after_a_restart_is_repaired() {
    let platform = Platform::start(NODES);
    let folder = tempfile::tempdir().unwrap();
    let server = proxy(&platform, folder.path(), &["--standby", "false"]);
    let (mut redis, mut random) = (server.client(), Random::new(5));
    let mut stored = fill(&mut redis, &mut random, "", &[], 50);
    for i in 0..10 {
        let value = random.bytes(1_000_000);
        store(&mut redis, &mut stored, format!("large:{i}"), value);
    }
    kill(server);
    let server = proxy(&platform, folder.path(), &["--standby", "false"]);
    let mut redis = server.client();
    // a read notices a loss among the chunks that it asks
    for round in 0..2 {
        let before = server.metric("scatterhoard_repaired_chunks_total");
        let order = local_lambda::Reclaim {
            count: Some(1),
            seed: Some(11 + round),
            busy: true,
            ..Default::default()
        };
        assert_eq!(platform.handle().reclaim(&order).len(), 1);
        until("what was lost is repaired", Duration::from_secs(60), || {
            verify(&mut redis, &stored, &format!("in round {round}"));
            let settled = server.metric("scatterhoard_repaired_chunks_total");
            std::thread::sleep(Duration::from_millis(500));
            settled > before && server.metric("scatterhoard_repaired_chunks_total") == settled
        });
    }
    server.stop();
}

#[test]
fn values_that_no_node_had_are_settled_by_the_next_proxy() {
    let platform = Platform::start(NODES);
    let folder = tempfile::tempdir().unwrap();
    let ack = ["--ack", "proxy", "--hot-tier-mb", "4"];
    let server = proxy(&platform, folder.path(), &ack);
    let (mut redis, mut random) = (server.client(), Random::new(6));
    // longer than what shares segments: each goes alone
    let values: Vec<Vec<u8>> = (0..12).map(|_| random.bytes(40_000)).collect();
    for (i, value) in values.iter().enumerate() {
        let () = redis.set(i, value).unwrap();
    }
    kill(server);
    let server = proxy(&platform, folder.path(), &[]);
    until("all are on nodes", Duration::from_secs(20), || {
        server.metric("scatterhoard_dirty_values") == 0.0
    });
    assert_eq!(server.metric("scatterhoard_settle_errors_total"), 0.0);
    let mut redis = server.client();
    for (i, value) in values.iter().enumerate() {
        let read: Option<Vec<u8>> = redis.get(i).unwrap();
        assert_same(&i.to_string(), read.as_deref(), value);
    }
    server.stop();
}
