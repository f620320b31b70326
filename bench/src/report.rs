//! The table as text, Markdown and JSON.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::goals::{Figure, Verdict};
use crate::load::Output;
use crate::measure::{Round, Samples, Summary};
use crate::target::Target;
use crate::workload::{Cell, Op};

/// One target in one cell.
#[derive(Serialize)]
pub(crate) struct Row {
    op: Op,
    size: String,
    size_bytes: usize,
    clients: usize,
    pipeline: usize,
    target: String,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// This target's rate over the first target's.
    pub(crate) ratio: f64,
    pub(crate) goals: Vec<Verdict>,
    rounds: Vec<Round>,
}

/// All rows, single figures, and lines to print below them.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) footer: Vec<String>,
}

impl Row {
    pub(crate) fn new(cell: &Cell, target: &Target, samples: Samples, first_rate: f64) -> Self {
        let summary = samples.summary();
        Self {
            op: cell.op,
            size: cell.size.to_string(),
            size_bytes: cell.size.bytes,
            clients: cell.clients,
            pipeline: cell.pipeline,
            target: target.name.clone(),
            summary,
            ratio: if first_rate > 0.0 {
                summary.ops_per_s / first_rate
            } else {
                0.0
            },
            goals: Vec::new(),
            rounds: samples.rounds,
        }
    }

    fn cells(&self) -> [String; 13] {
        let summary = &self.summary;
        let goals: Vec<String> = self.goals.iter().map(ToString::to_string).collect();
        [
            self.op.to_string(),
            self.size.clone(),
            self.clients.to_string(),
            self.pipeline.to_string(),
            self.target.clone(),
            format!("{:.3}", summary.gb_per_s),
            format!("{:.0}", summary.ops_per_s),
            duration(summary.p50_us),
            duration(summary.p99_us),
            if self.op == Op::Get {
                duration(summary.first_byte_p50_us)
            } else {
                "-".into()
            },
            summary
                .cpu_s_per_gb
                .map_or("-".into(), |cpu| format!("{cpu:.2}")),
            format!("{:.2}x", self.ratio),
            goals.join(", "),
        ]
    }
}

const HEADINGS: [&str; 13] = [
    "op", "size", "clients", "pipe", "target", "GB/s", "ops/s", "p50", "p99", "1st byte",
    "CPU s/GB", "ratio", "goal",
];
/// The first columns are names and stand left; the others are numbers.
const LEFT: [usize; 4] = [0, 1, 4, 12];

impl Report {
    /// Prints the table, and writes the JSON file if one is asked for.
    pub(crate) fn publish(&self, output: &Output) -> Result<()> {
        if !self.rows.is_empty() {
            let table: Vec<[String; 13]> = self.rows.iter().map(Row::cells).collect();
            print!(
                "{}",
                if output.markdown {
                    markdown(&table)
                } else {
                    aligned(&table)
                }
            );
        }
        for figure in &self.figures {
            println!("{}{figure}", if output.markdown { "- " } else { "" });
        }
        for line in &self.footer {
            println!("{line}");
        }
        if let Some(path) = &output.json {
            fs::write(path, serde_json::to_vec_pretty(self)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

fn aligned(table: &[[String; 13]]) -> String {
    let mut widths = HEADINGS.map(str::len);
    for row in table {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&HEADINGS.map(str::to_owned)).chain(table) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            if LEFT.contains(&column) {
                let _ = write!(line, "{cell:<width$}  ");
            } else {
                let _ = write!(line, "{cell:>width$}  ");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn markdown(table: &[[String; 13]]) -> String {
    let mut text = format!("| {} |\n|", HEADINGS.join(" | "));
    for column in 0..HEADINGS.len() {
        text.push_str(if LEFT.contains(&column) {
            "---|"
        } else {
            "--:|"
        });
    }
    text.push('\n');
    for row in table {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
    text
}

/// Microseconds with three significant digits and a fitting unit.
fn duration(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1_000.0 => (us, "us"),
        us if us < 1_000_000.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let decimals = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_choose_their_unit() {
        assert_eq!(duration(9.876), "9.88 us");
        assert_eq!(duration(98.76), "98.8 us");
        assert_eq!(duration(987.6), "988 us");
        assert_eq!(duration(12_345.0), "12.3 ms");
        assert_eq!(duration(2_500_000.0), "2.50 s");
    }

    #[test]
    fn columns_line_up() {
        let row = |word: &str| std::array::from_fn(|_| word.to_owned());
        let text = aligned(&[row("a"), row("wide-word")]);
        let ends: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(text.lines().count(), 3);
        assert_eq!(ends[2], HEADINGS.len() * 9 + (HEADINGS.len() - 1) * 2);
    }
}
