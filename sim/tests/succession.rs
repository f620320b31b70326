//! A proxy's machine dies while nodes serve it, and another proxy starts at once, with
//! the same journal.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod calm;

use std::time::Duration;

use calm::{S, World, until};
use scatterhoard_proxy::{config::Config, journal::Fsync};
use scatterhoard_wire::NodeId;
use tokio::time::{Instant, sleep};

const NODES: usize = 4;
const KEYS: usize = 20;

fn value(key: usize) -> Vec<u8> {
    vec![key as u8; 5_000]
}

async fn store(world: &World, kind: &str) {
    for key in 0..KEYS {
        world.set(&format!("{kind}:{key}"), &value(key)).await;
    }
}

/// Those that cannot be read at the moment; a miss, or another value, is a failure.
async fn unavailable(world: &World, kind: &str) -> usize {
    let mut count = 0;
    for key in 0..KEYS {
        match world.try_get(&format!("{kind}:{key}")).await {
            Ok(read) => assert_eq!(read, Some(value(key)), "{kind}:{key}"),
            Err(_) => count += 1,
        }
    }
    count
}

/// The standby is idle when the new proxy comes, who served before is not yet: what it
/// was given since the last round is on no other instance.
#[test]
fn what_no_standby_has_yet_is_found_when_nodes_are_back() {
    for seed in 1..=8 {
        let adjust = |config: &mut Config| {
            config.appendfsync = Fsync::Always;
            config.patience = 2 * S;
            config.backup.interval = 20 * S;
        };
        calm::with_journal(seed, NODES, adjust, async |mut world| {
            store(&world, "old").await;
            let nodes = || (0..NODES as u16).map(NodeId);
            until("all have a standby with all", 120 * S, || {
                nodes().all(|node| {
                    let held = world.held_by(node);
                    held.len() == 2 && held[0] > 0 && held[0] == held[1]
                })
            })
            .await;
            let before = world.instances();
            store(&world, "new").await;
            world.restart_elsewhere().await;
            let end = Instant::now() + 120 * S;
            while unavailable(&world, "old").await + unavailable(&world, "new").await > 0 {
                assert!(Instant::now() < end, "seed {seed}: not found");
                sleep(Duration::from_millis(100)).await;
            }
            // also when those that are not met are taken for lost
            sleep(30 * S).await;
            let left = unavailable(&world, "old").await + unavailable(&world, "new").await;
            assert_eq!(left, 0, "seed {seed}");
            assert_eq!(world.instances(), before, "seed {seed}: none too many");
            world.end().await;
        });
    }
}
