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
    let managed = peers
        .iter()
        .filter(|p| is_managed(p.name) && !is_reserved(p));
    let Some(other) = cheapest(managed) else {
        return Vec::new();
    };
    let (theirs, factor) = (other.usd_per_hour, other.usd_per_hour / our_hour);
    let mut words = vec![if factor >= WORTH_IT {
        format!(
            "Use Scatterhoard rather than a managed cache: ${our_hour:.3}/h, {factor:.1} times less than the next, {} (${theirs:.3}/h).",
            other.what
        )
    } else if factor >= 1.0 {
        format!(
            "Scatterhoard is cheaper than managed caches by little: ${our_hour:.3}/h against ${theirs:.3}/h of {}. What is simpler to run may be worth the difference.",
            other.what
        )
    } else {
        format!(
            "Do not use Scatterhoard for its price: {} costs ${theirs:.3}/h, this ${our_hour:.3}/h.",
            other.what
        )
    }];
    words.extend(run_by_yourself(our_hour, peers));
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
    let priced = |name: &str| {
        let peer = peers.iter().find(|p| p.name == name)?;
        (peer.usd_per_hour < our_hour).then_some(peer.usd_per_hour)
    };
    if let Some(usd) = priced("s3_express") {
        words.push(format!(
            "If one zone of S3 Express, its latency and its interface will do, that costs ${usd:.4}/h as the cache."
        ));
    }
    if let Some(usd) = priced("s3") {
        words.push(format!(
            "If S3's latency will do, no cache is cheapest: ${usd:.4}/h for its requests and for what a cache would hold."
        ));
    }
    let parts = ours.usd_by_purpose;
    let share = |usd: f64| 100.0 * usd / ours.total_usd.max(f64::MIN_POSITIVE);
    words.push(format!(
        "Of it the proxy's machine ({} x {}) is {:.0} %, keeping what is stored (warm-up, backups, repairs) {:.0} %, serving {:.0} %, log lines, the way to the API, volumes, metrics and alarms {:.0} %.",
        ours.proxy_machine.count,
        ours.proxy_machine.name,
        share(parts.proxy),
        share(parts.warm + parts.backup + parts.repair),
        share(parts.serve),
        share(parts.beside())
    ));
    words.extend(break_even.iter().filter_map(next_break_even));
    let mb_s = demand.read_gb * 1e3 / 3600.0;
    words.push(format!(
        "This is for {:.0} GETs an hour of {:.0} MB/s on the average, {:.0} GB at most.",
        demand.gets, mb_s, demand.capacity_gb
    ));
    words
}

fn cheapest<'a>(peers: impl Iterator<Item = &'a Peer>) -> Option<&'a Peer> {
    peers.min_by(|a, b| a.usd_per_hour.total_cmp(&b.usd_per_hour))
}

/// A service of the provider that speaks Redis.
fn is_managed(name: &str) -> bool {
    name.starts_with("elasticache")
}

/// What a machine costs that one sees to by oneself.
fn run_by_yourself(our_hour: f64, peers: &[Peer]) -> Option<String> {
    let own = peers
        .iter()
        .filter(|p| ["nvme", "volume"].contains(&p.name));
    let own = cheapest(own)?;
    let (theirs, factor) = (own.usd_per_hour, own.usd_per_hour / our_hour);
    Some(if factor < 1.0 {
        format!(
            "Not for its price, if you run machines by yourself: {} is ${theirs:.3}/h. What it holds goes with a machine, and comes as fast as its disk and network are.",
            own.what
        )
    } else {
        format!(
            "{} costs {factor:.1} times as much (${theirs:.3}/h).",
            own.what
        )
    })
}

/// From where on, upwards of the workload, another cache is cheaper.
fn next_break_even(curves: &Curves) -> Option<String> {
    let others = curves.lines.iter().filter(|l| !l.name.starts_with("s3"));
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
