//! How long objects are: all alike, of a weighted list, of a distribution, or as in a trace.
//!
//! A key has one size for as long as a cell lasts: sizes are of objects, and not of requests.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::size::Size;

/// A tail that bounds cut off is drawn again this often, then it is put at the bound.
const DRAWS: usize = 10_000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sizes {
    All(Size),
    /// Sizes and their weights, of any sum.
    List(Vec<(Size, f64)>),
    /// The logarithm is evenly spread.
    LogUniform {
        min: Size,
        max: Size,
    },
    /// The logarithm is normal, with this standard deviation; beyond the bounds there is none.
    LogNormal {
        median: Size,
        sigma: f64,
        min: Size,
        max: Size,
    },
    /// As the requests of the trace say.
    Trace,
}

impl Sizes {
    /// The size of the next object; 1 where only the trace knows.
    pub(crate) fn draw(&self, rng: &mut SmallRng) -> usize {
        match self {
            Self::All(size) => size.bytes,
            Self::List(list) => pick(list, rng),
            Self::LogUniform { min, max } => {
                let (low, high) = (log(min), log(max));
                bounded(rng.random_range(low..=high), min, max)
            }
            Self::LogNormal {
                median,
                sigma,
                min,
                max,
            } => {
                let within = log(min)..=log(max);
                let mut drawn = || log(median) + sigma * normal(rng);
                let mut last = drawn();
                for _ in 1..DRAWS {
                    if within.contains(&last) {
                        break;
                    }
                    last = drawn();
                }
                bounded(last, min, max)
            }
            Self::Trace => 1,
        }
    }

    /// If all are alike.
    pub(crate) fn only(&self) -> Option<usize> {
        match self {
            Self::All(size) => Some(size.bytes),
            _ => None,
        }
    }
}

fn pick(list: &[(Size, f64)], rng: &mut SmallRng) -> usize {
    let sum: f64 = list.iter().map(|(_, weight)| weight).sum();
    let mut left = rng.random_range(0.0..sum);
    for (size, weight) in list {
        if left < *weight {
            return size.bytes;
        }
        left -= weight;
    }
    list.last().map_or(1, |(size, _)| size.bytes)
}

fn log(size: &Size) -> f64 {
    (size.bytes as f64).ln()
}

fn bounded(logarithm: f64, min: &Size, max: &Size) -> usize {
    (logarithm.exp().round() as usize).clamp(min.bytes, max.bytes)
}

/// Box and Muller's.
fn normal(rng: &mut SmallRng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

impl FromStr for Sizes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = match text.split_once(':') {
            None if text == "trace" => Ok(Self::Trace),
            None => list(text),
            Some((kind, parameters)) => distribution(kind, parameters),
        };
        parsed.with_context(|| {
            format!(
                "sizes {text:?}: want 1k=70,1m=30 or loguniform:min=1k,max=1m or \
                 lognormal:median=100k,sigma=1.5,min=1k,max=10m or trace"
            )
        })
    }
}

fn list(text: &str) -> Result<Sizes> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (size, weight) = part.split_once('=').unwrap_or((part, "1"));
        let weight: f64 = weight
            .parse()
            .with_context(|| format!("the weight {weight:?} is no number"))?;
        ensure!(
            weight.is_finite() && weight > 0.0,
            "the weight {weight} is not above 0"
        );
        list.push((size.parse::<Size>()?, weight));
    }
    Ok(Sizes::List(list))
}

