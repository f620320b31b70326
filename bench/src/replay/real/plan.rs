//! How a trace and its pool are made to fit this machine: sizes divided, time sped up, and
//! what the proxy goes by with them. Pure.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use local_lambda::Architecture;
use scatterhoard_proxy::config::Upkeep;

use crate::pool::{DataParity, Pool};
use crate::replay::PoolArgs;
use crate::trace::{Request, Trace};

/// What the proxy does with functions on Lambda.
const UPKEEP: Upkeep = Upkeep::REMOTE;
/// Objects up to this are whole copies, and there is one data chunk for as much above.
const COPY_UP_TO_KB: f64 = 256.0;
/// Values up to this share segments.
const PACK_UP_TO_KB: f64 = 16.0;
const MAX_SPEED_UP: f64 = 100_000.0;
const MAX_SCALE: f64 = 1e9;
const MAX_RATE_MB_S: f64 = 1e6;
/// Two processes each.
const MAX_LOCAL_NODES: u16 = 400;

/// Of the real mode.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RealArgs {
    /// Seconds of the trace in one second. Intervals of rounds and pings are whole seconds:
    /// 45 makes one of their 45.
    #[arg(long, default_value = "45")]
    pub(super) speed_up: f64,
    /// Sizes are divided by this; otherwise by what the pool of --nodes and --memory-mb holds
    /// over what the local one does.
    #[arg(long)]
    pub(super) scale_bytes: Option<f64>,
    /// Hours of the trace, from its begin; otherwise all.
    #[arg(long)]
    pub(super) hours: Option<f64>,
    /// Nodes that run here, two processes each.
    #[arg(long, default_value_t = LOCAL_NODES)]
    pub(super) local_nodes: u16,
    /// Memory of each of their processes in MiB.
    #[arg(long, default_value_t = LOCAL_MEMORY_MB)]
    pub(super) local_memory_mb: u32,
    /// Connections; a request that finds none waits.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) clients: u16,
    /// The scatterhoard program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub(super) scatterhoard: Option<PathBuf>,
    /// The local-lambda program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub(super) local_lambda: Option<PathBuf>,
}

const LOCAL_NODES: u16 = 20;
const LOCAL_MEMORY_MB: u32 = 128;

/// What is played, and how.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) speed_up: f64,
    pub(super) scale: f64,
    /// As the proxy has them.
    pub(super) pool: Pool,
    /// The same pool for the simulation: the trace's own sizes, budgets that are larger by
    /// the scale.
    pub(super) simulated: PoolArgs,
}

impl Plan {
    pub(super) fn new(args: &RealArgs, wanted: &PoolArgs) -> Result<Self> {
        args.check()?;
        let mut local = wanted.clone();
        (local.nodes, local.memory_mb) = (args.local_nodes, args.local_memory_mb);
        local.check()?;
        let scale = args.scale_bytes.unwrap_or_else(|| {
            wanted.capacity_bytes() as f64 / local.capacity_bytes().max(1) as f64
        });
        let (data, parity) = wanted.geometry;
        let pool = Pool {
            nodes: usize::from(local.nodes),
            node_memory_mb: local.memory_mb as usize,
            data_parity: DataParity { data, parity },
            extra: options(&local, args.speed_up, scale)?,
        };
        local.budget_times = Some(scale);
        Ok(Self {
            speed_up: args.speed_up,
            scale,
            pool,
            simulated: local,
        })
    }

    /// When a request of the trace is due.
    pub(super) fn due(&self, at_s: f64) -> Duration {
        Duration::from_secs_f64(at_s / self.speed_up)
    }

    /// Bytes of an object here.
    pub(super) fn len(&self, bytes: u64) -> usize {
        ((bytes as f64 / self.scale).round() as usize).max(1)
    }

    /// Seconds of the trace between two rounds of a node.
    pub(super) fn backup_interval_s(&self) -> f64 {
        let wanted = self.simulated.backup_interval_s;
        sped_up_s(wanted.unwrap_or(UPKEEP.backup_interval_s), self.speed_up) as f64 * self.speed_up
    }
}

impl RealArgs {
    fn check(&self) -> Result<()> {
        ensure!(
            (1.0..=MAX_SPEED_UP).contains(&self.speed_up),
            "--speed-up must be 1 to {MAX_SPEED_UP}"
        );
        ensure!(
            self.scale_bytes
                .is_none_or(|s| (1e-3..=MAX_SCALE).contains(&s)),
            "--scale-bytes must be 0.001 to {MAX_SCALE}"
        );
        ensure!(
            self.hours.is_none_or(|h| h.is_finite() && h > 0.0),
            "--hours must be more than 0"
        );
        ensure!(
            self.local_nodes <= MAX_LOCAL_NODES,
            "--local-nodes must be at most {MAX_LOCAL_NODES}: each has two processes"
        );
        Ok(())
    }

    /// What of the trace is played.
    pub(super) fn head(&self, mut trace: Trace) -> Result<Trace> {
        if let Some(hours) = self.hours {
            trace.requests.retain(|r: &Request| r.at_s < hours * 3600.0);
            ensure!(
                !trace.requests.is_empty(),
                "no request in the first {hours} h of the trace"
            );
        }
        Ok(trace)
    }
}

