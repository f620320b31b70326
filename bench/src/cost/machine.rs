//! The machine of the proxy: the cheapest whose network carries the busiest hour.
//! What is more for minutes only is on credits, which such machines collect while
//! they are below their baseline.

use anyhow::{Result, bail};
use local_lambda::Architecture;
use serde::Serialize;

use super::prices::{Machine, PriceFile};

/// Too little memory for the proxy's defaults: 256 MB under way, 64 MB of hot tier, and
/// the index.
const TOO_SMALL: [&str; 2] = [".nano", ".micro"];
/// Whose processors are on credit, so that their steady rate is another one.
const ON_CREDIT: char = 't';

/// Seconds of a core that the proxy takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Processor {
    /// For a gigabyte of objects.
    pub(crate) cpu_s_per_gb: f64,
    /// For a request that goes to nodes, however small.
    pub(crate) cpu_s_per_request: f64,
}

impl Processor {
    /// What `--measure` found, the median of three runs: SETs of 10 MB, and GETs of 1 KB.
    pub(crate) const SHIPPED: Self = Self {
        cpu_s_per_gb: 0.91,
        cpu_s_per_request: 4.6e-5,
    };
    /// When and where.
    pub(crate) const SHIPPED_FROM: &str = "documented: `scatterhoard-bench cost --measure` of 2026-11-23, release build, 2 cores of an Intel Xeon (docs/cost.md)";
}

/// Those figures, and where they are from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Known {
    #[serde(flatten)]
    pub(crate) figures: Processor,
    /// Here and now.
    pub(crate) measured: bool,
    pub(crate) source: String,
}

impl Known {
    pub(crate) fn documented() -> Self {
        Self {
            figures: Processor::SHIPPED,
            measured: false,
            source: Processor::SHIPPED_FROM.into(),
        }
    }
}

/// What the machine has to do in its busiest hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Burden {
    /// In the direction that has more.
    pub(crate) mb_s: f64,
    pub(crate) requests_per_s: f64,
    pub(crate) processor: Processor,
}

impl Burden {
    fn cores(&self) -> f64 {
        let Processor {
            cpu_s_per_gb,
            cpu_s_per_request,
        } = self.processor;
        self.mb_s / 1e3 * cpu_s_per_gb + self.requests_per_s * cpu_s_per_request
    }
}

/// Virtual processors, by the size in its name.
fn cores(machine: &str) -> f64 {
    let size = machine.split('.').nth(1).unwrap_or_default();
    match size.split_once("xlarge") {
        Some(("", _)) => 4.0,
        Some((times, _)) => times.parse::<f64>().map_or(4.0, |n| 4.0 * n),
        None if size == "medium" => 1.0,
        // an xlarge has twice this, and "metal" more
        None => 2.0,
    }
}

/// What is rented for the proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ProxyMachine {
    pub(crate) name: String,
    pub(crate) arch: &'static str,
    pub(crate) count: f64,
    pub(crate) usd_per_hour: f64,
    /// What the network carries without credits.
    pub(crate) baseline_mb_s: f64,
    /// What must pass in the busiest hour: shorter bursts are on network credits.
    pub(crate) needed_mb_s: f64,
    pub(crate) cores: f64,
    pub(crate) needed_cores: f64,
}

/// The machine that is named, or the cheapest that will do; several if none does.
pub(crate) fn choose(
    named: Option<&str>,
    arch: Architecture,
    burden: Burden,
    prices: &PriceFile,
) -> Result<ProxyMachine> {
    let candidates = match named {
        Some(name) => vec![prices.machine(name)?],
        None => {
            let mut all = prices.machines()?;
            all.retain(|m| m.arch == arch && !m.name.starts_with(ON_CREDIT));
            all.retain(|m| TOO_SMALL.iter().all(|s| !m.name.ends_with(s)));
            all
        }
    };
    let needed_mb_s = burden.mb_s;
    let count = |m: &Machine| {
        let by_network = needed_mb_s / m.baseline_mb_s;
        let by_cores = burden.cores() / cores(&m.name);
        by_network.max(by_cores).ceil().max(1.0)
    };
    let usd = |m: &Machine| count(m) * m.usd_h;
    let Some(best) = candidates.iter().min_by(|a, b| usd(a).total_cmp(&usd(b))) else {
        bail!(
            "{} has no machine of {} for the proxy",
            prices.name(),
            crate::replay::arch_name(arch)
        );
    };
    Ok(ProxyMachine {
        name: best.name.clone(),
        arch: crate::replay::arch_name(best.arch),
        count: count(best),
        usd_per_hour: usd(best),
        baseline_mb_s: best.baseline_mb_s,
        needed_mb_s,
        cores: count(best) * cores(&best.name),
        needed_cores: burden.cores(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_that_carries_it() {
        let prices = PriceFile::read(None).unwrap();
        let burden = |mb_s| Burden {
            mb_s,
            requests_per_s: 0.0,
            processor: Processor::SHIPPED,
        };
        let pick = |named, arch, mb_s| choose(named, arch, burden(mb_s), &prices).unwrap();
        let little = pick(None, Architecture::Arm, 10.0);
        assert_eq!((&little.name[..], little.count), ("c6g.medium", 1.0));
        assert_eq!(pick(None, Architecture::Arm, 150.0).name, "c6gn.medium");
        assert_eq!(pick(None, Architecture::X86, 150.0).name, "c5n.large");
        let named = pick(Some("c7gn.medium"), Architecture::X86, 1000.0);
        assert_eq!((named.count, named.arch), (3.0, "arm64"));
        // 200,000 small requests a second keep 9 cores busy
        let hot = Burden {
            mb_s: 1.0,
            requests_per_s: 200_000.0,
            processor: Processor::SHIPPED,
        };
        let hot = choose(None, Architecture::Arm, hot, &prices).unwrap();
        assert!(hot.cores >= hot.needed_cores && hot.needed_cores > 8.0);
        assert_eq!(
            ["c8g.medium", "c8g.large", "c8g.xlarge", "c8g.12xlarge"].map(cores),
            [1.0, 2.0, 4.0, 48.0]
        );
        let much = pick(None, Architecture::Arm, 1e6);
        assert!(much.count * much.baseline_mb_s >= 1e6);
        let error = choose(Some("x9.large"), Architecture::Arm, burden(1.0), &prices).unwrap_err();
        assert!(error.to_string().contains("ec2.types.x9.large"), "{error}");
    }
}
