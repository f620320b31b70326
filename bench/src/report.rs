//! The table as text, Markdown and JSON.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::chart::{self, Line};
use crate::goals::{Figure, Verdict};
use crate::grid::Grid;
use crate::load::mix::Mix;
use crate::load::schedule::OpenLoop;
use crate::measure::{Distribution, Percentiles, Round, Samples, Summary};
use crate::procfs;
use crate::results::{self, Output, Results};
use crate::target::Target;
use crate::workload::{Cell, Op};

/// One target in one cell.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) op: Mix,
    pub(crate) size: String,
    /// None where sizes differ.
    pub(crate) size_bytes: Option<usize>,
    pub(crate) clients: usize,
    pipeline: usize,
    pub(crate) target: String,
    /// Whose word an acknowledged SET has; only where rows are to say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ack: Option<&'static str>,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// This target's rate over the first target's.
    pub(crate) ratio: f64,
    pub(crate) goals: Vec<Verdict>,
    /// GETs that found nothing, and what was stored because of that.
    misses: u64,
    fills: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_loop: Option<Behind>,
    /// Latencies, each operation by itself.
    get: Option<Distribution>,
    set: Option<Distribution>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<Process>,
    rounds: Vec<Round>,
}

/// How well an open loop kept to its time.
#[derive(Clone, Serialize)]
struct Behind {
    #[serde(flatten)]
    asked: OpenLoop,
    /// Share of the requests that were sent more than a millisecond after they were due.
    late_share: f64,
    late_p50_us: f64,
    late_p99_us: f64,
    late_max_us: f64,
    /// Given up, since they were due too long ago.
    never_sent: u64,
}

/// CPU time of one process that was named, and of those that it started.
#[derive(Serialize)]
struct Process {
    pid: u32,
    name: String,
    cpu_s: f64,
    cpu_s_per_gb: Option<f64>,
}

/// All rows, single figures, and lines to print below them.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) footer: Vec<String>,
    /// Tables of their own, printed between rows and figures; their figures are in the rows.
    #[serde(skip)]
    pub(crate) grids: Vec<Grid>,
    /// Names of files, and SVG.
    #[serde(skip)]
    pub(crate) drawings: Vec<(String, String)>,
    pub(crate) seed: u64,
    /// Why there is no more; none if all was measured.
    pub(crate) ended_early: Option<String>,
}

impl Row {
    pub(crate) fn new(
        cell: &Cell,
        target: &Target,
        samples: Samples,
        first_rate: f64,
        open: Option<OpenLoop>,
    ) -> Result<Self> {
        let summary = samples.summary()?;
        let tally = &samples.tally;
        let behind = |asked| {
            let times = Percentiles::of(&tally.behind_ns);
            let late = tally.behind_ns.count_between(1_000_000, u64::MAX);
            Behind {
                asked,
                late_share: late as f64 / (tally.behind_ns.len() as f64).max(1.0),
                late_p50_us: times.p50_us,
                late_p99_us: times.p99_us,
                late_max_us: times.max_us,
                never_sent: tally.unsent,
            }
        };
        let gb = samples.gb();
        let process = |(&pid, &cpu_s): (&u32, &f64)| Process {
            pid,
            name: procfs::name(pid).unwrap_or_default(),
            cpu_s,
            cpu_s_per_gb: (gb > 0.0).then(|| cpu_s / gb),
        };
        let processes = target.pids.iter().zip(&samples.cpu_by_pid_s);
        Ok(Self {
            op: cell.mix,
            size: cell.sizes.to_string(),
            size_bytes: cell.sizes.only(),
            clients: cell.clients,
            pipeline: cell.pipeline,
            target: target.name.clone(),
            ack: target.ack.filter(|_| cell.mix.has(Op::Set)),
            summary,
            ratio: if first_rate > 0.0 {
                summary.ops_per_s / first_rate
            } else {
                0.0
            },
            goals: Vec::new(),
            misses: tally.misses,
            fills: tally.fills,
            open_loop: open.map(behind),
            get: Distribution::of(&tally.get_ns),
            set: Distribution::of(&tally.set_ns),
            processes: processes.map(process).collect(),
            rounds: samples.rounds,
        })
    }

