//! Reads and writes: one of them only, shares of both, or as a trace has them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use rand::Rng;
use rand::rngs::SmallRng;
use serde::{Serialize, Serializer};

use crate::workload::Op;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mix {
    Only(Op),
    /// Shares of any sum.
    Shares {
        get: f64,
        set: f64,
    },
    /// As each request of the trace says.
    Trace,
}

impl Mix {
    /// What the next request is, unless it says so itself.
    pub(crate) fn pick(self, rng: &mut SmallRng) -> Op {
        match self {
            Self::Only(op) => op,
            Self::Shares { get, set } if rng.random_bool(set / (get + set)) => Op::Set,
            Self::Shares { .. } | Self::Trace => Op::Get,
        }
    }

    pub(crate) fn only(self) -> Option<Op> {
        match self {
            Self::Only(op) => Some(op),
            Self::Shares { .. } | Self::Trace => None,
        }
    }

    /// Whether anything of it is `op`.
    pub(crate) fn has(self, op: Op) -> bool {
        self.only().is_none_or(|only| only == op)
    }
}

impl FromStr for Mix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "trace" {
            return Ok(Self::Trace);
        }
        let (mut get, mut set) = (None, None);
        for part in text.split(',') {
            let (name, share) = part
                .split_once('=')
                .with_context(|| format!("mix {text:?}: want get=90,set=10"))?;
            let share: f64 = share
                .parse()
                .with_context(|| format!("mix {text:?}: {share:?} is no number"))?;
            ensure!(
                share.is_finite() && share >= 0.0,
                "mix {text:?}: {share} is no share"
            );
            let place = match name.trim() {
                "get" => &mut get,
                "set" => &mut set,
                other => bail!("mix {text:?}: unknown operation {other:?}, want get or set"),
            };
            ensure!(place.replace(share).is_none(), "mix {text:?}: {name} twice");
        }
        let (get, set) = (get.unwrap_or(0.0), set.unwrap_or(0.0));
        match (get > 0.0, set > 0.0) {
            (true, true) => Ok(Self::Shares { get, set }),
            (true, false) => Ok(Self::Only(Op::Get)),
            (false, true) => Ok(Self::Only(Op::Set)),
            (false, false) => bail!("mix {text:?}: all shares are 0"),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only(op) => op.fmt(f),
            Self::Shares { get, set } => write!(f, "get={get},set={set}"),
            Self::Trace => f.write_str("trace"),
        }
    }
}

impl Serialize for Mix {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Only(op) => op.serialize(to),
            _ => to.collect_str(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn shares_are_kept() -> anyhow::Result<()> {
        let mix: Mix = "get=90,set=10".parse()?;
        let mut rng = SmallRng::seed_from_u64(5);
        let sets = (0..100_000).filter(|_| mix.pick(&mut rng) == Op::Set);
        // ten standard deviations are 0.0095
        let share = sets.count() as f64 / 1e5;
        assert!((share - 0.1).abs() < 0.0095, "{share}");
        assert_eq!(
            (mix.only(), mix.to_string().as_str()),
            (None, "get=90,set=10")
        );
        Ok(())
    }

    #[test]
    fn one_operation_alone_is_that() -> anyhow::Result<()> {
        for text in ["get=1", "get=5,set=0"] {
            assert_eq!(text.parse::<Mix>()?, Mix::Only(Op::Get));
        }
        assert!(Mix::Only(Op::Set).has(Op::Set) && !Mix::Only(Op::Set).has(Op::Get));
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "get",
            "get=x",
            "del=1",
            "get=0,set=0",
            "get=-1",
            "get=1,get=2",
            "get=inf",
        ] {
            assert!(text.parse::<Mix>().is_err(), "{text:?}");
        }
    }
}
