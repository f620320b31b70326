//! Servers on free loopback ports: started, measured in turn, judged, ended.

mod beside_redis;
mod degraded;
mod fit;
mod matrix;
mod memory;
mod rows;
mod scale;
mod shaped;
mod side_by_side;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::goals::Goal;
use crate::interrupt;
use crate::keys::Verify;
use crate::load::Plan;
use crate::load::traffic::Traffic;
use crate::pool::Pool;
use crate::progress::Progress;
use crate::report::{Report, Row};
use crate::results::Output;
use crate::server;

const MAX_SECONDS: f64 = 1e6;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The scatterhoard program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    scatterhoard: Option<PathBuf>,
    /// For --table scale: the local-lambda program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    local_lambda: Option<PathBuf>,
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
    matrix: matrix::Scope,
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
    /// Of contents, and of which nodes are killed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
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
    /// and 400 idle ones, with their platform in a process of its own.
    Scale,
    /// The proxy's largest size while 64 clients stream.
    Memory,
    /// TLS on links, beside a pool without.
    Tls,
    /// Beside redis-server, valkey-server and memcached: 100 B to 100 MB, 1 to 50 clients, from
    /// the hot tier and from the pool, healthy and with p nodes down.
    Matrix,
}

/// Measures; what was measured until an error is published, too.
pub(crate) async fn run(args: Args) -> Result<()> {
    ensure!(
        args.seconds > 0.0 && args.seconds <= MAX_SECONDS,
        "--seconds {}: want more than 0, and {MAX_SECONDS} at most",
        args.seconds
    );
    let mut report = Report::new(args.seed);
    let ended = interrupt::unless_told(compare(&args, &mut report)).await;
    args.draw(&mut report);
    report.close(ended, &args.output)
}

async fn compare(args: &Args, report: &mut Report) -> Result<()> {
    for table in args.tables() {
        match table {
            Table::Basic => beside_redis::run(args, rows::BASIC, report).await?,
            Table::Streaming => {
                beside_redis::run(args, rows::STREAMING, report).await?;
                degraded::run(args, report).await?;
            }
            Table::Degraded => degraded::run(args, report).await?,
            Table::Shaped => shaped::run(args, report).await?,
            Table::Scale => scale::run(args, report).await?,
            Table::Memory => memory::run(args, report).await?,
            Table::Tls => tls::run(args, report).await?,
            Table::Matrix => matrix::run(args, report).await?,
        }
    }
    Ok(())
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

    /// Ratios by size, or latencies.
    fn draw(&self, report: &mut Report) {
        if self.tables() == [Table::Matrix] {
            report.drawings = side_by_side::charts(&report.rows);
        } else {
            report.draw_latencies();
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
            warm_up: None,
            keys: None,
            threads: self.threads,
            verify,
            traffic: Traffic::of_seed(self.seed),
            progress: Progress::default(),
            stop: Arc::default(),
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
                Table::Tls,
                Table::Matrix
            ]
        );
        Ok(())
    }
}
