use std::time::Duration;

use scatterhoard_proxy::pool::{backup, lifecycle, linger, retire, warmth};

use super::*;
use crate::availability::population::generate;

fn settings(standby: bool) -> Settings {
    Settings {
        nodes: 60,
        memory_gb: 1.5,
        data: 10,
        parity: 2,
        node_bytes: 125_000_000,
        hours: 2,
        correlation: 0.0,
        backup: backup::Settings {
            standby,
            interval: Duration::from_secs(60),
            after_bytes: 256 << 20,
        },
        life: lifecycle::Settings::default(),
        warmth: warmth::Settings {
            most: Duration::from_secs(60),
            ..Default::default()
        },
        retire: retire::Settings::Never,
        lost_after: 3,
        rounds_at_once: 8,
        backup_bytes_per_s: 100_000_000,
        repair_bytes_per_s: 200_000_000,
        repairs_at_once: 4,
        warm_hello: 13_000,
        cold_hello: 60_000,
        usd_per_wait: linger::USD_PER_WAIT,
        function_bytes_per_s: 75_000_000,
        proxy_bytes_per_s: None,
        client_bytes_per_s: None,
        arch: local_lambda::Architecture::X86,
    }
}

fn script(settings: &Settings) -> Script {
    Script::new(&generate(8.0, 3), settings.capacity_bytes(), 6.0, 2.0)
}

fn total(run: &Run) -> Hour {
    let mut total = Hour::default();
    run.hours.iter().for_each(|h| total.add(h, 1.0));
    total
}

#[test]
fn without_reclaims_nothing_is_lost_and_rounds_keep_all_warm() {
    let settings = settings(true);
    let quiet = Pattern::Timeline(vec![0]);
    let all = total(&play(&settings, &quiet, &script(&settings), 1));
    assert_eq!(
        (all.lost, all.hits_lost, all.repairs, all.reclaims),
        (0.0, 0.0, 0.0, 0.0)
    );
    assert_eq!(all.available, all.minutes);
    assert!(all.hits > 0.0 && all.gets > all.hits);
    // two instances of each node in each minute
    let rounds = 60.0 * 2.0 * 120.0;
    let made = all.backup.invocations;
    assert!(
        (0.98 * rounds..=rounds).contains(&made),
        "{made} of {rounds}"
    );
    assert!(
        all.warm.invocations < 0.1 * rounds,
        "{}",
        all.warm.invocations
    );
}

#[test]
fn one_seed_gives_one_history() {
    let settings = settings(true);
    let pattern = Pattern::Timeline(vec![20, 0, 3]);
    let script = script(&settings);
    let play = |seed| total(&play(&settings, &pattern, &script, seed));
    assert_eq!(play(5), play(5));
    assert_ne!(play(5), play(6));
}

#[test]
fn a_lost_node_is_whole_soon() {
    let settings = settings(true);
    let run = play(&settings, &Pattern::OneNode, &script(&settings), 2);
    assert_eq!(run.whole_after_s.len(), 2);
    assert!(
        run.whole_after_s.iter().all(|s| *s < 12.0),
        "{:?}",
        run.whole_after_s
    );
    let all = total(&run);
    assert_eq!((all.pairs, all.lost), (2.0, 0.0));
    assert!(all.repairs > 10.0);
}

#[test]
fn standbys_keep_what_parity_alone_loses() {
    let pattern = Pattern::Timeline(vec![60]);
    let run = |standby| {
        let settings = settings(standby);
        total(&play(&settings, &pattern, &script(&settings), 4))
    };
    let (with, without) = (run(true), run(false));
    assert!(with.lost < without.lost, "{} {}", with.lost, without.lost);
    assert!(without.hits_lost > 0.0);
    assert!(without.backup.gb_s < with.backup.gb_s);
}

#[test]
fn all_instances_of_a_pool_at_once_lose_everything() {
    let mut settings = settings(true);
    settings.correlation = 1.0;
    let mut minutes = vec![0; 120];
    minutes[30] = 400;
    let script = script(&settings);
    let run = play(&settings, &Pattern::Timeline(minutes), &script, 1);
    let lost = run.hours[0].lost / run.hours[0].objects;
    assert!(lost > 0.7, "{lost}");
}

/// In a platform that takes instances at an age, hand-over goes before it, and
/// adaptive silences save rounds.
#[test]
fn those_that_would_be_taken_go_before() {
    let mut settings = settings(true);
    settings.hours = 4;
    let script = Script::new(&generate(10.0, 3), settings.capacity_bytes(), 6.0, 4.0);
    let day = |settings: &Settings| total(&play(settings, &Pattern::TwoHours, &script, 3));
    let without = day(&settings);
    settings.retire = retire::Settings::At(Duration::from_secs(5_000));
    let with = day(&settings);
    assert_eq!(without.retired, 0.0);
    assert!(with.retired > 100.0, "{}", with.retired);
    assert!(
        with.reclaims < without.reclaims / 2.0,
        "{} {}",
        with.reclaims,
        without.reclaims
    );
    assert!(with.pairs <= without.pairs && with.lost <= without.lost);
    settings.retire = retire::Settings::Never;
    settings.warmth.most = Duration::from_secs(120);
    let adaptive = day(&settings);
    assert!(adaptive.backup.invocations < without.backup.invocations);
}
