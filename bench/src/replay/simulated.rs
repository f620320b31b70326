//! A replay in virtual time as text or Markdown, and drawn by the hour.

use super::Outcome;
use crate::availability::bill::Hour;
use crate::chart::{Axis, Drawing, Line};
use crate::grid::Grid;
use crate::results::seeds_in_words;

/// A page of it.
pub(super) fn text(o: &Outcome, markdown: bool) -> String {
    let mut rows = Vec::new();
    let percent = |share: f64| format!("{:.3} %", share * 100.0);
    let mut line = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    let (pool, tally) = (&o.pool, &o.tally);
    line(
        "pool",
        format!(
            "{} nodes of {} MiB, {}, {:.1} GB of objects at {} MB/s a function",
            pool.nodes, pool.memory_mb, pool.geometry, pool.capacity_gb, pool.function_mb_s
        ),
    );
    if let Some(profile) = &pool.profile {
        line("platform", profile.to_string());
    }
    line("reclaims", format!("{}: {:.0}", o.day, o.reclaims));
    line(
        "of both instances",
        format!("of a node {:.1} times", o.pairs),
    );
    line(
        "trace",
        format!(
            "{} requests in {} h, {} lines skipped",
            o.requests, o.hours, o.skipped_lines
        ),
    );
    line("hit ratio", percent(o.hit_ratio));
    line(
        "of an LRU without losses",
        format!("{} (same capacity)", percent(o.lru_hit_ratio)),
    );
    line(
        "RESETs, share of hits",
        format!(
            "{} ({:.1}; worst seed {})",
            percent(o.reset_share_of_hits),
            tally.resets,
            percent(o.worst_seed_reset_share_of_hits)
        ),
    );
    line(
        "available in the worst hour",
        percent(o.worst_hour_available),
    );
    line(
        "stored, evicted, too large",
        format!(
            "{:.0}, {:.0}, {:.0}",
            tally.stores, tally.evicted, tally.too_large
        ),
    );
    line(
        "GB read, stored, backups, repairs",
        format!(
            "{:.0}, {:.0}, {:.0}, {:.0}",
            tally.read_bytes / 1e9,
            tally.stored_bytes / 1e9,
            o.backup_gb,
            o.repair_gb
        ),
    );
    let [mean, hour, minute] = o.proxy_mb_s;
    line(
        "MB/s through the proxy",
        format!("{mean:.0}, busiest hour {hour:.0}, busiest minute {minute:.0}"),
    );
    let bills = &o.bills;
    for (name, bill) in [
        ("serve", bills.serve),
        ("warm", bills.warm),
        ("backup", bills.backup),
        ("repair", bills.repair),
    ] {
        line(
            name,
            format!("{:.0} invocations, {:.0} GB-s", bill.invocations, bill.gb_s),
        );
    }
    let grid = Grid {
        headings: ["", "simulated"].map(str::to_owned).to_vec(),
        left: vec![0, 1],
        rows,
    };
    let bullet = if markdown { "- " } else { "" };
    let seeds = seeds_in_words(&o.seeds);
    format!("{}{bullet}{seeds}\n", grid.text(markdown))
}

/// What could be read, and what was invoked for it.
pub(super) fn drawings(o: &Outcome) -> Vec<(String, String)> {
    let line = |name: &str, of: &dyn Fn(&Hour) -> f64| -> Line {
        let hours = o.by_hour.iter().enumerate();
        let points = hours.map(|(i, hour)| (i as f64 + 1.0, of(hour))).collect();
        (name.to_owned(), points)
    };
    let shares = Drawing {
        title: "shares by the hour (mean of the seeds)",
        along: "hour",
        x: Axis::counts(o.by_hour.len()),
        y: Axis::from_zero(1.0, |share| format!("{:.0} %", share * 100.0)),
        lines: vec![
            line("objects that could be read", &Hour::share),
            line("GETs that an LRU without losses hits", &|h| {
                h.hits / h.gets.max(1.0)
            }),
        ],
    };
    let lines = vec![
        line("serve", &|h| h.serve.invocations),
        line("warm", &|h| h.warm.invocations),
        line("backup", &|h| h.backup.invocations),
        line("repair", &|h| h.repair.invocations),
    ];
    let points = lines.iter().flat_map(|(_, points)| points);
    let most = points.map(|(_, count)| *count).fold(0.0, f64::max);
    let invocations = Drawing {
        title: "invocations by the hour (mean of the seeds)",
        along: "hour",
        x: Axis::counts(o.by_hour.len()),
        y: Axis::from_zero(most, |count| format!("{count:.0}")),
        lines,
    };
    let all = [("shares", shares), ("invocations", invocations)];
    all.map(|(name, drawing)| (format!("replay-{name}.svg"), drawing.svg()))
        .to_vec()
}
