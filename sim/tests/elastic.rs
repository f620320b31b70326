//! Draining where room is scarce: refused with what lacks, or at the cost of other
//! objects if that is asked for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod calm;

use std::{num::NonZeroU64, sync::Arc};

use calm::{S, World, until};
use scatterhoard_proxy::{
    config::Config,
    elastic::{Elastic, ElasticError, Which},
    pool::{
        autoscale,
        membership::{Refusal, State},
    },
};
use scatterhoard_sim::platform::Faults;
use scatterhoard_wire::NodeId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const NODES: usize = 5;

fn repairs_within(bytes_per_s: u64) -> impl FnOnce(&mut Config) {
    move |config| config.repair_bytes_per_s = NonZeroU64::new(bytes_per_s)
}

fn value(i: usize) -> Vec<u8> {
    vec![i as u8; 40_000]
}

async fn set(world: &World, i: usize) {
    world.set(&i.to_string(), &value(i)).await;
}

/// Whether the key is there; if so, its value is as it was stored.
async fn is_there(world: &World, i: usize) -> bool {
    let read = world.get(&i.to_string()).await;
    assert!(read.is_none() || read == Some(value(i)), "{i}");
    read.is_some()
}

async fn count(world: &World, keys: usize) -> usize {
    let mut there = 0;
    for i in 0..keys {
        there += usize::from(is_there(world, i).await);
    }
    there
}

fn state(world: &World, node: NodeId) -> State {
    world.proxy.store().pool().states()[usize::from(node.0)]
}

async fn until_gone(world: &World, node: NodeId) {
    until("drained", 600 * S, || state(world, node) == State::Gone).await;
}

#[test]
fn a_full_pool_says_how_much_room_lacks_and_may_be_forced() {
    calm::simulated(7, NODES, repairs_within(0), async |world| {
        // as many as there is room for, or nearly
        let keys = 70;
        for i in 0..keys {
            set(&world, i).await;
        }
        sleep(30 * S).await;
        let before = count(&world, keys).await;
        assert!(before > 40, "{before}");
        let last = NodeId(4);
        let refused = world
            .proxy
            .elastic
            .drain(Which::Nodes(vec![last]), false)
            .await;
        let Err(ElasticError::Refused(Refusal::NoRoom { lacking_bytes })) = refused else {
            panic!("{refused:?}");
        };
        // it holds less than a MiB, and others have little room
        assert!((1..1_048_576).contains(&lacking_bytes), "{lacking_bytes}");
        assert_eq!(count(&world, keys).await, before, "nothing has changed");
        let forced = world
            .proxy
            .elastic
            .drain(Which::Nodes(vec![last]), true)
            .await;
        assert_eq!(forced.unwrap(), [last]);
        until_gone(&world, last).await;
        let after = count(&world, keys).await;
        assert!(after < before && after > before / 2, "{before} {after}");
        // with as many nodes as before nothing else goes
        assert_eq!(
            world
                .proxy
                .elastic
                .add(Which::Count(1))
                .await
                .unwrap()
                .nodes,
            [last]
        );
        // what it held before is freed first
        sleep(10 * S).await;
        let moved = world
            .proxy
            .elastic
            .drain(Which::Nodes(vec![NodeId(0)]), false)
            .await;
        assert_eq!(moved.unwrap(), [NodeId(0)]);
        until_gone(&world, NodeId(0)).await;
        assert_eq!(count(&world, keys).await, after);
        world.end().await;
    });
}

#[test]
fn a_drain_waits_for_room_that_others_took_and_can_be_forced_later() {
    calm::simulated(7, NODES, repairs_within(20_000), async |world| {
        for i in 0..35 {
            set(&world, i).await;
        }
        sleep(10 * S).await;
        let last = NodeId(4);
        let going = world
            .proxy
            .elastic
            .drain(Which::Nodes(vec![last]), false)
            .await;
        going.unwrap();
        // faster than chunks are moved, and evicting each other
        for i in 35..120 {
            set(&world, i).await;
            if i % 8 == 0 {
                assert_eq!(count(&world, 35).await, 35);
            }
        }
        sleep(60 * S).await;
        let state = state(&world, last);
        assert_eq!(state, State::Draining { force: false });
        assert!(world.proxy.elastic.status().without_room > 0);
        let forced = world
            .proxy
            .elastic
            .drain(Which::Nodes(vec![last]), true)
            .await;
        assert_eq!(forced.unwrap(), [last]);
        until_gone(&world, last).await;
        assert!(is_there(&world, 119).await);
        world.end().await;
    });
}

async fn drain(world: &World, nodes: &[NodeId]) {
    let order = world
        .proxy
        .elastic
        .drain(Which::Nodes(nodes.to_vec()), false);
    assert_eq!(order.await.unwrap(), nodes);
}

/// As many as there is room for, in any case; until both instances of each node have
/// what they should.
async fn fill(world: &World, keys: usize) {
    for i in 0..keys {
        set(world, i).await;
    }
    sleep(30 * S).await;
    for node in (0..NODES as u16).map(NodeId) {
        let held = world.held_by(node);
        assert!(
            held.len() == 2 && held.iter().all(|chunks| *chunks > 0),
            "{held:?}"
        );
    }
}

fn often(config: &mut Config) {
    config.backup.interval = 5 * S;
}

#[test]
fn instances_of_a_node_that_has_gone_hold_nothing() {
    for seed in 0..5 {
        calm::simulated(seed, NODES, often, async |world| {
            fill(&world, 20).await;
            let going = [NodeId(1), NodeId(4)];
            drain(&world, &going).await;
            for node in going {
                until_gone(&world, node).await;
                let held = world.held_by(node);
                assert!(
                    held.len() >= 2 && held.iter().all(|c| *c == 0),
                    "{seed}: {held:?}"
                );
            }
            assert_eq!(count(&world, 20).await, 20);
            world.end().await;
        });
    }
}

