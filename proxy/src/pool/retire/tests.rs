use proptest::{collection::vec, prelude::*};

use super::*;

const AGE: Duration = Duration::from_secs(1_000);
const NODE: NodeId = NodeId(0);

fn ages(main: u64, second: u64) -> Ages {
    let [main, second] = [main, second].map(Duration::from_secs);
    Ages { main, second }
}

#[test]
fn the_older_one_goes_at_its_limit() {
    let now = Instant::now();
    let mut pool = Retirements::new(Settings::At(AGE), 10);
    let mut choose = |main, second| pool.choose(NODE, ages(main, second), None, now);
    assert_eq!(limit(NODE), EARLIEST);
    assert_eq!(choose(749, 10), None);
    assert_eq!(choose(750, 10), Some(Goes::Main));
    assert_eq!(choose(10, 750), Some(Goes::Second));
    // twins are kept from growing old together
    assert_eq!(choose(374, 374), None);
    assert_eq!(choose(375, 370), Some(Goes::Main));
    assert_eq!(choose(740, 480), None, "no twins");
}

#[test]
fn what_is_not_known_or_not_wanted_makes_nobody_go() {
    let now = Instant::now();
    let choose = |settings, wearing| {
        let mut pool = Retirements::new(settings, 10);
        pool.choose(NODE, ages(100_000, 1), wearing, now)
    };
    assert_eq!(choose(Settings::Never, Some(AGE)), None);
    assert_eq!(choose(Settings::Typical, None), None);
    assert_eq!(choose(Settings::Typical, Some(AGE)), Some(Goes::Main));
    let mut nowhere = Retirements::new(Settings::At(AGE), 0);
    assert_eq!(nowhere.choose(NODE, ages(100_000, 1), None, now), None);
}

#[test]
fn one_hand_over_waits_for_another_until_both_instances_hold_all() {
    let now = Instant::now();
    let mut pool = Retirements::new(Settings::At(AGE), 10);
    let at = |pool: &mut Retirements, node, s: u64| {
        let now = now + Duration::from_secs(s);
        pool.choose(NodeId(node), ages(100_000, 1), None, now)
    };
    pool.begins(NODE, now);
    assert_eq!((at(&mut pool, 0, 1), at(&mut pool, 1, 1)), (None, None));
    // they have changed places, and it was broken off then
    pool.gives_up(NODE, false, now);
    assert_eq!((at(&mut pool, 0, 100), at(&mut pool, 1, 100)), (None, None));
    pool.is_whole(NODE);
    assert_eq!(at(&mut pool, 1, 100), Some(Goes::Main));
    // nothing has changed
    pool.begins(NODE, now);
    pool.gives_up(NODE, true, now);
    assert_eq!(at(&mut pool, 1, 1), Some(Goes::Main));
    // nobody says how it came out
    pool.begins(NODE, now);
    let after = OPEN_AT_MOST.as_secs();
    assert_eq!(at(&mut pool, 1, after - 1), None);
    assert_eq!(at(&mut pool, 1, after), Some(Goes::Main));
}

#[test]
fn a_node_that_gets_no_other_instance_keeps_the_one_it_has_and_stops_others_for_a_while() {
    let now = Instant::now();
    let mut pool = Retirements::new(Settings::At(AGE), 10);
    let at = |pool: &mut Retirements, node, s: u64| {
        let now = now + Duration::from_secs(s);
        pool.choose(NodeId(node), ages(100_000, 1), None, now)
    };
    pool.goes(NODE, now);
    assert_eq!((at(&mut pool, 0, 250), at(&mut pool, 1, 250)), (None, None));
    let after = OPEN_AT_MOST.as_secs();
    assert_eq!(
        (at(&mut pool, 0, after), at(&mut pool, 1, after)),
        (None, Some(Goes::Main))
    );
    pool.is_whole(NODE);
    assert_eq!(at(&mut pool, 0, 249), None, "too soon");
    assert_eq!(
        (at(&mut pool, 0, 250), at(&mut pool, 1, 25)),
        (Some(Goes::Main), Some(Goes::Main))
    );
}

