//! Standbys: every node may lose the instance that serves, or the other one,
//! and what both had is made anew without anybody reading it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    platform::Platform,
    server::{Server, until},
};

const NODES: usize = 8;

struct World {
    // first: it ends before the platform does
    server: Server,
    platform: Platform,
    stored: BTreeMap<String, Vec<u8>>,
}

impl World {
    /// Values of all layouts, on nodes with standbys that have them, too.
    fn start(reserved_concurrency: Option<u32>) -> Self {
        Self::start_with(reserved_concurrency, &[])
    }

    fn start_with(reserved_concurrency: Option<u32>, more: &[&str]) -> Self {
        let platform = Platform::start(NODES);
        for mut function in platform.handle().functions() {
            function.reserved_concurrency = reserved_concurrency;
            platform.handle().put_function(function).unwrap();
        }
        let url = platform.url();
        let nodes = NODES.to_string();
        let arguments = [
            "--lambda-endpoint",
            &url,
            "--nodes",
            &nodes,
            "--data-parity",
            "4+2",
            "--backup-interval-s",
            "1",
            "--hot-tier-mb",
            "0",
        ];
        let server = Server::start(&[&arguments, more].concat());
        let (mut redis, mut random) = (server.client(), Random::new(7));
        let mut stored = BTreeMap::new();
        for (i, size) in [3_000_000, 1_200_000, 700_000, 90_000, 40_000, 20_000]
            .iter()
            .cycle()
            .take(18)
            .enumerate()
        {
            stored.insert(format!("{size}:{i}"), random.bytes(*size));
        }
        for (key, value) in &stored {
            let () = redis.set(key, value).unwrap();
        }
        let mut pipe = redis::pipe();
        for i in 0..100 {
            let value = random.bytes(10 + 50 * i);
            pipe.set(format!("small:{i}"), &value).ignore();
            stored.insert(format!("small:{i}"), value);
        }
        let () = pipe.query(&mut redis).unwrap();
        Self {
            server,
            platform,
            stored,
        }
    }

    /// Pids of each function's instances, the one used last at the end.
    fn instances(&self) -> Vec<Vec<u32>> {
        let mut by_function = BTreeMap::<String, Vec<_>>::new();
        for instance in self.platform.handle().instances() {
            let idle = instance.idle.unwrap_or_default();
            let own = by_function.entry(instance.function).or_default();
            // none while it is being started
            own.extend(instance.pid.map(|pid| (idle, pid)));
        }
        let pids = |mut own: Vec<(Duration, u32)>| {
            own.sort_by_key(|(idle, _)| std::cmp::Reverse(*idle));
            own.into_iter().map(|(_, pid)| pid).collect()
        };
        by_function.into_values().map(pids).collect()
    }

    /// Waits until every node has a standby and nothing is left to be copied or
    /// repaired.
    fn until_backed_up(&self) {
        let figures = || {
            ["backup_chunks", "repaired_chunks"]
                .map(|name| self.server.metric(&format!("scatterhoard_{name}_total")))
        };
        until("all is on two instances", Duration::from_secs(60), || {
            let before = figures();
            std::thread::sleep(Duration::from_millis(2500));
            let standbys = self.instances().iter().all(|own| own.len() >= 2);
            standbys
                && before == figures()
                && self.server.metric("scatterhoard_repairs_waiting") == 0.0
        });
    }

    #[track_caller]
    fn check(&self) {
        let mut redis = self.server.client();
        for (key, value) in &self.stored {
            let read: Option<Vec<u8>> = redis.get(key).unwrap();
            assert_same(key, read.as_deref(), value);
        }
        assert_eq!(self.server.metric("scatterhoard_lost_objects_total"), 0.0);
    }
}

fn take_away(pids: impl IntoIterator<Item = u32>) {
    for pid in pids {
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    }
}

#[test]
fn every_node_may_lose_one_of_its_instances_at_the_same_time() {
    let world = World::start(None);
    world.until_backed_up();
    // those that serve, with everything they have
    take_away(
        world
            .instances()
            .into_iter()
            .filter_map(|own| own.last().copied()),
    );
    world.check();
    world.until_backed_up();
    // those that were standbys before, and now serve: there are new ones
    take_away(
        world
            .instances()
            .into_iter()
            .filter_map(|own| own.first().copied()),
    );
    world.check();
    assert_eq!(
        world.server.metric("scatterhoard_repaired_chunks_total"),
        0.0
    );
    world.server.stop();
}

/// Whichever of the two the platform brings first: a round is no reason for another one.
#[test]
fn an_idle_node_has_one_round_in_an_interval() {
    let every_s = ["--warm-interval-s", "1", "--warm-interval-max-s", "1"];
    let world = World::start_with(None, &every_s);
    world.until_backed_up();
    let invocations = || world.server.metric("scatterhoard_invocations_total");
    let (began, before) = (Instant::now(), invocations());
    std::thread::sleep(Duration::from_secs(12));
    let count = invocations() - before;
    // both instances, and a round that was under way at each end
    let most = (2 * NODES) as f64 * (began.elapsed().as_secs_f64() + 2.0);
    assert!(
        (1.0..most).contains(&count),
        "{count} invocations, {most} expected at most"
    );
    world.server.stop();
}

#[test]
fn what_both_instances_had_is_made_anew_though_nobody_reads_it() {
    let world = World::start(None);
    world.until_backed_up();
    let all = world.instances();
    let mut gone = BTreeSet::new();
    for pair in [[0, 1], [2, 3], [4, 5]] {
        let repaired = world.server.metric("scatterhoard_repaired_chunks_total");
        for own in pair.map(|i| &all[i]) {
            gone.extend(own.iter().copied());
            take_away(own.iter().copied());
        }
        until("losses are found", Duration::from_secs(60), || {
            world.server.metric("scatterhoard_repaired_chunks_total") > repaired
        });
        world.until_backed_up();
    }
    let left = world.instances().concat();
    assert!(left.iter().all(|pid| !gone.contains(pid)));
    world.check();
    world.server.stop();
}

/// A function that may run only once at a time has no standby: reads repair.
#[test]
fn without_a_second_instance_values_survive_as_many_losses_as_there_is_parity() {
    let world = World::start(Some(1));
    world.check();
    for round in 0..2 {
        let own = &world.instances()[round * 2..][..2];
        assert!(own.iter().all(|pids| pids.len() == 1), "{own:?}");
        take_away(own.concat());
        let repaired = || world.server.metric("scatterhoard_repaired_chunks_total");
        let (before, mut last, mut since) = (repaired(), 0.0, Instant::now());
        // only when no second instance was to be had again and again is it known
        // that none can have what is missing
        let limit = Duration::from_secs(150);
        until("what was lost is repaired", limit, || {
            world.check();
            std::thread::sleep(Duration::from_millis(500));
            if repaired() != last {
                (last, since) = (repaired(), Instant::now());
            }
            last > before && since.elapsed() > Duration::from_secs(35)
        });
    }
    world.check();
    world.server.stop();
}
