//! The report as text or Markdown.

use std::fmt::Write as _;

use super::Report;
use super::breakeven::{Along, Curves};
use super::ours::ByPurpose;
use crate::grid::Grid;
use crate::replay::Probed;
use crate::results::seeds_in_words;

/// What others published for 50 hours of the registry trace, objects above 10 MB: the
/// price of 2020 without a proxy, and all objects (VLDB 2023).
const PUBLISHED: [(&str, &str, f64); 2] = [
    (
        "InfiniCache (FAST 2020)",
        "published: this trace, 63.6 % hits, no proxy counted",
        16.51,
    ),
    (
        "InfiniStore (VLDB 2023)",
        "published: objects of all sizes",
        13.57,
    ),
];
/// Hours for which those figures are.
const PUBLISHED_HOURS: f64 = 50.0;

/// All of it.
pub(super) fn text(report: &Report, markdown: bool) -> String {
    let mut text = format!("pool: {}; {}\n", report.pool, report.arch);
    if let Some(outcome) = &report.replay {
        let percent = |share: f64| format!("{:.3} %", share * 100.0);
        let _ = writeln!(
            text,
            "{} requests in {} h, {} bad lines skipped; {}, {} seeds; {} of the objects available in the worst hour\nhit ratio {}, of an LRU of the same capacity without losses {}; RESETs {} of hits (worst seed {}); {:.0} GETs of objects above {} MiB, which are not stored",
            outcome.requests,
            outcome.hours,
            outcome.skipped_lines,
            outcome.day,
            outcome.seeds.len(),
            percent(outcome.worst_hour_available),
            percent(outcome.hit_ratio),
            percent(outcome.lru_hit_ratio),
            percent(outcome.reset_share_of_hits),
            percent(outcome.worst_seed_reset_share_of_hits),
            outcome.tally.too_large,
            outcome.pool.max_object_mb
        );
    }
    let w = &report.workload;
    let _ = writeln!(
        text,
        "{:.0} GB stored, {:.0} objects of {:.3} MB read and {:.0} stored an hour, {:.0} MB/s through the proxy in the busiest hour{}\n",
        w.stored_gb,
        w.gets_per_hour,
        w.object_mb,
        w.sets_per_hour,
        report.proxy_machine.needed_mb_s,
        report.replay.as_ref().map_or(String::new(), |o| format!(
            " ({:.0} in the busiest minute of all seeds)",
            o.proxy_mb_s[2]
        ))
    );
    text.push_str(&lines(architectures(report), 2, markdown));
    let _ = writeln!(
        text,
        "\ncore: what functions, the proxy's machine, traffic between zones and the backing store cost\nthe formulas make ${:.2} of its invocations\n",
        report.formula_usd
    );
    text.push_str(&lines(peers(report), 2, markdown));
    text.push('\n');
    text.push_str(&lines(break_even(&report.break_even), 4, markdown));
    text.push('\n');
    for sentence in &report.recommendation {
        let _ = writeln!(text, "{sentence}");
    }
    let _ = writeln!(text, "\nprices: {} ({})", report.prices, report.region);
    for source in &report.price_sources {
        let date = source.date.as_deref().unwrap_or("no date");
        let _ = writeln!(text, "  {}: {date}; {}", source.section, source.source);
    }
    if !report.borrowed_prices.is_empty() {
        let lacking = report.borrowed_prices.join(", ");
        let _ = writeln!(text, "not in that file, so the shipped one's: {lacking}");
    }
    text.push_str(&processor(report));
    let platform = report.profile.as_ref().map(Probed::to_string);
    let platform =
        platform.unwrap_or("as assumed (docs/cost.md); --profile takes what was measured".into());
    let _ = writeln!(text, "the platform: {platform}");
    let unchecked = report.unchecked_prices.join(", ");
    let _ = writeln!(text, "recalled, not checked: {unchecked}");
    let seeds = report.replay.as_ref().map(|o| &o.seeds[..]);
    let seeds = seeds_in_words(seeds.unwrap_or(&[report.seed]));
    let _ = writeln!(text, "{seeds}");
    text
}

/// What the proxy takes of a processor, and where that is from.
fn processor(report: &Report) -> String {
    let known = &report.processor;
    let hint = if known.measured {
        ""
    } else {
        "; --measure measures here"
    };
    format!(
        "the proxy takes {:.2} s of a core for a GB and {:.3} ms for a request: {}{hint}\n",
        known.figures.cpu_s_per_gb,
        known.figures.cpu_s_per_request * 1e3,
        known.source
    )
}

