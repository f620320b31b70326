//! What to do, in words.

use super::Ours;
use super::breakeven::{Along, Curves};
use super::peers::{Demand, Peer};
use super::report::short;

/// Ours must be cheaper by this factor to be worth a pool of functions.
const WORTH_IT: f64 = 1.5;

/// A few sentences: which way is cheapest, and up to where ours is.
pub(super) fn recommend(
    ours: &Ours,
    hours: f64,
    demand: &Demand,
    peers: &[Peer],
    break_even: &[Curves],
) -> Vec<String> {
    let our_hour = ours.total_usd / hours;
    // a cache is asked for, without a commitment: what is not is mentioned below
    let is_reserved = |p: &Peer| p.name.ends_with("reserved");
    let caches = peers.iter().filter(|p| p.name != "s3" && !is_reserved(p));
    let cheapest = caches.min_by(|a, b| a.usd_per_hour.total_cmp(&b.usd_per_hour));
    let Some(other) = cheapest else {
        return Vec::new();
    };
    let (theirs, factor) = (other.usd_per_hour, other.usd_per_hour / our_hour);
    let mut words = vec![if factor >= WORTH_IT {
        format!(
            "Use Scatterhoard: ${our_hour:.3}/h, {factor:.1} times less than the next, {} (${theirs:.3}/h).",
            other.what
        )
    } else if factor >= 1.0 {
        format!(
            "Scatterhoard is cheapest by little: ${our_hour:.3}/h against ${theirs:.3}/h of {}. What is simpler to run may be worth the difference.",
            other.what
        )
    } else {
        format!(
            "Do not use Scatterhoard for its price: {} costs ${theirs:.3}/h, this ${our_hour:.3}/h.",
            other.what
        )
    }];
    let reserved = peers.iter().filter(|p| is_reserved(p));
    let reserved = reserved.min_by(|a, b| a.usd_per_hour.total_cmp(&b.usd_per_hour));
    if let Some(reserved) = reserved
        && reserved.usd_per_hour < our_hour.min(theirs)
    {
        words.push(format!(
            "Who commits himself for three years pays ${:.3}/h for {}.",
            reserved.usd_per_hour, reserved.what
        ));
    }
    if let Some(s3) = peers.iter().find(|p| p.name == "s3")
        && s3.usd_per_hour < our_hour
    {
        words.push(format!(
            "If S3's latency will do, no cache is cheapest: ${:.4}/h for its requests and for what a cache would hold.",
            s3.usd_per_hour
        ));
    }
    let parts = ours.usd_by_purpose;
    let share = |usd: f64| 100.0 * usd / ours.total_usd.max(f64::MIN_POSITIVE);
    words.push(format!(
        "Of it the proxy's machine ({} x {}) is {:.0} %, keeping what is stored (warm-up, backups, repairs) {:.0} %, serving {:.0} %.",
        ours.proxy_machine.count,
        ours.proxy_machine.name,
        share(parts.proxy),
        share(parts.warm + parts.backup + parts.repair),
        share(parts.serve)
    ));
    words.extend(break_even.iter().filter_map(next_break_even));
    let mb_s = demand.read_gb * 1e3 / 3600.0;
    words.push(format!(
        "This is for {:.0} GETs an hour of {:.0} MB/s on the average, {:.0} GB at most.",
        demand.gets, mb_s, demand.capacity_gb
    ));
    words
}

/// From where on, upwards of the workload, another cache is cheaper.
fn next_break_even(curves: &Curves) -> Option<String> {
    let others = curves.lines.iter().filter(|l| l.name != "s3");
    let others = others.filter(|l| !l.name.ends_with("reserved"));
    let above = others.filter_map(|l| {
        let ahead = l.cheaper.iter().filter(|(_, to)| *to >= curves.here);
        let (from, _) = ahead.min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((from.max(curves.here), l.name.replace('_', " ")))
    });
    let (from, name) = above.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let what = match curves.along {
        Along::Rate => "GETs an hour",
        Along::ObjectSize => "MB an object",
        Along::Stored => "GB stored",
    };
    Some(if from <= curves.here {
        let here = short(curves.here);
        format!("At its {here} {what} {name} is cheaper, by the formulas.")
    } else {
        format!(
            "From {} {what} on, {name} is cheaper.",
            short(rounded(from))
        )
    })
}

/// Two digits are enough.
fn rounded(value: f64) -> f64 {
    let unit = 10f64.powf(value.max(f64::MIN_POSITIVE).log10().floor() - 1.0);
    (value / unit).round() * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_to_two_digits() {
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        assert!(close(rounded(12_345.0), 12_000.0));
        assert!(close(rounded(0.0987), 0.099));
    }

    #[test]
    fn the_nearest_crossing_above_is_named() {
        let line = |name: &str, cheaper: &[(f64, f64)]| super::super::breakeven::Line {
            name: name.into(),
            points: Vec::new(),
            cheaper: cheaper.to_vec(),
        };
        let curves = Curves {
            along: Along::Rate,
            here: 700.0,
            lines: vec![
                line("nvme", &[(1.0, 5.0), (9_000.0, 1e6)]),
                line("elasticache_tiered", &[(4_000.0, 1e6)]),
                line("s3", &[(1.0, 1e6)]),
                line("elasticache_tiered_reserved", &[(800.0, 1e6)]),
            ],
        };
        let text = next_break_even(&curves).unwrap();
        assert_eq!(
            text,
            "From 4000 GETs an hour on, elasticache tiered is cheaper."
        );
    }
}