fn distribution(kind: &str, parameters: &str) -> Result<Sizes> {
    let (mut median, mut sigma, mut min, mut max) = (None, None, None, None);
    for part in parameters.split(',') {
        let (name, value) = part
            .split_once('=')
            .with_context(|| format!("{part:?} is no NAME=VALUE"))?;
        let size = || value.parse::<Size>();
        match (name.trim(), kind) {
            ("min", _) => min = Some(size()?),
            ("max", _) => max = Some(size()?),
            ("median", "lognormal") => median = Some(size()?),
            ("sigma", "lognormal") => sigma = Some(value.parse::<f64>()?),
            _ => bail!("{kind} has no {name:?}"),
        }
    }
    let (min, max) = min.zip(max).context("min and max are needed")?;
    ensure!(min.bytes <= max.bytes, "min is above max");
    match kind {
        "loguniform" => Ok(Sizes::LogUniform { min, max }),
        "lognormal" => {
            let (median, sigma) = median.zip(sigma).context("median and sigma are needed")?;
            ensure!(
                (min.bytes..=max.bytes).contains(&median.bytes),
                "the median is not between min and max"
            );
            ensure!(
                sigma.is_finite() && (0.0..=10.0).contains(&sigma),
                "sigma is not between 0 and 10"
            );
            Ok(Sizes::LogNormal {
                median,
                sigma,
                min,
                max,
            })
        }
        _ => bail!("there is no distribution {kind:?}"),
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(size) => size.fmt(f),
            Self::List(list) => {
                let parts = list.iter().map(|(size, weight)| format!("{size}={weight}"));
                f.write_str(&parts.collect::<Vec<_>>().join(","))
            }
            Self::LogUniform { min, max } => write!(f, "loguniform:min={min},max={max}"),
            Self::LogNormal {
                median,
                sigma,
                min,
                max,
            } => write!(
                f,
                "lognormal:median={median},sigma={sigma},min={min},max={max}"
            ),
            Self::Trace => f.write_str("trace"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn drawn(text: &str, count: usize) -> Vec<usize> {
        let sizes: Sizes = text.parse().unwrap();
        let mut rng = SmallRng::seed_from_u64(3);
        let mut drawn: Vec<usize> = (0..count).map(|_| sizes.draw(&mut rng)).collect();
        drawn.sort_unstable();
        drawn
    }

    #[test]
    fn a_list_keeps_its_weights() {
        let drawn = drawn("1k=70,10k=20,1m=10", 50_000);
        let share = |bytes| drawn.iter().filter(|d| **d == bytes).count() as f64 / 5e4;
        for (bytes, weight) in [(1_000, 0.7), (10_000, 0.2), (1_000_000, 0.1)] {
            let share = share(bytes);
            assert!((share - weight).abs() < 0.02, "{bytes}: {share}");
        }
    }

    #[test]
    fn a_lognormal_has_its_median_its_spread_and_its_bounds() {
        let all = drawn("lognormal:median=100k,sigma=1,min=1,max=1g", 50_000);
        let at = |q: f64| (all[(q * all.len() as f64) as usize] as f64 / 1e5).ln();
        assert!(at(0.5).abs() < 0.05, "{}", at(0.5));
        // a standard deviation on both sides
        assert!((at(0.8413) - 1.0).abs() < 0.06, "{}", at(0.8413));
        assert!((at(0.1587) + 1.0).abs() < 0.06, "{}", at(0.1587));
        let cut = drawn("lognormal:median=100k,sigma=2,min=50k,max=300k", 20_000);
        assert!(cut[0] >= 50_000 && cut[cut.len() - 1] <= 300_000);
        // cut off, not piled up at the bounds
        let at_bounds = cut
            .iter()
            .filter(|d| [50_000, 300_000].contains(*d))
            .count();
        assert!(at_bounds < 20, "{at_bounds}");
    }

    #[test]
    fn a_loguniform_has_as_much_below_the_middle_as_above() {
        let drawn = drawn("loguniform:min=1k,max=1m", 20_000);
        let below = drawn.iter().filter(|d| **d < 31_623).count() as f64 / 2e4;
        assert!((below - 0.5).abs() < 0.03, "{below}");
        assert!(drawn[0] >= 1_000 && drawn[drawn.len() - 1] <= 1_000_000);
    }

    #[test]
    fn they_are_written_as_they_are_read() -> Result<()> {
        for text in [
            "1k=70,1m=30",
            "loguniform:min=1k,max=1m",
            "lognormal:median=100k,sigma=1.5,min=1k,max=10m",
            "trace",
        ] {
            assert_eq!(text.parse::<Sizes>()?.to_string(), text);
        }
        Ok(())
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wanted() {
        for text in [
            "",
            "1k=0",
            "1k=x",
            "pareto:min=1k,max=1m",
            "loguniform:min=1m,max=1k",
            "loguniform:min=1m",
            "lognormal:median=1k,sigma=-1,min=1,max=1m",
            "lognormal:median=1g,sigma=1,min=1,max=1m",
            "lognormal:sigma=1,min=1,max=1m",
            "loguniform:median=1k,min=1,max=1m",
        ] {
            let error = format!("{:#}", text.parse::<Sizes>().unwrap_err());
            assert!(error.contains("want 1k=70,1m=30"), "{text:?}: {error}");
        }
    }
}
