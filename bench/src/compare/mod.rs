//! Servers on free loopback ports: started, measured in turn, judged, ended.

mod beside_redis;
mod degraded;
mod memory;
mod rows;
mod scale;
mod shaped;
mod tls;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use crate::goals::Goal;
use crate::keys::Verify;
use crate::load::{Output, Plan};
use crate::pool::Pool;
use crate::report::{Report, Row};
use crate::server;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The scatterhoard program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    scatterhoard: Option<PathBuf>,
    /// The redis-server program.
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis_server: PathBuf,
    /// What to measure [default: basic].
    #[arg(long, value_enum)]
    table: Option<Table>,
    /// Nodes to kill for the degraded rows [default: p]; without --table, only those rows.
    #[arg(long, value_name = "K")]
    degraded: Option<usize>,
    #[command(flatten)]
    shape: shaped::Shape,
    /// A few seconds of every table, or of the one named: checks contents, judges no speed.
    #[arg(long)]
    quick: bool,
    /// Rounds per cell; figures are medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Measured seconds per cell, round and target.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    #[command(flatten)]
    pool: Pool,
    #[command(flatten)]
    output: Output,
}

/// Which rows to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Table {
    /// Beside redis-server: one client, 1 KB to 10 MB.
    Basic,
    /// Beside redis-server: large objects, several clients, first bytes and CPU time; and
    /// the degraded rows.
    Streaming,
    /// Nodes freshly killed, beside the same pool in good health.
    Degraded,
    /// Every node's link as slow as a function's.
    Shaped,
    /// Pools of 12, 50 and 200 nodes of 128 MB (whatever --nodes and --node-memory-mb say),
    /// and 400 idle ones.
    Scale,
    /// The proxy's largest size while 64 clients stream.
    Memory,
    /// TLS on links, beside a pool without.
    Tls,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Dropping the comparison kills its servers: none outlives this program.
    tokio::select! {
        done = compare(&args) => done,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}

async fn compare(args: &Args) -> Result<()> {
    let mut report = Report::default();
    for table in args.tables() {
        match table {
            Table::Basic => beside_redis::run(args, rows::BASIC, &mut report).await?,
            Table::Streaming => {
                beside_redis::run(args, rows::STREAMING, &mut report).await?;
                degraded::run(args, &mut report).await?;
            }
            Table::Degraded => degraded::run(args, &mut report).await?,
            Table::Shaped => shaped::run(args, &mut report).await?,
            Table::Scale => scale::run(args, &mut report).await?,
            Table::Memory => memory::run(args, &mut report).await?,
            Table::Tls => tls::run(args, &mut report).await?,
        }
    }
    report.publish(&args.output)
}

impl Args {
    fn tables(&self) -> Vec<Table> {
        match (self.table, self.degraded) {
            (Some(table), _) => vec![table],
            (None, Some(_)) => vec![Table::Degraded],
            // Streaming has no kind of row that the others lack.
            (None, None) if self.quick => Table::value_variants()
                .iter()
                .copied()
                .filter(|table| *table != Table::Streaming)
                .collect(),
            (None, None) => vec![Table::Basic],
        }
    }

    fn program(&self) -> Result<PathBuf> {
        server::program(self.scatterhoard.as_deref(), "scatterhoard")
    }

    fn plan(&self, clients: usize) -> Plan {
        let (rounds, seconds) = if self.quick {
            (1, 0.2)
        } else {
            (self.rounds as usize, self.seconds)
        };
        // Several clients would compare bodies on the servers' time: check ends there, and
        // every key in full after each round.
        let verify = if clients == 1 || self.quick {
            Verify::Full
        } else {
            Verify::Ends
        };
        Plan {
            rounds,
            seconds,
            keys: None,
            threads: self.threads,
            verify,
        }
    }

    /// Judges a row, unless speed is no matter.
    fn judge(&self, row: Option<&mut Row>, goals: &[Goal]) {
        if let Some(row) = row.filter(|_| !self.quick) {
            row.goals = goals
                .iter()
                .map(|goal| goal.judge(&row.summary, row.ratio))
                .collect();
        }
    }

    /// A goal for a single figure, unless speed is no matter.
    fn at_most(&self, most: f64) -> Option<f64> {
        (!self.quick).then_some(most)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn tables(arguments: &[&str]) -> Result<Vec<Table>> {
        let arguments = [&["compare"], arguments].concat();
        Ok(Cli::try_parse_from(arguments)?.args.tables())
    }

    #[test]
    fn tables_are_chosen_by_name_by_degraded_and_by_quick() -> Result<()> {
        assert_eq!(tables(&[])?, [Table::Basic]);
        assert_eq!(tables(&["--degraded", "1"])?, [Table::Degraded]);
        let streaming = tables(&["--table", "streaming", "--degraded", "1"])?;
        assert_eq!(streaming, [Table::Streaming]);
        assert_eq!(tables(&["--quick", "--table", "scale"])?, [Table::Scale]);
        assert_eq!(
            tables(&["--quick"])?,
            [
                Table::Basic,
                Table::Degraded,
                Table::Shaped,
                Table::Scale,
                Table::Memory,
                Table::Tls
            ]
        );
        Ok(())
    }
}
