//! The table, the file, and the verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use super::burst::Burst;
use super::client::{Shared, lock};
use super::schedule::Fault;
use super::tally::{Counts, Op, Tally};
use crate::chart;
use crate::grid::Grid;
use crate::progress::Progress;
use crate::results::{self, Output, Results};

#[derive(Debug, Serialize)]
struct Done {
    at_s: f64,
    fault: Fault,
    what: String,
}

#[derive(Default, Serialize)]
pub(super) struct Report {
    seed: u64,
    faults: Vec<Fault>,
    done: Vec<Done>,
    phases: BTreeMap<String, Counts>,
    total: Counts,
    restarts_ms: Vec<f64>,
    /// GETs of 10 MB right after bursts.
    pub(super) burst: Option<Burst>,
    /// What must not be, in words.
    examples: Vec<String>,
    /// Why there is no more; none if all was done.
    ended_early: Option<String>,
    #[serde(skip)]
    pub(super) progress: Progress,
    #[serde(skip)]
    drawings: Vec<(String, String)>,
    /// Where it is counted.
    #[serde(skip)]
    shared: Option<Arc<Shared>>,
}

impl Report {
    pub(super) fn new(seed: u64, faults: Vec<Fault>) -> Self {
        Self {
            seed,
            faults,
            ..Self::default()
        }
    }

    pub(super) fn struck(&mut self, ended: Duration, fault: Fault, what: &str) {
        let said = || eprintln!("{:>6.1} s  {fault:<12} {what}", ended.as_secs_f64());
        self.progress.beside(said);
        self.done.push(Done {
            at_s: ended.as_secs_f64(),
            fault,
            what: what.to_owned(),
        });
    }

    /// What is counted there is told in the end, whichever it is.
    pub(super) fn follow(&mut self, shared: &Arc<Shared>) {
        self.shared = Some(Arc::clone(shared));
    }

    /// Publishes what there is, however it ended, and judges it.
    pub(super) fn close(mut self, ended: Result<()>, output: &Output) -> Result<()> {
        self.progress.end();
        let counted = match self.shared.take() {
            Some(shared) => self.take(&lock(&shared.tally)),
            None => Ok(()),
        };
        self.ended_early = results::why(&ended);
        output.close(ended.and(counted), &self)?;
        self.judge()
    }

    fn take(&mut self, tally: &Tally) -> Result<()> {
        for (name, phase) in &tally.phases {
            self.phases.insert(name.clone(), phase.counts());
        }
        self.total = tally.total()?.counts();
        self.restarts_ms = tally
            .restarts
            .iter()
            .map(|took| took.as_secs_f64() * 1e3)
            .collect();
        self.examples.clone_from(&tally.examples);
        for (op, name) in [(Op::Get, "get"), (Op::Set, "set")] {
            let (title, curves) = (
                format!("{op:?}, 1 KB to 10 MB: milliseconds under each fault"),
                tally.curves(op),
            );
            if !curves.is_empty() {
                let svg = chart::latencies(&title, curves);
                self.drawings.push((format!("chaos-{name}.svg"), svg));
            }
        }
        Ok(())
    }

    /// What does not fit a column, the seed last.
    fn lines(&self) -> Vec<String> {
        let errors = self.total.errors.iter();
        let errors: Vec<String> = errors.map(|(kind, n)| format!("{kind} {n}")).collect();
        let errors = match &errors[..] {
            [] => "none".to_owned(),
            some => some.join(", "),
        };
        let mut lines = vec![format!("errors: {errors}")];
        if let Some(longest) = self.restarts_ms.iter().copied().reduce(f64::max) {
            let count = self.restarts_ms.len();
            lines.push(format!(
                "proxy killed and started again {count} times: ready after {longest:.0} ms at most"
            ));
        }
        lines.extend(self.burst.as_ref().map(burst_line));
        lines.extend(self.examples.iter().cloned());
        lines.push(format!("seed {}", self.seed));
        lines
    }

    /// An error if anything was read that may not be.
    fn judge(&self) -> Result<()> {
        let Counts {
            wrong_bytes,
            stale_values,
            misses_unexplained,
            hits,
            ..
        } = self.total;
        if wrong_bytes + stale_values + misses_unexplained > 0 {
            bail!(
                "{wrong_bytes} values with wrong bytes, {stale_values} stale ones, \
                 {misses_unexplained} misses that no fault explains; seed {}",
                self.seed
            );
        }
        if hits == 0 {
            bail!("not one value was read: nothing is proved");
        }
        Ok(())
    }
}

