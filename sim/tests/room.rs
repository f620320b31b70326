//! Room for writes on full nodes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod calm;

use std::{sync::Arc, time::Duration};

use calm::{S, World};
use scatterhoard_node::clock;
use scatterhoard_proxy::{
    config::Config,
    keyspace::KeyRef,
    pool::node::{Node, Reservation},
};
use scatterhoard_wire::NodeId;
use tokio::time::sleep;

const NODES: usize = 4;
/// More than there is room for.
const KEYS: usize = 200;
const AWAKE: NodeId = NodeId(0);
/// Is to be told of all that it holds that it may free it.
const ASLEEP: NodeId = NodeId(3);

fn node(world: &World, id: NodeId) -> &Arc<Node> {
    world.proxy.store().pool().node(id).unwrap()
}

fn free_bytes(world: &World, id: NodeId) -> u64 {
    let all = world.proxy.store().pool().candidates();
    all.iter().find(|c| c.node == id).unwrap().free_bytes
}

fn is_stored_on(world: &World, key: usize, id: NodeId) -> bool {
    let key = key.to_string();
    let key = key.as_bytes();
    let mut index = world.proxy.store().index();
    let found = index.peek(KeyRef { db: 0, key }, clock::unix_ms());
    found.is_some_and(|found| found.object.nodes().any(|n| n == id))
}

/// Others take what room a node has, but for so much.
fn fill(world: &World, id: NodeId, but: u64) -> Option<Reservation> {
    let bytes = free_bytes(world, id).checked_sub(but);
    bytes.and_then(|bytes| node(world, id).reserve(bytes))
}

/// While it is looked for garbage on the nodes that lack the least, another write, or a
/// hand-over, takes what one of them has. The one that takes its place holds nothing
/// that a key names, so there is nothing to evict: it is full all the same until it is
/// told.
#[test]
fn a_node_that_holds_nothing_but_garbage_has_room_whenever_it_is_asked() {
    let adjust = |config: &mut Config| config.backup.interval = 3_600 * S;
    calm::simulated(1, NODES, adjust, async |world| {
        let value = vec![7; 20_000];
        for key in 0..KEYS {
            world.set(&key.to_string(), &value).await;
        }
        sleep(10 * S).await;
        for key in 0..KEYS {
            if is_stored_on(&world, key, ASLEEP) {
                world.ask(&[b"DEL", key.to_string().as_bytes()]).await;
            }
        }
        let held = node(&world, ASLEEP).view().held.unwrap();
        assert!(held.chunks > 50, "{held:?}");
        let pool = world.proxy.store().pool();
        // no garbage there, and on none of the others more than a little room
        pool.purge(node(&world, AWAKE), 5 * S).await.unwrap();
        let others = (0..NODES as u16).map(NodeId).filter(|id| *id != ASLEEP);
        let mut taken: Vec<_> = others.map(|id| fill(&world, id, 2)).collect();
        taken.push(fill(&world, ASLEEP, 1));
        let fill_one = async {
            sleep(Duration::from_millis(1)).await;
            taken.push(fill(&world, AWAKE, 0));
        };
        tokio::join!(world.set("new", &value), fill_one);
        assert!(taken.iter().all(Option::is_some));
        assert_eq!(world.get("new").await, Some(value));
        world.end().await;
    });
}
