//! A real replay as text or Markdown, and its latencies as a drawing.

use std::fmt::Write as _;

use super::RealOutcome;
use super::outcome::Percentiles;
use crate::chart::Chart;
use crate::grid::Grid;

pub(crate) fn text(o: &RealOutcome, markdown: bool) -> String {
    let pool = &o.pool;
    let mut text = format!(
        "{} nodes of {} MiB, {}, sizes divided by {:.1}: stands for {:.1} GB of objects; {} times as fast, rounds every {:.0} s of the trace\n{} requests of {:.1} h in {:.0} s, {} bad lines skipped; reclaims {}, seed {}\n\n",
        pool.nodes,
        pool.memory_mb,
        pool.geometry,
        pool.scale_bytes,
        pool.stands_for_gb,
        pool.speed_up,
        pool.backup_interval_s,
        o.requests,
        o.hours,
        o.elapsed_s,
        o.skipped_lines,
        o.day,
        o.seed
    );
    if let Some(why) = &o.broken_off {
        let _ = writeln!(text, "BROKEN OFF, figures are of what was played: {why}\n");
    }
    text.push_str(&lines(beside(o), markdown));
    text.push('\n');
    text.push_str(&lines(latencies(o), markdown));
    let c = &o.counts;
    let _ = writeln!(
        text,
        "\nmisses: {} of what was never stored, {} evicted, {} of another version, {} too large to be stored; {} errors {:?}, {} replies broken off",
        c.cold, c.evicted, c.other_version, c.too_large, c.errors, o.errors, o.broken_replies
    );
    let p = &o.proxy;
    let _ = writeln!(
        text,
        "the proxy says: {} objects evicted, {} lost, {} instances lost, {} chunks repaired, {} copied to standbys; {:.1} s of CPU for {:.0} MB read and {:.0} MB stored",
        p.evicted_objects,
        p.lost_objects,
        p.instances_lost,
        p.repaired_chunks,
        p.backup_chunks,
        p.cpu_s,
        o.read_mb,
        o.stored_mb
    );
    if p.evictions_not_told > 0 {
        let _ = writeln!(
            text,
            "{} evictions were not told: RESETs may be fewer",
            p.evictions_not_told
        );
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.3} %", share * 100.0)
}

/// Here, in the simulation, and without losses.
fn beside(o: &RealOutcome) -> Vec<[String; 4]> {
    let (s, m) = (&o.simulated, &o.platform);
    let row = |name: &str, here: String, simulated: String, lru: String| {
        [name.to_owned(), here, simulated, lru]
    };
    let none = || "-".to_owned();
    vec![
        row(
            "",
            "here".into(),
            format!("simulated, {} seeds", s.seeds),
            "LRU without losses".into(),
        ),
        row(
            "hit ratio",
            percent(o.hit_ratio),
            percent(s.hit_ratio),
            percent(o.lru_hit_ratio),
        ),
        row(
            "RESETs of hits",
            format!("{} ({})", percent(o.reset_share_of_hits), o.counts.lost),
            percent(s.reset_share_of_hits),
            none(),
        ),
        row(
            "instances taken",
            m.reclaimed.to_string(),
            format!("{:.0}", s.reclaimed),
            none(),
        ),
        row(
            "evicted",
            o.proxy.evicted_objects.to_string(),
            format!("{:.0}", s.evicted),
            none(),
        ),
        row(
            "invocations",
            m.invocations.to_string(),
            format!("{:.0}", s.invocations),
            none(),
        ),
        row(
            "GB-s",
            format!("{:.0}", m.gb_s),
            format!("{:.0}", s.gb_s),
            none(),
        ),
        row(
            "functions of this memory, arm64",
            format!("${:.4}", m.arm64_usd),
            format!("${:.4}", s.arm64_usd),
            none(),
        ),
        row(
            "the same, x86_64",
            format!("${:.4}", m.x86_64_usd),
            format!("${:.4}", s.x86_64_usd),
            none(),
        ),
    ]
}

fn latencies(o: &RealOutcome) -> Vec<[String; 7]> {
    let l = &o.latency_ms;
    let row = |name: &str, p: &Percentiles| {
        let ms = |value: f64| format!("{value:.1}");
        [
            name.to_owned(),
            p.count.to_string(),
            ms(p.p50),
            ms(p.p90),
            ms(p.p99),
            ms(p.p999),
            ms(p.max),
        ]
    };
    let headings = ["ms", "count", "p50", "p90", "p99", "p99.9", "max"];
    vec![
        headings.map(str::to_owned),
        row("GET that hits", &l.get_hit),
        row("since it was due", &l.get_hit_since_due),
        row("SET after a miss", &l.set),
    ]
}

fn lines<const N: usize>(rows: Vec<[String; N]>, markdown: bool) -> String {
    let mut rows = rows.into_iter().map(Vec::from);
    let grid = Grid {
        headings: rows.next().unwrap_or_default(),
        left: vec![0],
        rows: rows.collect(),
    };
    grid.text(markdown)
}

/// Latencies by how rare they are: one in so many takes longer.
pub(crate) fn drawing(o: &RealOutcome) -> (String, String) {
    let line = |name: &str, p: &Percentiles| {
        let points = [
            (2.0, p.p50),
            (10.0, p.p90),
            (100.0, p.p99),
            (1000.0, p.p999),
        ];
        (name.to_owned(), points.to_vec())
    };
    let l = &o.latency_ms;
    let chart = Chart {
        title: "milliseconds that one in so many takes at least",
        along: "one in",
        unit: "",
        lines: vec![
            line("GET that hits", &l.get_hit),
            line("since it was due", &l.get_hit_since_due),
            line("SET after a miss", &l.set),
        ],
    };
    ("replay-latency.svg".into(), chart.svg())
}