#[test]
fn a_successor_finds_the_instances_of_a_node_that_is_to_go() {
    calm::with_journal(3, NODES, often, async |mut world| {
        fill(&world, 20).await;
        let going = [NodeId(0), NodeId(2)];
        drain(&world, &going).await;
        world.restart().await;
        for node in going {
            until_gone(&world, node).await;
            let held = world.held_by(node);
            assert!(held.iter().all(|c| *c == 0), "{held:?}");
        }
        assert_eq!(count(&world, 20).await, 20);
        world.end().await;
    });
}

#[test]
fn a_drain_ends_though_instances_are_not_reached_and_may_be_tried_again() {
    calm::with_journal(5, NODES, often, async |mut world| {
        fill(&world, 10).await;
        let (last, was_full) = (NodeId(4), world.held_by(NodeId(4)));
        let failing = Faults {
            failing: 1.0,
            ..Faults::default()
        };
        // nothing names it any more, and nobody can tell it
        world.platform.set_faults(failing);
        for i in 0..10 {
            world.ask(&[b"DEL", i.to_string().as_bytes()]).await;
        }
        // what was awake has returned
        sleep(20 * S).await;
        drain(&world, &[last]).await;
        until("given up", 120 * S, || {
            state(&world, last) == State::Unreached
        })
        .await;
        assert_eq!(world.held_by(last).len(), was_full.len());
        assert!(world.held_by(last).iter().any(|chunks| *chunks > 0));
        world.platform.set_faults(Faults::default());
        sleep(60 * S).await;
        world.restart().await;
        assert_eq!(state(&world, last), State::Unreached, "it stays known");
        drain(&world, &[last]).await;
        until_gone(&world, last).await;
        assert!(world.held_by(last).iter().all(|chunks| *chunks == 0));
        world.end().await;
    });
}

#[test]
fn what_is_kept_after_all_loses_nothing_whenever_that_is() {
    for seed in 0..30_u64 {
        calm::simulated(seed, NODES, often, async |world| {
            fill(&world, 12).await;
            let going = [NodeId(1), NodeId(3)];
            drain(&world, &going).await;
            let draining = || going.iter().any(|n| state(&world, *n).is_draining());
            for step in 0..2 + seed * 5 {
                if !draining() {
                    break;
                }
                if step % 3 == 0 {
                    set(&world, (step % 12) as usize).await;
                }
                sleep(S / 50).await;
            }
            world.proxy.elastic.cancel(None).await.unwrap();
            assert_eq!(count(&world, 12).await, 12, "{seed}");
            for i in 0..12 {
                set(&world, i).await;
            }
            sleep(20 * S).await;
            assert_eq!(count(&world, 12).await, 12, "{seed}");
            world.end().await;
        });
    }
}

#[test]
fn without_standbys_a_drain_does_not_take_unknown_instances_for_unreached() {
    let alone = |config: &mut Config| {
        config.backup.standby = false;
        config.linger.break_even = 20 * S;
        config.linger.least = 20 * S;
    };
    calm::with_journal(4, NODES, alone, async |mut world| {
        for i in 0..10 {
            set(&world, i).await;
        }
        sleep(60 * S).await;
        world.restart().await;
        assert_eq!(count(&world, 10).await, 10);
        drain(&world, &[NodeId(2)]).await;
        until_gone(&world, NodeId(2)).await;
        assert_eq!(world.held_by(NodeId(2)), [0]);
        assert_eq!(count(&world, 10).await, 10);
        world.end().await;
    });
}

#[test]
fn a_pool_that_grows_does_not_take_what_was_drained_by_order() {
    calm::simulated(2, NODES, often, async |world| {
        fill(&world, 20).await;
        let updated = NodeId(1);
        let store = world.proxy.store().clone();
        let elastic = Arc::new(Elastic::new(store, Box::new(|_| Ok(()))));
        let order = elastic.drain(Which::Nodes(vec![updated]), false);
        assert_eq!(order.await.unwrap(), [updated]);
        until_gone(&world, updated).await;
        let settings = autoscale::Settings {
            min_nodes: 3,
            max_nodes: NODES,
            grow_above: 1,
            shrink_below: 0,
            every: S,
        };
        let stop = CancellationToken::new();
        let scaling = elastic.clone().scale_for_ever(settings, stop.clone());
        let scaling = tokio::task::spawn_local(scaling);
        let pool = world.proxy.store().pool();
        let has_grown = || pool.states().get(NODES) == Some(&State::Active);
        until("it grows", 60 * S, has_grown).await;
        assert_eq!(state(&world, updated), State::Gone);
        stop.cancel();
        scaling.await.unwrap();
        let order = elastic.add(Which::Nodes(vec![updated]));
        assert_eq!(order.await.unwrap().nodes, [updated]);
        assert_eq!(count(&world, 20).await, 20);
        world.end().await;
    });
}

#[test]
fn nodes_that_are_not_configured_any_more_are_used_until_they_are_drained() {
    calm::with_journal(9, NODES, often, async |mut world| {
        fill(&world, 20).await;
        world.config.nodes = 3;
        world.restart().await;
        let all = world.proxy.store().pool().states();
        assert_eq!(all, [State::Active; NODES]);
        assert_eq!(count(&world, 20).await, 20);
        let going = [NodeId(3), NodeId(4)];
        drain(&world, &going).await;
        for node in going {
            until_gone(&world, node).await;
        }
        world.restart().await;
        let all = world.proxy.store().pool().states();
        assert_eq!(all, [State::Active; 3]);
        assert_eq!(count(&world, 20).await, 20);
        world.end().await;
    });
}