    /// The target, and whose word its SETs have.
    pub(crate) fn who(&self) -> String {
        match self.ack {
            Some(ack) => format!("{} (ack={ack})", self.target),
            None => self.target.clone(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let summary = &self.summary;
        let goals: Vec<String> = self.goals.iter().map(ToString::to_string).collect();
        let mut cells = vec![
            self.op.to_string(),
            self.size.clone(),
            self.clients.to_string(),
            self.pipeline.to_string(),
            self.who(),
            format!("{:.3}", summary.gb_per_s),
            format!("{:.0}", summary.ops_per_s),
        ];
        cells.extend(times(&summary.latency));
        cells.extend([
            if self.op.has(Op::Get) {
                duration(summary.first_byte_p50_us)
            } else {
                "-".into()
            },
            summary
                .cpu_s_per_gb
                .map_or("-".into(), |cpu| format!("{cpu:.2}")),
            format!("{:.2}x", self.ratio),
            goals.join(", "),
        ]);
        cells
    }

    /// Of a mix, the latencies of each operation.
    fn parts(&self) -> Vec<Vec<String>> {
        if self.op.only().is_some() && self.fills == 0 {
            return Vec::new();
        }
        let part = |name: &str, part: &Option<Distribution>| {
            let part = part.as_ref()?;
            let mut cells = vec![String::new(); HEADINGS.len()];
            cells[0] = format!("- {name}");
            cells[1] = format!("{} times", part.count);
            for (cell, time) in cells[FIRST_TIME..].iter_mut().zip(times(&part.percentiles)) {
                *cell = time;
            }
            Some(cells)
        };
        let parts = [part("GET", &self.get), part("SET", &self.set)];
        parts.into_iter().flatten().collect()
    }

    /// What does not fit a column.
    fn words(&self) -> Vec<String> {
        let place = format!(
            "{} {}, {} {}, {}",
            self.op,
            self.size,
            self.clients,
            if self.clients == 1 {
                "client"
            } else {
                "clients"
            },
            self.target
        );
        let mut words = Vec::new();
        if let Some(behind) = &self.open_loop {
            let asked = behind.asked;
            words.push(format!(
                "{place}: {} requests/s asked for ({}), {:.1}/s done; sent more than 1 ms late: \
                 {:.2} %, at most {} (p99 {}); never sent: {}",
                asked.rate,
                asked.arrivals.name(),
                self.summary.ops_per_s,
                behind.late_share * 1e2,
                duration(behind.late_max_us),
                duration(behind.late_p99_us),
                behind.never_sent
            ));
        }
        if self.misses > 0 {
            let gets = self.get.as_ref().map_or(0, |get| get.count);
            let hits = 1.0 - self.misses as f64 / (gets as f64).max(1.0);
            words.push(format!(
                "{place}: {} of {gets} GETs missed (hit ratio {hits:.4}), {} stored after that",
                self.misses, self.fills
            ));
        }
        if self.processes.len() > 1 {
            let each = self.processes.iter().map(|process| {
                let per_gb = process.cpu_s_per_gb.unwrap_or_default();
                format!("{} ({}) {per_gb:.2}", process.name, process.pid)
            });
            let each = each.collect::<Vec<_>>().join(", ");
            words.push(format!("{place}: CPU s/GB by process: {each}"));
        }
        words
    }

    /// One request in how many takes longer, and how long that is, in milliseconds.
    fn curves(&self) -> Vec<Line> {
        let curve = |op: Op, part: &Option<Distribution>| -> Option<Line> {
            let name = format!("{op} {}, {}", self.size, self.target);
            Some((name, part.as_ref()?.curve()))
        };
        let curves = [curve(Op::Get, &self.get), curve(Op::Set, &self.set)];
        curves.into_iter().flatten().collect()
    }
}

const HEADINGS: [&str; 16] = [
    "op", "size", "clients", "pipe", "target", "GB/s", "ops/s", "p50", "p90", "p99", "p99.9",
    "max", "1st byte", "CPU s/GB", "ratio", "goal",
];
const FIRST_TIME: usize = 7;
/// The first columns are names and stand left; the others are numbers.
const LEFT: [usize; 4] = [0, 1, 4, 15];

impl Report {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Publishes what there is, however it ended, and hands the end on.
    pub(crate) fn close(mut self, ended: Result<()>, output: &Output) -> Result<()> {
        self.ended_early = results::why(&ended);
        output.close(ended, &self)
    }

    /// Latencies of all rows, the rare ones on the right.
    pub(crate) fn draw_latencies(&mut self) {
        let lines: Vec<Line> = self.rows.iter().flat_map(Row::curves).collect();
        if !lines.is_empty() {
            let svg = chart::latencies("latency in milliseconds", lines);
            self.drawings.push(("latency.svg".into(), svg));
        }
    }
}

impl Results for Report {
    fn text(&self, markdown: bool) -> String {
        let mut text = String::new();
        if !self.rows.is_empty() {
            let lines = |row: &Row| std::iter::once(row.cells()).chain(row.parts()).collect();
            let rows: Vec<Vec<Vec<String>>> = self.rows.iter().map(lines).collect();
            let grid = Grid {
                headings: HEADINGS.map(str::to_owned).to_vec(),
                left: LEFT.to_vec(),
                rows: rows.concat(),
            };
            text.push_str(&grid.text(markdown));
        }
        for grid in &self.grids {
            let _ = write!(text, "\n{}", grid.text(markdown));
        }
        let bullet = if markdown { "- " } else { "" };
        for figure in &self.figures {
            let _ = writeln!(text, "{bullet}{figure}");
        }
        for line in self.rows.iter().flat_map(Row::words) {
            let _ = writeln!(text, "{bullet}{line}");
        }
        for line in &self.footer {
            let _ = writeln!(text, "{bullet}{line}");
        }
        let _ = writeln!(text, "{bullet}seed {}", self.seed);
        text
    }

    fn drawings(&self) -> Vec<(String, String)> {
        self.drawings.clone()
    }
}

fn times(percentiles: &Percentiles) -> [String; 5] {
    let Percentiles {
        p50_us,
        p90_us,
        p99_us,
        p99_9_us,
        max_us,
    } = *percentiles;
    [p50_us, p90_us, p99_us, p99_9_us, max_us].map(duration)
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
    fn the_seed_is_said_and_what_there_is_none_of_is_not_drawn() {
        let mut report = Report::new(7);
        report.footer.push("a word".into());
        report.draw_latencies();
        assert_eq!(report.text(false), "a word\nseed 7\n");
        assert_eq!(report.text(true), "- a word\n- seed 7\n");
        assert!(report.drawings().is_empty());
    }

    #[test]
    fn durations_choose_their_unit() {
        assert_eq!(duration(9.876), "9.88 us");
        assert_eq!(duration(98.76), "98.8 us");
        assert_eq!(duration(987.6), "988 us");
        assert_eq!(duration(12_345.0), "12.3 ms");
        assert_eq!(duration(2_500_000.0), "2.50 s");
    }
}