#[test]
fn what_was_given_up_is_tried_again_later_and_later() {
    let now = Instant::now();
    let mut pool = Retirements::new(Settings::At(64 * AGE), 10);
    let at = |pool: &mut Retirements, node, now| {
        pool.choose(NodeId(node), ages(1_000_000, 1), None, now)
    };
    let mut last = now;
    for pause in [1, 2, 4, 8, 16, 16, 16] {
        pool.gives_up(NODE, true, last);
        let next = last + pause * AGE;
        assert_eq!(at(&mut pool, 0, next - AGE / 2), None, "{pause}");
        assert_eq!(at(&mut pool, 0, next), Some(Goes::Main), "{pause}");
        assert_eq!(at(&mut pool, 1, last), Some(Goes::Main), "others go");
        last = next;
    }
    // one that succeeds makes that good
    pool.goes(NODE, last);
    pool.is_whole(NODE);
    let next = last + 16 * AGE;
    pool.gives_up(NODE, true, next);
    assert_eq!(at(&mut pool, 0, next + AGE), Some(Goes::Main));
}

#[test]
fn nobody_goes_whose_chunks_find_no_room_or_are_in_use() {
    let nothing = Unsettled::default();
    let left_out = Unsettled {
        left_out: 1,
        ..nothing
    };
    let not_backed_up = Unsettled {
        not_backed_up: 1,
        ..nothing
    };
    let in_use = Unsettled {
        in_use: 1,
        ..nothing
    };
    let under_way = Unsettled {
        under_way: 1,
        ..in_use
    };
    let (no_room, in_use_too) = (Some(Obstacle::NoRoom), Some(Obstacle::InUse));
    for (left, main, second) in [
        (nothing, None, None),
        (left_out, no_room, no_room),
        // it would find no room when the two have changed places, either
        (not_backed_up, no_room, None),
        (in_use, None, in_use_too),
        (under_way, in_use_too, in_use_too),
    ] {
        let obstacles = (left.obstacle(Goes::Main), left.obstacle(Goes::Second));
        assert_eq!(obstacles, (main, second), "{left:?}");
    }
    assert!(in_use.is_merged() && not_backed_up.is_merged());
    assert!(!left_out.is_merged() && !under_way.is_merged());
}

/// Rounds of nodes whose instances nobody takes, as it is time for them or when a new
/// instance is filled: how old the older of each pair is, in the end.
fn play(
    nodes: u16,
    seconds: u64,
    fill_s: u64,
    is_time: impl Fn(u64, u16) -> bool,
) -> Vec<(Duration, Duration)> {
    let start = Instant::now();
    let mut pool = Retirements::new(Settings::At(AGE), usize::from(nodes));
    let mut births = vec![[0u64; 2]; usize::from(nodes)];
    let mut whole_at = vec![0u64; usize::from(nodes)];
    for s in 0..seconds {
        let now = start + Duration::from_secs(s);
        let called = pool.whose_turn(now);
        for node in 0..nodes {
            let i = usize::from(node);
            let has_round = is_time(s, node) || called == Some(NodeId(node)) || s == whole_at[i];
            if s < whole_at[i] || !has_round {
                continue;
            }
            pool.is_whole(NodeId(node));
            let [main, second] = births[i].map(|birth| s - birth);
            let Some(goes) = pool.choose(NodeId(node), ages(main, second), None, now) else {
                continue;
            };
            pool.goes(NodeId(node), now);
            whole_at[i] = s + fill_s;
            if goes == Goes::Main {
                births[i].swap(0, 1);
            }
            births[i][1] = s;
        }
    }
    let ages = births
        .iter()
        .map(|b| b.map(|birth| Duration::from_secs(seconds - birth)));
    ages.map(|[a, b]| (a.max(b), a.min(b))).collect()
}