impl Results for Report {
    fn text(&self, markdown: bool) -> String {
        let all = self.phases.iter();
        let mut rows: Vec<_> = all.map(|(name, counts)| row(name, counts)).collect();
        rows.push(row("total", &self.total));
        let grid = Grid {
            headings: HEADINGS.map(str::to_owned).to_vec(),
            left: vec![0],
            rows,
        };
        let mut text = grid.text(markdown);
        let bullet = if markdown { "- " } else { "" };
        for line in self.lines() {
            let _ = writeln!(text, "{bullet}{line}");
        }
        text
    }

    fn drawings(&self) -> Vec<(String, String)> {
        self.drawings.clone()
    }
}

const HEADINGS: [&str; 12] = [
    "phase",
    "strikes",
    "s",
    "ops",
    "hits",
    "misses",
    "unexplained",
    "stale",
    "wrong",
    "GET p50, p99, max ms",
    "SET p50, p99, max ms",
    "DEL p50, p99, max ms",
];

fn row(name: &str, counts: &Counts) -> Vec<String> {
    let latency = |op| match counts.latency_ms.get(&op) {
        Some([p50, p99, longest]) => format!("{p50:.1} {p99:>7.1} {longest:>7.0}"),
        None => "-".to_owned(),
    };
    vec![
        name.to_owned(),
        counts.strikes.to_string(),
        format!("{:.1}", counts.seconds),
        counts.ops.to_string(),
        counts.hits.to_string(),
        counts.misses_explained.to_string(),
        counts.misses_unexplained.to_string(),
        counts.stale_values.to_string(),
        counts.wrong_bytes.to_string(),
        latency(Op::Get),
        latency(Op::Set),
        latency(Op::Del),
    ]
}

fn burst_line(burst: &Burst) -> String {
    let verdict = if burst.ratio <= burst.aim {
        "met"
    } else {
        "missed"
    };
    format!(
        "GET 10 MB, {} nodes killed at once, {} times: p50 {:.1} ms, p99 {:.1} ms ({} reads, {} \
         misses, {} errors); in quiet p50 {:.1} ms, p99 {:.1} ms ({} reads); p99 is {:.1} times \
         the quiet one (aim: at most {}, {verdict})",
        burst.nodes_killed,
        burst.bursts,
        burst.burst_p50_ms,
        burst.burst_p99_ms,
        burst.burst_gets,
        burst.burst_misses,
        burst.errors,
        burst.quiet_p50_ms,
        burst.quiet_p99_ms,
        burst.quiet_gets,
        burst.ratio,
        burst.aim
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::tally::Found;
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        output: Output,
    }

    fn followed() -> (Report, Arc<Shared>) {
        let shared = Arc::new(Shared::new("127.0.0.1:1".into(), 1, 2, 7));
        let mut report = Report::new(7, vec![Fault::Kill]);
        report.follow(&shared);
        (report, shared)
    }

    #[test]
    fn what_was_counted_until_an_error_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("out.json");
        let plots = folder.path().to_str().unwrap();
        let output = ["x", "--json", json.to_str().unwrap(), "--plot", plots];
        let output = Cli::parse_from(output).output;
        let (report, shared) = followed();
        let ms = Duration::from_millis(3);
        lock(&shared.tally).answered("quiet", Op::Get, ms).unwrap();
        let hit = lock(&shared.tally).found("quiet", Found::Hit, String::new);
        hit.unwrap();
        let ended = report.close(Err(anyhow::anyhow!("interrupted")), &output);
        assert_eq!(ended.unwrap_err().to_string(), "interrupted");
        let said = std::fs::read(json).unwrap();
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        assert_eq!(said["ended_early"], "interrupted");
        assert_eq!(
            (&said["seed"], &said["total"]["hits"]),
            (&7.into(), &1.into())
        );
        assert!(folder.path().join("chaos-get.svg").is_file());
        assert!(!folder.path().join("chaos-set.svg").exists(), "no SET");
    }

    #[test]
    fn what_may_not_be_is_an_error_and_told_as_markdown() {
        let (mut report, shared) = followed();
        let what = || "key 1".to_owned();
        let found = lock(&shared.tally).found("kill 2", Found::Wrong, what);
        found.unwrap();
        report.take(&lock(&shared.tally)).unwrap();
        let text = report.text(true);
        assert!(text.starts_with("| phase | strikes | s |"), "{text}");
        let row = "| kill 2 | 0 | 0.0 | 0 | 0 | 0 | 0 | 0 | 1 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("- kill 2: Wrong: key 1"), "{text}");
        assert!(text.ends_with("- seed 7\n"), "{text}");
        let error = report.judge().unwrap_err().to_string();
        assert!(error.starts_with("1 values with wrong bytes"), "{error}");
    }
}
