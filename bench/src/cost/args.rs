//! What is asked.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use local_lambda::Architecture;

use super::formula::Workload;
use super::running::RunningArgs;
use crate::replay::PoolArgs;
use crate::results::Output;

/// Beyond these a number is a slip of the pen.
const MAX_STORED_GB: f64 = 1e9;
const MAX_PER_HOUR: f64 = 1e12;
const MAX_PEAK: f64 = 1e4;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) pool: PoolArgs,
    /// Instead of a trace: gigabytes stored.
    #[arg(long, conflicts_with = "trace", requires_all = ["object_mb", "gets_per_hour"])]
    pub(super) stored_gb: Option<f64>,
    /// Megabytes of an object.
    #[arg(long)]
    pub(super) object_mb: Option<f64>,
    #[arg(long)]
    pub(super) gets_per_hour: Option<f64>,
    /// Objects stored an hour, those after misses included.
    #[arg(long, default_value = "0")]
    pub(super) sets_per_hour: f64,
    /// The busiest hour's multiple of the mean rate.
    #[arg(long, default_value = "2")]
    pub(super) peak: f64,
    /// Architecture of the functions, and of the proxy's machine unless that is named.
    #[arg(long, value_enum, default_value = "arm64")]
    pub(super) arch: Arch,
    /// A dated price file; otherwise the one that comes along.
    #[arg(long, value_name = "FILE")]
    pub(super) prices: Option<PathBuf>,
    /// The proxy's machine; otherwise the cheapest of the architecture that carries the
    /// busiest hour.
    #[arg(long, value_name = "TYPE")]
    pub(super) proxy_machine: Option<String>,
    #[command(flatten)]
    pub(super) running: RunningArgs,
    /// Measures on this machine, in a quarter of a minute, what the proxy takes of a
    /// processor, and goes by that instead of the documented figures.
    #[arg(long)]
    pub(super) measure: bool,
    /// The scatterhoard program for that [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub(super) scatterhoard: Option<PathBuf>,
    /// Share of all traffic that crosses availability zones, clients' and nodes'.
    #[arg(long, default_value = "0")]
    pub(super) cross_zone_share: f64,
    /// All objects in S3 besides.
    #[arg(long)]
    pub(super) backing_store: bool,
    /// Three hours of a generated trace on 40 nodes, unless there is a trace.
    #[arg(long)]
    pub(super) quick: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Arch {
    Arm64,
    #[value(name = "x86_64")]
    X86,
}

impl From<Arch> for Architecture {
    fn from(arch: Arch) -> Self {
        match arch {
            Arch::Arm64 => Self::Arm,
            Arch::X86 => Self::X86,
        }
    }
}

impl Args {
    pub(super) fn check(&self) -> Result<()> {
        self.pool.check()?;
        self.running.check()?;
        let max_object_mb = self.pool.max_object_mb as f64 * 1.048_576;
        for (flag, value, most) in [
            ("--stored-gb", self.stored_gb, MAX_STORED_GB),
            ("--gets-per-hour", self.gets_per_hour, MAX_PER_HOUR),
            ("--object-mb", self.object_mb, f64::MAX),
        ] {
            let is_fine = |v: f64| v.is_finite() && v > 0.0 && v <= most;
            ensure!(
                value.is_none_or(is_fine),
                "{flag} must be more than 0, and at most {most:e}"
            );
        }
        ensure!(
            self.object_mb
                .is_none_or(|mb| (1e-6..=max_object_mb).contains(&mb)),
            "--object-mb must be 0.000001 to {max_object_mb:.1}: larger objects are not stored (--max-object-mb)"
        );
        ensure!(
            self.object_mb
                .zip(self.stored_gb)
                .is_none_or(|(mb, gb)| mb <= gb * 1e3),
            "--object-mb is more than --stored-gb holds"
        );
        ensure!(
            (0.0..=MAX_PER_HOUR).contains(&self.sets_per_hour),
            "--sets-per-hour must not be less than 0, and at most {MAX_PER_HOUR:e}"
        );
        ensure!(
            (1.0..=MAX_PEAK).contains(&self.peak),
            "--peak must be 1 or more, and at most {MAX_PEAK}"
        );
        ensure!(
            (0.0..=1.0).contains(&self.cross_zone_share),
            "--cross-zone-share is a share of 1"
        );
        Ok(())
    }

    pub(super) fn described(&self) -> Option<Workload> {
        Some(Workload {
            stored_gb: self.stored_gb?,
            object_mb: self.object_mb?,
            gets_per_hour: self.gets_per_hour?,
            sets_per_hour: self.sets_per_hour,
            peak: self.peak,
            client_peak: self.peak,
        })
    }
}
