//! Times that nodes are held, left alone and replaced after: as they were set, else as a
//! profile of the platform advises, else by default.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use serde::Deserialize;

use super::{ConfigError, Options, Upkeep, bad, millis, seconds};
use crate::{
    pool::{linger, retire, warmth},
    profile::{Advice, Profile},
};

/// Processor of the nodes' functions: a GB-second is a fifth cheaper on one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
pub enum Architecture {
    /// Intel and AMD.
    #[serde(rename = "x86_64")]
    #[value(name = "x86_64")]
    X86,
    /// Graviton.
    #[serde(rename = "arm64")]
    #[value(name = "arm64")]
    Arm,
}

impl Default for Architecture {
    /// This program's: proxy and nodes are mostly built for the same.
    fn default() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Arm
        } else {
            Self::X86
        }
    }
}

impl Architecture {
    /// Price of a GB-second in US dollars.
    pub fn usd_per_gb_s(self) -> f64 {
        match self {
            Self::X86 => linger::X86_USD_PER_GB_S,
            Self::Arm => linger::ARM_USD_PER_GB_S,
        }
    }
}

impl fmt::Display for Architecture {
    /// As Lambda names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86 => "x86_64",
            Self::Arm => "arm64",
        })
    }
}

/// What follows from the profile, if there is one.
pub(super) fn advice(
    options: &Options,
    usd_per_wait: f64,
    upkeep: Upkeep,
) -> Result<Advice, ConfigError> {
    let profile = match &options.platform_profile {
        Some(file) => Profile::read(file).map_err(|e| bad("platform_profile", e.to_string()))?,
        None => Profile::default(),
    };
    Ok(profile.advice(usd_per_wait, upkeep.warm_interval_s))
}

/// A link on which nothing is asked for longer looks like one whose node is mute.
const LONGEST_LINGER: Duration = Duration::from_secs(2);

/// Break-even by the prices and what a saved wait is worth, and the bounds that
/// were set on it.
pub(super) fn linger_settings(
    options: &Options,
    node_memory_mb: u32,
    architecture: Architecture,
    usd_per_wait: f64,
) -> Result<linger::Settings, ConfigError> {
    let per_million = options.invoke_wait_usd_per_million;
    let per_million = per_million.unwrap_or(usd_per_wait * 1e6);
    if !per_million.is_finite() || per_million < 0.0 {
        let why = "must be an amount of US dollars, or 0";
        return Err(bad("invoke_wait_usd_per_million", why));
    }
    let costs = linger::Costs {
        memory_gb: f64::from(node_memory_mb) / 1024.0,
        usd_per_gb_s: architecture.usd_per_gb_s(),
        usd_per_request: linger::USD_PER_REQUEST,
        usd_per_wait: per_million / 1e6,
    };
    let most = options.linger_max_ms.map_or(LONGEST_LINGER, millis);
    let break_even = costs.break_even().min(most);
    let least = match options.linger_ms {
        Some(least) => millis(least),
        None => millis(10).min(break_even),
    };
    Ok(linger::Settings {
        least,
        break_even: break_even.max(least),
    })
}

/// What is asked for at least counts, if bounds contradict each other.
pub(super) fn warmth_settings(options: &Options, advice: &Advice) -> warmth::Settings {
    let least = options.warm_interval_s.unwrap_or(advice.warm_interval_s);
    let least = seconds(least.max(1));
    let most = options.warm_interval_max_s;
    let most = seconds(most.unwrap_or(advice.warm_interval_max_s));
    let defaults = warmth::Settings::default();
    warmth::Settings {
        least,
        most: most.max(least),
        lifetime: advice.lifetime.unwrap_or(defaults.lifetime),
        ..defaults
    }
}

pub(super) fn retire_settings(after_s: Option<&str>) -> Result<retire::Settings, ConfigError> {
    match after_s {
        None | Some("off") => Ok(retire::Settings::Never),
        Some("auto") => Ok(retire::Settings::Typical),
        Some(text) => match text.parse() {
            Ok(age @ 1..) => Ok(retire::Settings::At(seconds(age))),
            _ => Err(bad("retire_after_s", "must be `off`, `auto` or seconds")),
        },
    }
}