/// An interval at that speed, in whole seconds, as the proxy takes them.
fn sped_up_s(seconds: u64, speed_up: f64) -> u64 {
    ((seconds as f64 / speed_up).round() as u64).max(1)
}

/// What the proxy is told so that it does here what it does at full size and speed.
fn options(wanted: &PoolArgs, speed_up: f64, scale: f64) -> Result<Vec<OsString>> {
    let linger = wanted.settings(1, Architecture::X86)?.linger();
    let ms = |hold: Duration| ((hold.as_secs_f64() * 1e3 / speed_up).round() as u64).max(1);
    let backup_s = wanted.backup_interval_s.unwrap_or(UPKEEP.backup_interval_s);
    let rate = |mb_s: u32| (f64::from(mb_s) / scale * speed_up).clamp(1.0, MAX_RATE_MB_S) as u64;
    let kb = |full: f64| ((full / scale) as u64).clamp(1, full as u64);
    let warm_s = sped_up_s(UPKEEP.warm_interval_s, speed_up);
    let options = [
        ("standby", u64::from(backup_s > 0)),
        ("backup-interval-s", sped_up_s(backup_s, speed_up)),
        (
            "backup-after-mb",
            ((UPKEEP.backup_after_mb as f64 / scale) as u64).max(1),
        ),
        ("backup-mb-s", rate(UPKEEP.backup_mb_s)),
        ("repair-mb-s", rate(UPKEEP.repair_mb_s)),
        ("linger-ms", ms(linger.least)),
        ("linger-max-ms", ms(linger.break_even)),
        ("warm-interval-s", warm_s),
        ("warm-interval-max-s", warm_s),
        ("whole-up-to-kb", kb(COPY_UP_TO_KB)),
        ("chunk-from-kb", kb(COPY_UP_TO_KB)),
        ("pack-up-to-kb", (PACK_UP_TO_KB / scale) as u64),
    ];
    let mut all: Vec<OsString> = options
        .map(|(name, value)| match name {
            "standby" => format!("--{name}={}", value == 1).into(),
            _ => format!("--{name}={value}").into(),
        })
        .to_vec();
    // which keys were evicted, so that those that were lost can be told from them
    all.push("--notify-keyspace-events=Ee".into());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        real: RealArgs,
        #[command(flatten)]
        pool: PoolArgs,
    }

    fn plan(line: &str) -> Result<Plan> {
        let cli = Cli::parse_from(line.split_whitespace());
        Plan::new(&cli.real, &cli.pool)
    }

    fn has(plan: &Plan, option: &str) -> bool {
        plan.pool.extra.iter().any(|o| o == option)
    }

    #[test]
    fn a_pool_holds_here_the_share_of_the_trace_that_the_large_one_does() {
        let plan = plan("x").unwrap();
        // 400 nodes of 288 MiB to 20 of 96
        assert!((plan.scale - 60.0).abs() < 1e-6, "{}", plan.scale);
        assert_eq!(plan.len(60_000_000), 1_000_000);
        assert_eq!(plan.len(1), 1);
        assert_eq!(plan.due(90.0), Duration::from_secs(2));
        let full = plan.simulated.capacity_bytes() as f64;
        let local = 20.0 * f64::from(96 << 20) * 10.0 / 12.0;
        assert!((full / local / 60.0 - 1.0).abs() < 1e-6);
        // 45 s become one; chunks are as many as of full size
        for option in [
            "--standby=true",
            "--backup-interval-s=1",
            "--warm-interval-s=1",
            "--linger-ms=1",
            "--linger-max-ms=18",
            "--backup-after-mb=1",
            "--backup-mb-s=600",
            "--whole-up-to-kb=4",
            "--chunk-from-kb=4",
            "--pack-up-to-kb=0",
        ] {
            assert!(has(&plan, option), "{option} of {:?}", plan.pool.extra);
        }
        assert_eq!(plan.backup_interval_s(), 45.0);
    }

    #[test]
    fn what_is_named_counts() {
        let named = "x --speed-up 10 --scale-bytes 2 --local-nodes 14 --backup-interval-s 0";
        let plan = plan(named).unwrap();
        assert_eq!((plan.scale, plan.pool.nodes), (2.0, 14));
        assert!(has(&plan, "--standby=false") && has(&plan, "--warm-interval-s=5"));
        assert_eq!(plan.due(10.0), Duration::from_secs(1));
    }

    #[test]
    fn numbers_beyond_reason_are_told() {
        for (line, expected) in [
            ("x --speed-up 0", "--speed-up must be 1"),
            ("x --speed-up NaN", "--speed-up must be 1"),
            ("x --scale-bytes 0", "--scale-bytes must be"),
            ("x --hours 0", "--hours must be more than 0"),
            ("x --local-nodes 11", "11 nodes are too few for 10+2"),
            ("x --local-nodes 1000", "at most 400"),
            ("x --local-memory-mb 64", "as on Lambda"),
        ] {
            let error = plan(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
