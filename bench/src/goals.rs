//! Figures that must be reached, and whether they are.

use std::fmt;

use serde::Serialize;

use crate::measure::Summary;

/// A figure that a row must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At least this share of the rate of the cell's first target: redis-server, or what
    /// else the table compares with, in the same run.
    Ratio(f64),
    /// At least this rate, in GB/s.
    GbPerS(f64),
    /// At most this median time to the first byte, in milliseconds.
    FirstByteMs(f64),
    /// At most this much CPU time of all server processes, in seconds per GB.
    CpuPerGb(f64),
}

/// A goal and whether the measured figures reach it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) goal: Goal,
    pub(crate) met: bool,
}

impl Goal {
    pub(crate) fn judge(self, summary: &Summary, ratio: f64) -> Verdict {
        let met = match self {
            Self::Ratio(least) => ratio >= least,
            Self::GbPerS(least) => summary.gb_per_s >= least,
            Self::FirstByteMs(most) => summary.first_byte_p50_us / 1e3 <= most,
            // Unknown is not met.
            Self::CpuPerGb(most) => summary.cpu_s_per_gb.is_some_and(|cpu| cpu <= most),
        };
        Verdict { goal: self, met }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.goal {
            Goal::Ratio(least) => write!(f, ">= {least:.2}x")?,
            Goal::GbPerS(least) => write!(f, ">= {least:.3} GB/s")?,
            Goal::FirstByteMs(most) => write!(f, "first byte <= {most} ms")?,
            Goal::CpuPerGb(most) => write!(f, "CPU <= {most:.2} s/GB")?,
        }
        f.write_str(met(self.met))
    }
}

fn met(met: bool) -> &'static str {
    if met { " met" } else { " MISSED" }
}

/// A single measured value that is no row of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The goal; none if the value is only for information.
    pub(crate) at_most: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at_least: Option<f64>,
    pub(crate) met: Option<bool>,
}

impl Figure {
    pub(crate) fn new(name: String, value: f64, unit: &'static str, at_most: Option<f64>) -> Self {
        Self {
            name,
            value,
            unit,
            at_most,
            at_least: None,
            met: at_most.map(|most| value <= most),
        }
    }

    /// One that is to be large.
    pub(crate) fn at_least(
        name: String,
        value: f64,
        unit: &'static str,
        at_least: Option<f64>,
    ) -> Self {
        Self {
            at_least,
            met: at_least.map(|least| value >= least),
            ..Self::new(name, value, unit, None)
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:.2} {}", self.name, self.value, self.unit)?;
        if let (Some(most), Some(is_met)) = (self.at_most, self.met) {
            write!(f, " (goal <= {most}{})", met(is_met))?;
        }
        if let (Some(least), Some(is_met)) = (self.at_least, self.met) {
            write!(f, " (goal >= {least}{})", met(is_met))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_their_own_figure() {
        let summary = Summary {
            gb_per_s: 1.0,
            ops_per_s: 1.0,
            first_byte_p50_us: 2_000.0,
            ..Summary::default()
        };
        assert!(Goal::Ratio(0.5).judge(&summary, 0.5).met);
        assert!(!Goal::Ratio(0.5).judge(&summary, 0.49).met);
        assert!(Goal::GbPerS(1.0).judge(&summary, 0.0).met);
        assert!(!Goal::GbPerS(1.01).judge(&summary, 9.9).met);
        assert!(Goal::FirstByteMs(3.0).judge(&summary, 0.0).met);
        assert!(!Goal::CpuPerGb(9.9).judge(&summary, 9.9).met);
    }

    #[test]
    fn figures_say_whether_they_are_good_enough() {
        let figure = |value, most| Figure::new("x".into(), value, "MB", most).to_string();
        assert_eq!(figure(1.234, None), "x: 1.23 MB");
        assert_eq!(figure(2.0, Some(2.0)), "x: 2.00 MB (goal <= 2 met)");
        assert_eq!(figure(2.01, Some(2.0)), "x: 2.01 MB (goal <= 2 MISSED)");
        let least = |value| Figure::at_least("x".into(), value, "", Some(0.95)).to_string();
        assert_eq!(least(0.951), "x: 0.95  (goal >= 0.95 met)");
        assert_eq!(least(0.949), "x: 0.95  (goal >= 0.95 MISSED)");
    }
}
