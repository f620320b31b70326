//! Releases that change the wire, while the pool serves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod calm;

use std::{collections::BTreeSet, time::Duration};

use calm::{S, World, until};
use scatterhoard_proxy::{config::Config, pool::retire};
use scatterhoard_sim::next_release;
use scatterhoard_wire::{SPOKEN, Version, Versions};
use tokio::time::{Instant, sleep};

const NODES: usize = 5;
const KEYS: usize = 30;
/// At which instances go.
const AGE: Duration = Duration::from_secs(120);

fn adjust(speaks: Versions) -> impl FnOnce(&mut Config) {
    move |config| {
        config.speaks = speaks;
        config.backup.interval = 5 * S;
        // a moment of its own for each instance
        config.retire = retire::Settings::At(AGE);
    }
}

fn value(i: usize) -> Vec<u8> {
    vec![i as u8; 20_000]
}

/// Reads all, and looks in which versions links are spoken meanwhile.
async fn read_all(world: &World) -> BTreeSet<Version> {
    let mut versions = BTreeSet::new();
    for i in 0..KEYS {
        assert_eq!(world.get(&i.to_string()).await, Some(value(i)), "{i}");
        let links = world.proxy.store().pool().nodes();
        let links = links.filter_map(|node| node.open_link());
        versions.extend(links.map(|link| link.version()));
    }
    versions
}

/// Reads all, again and again, until none of these instances is left, one by one and not
/// much later than it is time: the sets of versions that were spoken at the same time.
async fn read_until_replaced(
    world: &World,
    before: &BTreeSet<String>,
) -> BTreeSet<BTreeSet<Version>> {
    let (mut seen, end) = (BTreeSet::new(), Instant::now() + 2 * AGE);
    while !world.instances().is_disjoint(before) {
        assert!(Instant::now() < end, "some were not replaced");
        seen.insert(read_all(world).await);
        sleep(2 * S).await;
    }
    seen
}

async fn stored(world: &World) {
    for i in 0..KEYS {
        world.set(&i.to_string(), &value(i)).await;
    }
    let twice = || {
        let held = |i: usize| {
            let object = world.object(&i.to_string());
            let mut nodes = object.nodes();
            nodes.all(|node| world.holders(node, object.write_id).len() == 2)
        };
        (0..KEYS).all(held)
    };
    until("all are on two instances", 60 * S, twice).await;
}

/// Chunks move from instances of one release to those of the next, by a proxy that
/// speaks to each in its own way.
#[test]
fn instances_of_the_next_release_take_over_what_those_of_this_one_hold() {
    calm::simulated(3, NODES, adjust(next_release()), async |world| {
        stored(&world).await;
        assert_eq!(read_all(&world).await, [SPOKEN.newest()].into());
        let before = world.instances();
        world.platform.deploy([next_release(); 2]);
        let seen = read_until_replaced(&world, &before).await;
        let [old, new] = [SPOKEN.newest(), next_release().newest()];
        assert!(seen.contains(&[old, new].into()), "{seen:?}");
        assert_eq!(read_all(&world).await, [new].into());
        world.end().await;
    });
}

/// Nodes first, then the proxy: the other order of an update.
#[test]
fn a_proxy_of_this_release_works_with_nodes_of_the_next() {
    calm::simulated(4, NODES, adjust(SPOKEN), async |world| {
        stored(&world).await;
        let before = world.instances();
        world.platform.deploy([next_release(); 2]);
        let seen = read_until_replaced(&world, &before).await;
        assert_eq!(seen, [[SPOKEN.newest()].into()].into());
        assert_eq!(read_all(&world).await, [SPOKEN.newest()].into());
        world.end().await;
    });
}
