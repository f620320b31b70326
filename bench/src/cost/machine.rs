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
}

/// The machine that is named, or the cheapest that will do; several if none does.
pub(crate) fn choose(
    named: Option<&str>,
    arch: Architecture,
    needed_mb_s: f64,
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
    let count = |m: &Machine| (needed_mb_s / m.baseline_mb_s).ceil().max(1.0);
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_that_carries_it() {
        let prices = PriceFile::read(None).unwrap();
        let pick = |named, arch, mb_s| choose(named, arch, mb_s, &prices).unwrap();
        let little = pick(None, Architecture::Arm, 10.0);
        assert_eq!((&little.name[..], little.count), ("c8g.medium", 1.0));
        assert_eq!(pick(None, Architecture::Arm, 150.0).name, "c6gn.medium");
        assert_eq!(pick(None, Architecture::X86, 150.0).name, "c5n.large");
        let named = pick(Some("c7gn.medium"), Architecture::X86, 1000.0);
        assert_eq!((named.count, named.arch), (3.0, "arm64"));
        let much = pick(None, Architecture::Arm, 1e6);
        assert!(much.count * much.baseline_mb_s >= 1e6);
        let error = choose(Some("x9.large"), Architecture::Arm, 1.0, &prices).unwrap_err();
        assert!(error.to_string().contains("ec2.types.x9.large"), "{error}");
    }
}
