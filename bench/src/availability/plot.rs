//! Drawings of the study.

use local_lambda::Prices;

use super::study::Outcome;
use crate::chart::{Axis, Drawing, Line};

/// Shares of objects below this are drawn as this.
const LEAST: f64 = 1e-7;
const ALONG: &str = "hour of the day";

/// Unavailability and cost by the hour, a line for each outcome; `name` begins the files'.
pub(crate) fn drawings(outcomes: &[Outcome], prices: &Prices, name: &str) -> Vec<(String, String)> {
    if outcomes.is_empty() {
        return Vec::new();
    }
    let lines = |of: &dyn Fn(&Outcome) -> Vec<f64>| -> Vec<Line> {
        let middle = |hour: usize| hour as f64 + 0.5;
        let points = |values: Vec<f64>| values.into_iter().enumerate();
        let line = |o: &Outcome| points(of(o)).map(|(hour, v)| (middle(hour), v)).collect();
        let named = outcomes.iter().map(|o| (label(o, outcomes), line(o)));
        named.collect()
    };
    let missing = lines(&|o| {
        let missing = o.hours.iter().map(|h| (1.0 - h.share()).max(LEAST).log10());
        missing.collect()
    });
    let power = |p: i32| (f64::from(p), format!("{} %", 10f64.powi(p + 2)));
    let unavailable = Drawing {
        title: "objects not available, by hour (mean of the seeds)",
        along: ALONG,
        x: hours(outcomes),
        y: Axis::linear((LEAST.log10(), 0.0), (-7..=0).map(power).collect()),
        lines: missing,
    };
    let costs = lines(&|o| o.hours.iter().map(|h| h.usd(prices)).collect());
    let most = costs
        .iter()
        .flat_map(|(_, points)| points.iter())
        .map(|(_, usd)| *usd)
        .fold(0.0, f64::max);
    let cost = Drawing {
        title: "warm-up, backup and repair, dollars by hour",
        along: ALONG,
        x: hours(outcomes),
        y: Axis::from_zero(most, |usd| format!("${usd:.3}")),
        lines: costs,
    };
    let all = [("unavailable", unavailable), ("cost", cost)];
    all.map(|(kind, drawing)| (format!("{name}-{kind}.svg"), drawing.svg()))
        .to_vec()
}

/// The axis of the hours that were played, some of them written down.
fn hours(outcomes: &[Outcome]) -> Axis {
    let hours = outcomes.iter().map(|o| o.hours.len()).max().unwrap_or(1);
    let ticks = (0..hours).step_by(hours.div_ceil(8).max(1));
    let tick = |hour: usize| (hour as f64 + 0.5, hour.to_string());
    Axis::linear((0.0, hours.max(1) as f64), ticks.map(tick).collect())
}

/// What tells an outcome from the others.
fn label(outcome: &Outcome, all: &[Outcome]) -> String {
    type Part = (fn(&Outcome) -> String, &'static str);
    let parts: [Part; 10] = [
        (|o| o.name(), ""),
        (|o| o.geometry.clone(), ""),
        (
            |o| match o.backup_interval_s {
                0 => "no backup".into(),
                s => format!("backup {s} s"),
            },
            "",
        ),
        (|o| o.warm_interval_s.to_string(), "warm s "),
        (|o| o.repair_mb_s.to_string(), "repair MB/s "),
        (|o| o.node_mb.to_string(), "MB/node "),
        (|o| o.correlation.to_string(), "corr. "),
        (|o| o.rounds_at_once.to_string(), "rounds "),
        (|o| o.backup_after_mb.to_string(), "after MB "),
        (|o| o.backup_mb_s.to_string(), "backup MB/s "),
    ];
    let differ = parts
        .iter()
        .filter(|(part, _)| all.iter().any(|o| part(o) != part(outcome)));
    let words: Vec<String> = differ
        .map(|(part, unit)| format!("{unit}{}", part(outcome)))
        .collect();
    if words.is_empty() {
        outcome.name()
    } else {
        words.join(", ")
    }
}
