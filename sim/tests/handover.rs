//! Hand-overs in their difficult cases: nodes that are full, and chunks that were
//! moved.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod calm;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    num::NonZeroU64,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use calm::{S, World, until};
use scatterhoard_proxy::{keyspace::KeyRef, pool::retire};
use scatterhoard_wire::NodeId;
use tokio::time::sleep;
use tracing_subscriber::{filter::LevelFilter, util::SubscriberInitExt};

const NODES: usize = 6;
/// Writes after which every node is full, and has a standby.
const FULL_AFTER: usize = 500;

fn simulated<T>(
    seed: u64,
    backup_bytes_per_s: u64,
    retire: retire::Settings,
    work: impl AsyncFnOnce(World) -> T,
) -> T {
    let adjust = |config: &mut scatterhoard_proxy::config::Config| {
        config.backup.interval = 5 * S;
        config.backup_bytes_per_s = NonZeroU64::new(backup_bytes_per_s);
        config.retire = retire;
    };
    calm::simulated(seed, NODES, adjust, work)
}

/// As after a repair that found the node away: the index names another one, and only
/// the instance that serves is told.
#[test]
fn what_a_repair_moved_does_not_stay_on_the_standby() {
    simulated(1, 3_000_000, retire::Settings::Never, async |world| {
        let value = vec![7; 20_000];
        world.set("key", &value).await;
        let object = world.object("key");
        let (id, nodes) = (object.write_id, object.nodes().collect::<Vec<_>>());
        let both = |nodes: &[NodeId]| nodes.iter().all(|n| world.holders(*n, id).len() == 2);
        until("all on two instances", 60 * S, || both(&nodes)).await;
        let from = object.node(0).unwrap();
        let to = (0..).map(NodeId).find(|n| !nodes.contains(n)).unwrap();
        let store = world.proxy.store();
        let key = KeyRef { db: 0, key: b"key" };
        assert!(store.index().chunk_moved(key, id, 0, to));
        store.pool().node(from).unwrap().discard(id);
        until("it is brought where it should be", 60 * S, || both(&[to])).await;
        until("nothing stays where it was", 60 * S, || {
            world.holders(from, id).is_empty()
        })
        .await;
        assert!(both(&[nodes[1], nodes[2], to]));
        assert_eq!(world.get("key").await, Some(value));
        world.end().await;
    });
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Plays a sequence of chance until none of the instances that lived after a while is
/// left, with more written than there is room for; what was logged. Every value that
/// is read is right, and every command is carried out.
fn all_are_replaced(seed: u64, backup_bytes_per_s: u64, at_age: Duration) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
    let subscriber = subscriber
        .with_ansi(false)
        .with_max_level(LevelFilter::INFO);
    let logging = subscriber.set_default();
    let retire = retire::Settings::At(at_age);
    simulated(seed, backup_bytes_per_s, retire, async |world| {
        let (mut stored, mut first) = (BTreeMap::new(), BTreeSet::new());
        let end = tokio::time::Instant::now() + 900 * S;
        for turn in 0.. {
            let key = format!("key:{}", turn % 400);
            let value = vec![turn as u8; 10_000 + 1_000 * (turn % 50)];
            world.set(&key, &value).await;
            stored.insert(key, value);
            let (key, value) = stored.iter().nth(turn * 7 % stored.len()).unwrap();
            // what was evicted is not there
            let read = world.get(key).await;
            assert!(
                read.is_none() || read.as_ref() == Some(value),
                "seed {seed}: {key}"
            );
            sleep(Duration::from_millis(20)).await;
            let there = world.instances();
            // not in the moment in which one is replaced
            if turn >= FULL_AFTER && first.is_empty() && there.len() == 2 * NODES {
                first = there;
            } else if !first.is_empty() && first.is_disjoint(&there) {
                break;
            }
            let left: Vec<_> = world.instances().intersection(&first).cloned().collect();
            assert!(
                tokio::time::Instant::now() < end,
                "seed {seed}: they stay: {left:?}"
            );
        }
        // the proxy hears of the last one's end a moment later
        sleep(S).await;
        world.end().await;
    });
    drop(logging);
    let log = log.0.lock().unwrap().clone();
    String::from_utf8(log).unwrap()
}

/// Judges several sequences of chance, as many at a time as there are processors.
fn with_each_seed(seeds: u64, judge: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(1);
    let threads = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    judge(seed);
                }
            });
        }
    });
}

/// Nodes are full, what comes takes the room of what goes: old instances find
/// successors all the same, at once, and nothing is lost on the way.
#[test]
fn full_nodes_hand_over_too() {
    // little more than what is written: much changes during a round
    with_each_seed(5, |seed| {
        let log = all_are_replaced(seed, 3_000_000, 30 * S);
        let retired = log.matches("instance has retired").count();
        assert!(retired >= 2 * NODES, "seed {seed}: {log}");
        for broken in ["hand-over given up", "no hand-over", "chunks are lost"] {
            assert!(!log.contains(broken), "seed {seed}: {log}");
        }
    });
}

/// More is written than backups may copy: the other instance always lacks much. It is
/// brought when the two change places, one node after the other, so that nobody waits
/// for it. A round may outlast an invocation: then it is tried again, and every
/// instance goes in the end; nothing else may stop it.
#[test]
fn full_nodes_hand_over_while_backups_fall_behind() {
    with_each_seed(3, |seed| {
        let log = all_are_replaced(seed, 1_000_000, 60 * S);
        let retired = log.matches("instance has retired").count();
        let given_up = log.matches("hand-over given up").count();
        let interrupted = log.matches("why=interrupted").count();
        assert!(retired >= 2 * NODES, "seed {seed}: {log}");
        assert!(given_up == interrupted, "seed {seed}: {log}");
        assert!(interrupted <= retired, "seed {seed}: {log}");
    });
}
