//! Links as slow as those of real functions: every node dials through a relay of this
//! program, see [`crate::shape`].
//!
//! A slow network hides what processors cost and shows what is sent in vain or waited for:
//! the ideal is d links' worth of data, all the time. redis-server has no part in it.
//! Invokes are not slowed down, and the relay's CPU time counts for nobody.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Args;
use crate::goals::Goal;
use crate::load::run_cell;
use crate::pool::Ack;
use crate::report::Report;
use crate::server::{free_port, start_scatterhoard};
use crate::shape::{Link, Relay};
use crate::workload::{Cell, Op};

/// How slow.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Shape {
    /// For --table shaped: rate of each node's link, in each direction, in MB/s.
    #[arg(long, default_value_t = 75.0, value_name = "MB/S")]
    link_mb_s: f64,
    /// For --table shaped: the round trip between proxy and nodes, in ms; half of it each way.
    #[arg(long, default_value_t = 5.0, value_name = "MS")]
    link_delay_ms: f64,
}

/// So fast that a test run is over soon.
const QUICK: Shape = Shape {
    link_mb_s: 400.0,
    link_delay_ms: 1.0,
};

/// Of the data chunks' links together.
const LEAST_SHARE: f64 = 0.85;
const FIRST_BYTE_MS: f64 = 20.0;

/// Size, and whether there is a goal for it.
const ROWS: &[(Op, &str, bool)] = &[
    (Op::Get, "10m", false),
    (Op::Set, "10m", false),
    (Op::Get, "100m", true),
    (Op::Set, "100m", true),
];
const ROWS_QUICK: &[(Op, &str, bool)] = &[(Op::Get, "1m", false), (Op::Set, "1m", false)];

pub(super) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let (shape, rows) = if args.quick {
        (QUICK, ROWS_QUICK)
    } else {
        (args.shape, ROWS)
    };
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let relay = Relay::start(upstream, shape.link()?)?;
    let mut pool = args.pool.clone();
    pool.extra.extend([
        OsString::from(format!("--link-listen={upstream}")),
        OsString::from(format!("--link-advertise={}", relay.address())),
    ]);
    let mut server = start_scatterhoard(&args.program()?, &pool, 0, Ack::Quorum).await?;
    server.target.name = format!(
        "scatterhoard, links {} MB/s {} ms",
        shape.link_mb_s, shape.link_delay_ms
    );
    for &(op, size, has_goal) in rows {
        let cell = Cell::new(op, size.parse()?, 1, 1);
        let targets = [server.target.clone()];
        let measured = run_cell(&targets, &cell, &args.plan(1)).await;
        let mut rows = server.explain(measured)?;
        if has_goal {
            args.judge(rows.last_mut(), &shape.goals(op, pool.data_parity.data));
        }
        report.rows.extend(rows);
    }
    server.stop().await
}

impl Shape {
    fn link(&self) -> Result<Link> {
        ensure!(
            self.link_mb_s.is_finite() && self.link_mb_s >= 0.1,
            "--link-mb-s {}: at least 0.1",
            self.link_mb_s
        );
        let one_way = Duration::try_from_secs_f64(self.link_delay_ms / 2e3)
            .with_context(|| format!("--link-delay-ms {}", self.link_delay_ms))?;
        ensure!(
            one_way <= Duration::from_secs(1),
            "--link-delay-ms {}: at most 2000",
            self.link_delay_ms
        );
        Ok(Link {
            bytes_per_s: self.link_mb_s * 1e6,
            one_way,
        })
    }

    fn goals(&self, op: Op, data_chunks: usize) -> Vec<Goal> {
        let ideal_gb_s = data_chunks as f64 * self.link_mb_s / 1e3;
        let rate = Goal::GbPerS(LEAST_SHARE * ideal_gb_s);
        match op {
            Op::Get => vec![rate, Goal::FirstByteMs(FIRST_BYTE_MS)],
            Op::Set => vec![rate],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_a_round_trip() -> Result<()> {
        let shape = Shape {
            link_mb_s: 75.0,
            link_delay_ms: 5.0,
        };
        let link = shape.link()?;
        assert_eq!(link.one_way, Duration::from_micros(2_500));
        assert_eq!(link.bytes_per_s, 75e6);
        assert_eq!(
            shape.goals(Op::Get, 10),
            [Goal::GbPerS(0.85 * 0.75), Goal::FirstByteMs(20.0)]
        );
        Ok(())
    }

    #[test]
    fn links_that_cannot_be_are_refused() {
        for (link_mb_s, link_delay_ms) in [
            (0.0, 5.0),
            (-1.0, 5.0),
            (f64::NAN, 5.0),
            (f64::INFINITY, 5.0),
            (75.0, -1.0),
            (75.0, f64::NAN),
            (75.0, 2_001.0),
        ] {
            let shape = Shape {
                link_mb_s,
                link_delay_ms,
            };
            assert!(shape.link().is_err(), "{shape:?}");
        }
    }
}