#[test]
fn ages_come_apart_in_a_pool_whose_instances_began_together() {
    let ages = play(100, 20_000, 2, |s, node| (s + u64::from(node)) % 10 == 0);
    assert!(
        ages.iter()
            .all(|(old, _)| *old < AGE + Duration::from_secs(60))
    );
    let apart = ages.iter().filter(|(old, young)| *old - *young > AGE / 5);
    assert!(apart.count() > 95, "{ages:?}");
    // old ones of all ages, none with many beside it
    let mut old: Vec<u64> = ages.iter().map(|(old, _)| old.as_secs()).collect();
    old.sort_unstable();
    let most = old
        .iter()
        .map(|a| old.iter().filter(|b| b.abs_diff(*a) < 20).count());
    assert!(most.max().unwrap() < 35, "{old:?}");
}

#[test]
fn whose_rounds_come_behind_those_of_others_each_time_is_called_in_between() {
    // all within the pool's pace, the first one's at a time at which it may go again
    let ages = play(5, 20_000, 2, |s, node| s % 400 == u64::from(node));
    let most = AGE + Duration::from_secs(400);
    assert!(ages.iter().all(|(old, _)| *old < most), "{ages:?}");
}

#[test]
fn who_waits_is_called_once_when_others_are_out_of_the_way_the_longest_first() {
    let now = Instant::now();
    let s = |s| now + Duration::from_secs(s);
    let mut pool = Retirements::new(Settings::At(AGE), 5);
    let ask = |pool: &mut Retirements, node, old, at| {
        pool.choose(NodeId(node), ages(old, 1), None, s(at))
    };
    pool.goes(NODE, now);
    for (node, old, at) in [(1, 2_000, 1), (2, 2_000, 2), (3, 10, 2), (1, 2_000, 3)] {
        assert_eq!(ask(&mut pool, node, old, at), None);
    }
    assert_eq!(pool.whose_turn(s(60)), None, "one is open");
    pool.is_whole(NODE);
    assert_eq!(pool.whose_turn(s(49)), None, "the pool's pace");
    assert_eq!(pool.whose_turn(s(50)), Some(NodeId(1)));
    assert_eq!(pool.whose_turn(s(99)), None, "it may go still");
    assert_eq!(pool.whose_turn(s(100)), Some(NodeId(2)));
    assert_eq!(ask(&mut pool, 2, 2_000, 100), Some(Goes::Main));
    assert_eq!(pool.whose_turn(s(1_000)), None, "nobody waits");
}

proptest! {
    /// Never two of a node within its pace or before it is whole, never two of
    /// the pool within its pace, never many at once, nobody young.
    #[test]
    fn few_go_at_a_time(
        steps in vec((0u16..40, 0u64..2_000, 0u64..2_000, 0u64..20, any::<bool>()), 1..300),
        nodes in 1u16..100,
    ) {
        let mut now = Instant::now();
        let mut pool = Retirements::new(Settings::At(AGE), usize::from(nodes));
        let mut went: Vec<(NodeId, Instant)> = Vec::new();
        let mut open: Vec<(NodeId, Instant)> = Vec::new();
        for (node, main, second, s, whole) in steps {
            now += Duration::from_secs(s);
            let node = NodeId(node);
            if whole {
                pool.is_whole(node);
                open.retain(|(n, _)| *n != node);
            }
            let Some(goes) = pool.choose(node, ages(main, second), None, now) else {
                continue;
            };
            prop_assert!(node.0 < nodes);
            prop_assert!(main.max(second) >= 375);
            prop_assert_eq!(goes == Goes::Main, main > second);
            let last = went.iter().rev().find(|(n, _)| *n == node);
            prop_assert!(last.is_none_or(|(_, at)| now >= *at + AGE / 4));
            let pace = AGE / (4 * u32::from(nodes));
            prop_assert!(went.last().is_none_or(|(_, at)| now + Duration::from_nanos(1) >= *at + pace));
            prop_assert!(open.iter().all(|(n, _)| *n != node));
            open.retain(|(_, at)| now < *at + OPEN_AT_MOST);
            prop_assert!(open.len() <= usize::from(nodes) / AT_ONCE);
            pool.goes(node, now);
            went.push((node, now));
            open.push((node, now));
        }
    }
}