fn architectures(report: &Report) -> Vec<Vec<String>> {
    let headings = [
        "functions",
        "proxy",
        "total",
        "of that core",
        "serve",
        "warm",
        "backup",
        "repair",
        "proxy",
        "cross-zone",
        "backing store",
        "logs",
        "API",
        "volumes",
        "watch",
    ];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    rows.extend(report.architectures.iter().map(|ours| {
        let ByPurpose {
            serve,
            warm,
            backup,
            repair,
            proxy,
            cross_zone,
            backing_store,
            logs,
            api_path,
            volumes,
            watch,
        } = ours.usd_by_purpose;
        let machine = &ours.proxy_machine;
        let mut row = vec![
            ours.arch.to_owned(),
            format!("{} x {}", machine.count, machine.name),
        ];
        let all = [
            ours.total_usd,
            ours.core_usd,
            serve,
            warm,
            backup,
            repair,
            proxy,
            cross_zone,
            backing_store,
            logs,
            api_path,
            volumes,
            watch,
        ];
        row.extend(all.map(usd));
        row
    }));
    rows
}

fn peers(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["", "what", "GB", "$/h", "$", "times ours"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut row = |name: &str, what: &str, gb: f64, usd_per_hour: f64| {
        rows.push(vec![
            name.replace('_', " "),
            what.to_owned(),
            if gb.is_finite() && gb > 0.0 {
                format!("{gb:.0}")
            } else {
                "-".into()
            },
            format!("{usd_per_hour:.4}"),
            usd(usd_per_hour * report.hours),
            format!("{:.2}", usd_per_hour / report.usd_per_hour),
        ]);
    };
    let capacity = report.demand.capacity_gb;
    row("scatterhoard", &report.pool, capacity, report.usd_per_hour);
    for peer in &report.peers {
        row(peer.name, &peer.what, peer.capacity_gb, peer.usd_per_hour);
    }
    if (report.hours - PUBLISHED_HOURS).abs() < 0.5 && report.replay.is_some() {
        for (name, what, published) in PUBLISHED {
            row(name, what, 0.0, published / PUBLISHED_HOURS);
        }
    }
    rows
}

fn break_even(all: &[Curves]) -> Vec<Vec<String>> {
    let mut rows = vec![
        [
            "cheaper than ours",
            "GETs an hour",
            "MB an object",
            "GB stored",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let Some(first) = all.first() else {
        return rows;
    };
    for (i, line) in first.lines.iter().enumerate().skip(1) {
        let mut row = vec![line.name.replace('_', " ")];
        row.extend(all.iter().map(|curves| {
            let found = curves
                .lines
                .get(i)
                .map(|l| stretches(&l.cheaper, curves.along));
            found.unwrap_or_default()
        }));
        rows.push(row);
    }
    let mut here = vec!["(here)".to_owned()];
    here.extend(all.iter().map(|c| short(c.here)));
    rows.push(here);
    rows
}

fn stretches(cheaper: &[(f64, f64)], along: Along) -> String {
    if cheaper.is_empty() {
        return "nowhere".into();
    }
    let (low, high) = along.ends();
    let words =
        cheaper.iter().map(
            |(from, to)| match (*from <= low * 1.001, *to >= high * 0.999) {
                (true, true) => "everywhere".into(),
                (true, false) => format!("up to {}", short(*to)),
                (false, true) => format!("from {}", short(*from)),
                (false, false) => format!("{} to {}", short(*from), short(*to)),
            },
        );
    words.collect::<Vec<String>>().join(", ")
}

pub(super) fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.3}"),
    }
}

fn usd(value: f64) -> String {
    match value {
        v if v != 0.0 && v < 0.1 => format!("${v:.4}"),
        v => format!("${v:.2}"),
    }
}

/// The first row is the headings; the first `names` columns are no numbers.
fn lines(rows: Vec<Vec<String>>, names: usize, markdown: bool) -> String {
    let mut rows = rows.into_iter();
    let grid = Grid {
        headings: rows.next().unwrap_or_default(),
        left: (0..names).collect(),
        rows: rows.collect(),
    };
    grid.text(markdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_said_in_words() {
        let all = Along::Stored;
        assert_eq!(stretches(&[], all), "nowhere");
        assert_eq!(stretches(&[(1.0, 1e5)], all), "everywhere");
        assert_eq!(
            stretches(&[(1.0, 7.5), (200.0, 1e5)], all),
            "up to 7.5, from 200"
        );
        assert_eq!(stretches(&[(0.5 * 20.0, 20.0)], all), "10.0 to 20.0");
        assert_eq!(
            (usd(0.0), usd(0.01234), usd(6.0)),
            ("$0.00".into(), "$0.0123".into(), "$6.00".into())
        );
    }
}
