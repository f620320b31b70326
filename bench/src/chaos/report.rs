//! The table, the file, and the verdict.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::burst::Burst;
use super::schedule::Fault;
use super::tally::{Counts, Op, Tally};
use crate::progress::Progress;

#[derive(Debug, Serialize)]
struct Done {
    at_s: f64,
    fault: Fault,
    what: String,
}

#[derive(Debug, Default, Serialize)]
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
    #[serde(skip)]
    pub(super) progress: Progress,
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

    pub(super) fn take(&mut self, tally: &Tally) -> Result<()> {
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
        Ok(())
    }

    pub(super) fn publish(&self, json: Option<&Path>) -> Result<()> {
        println!("{}", self.text());
        if let Some(path) = json {
            fs::write(path, serde_json::to_vec_pretty(self)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut lines = vec![format!(
            "{:<12} {:>7} {:>7} {:>8} {:>8} {:>6} {:>11} {:>7} {:>6}  {:>22}  {:>22}  {:>22}",
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
            "DEL p50, p99, max ms"
        )];
        let all = self
            .phases
            .iter()
            .map(|(name, counts)| (name.as_str(), counts));
        lines.extend(all.map(|(name, counts)| line(name, counts)));
        lines.push(line("total", &self.total));
        let errors = &self.total.errors;
        let errors: Vec<String> = errors
            .iter()
            .map(|(kind, n)| format!("{kind} {n}"))
            .collect();
        lines.push(format!(
            "errors: {}",
            if errors.is_empty() {
                "none".to_owned()
            } else {
                errors.join(", ")
            }
        ));
        if let Some(longest) = self.restarts_ms.iter().copied().reduce(f64::max) {
            let count = self.restarts_ms.len();
            lines.push(format!(
                "proxy killed and started again {count} times: ready after {longest:.0} ms at most"
            ));
        }
        if let Some(burst) = &self.burst {
            lines.push(burst_line(burst));
        }
        lines.extend(self.examples.iter().cloned());
        lines.push(format!("seed {}", self.seed));
        lines.join("\n")
    }

    /// An error if anything was read that may not be.
    pub(super) fn judge(&self) -> Result<()> {
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

fn line(name: &str, counts: &Counts) -> String {
    let latency = |op| match counts.latency_ms.get(&op) {
        Some([p50, p99, longest]) => format!("{p50:>6.1} {p99:>7.1} {longest:>7.0}"),
        None => String::new(),
    };
    format!(
        "{name:<12} {:>7} {:>7.1} {:>8} {:>8} {:>6} {:>11} {:>7} {:>6}  {}  {}  {}",
        counts.strikes,
        counts.seconds,
        counts.ops,
        counts.hits,
        counts.misses_explained,
        counts.misses_unexplained,
        counts.stale_values,
        counts.wrong_bytes,
        latency(Op::Get),
        latency(Op::Set),
        latency(Op::Del)
    )
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
