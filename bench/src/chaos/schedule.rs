//! Which fault comes when: from a seed, so that a run can be had again. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde::Serialize;

/// What can be done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    /// SIGKILL of up to p node processes at once.
    Kill,
    /// SIGKILL of 30 % of the node processes at once.
    Burst,
    /// SIGSTOP of up to p node processes, without notice, for a while.
    Stop,
    /// One function's process is stopped until the platform has started a second one for it;
    /// then both are killed.
    Twins,
    /// Every invoke is answered with an error, or none at all.
    InvokeDown,
    /// Nine of ten invokes are throttled.
    Throttle,
    /// `kill -9` of the proxy, and another one on the same data folder.
    Proxy,
}

impl Fault {
    pub(super) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it needs a proxy of our own.
    pub(super) fn needs_own_proxy(self) -> bool {
        self == Self::Proxy
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The faults to choose from: `all`, or names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl FromStr for Faults {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self(Fault::value_variants().to_vec()));
        }
        let mut faults = Vec::new();
        for name in text
            .split(',')
            .filter(|name| !name.is_empty() && *name != "none")
        {
            match Fault::from_str(name, false) {
                Ok(fault) => faults.push(fault),
                Err(_) => bail!(
                    "{name:?}: want all, none, or some of {}",
                    Fault::value_variants()
                        .iter()
                        .map(|f| f.name())
                        .collect::<Vec<_>>()
                        .join(",")
                ),
            }
        }
        Ok(Self(faults))
    }
}

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between the end of a fault and the next one.
    pub(super) quiet: Duration,
    /// A fault lasts this long to twice as long.
    pub(super) fault: Duration,
    /// After a fault, while its effects still count as its own.
    pub(super) recovery: Duration,
}

/// One stroke.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Strike {
    pub(super) fault: Fault,
    pub(super) quiet_before: Duration,
    pub(super) lasts: Duration,
    /// Of processes or whatever there are several of, as a share from 0 to 1.
    pub(super) dose: f64,
}

/// An endless sequence: all faults in an order drawn anew each time around.
pub(super) struct Schedule {
    faults: Vec<Fault>,
    pace: Pace,
    rng: SmallRng,
    left: Vec<Fault>,
}

impl Schedule {
    pub(super) fn new(faults: &Faults, pace: Pace, rng: SmallRng) -> Self {
        Self {
            faults: faults.0.clone(),
            pace,
            rng,
            left: Vec::new(),
        }
    }
}

impl Iterator for Schedule {
    type Item = Strike;

    fn next(&mut self) -> Option<Strike> {
        if self.left.is_empty() {
            self.left.clone_from(&self.faults);
            self.left.shuffle(&mut self.rng);
        }
        let fault = self.left.pop()?;
        let spread = |rng: &mut SmallRng| rng.random_range(1.0..2.0);
        Some(Strike {
            fault,
            quiet_before: self.pace.quiet.mul_f64(spread(&mut self.rng)),
            lasts: self.pace.fault.mul_f64(spread(&mut self.rng)),
            dose: self.rng.random_range(0.0..1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn strikes(seed: u64, faults: &str) -> Result<Vec<Strike>> {
        let pace = Pace {
            quiet: Duration::from_secs(1),
            fault: Duration::from_secs(2),
            recovery: Duration::ZERO,
        };
        let rng = SmallRng::seed_from_u64(seed);
        Ok(Schedule::new(&faults.parse()?, pace, rng)
            .take(14)
            .collect())
    }

    #[test]
    fn a_seed_gives_one_schedule_in_which_every_fault_comes() -> Result<()> {
        let run = strikes(1, "all")?;
        assert_eq!(run, strikes(1, "all")?);
        assert_ne!(run, strikes(2, "all")?);
        for fault in Fault::value_variants() {
            assert_eq!(run.iter().filter(|s| s.fault == *fault).count(), 2);
        }
        Ok(())
    }

    #[test]
    fn faults_are_named() -> Result<()> {
        let both = Faults(vec![Fault::InvokeDown, Fault::Kill]);
        assert_eq!("invoke-down,kill".parse::<Faults>()?, both);
        assert!(strikes(1, "none")?.is_empty());
        assert!("kil".parse::<Faults>().is_err());
        Ok(())
    }
}
