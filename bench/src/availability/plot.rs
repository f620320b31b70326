//! Drawings of the study: small SVG files, written by hand.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use local_lambda::Prices;

use super::study::Outcome;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// Left, top, right, bottom; names stand on the right.
const MARGIN: [f64; 4] = [62.0, 28.0, 210.0, 34.0];
const COLOURS: [&str; 10] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2",
    "#7f7f7f", "#bcbd22",
];
/// Shares of objects below this are drawn as this.
const LEAST: f64 = 1e-7;

struct Chart<'a> {
    title: &'a str,
    /// Both ends of the axis, and what is written at which height.
    ends: (f64, f64),
    ticks: Vec<(f64, String)>,
    lines: Vec<(String, Vec<f64>)>,
}

/// Draws unavailability and cost by the hour, a line for each outcome.
pub(crate) fn draw(outcomes: &[Outcome], prices: &Prices, folder: &Path, name: &str) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("no {}", folder.display()))?;
    let lines = |of: &dyn Fn(&Outcome) -> Vec<f64>| -> Vec<(String, Vec<f64>)> {
        outcomes
            .iter()
            .map(|o| (label(o, outcomes), of(o)))
            .collect()
    };
    let missing = lines(&|o| {
        let missing = o.hours.iter().map(|h| (1.0 - h.share()).max(LEAST).log10());
        missing.collect()
    });
    let power = |p: i32| (f64::from(p), format!("{} %", 10f64.powi(p + 2)));
    let unavailable = Chart {
        title: "objects not available, by hour (mean of the seeds)",
        ends: (LEAST.log10(), 0.0),
        ticks: (-7..=0).map(power).collect(),
        lines: missing,
    };
    let costs = lines(&|o| o.hours.iter().map(|h| h.usd(prices)).collect());
    let most = costs
        .iter()
        .flat_map(|(_, c)| c.iter())
        .copied()
        .fold(0.0, f64::max);
    let top = round_up(most);
    let cost = Chart {
        title: "warm-up, backup and repair, dollars by hour",
        ends: (0.0, top),
        ticks: (0..=4)
            .map(|i| {
                (
                    top * f64::from(i) / 4.0,
                    format!("${:.3}", top * f64::from(i) / 4.0),
                )
            })
            .collect(),
        lines: costs,
    };
    for (kind, chart) in [("unavailable", unavailable), ("cost", cost)] {
        let path = folder.join(format!("{name}-{kind}.svg"));
        std::fs::write(&path, chart.svg())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
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

/// The next of 1, 2, 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-6).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fits = steps.iter().find(|s| **s * power >= value);
    fits.unwrap_or(&10.0) * power
}

impl Chart<'_> {
    fn svg(&self) -> String {
        let [left, top, right, bottom] = MARGIN;
        let (wide, high) = (WIDTH - left - right, HEIGHT - top - bottom);
        let y = |value: f64| {
            let (low, up) = self.ends;
            top + high * (1.0 - (value - low) / (up - low))
        };
        let hours = self
            .lines
            .iter()
            .map(|(_, line)| line.len())
            .max()
            .unwrap_or(1);
        let x = |hour: usize| left + wide * (hour as f64 + 0.5) / hours as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n<text x=\"{left}\" y=\"16\" font-size=\"13\">{}</text>\n",
            self.title
        );
        for (value, text) in &self.ticks {
            let at = y(*value);
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {at:.1}h{wide}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                left - 5.0,
                at + 4.0
            );
        }
        for hour in (0..hours).step_by(hours.div_ceil(8)) {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{hour}</text>",
                x(hour),
                HEIGHT - bottom + 15.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{:.0}\">hour of the day</text>",
            HEIGHT - 5.0
        );
        for (i, (name, line)) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let dashes = if i < COLOURS.len() {
                ""
            } else {
                " stroke-dasharray=\"4 2\""
            };
            let points: Vec<String> = line
                .iter()
                .enumerate()
                .map(|(hour, value)| format!("{:.1},{:.1}", x(hour), y(*value)))
                .collect();
            let (at, end) = (top + 8.0 + 15.0 * i as f64, WIDTH - right + 10.0);
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dashes}/>\n<path d=\"M{end} {at}h16\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/><text x=\"{}\" y=\"{}\">{name}</text>",
                points.join(" "),
                end + 20.0,
                at + 4.0
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_figures() {
        assert_eq!(
            [round_up(0.07), round_up(0.11), round_up(3.0)],
            [0.1, 0.2, 5.0]
        );
    }

    #[test]
    fn higher_values_are_drawn_higher() {
        let chart = Chart {
            title: "t",
            ends: (0.0, 1.0),
            ticks: vec![(0.0, "0".into())],
            lines: vec![("a".into(), vec![0.0, 1.0])],
        };
        let svg = chart.svg();
        let [_, top, _, bottom] = MARGIN;
        assert!(svg.contains(&format!(",{:.1} ", HEIGHT - bottom)), "{svg}");
        assert!(svg.contains(&format!(",{top:.1}\"")), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
