//! Where others begin to cost less: along the request rate, the size of objects and
//! what is stored, everything else as it is.

use anyhow::Result;
use local_lambda::Architecture;
use serde::Serialize;

use super::formula::{Model, Workload, nodes_for, usd};
use super::machine::{self, Processor};
use super::peers;
use super::prices::PriceFile;
use super::running::{Load, RunningArgs};
use crate::replay::PoolArgs;

/// Points of a curve.
const STEPS: i32 = 36;

/// What varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Along {
    /// GETs and SETs an hour, in their proportion.
    Rate,
    /// At the same bytes an hour.
    ObjectSize,
    Stored,
}

impl Along {
    pub(crate) const ALL: [Self; 3] = [Self::Rate, Self::ObjectSize, Self::Stored];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "GETs an hour",
            Self::ObjectSize => "MB an object, at the same bytes an hour",
            Self::Stored => "GB stored",
        }
    }

    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::ObjectSize => "size",
            Self::Stored => "stored",
        }
    }

    pub(crate) fn ends(self) -> (f64, f64) {
        match self {
            Self::Rate => (1.0, 1e6),
            // what the proxy takes at most
            Self::ObjectSize => (1e-3, 5e2),
            Self::Stored => (1.0, 1e5),
        }
    }

    fn value(self, w: &Workload) -> f64 {
        match self {
            Self::Rate => w.gets_per_hour,
            Self::ObjectSize => w.object_mb,
            Self::Stored => w.stored_gb,
        }
    }

    fn with(self, w: &Workload, value: f64) -> Workload {
        let mut varied = *w;
        match self {
            Self::Rate => {
                let factor = value / w.gets_per_hour.max(f64::MIN_POSITIVE);
                varied.gets_per_hour = value;
                varied.sets_per_hour *= factor;
            }
            Self::ObjectSize => {
                let factor = w.object_mb / value;
                varied.object_mb = value;
                varied.gets_per_hour *= factor;
                varied.sets_per_hour *= factor;
            }
            Self::Stored => varied.stored_gb = value,
        }
        varied
    }
}

/// Dollars an hour of ours and of each other way, along one quantity.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curves {
    pub(crate) along: Along,
    /// Where the workload is.
    pub(crate) here: f64,
    pub(crate) lines: Vec<Line>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Where it is cheaper than ours: from, to.
    pub(crate) cheaper: Vec<(f64, f64)>,
}

/// Pools of the size that each point needs.
pub(crate) struct Market<'a> {
    pub(crate) args: &'a PoolArgs,
    pub(crate) prices: &'a PriceFile,
    pub(crate) lambda: &'a local_lambda::Prices,
    pub(crate) arch: Architecture,
    pub(crate) proxy: Option<&'a str>,
    pub(crate) loss_rate: f64,
    pub(crate) running: RunningArgs,
    pub(crate) backing_store: bool,
    pub(crate) processor: Processor,
}

impl Market<'_> {
    /// Dollars of an hour of a pool that fits, with all that runs beside it.
    fn ours(&self, workload: &Workload) -> Result<f64> {
        let mut args = self.args.clone();
        args.nodes = nodes_for(&args, workload, self.arch)?;
        let settings = args.settings(1, self.arch)?;
        let hour = Model {
            settings: &settings,
            workload,
            loss_rate: self.loss_rate,
        }
        .hour();
        let burden = workload.burden(hour.proxy_mb_s, self.processor);
        let proxy = machine::choose(self.proxy, self.arch, burden, self.prices)?;
        let functions: f64 = usd(&hour.bills, self.lambda, self.arch).iter().sum();
        let load = Load {
            invocations: hour.bills.invocations(),
            hours: 1.0,
            machines: proxy.count,
            backing_store: self.backing_store,
        };
        let running = self.running.usd(load, self.prices)?;
        Ok(functions + proxy.usd_per_hour + running.total())
    }

    pub(crate) fn curves(&self, workload: &Workload, along: Along) -> Result<Curves> {
        let (low, high) = along.ends();
        let at = |i: i32| low * (high / low).powf(f64::from(i) / f64::from(STEPS));
        let mut lines: Vec<Line> = Vec::new();
        for i in 0..=STEPS {
            let varied = along.with(workload, at(i));
            let ours = self.ours(&varied)?;
            let mut values = vec![("scatterhoard", ours)];
            let root_gb = self.running.root_volume_gb;
            let peers = peers::all(&varied.demand(), self.prices, root_gb)?;
            let fitting = peers.iter().filter(|p| !p.name.contains("papers"));
            values.extend(fitting.map(|p| (p.name, p.usd_per_hour)));
            lines.resize_with(values.len(), || Line {
                name: String::new(),
                points: Vec::new(),
                cheaper: Vec::new(),
            });
            for (line, (name, usd)) in lines.iter_mut().zip(values) {
                name.clone_into(&mut line.name);
                line.points.push((at(i), usd));
            }
        }
        let ours = lines[0].points.clone();
        for line in &mut lines[1..] {
            line.cheaper = cheaper(&line.points, &ours);
        }
        Ok(Curves {
            along,
            here: along.value(workload),
            lines,
        })
    }
}

/// Stretches in which one curve is below another; ends are between the points, where
/// the logarithms meet.
fn cheaper(line: &[(f64, f64)], ours: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    let mut since = None;
    let mut before: Option<(f64, f64)> = None;
    for ((at, theirs), (_, our)) in line.iter().zip(ours) {
        let lead = (our / theirs).ln();
        let crossing = match before {
            Some((from, was)) if (was > 0.0) != (lead > 0.0) => {
                let share = was / (was - lead);
                from * (at / from).powf(share)
            }
            _ => *at,
        };
        match (since, lead > 0.0) {
            (None, true) => since = Some(crossing),
            (Some(begin), false) => {
                stretches.push((begin, crossing));
                since = None;
            }
            _ => {}
        }
        before = Some((*at, lead));
    }
    let end = line.last().map_or(0.0, |(at, _)| *at);
    stretches.extend(since.map(|begin| (begin, end)));
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_cross_where_their_logarithms_meet() {
        let line = |usd: [f64; 4]| -> Vec<(f64, f64)> {
            [1.0, 10.0, 100.0, 1000.0].into_iter().zip(usd).collect()
        };
        let flat = line([1.0; 4]);
        let found = cheaper(&line([10.0, 0.1, 0.1, 10.0]), &flat);
        let [(from, to)] = found[..] else {
            panic!("{found:?}");
        };
        assert!((from / 10f64.sqrt() - 1.0).abs() < 1e-9);
        assert!((to / (100.0 * 10f64.sqrt()) - 1.0).abs() < 1e-9);
        assert_eq!(cheaper(&line([0.5; 4]), &flat), [(1.0, 1000.0)]);
        assert!(cheaper(&line([2.0; 4]), &flat).is_empty());
    }

    #[test]
    fn what_varies_leaves_the_rest() {
        let w = Workload {
            stored_gb: 100.0,
            object_mb: 50.0,
            gets_per_hour: 700.0,
            sets_per_hour: 70.0,
            peak: 2.0,
            client_peak: 2.0,
        };
        let more = Along::Rate.with(&w, 7_000.0);
        assert_eq!((more.gets_per_hour, more.sets_per_hour), (7_000.0, 700.0));
        let small = Along::ObjectSize.with(&w, 5.0);
        let bytes = |w: &Workload| w.demand().read_gb;
        assert!((bytes(&small) - bytes(&w)).abs() < 1e-9);
        assert_eq!(Along::Stored.with(&w, 7.0).stored_gb, 7.0);
    }
}
