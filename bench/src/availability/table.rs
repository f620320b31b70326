//! Tables of the study, as text or Markdown.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use local_lambda::Prices;

use super::bill::Hour;
use super::study::Outcome;
use crate::grid::Grid;
use crate::results::seeds_in_words;

const HEADINGS: [&str; 19] = [
    "pattern",
    "geometry",
    "backup",
    "after MB",
    "warm",
    "rounds",
    "MB/s",
    "repair",
    "MB/node",
    "corr.",
    "retire",
    "worst hour",
    "worst seed",
    "lost hits",
    "pairs/retired",
    "whole p50/p99",
    "usd/h",
    "dearest h",
    "w/b/r",
];
const HOURLY: [&str; 12] = [
    "hour",
    "available",
    "worst seed",
    "reclaims",
    "pairs",
    "hits",
    "hits lost",
    "repairs",
    "GB moved",
    "invocations",
    "GB-s",
    "usd",
];

/// One line for each outcome, and below it, if asked for, its hours.
pub(crate) fn all(outcomes: &[Outcome], prices: &Prices, per_hour: bool, markdown: bool) -> String {
    let rows: Vec<Vec<String>> = outcomes.iter().map(summary).collect();
    let mut text = lines(&HEADINGS, rows, markdown);
    if per_hour {
        for outcome in outcomes {
            let name = outcome.name();
            let seeds = outcome.seeds;
            let _ = writeln!(text, "\n{name}, {}, mean of {seeds}\n", outcome.geometry);
            let hours = outcome.hours.iter().zip(&outcome.worst_seed_hours);
            let row = |(i, (hour, worst)): (usize, (&Hour, &f64))| hourly(i, hour, *worst, prices);
            let rows: Vec<Vec<String>> = hours.enumerate().map(row).collect();
            text.push_str(&lines(&HOURLY, rows, markdown));
        }
    }
    let seeds: BTreeSet<&[u64]> = outcomes.iter().map(|o| &o.played_seeds[..]).collect();
    for seeds in seeds {
        let bullet = if markdown { "- " } else { "" };
        let _ = writeln!(text, "{bullet}{}", seeds_in_words(seeds));
    }
    text
}

fn summary(o: &Outcome) -> Vec<String> {
    let limit = |n: u64| if n == 0 { "any".into() } else { n.to_string() };
    vec![
        o.name(),
        o.geometry.clone(),
        match o.backup_interval_s {
            0 => "off".into(),
            s => format!("{s} s"),
        },
        o.backup_after_mb.to_string(),
        match o.warm_interval_max_s {
            most if most > o.warm_interval_s => format!("{}-{most} s", o.warm_interval_s),
            _ => format!("{} s", o.warm_interval_s),
        },
        o.rounds_at_once.to_string(),
        limit(o.backup_mb_s),
        limit(o.repair_mb_s),
        o.node_mb.to_string(),
        o.correlation.to_string(),
        o.retire_after.clone(),
        percent(o.worst_hour_available),
        percent(o.worst_seed_available),
        percent(o.hits_lost_share),
        format!("{:.1}/{:.0}", o.pairs_per_hour, o.retired_per_hour),
        o.whole_after_s
            .map_or("-".into(), |[p50, p99, _]| format!("{p50:.1}/{p99:.1} s")),
        format!("{:.3}", o.usd_per_hour),
        format!("{:.3}", o.worst_hour_usd),
        format!(
            "{:.3}/{:.3}/{:.3}",
            o.warm_usd_per_hour, o.backup_usd_per_hour, o.repair_usd_per_hour
        ),
    ]
}

fn hourly(i: usize, hour: &Hour, worst: f64, prices: &Prices) -> Vec<String> {
    let keeping = hour.keeping();
    vec![
        i.to_string(),
        percent(hour.share()),
        percent(worst),
        format!("{:.0}", hour.reclaims),
        format!("{:.1}", hour.pairs),
        format!("{:.0}", hour.hits),
        format!("{:.2}", hour.hits_lost),
        format!("{:.0}", hour.repairs),
        format!("{:.1}", (hour.backup_bytes + hour.repair_bytes) / 1e9),
        format!("{:.0}", keeping.invocations),
        format!("{:.0}", keeping.gb_s),
        format!("{:.4}", hour.usd(prices)),
    ]
}

/// Four digits behind the point, and more where that would hide a loss.
fn percent(share: f64) -> String {
    format!("{:.4} %", share * 100.0)
}

fn lines(headings: &[&str], rows: Vec<Vec<String>>, markdown: bool) -> String {
    let grid = Grid {
        headings: headings.iter().map(|h| (*h).to_owned()).collect(),
        left: vec![0],
        rows,
    };
    grid.text(markdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_losses_are_not_rounded_away() {
        assert_eq!(percent(0.999_912_3), "99.9912 %");
    }
}
