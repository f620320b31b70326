//! `scatterhoard-bench`: loads any RESP endpoint, and compares Scatterhoard with
//! redis-server, or with itself in other circumstances, in one run.
//!
//! Targets take turns inside a round (A B A B ...), so that a slow minute of the
//! machine hits all of them, and every figure is a median over rounds. The client
//! is the same for all targets and allocates nothing per operation.

#[macro_use]
mod output;

mod admin;
mod availability;
mod chaos;
mod chart;
mod client;
mod client_overhead;
mod compare;
mod cost;
mod goals;
mod grid;
mod interrupt;
mod keys;
mod load;
mod measure;
mod memcached;
mod pool;
mod procfs;
mod progress;
mod recover;
mod replay;
mod reply;
mod report;
mod results;
mod server;
mod shape;
mod size;
mod target;
mod trace;
mod workload;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    version,
    about = "Load generator and comparison for Redis-speaking object caches"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load one or more running servers and print a table.
    Load(Box<load::Args>),
    /// Start scatterhoard on free loopback ports and compare it: with redis-server and others,
    /// or with itself in other circumstances.
    Compare(Box<compare::Args>),
    /// Compare the Rust client with a raw socket loop, and weigh it while it streams.
    Client(client_overhead::Args),
    /// Do harm to scatterhoard under load, and check every byte that it answers.
    Chaos(chaos::Args),
    /// Fill scatterhoard with small objects, kill it, and tell how soon it is ready again.
    Recover(recover::Args),
    /// Play days of reclaims on a large pool, and tell what stays available at what cost.
    Availability(Box<availability::Args>),
    /// Play a trace on a pool of bounded capacity, and tell what is hit, lost and invoked.
    Replay(Box<replay::Args>),
    /// Dollars for a trace or a described workload, here and elsewhere.
    Cost(Box<cost::Args>),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scatterhoard-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Load(args) => client_runtime(args.plan.threads)?.block_on(load::run(*args)),
        Command::Compare(args) => client_runtime(args.threads)?.block_on(compare::run(*args)),
        Command::Client(args) => client_overhead::run(args),
        Command::Chaos(args) => client_runtime(1)?.block_on(chaos::run(args)),
        Command::Recover(args) => client_runtime(1)?.block_on(recover::run(args)),
        Command::Availability(args) => availability::run(*args),
        Command::Replay(args) => replay::run(*args),
        Command::Cost(args) => cost::run(*args),
    }
}

/// One client thread by default, like redis-benchmark: the servers need the other cores.
fn client_runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    let mut builder = if threads <= 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads);
        builder
    };
    Ok(builder.enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_subcommand_takes_a_seed_and_writes_and_draws_what_it_finds() {
        let mut cli = Cli::command();
        cli.build();
        let subcommands = cli.get_subcommands().filter(|s| s.get_name() != "help");
        let mut count = 0;
        for subcommand in subcommands {
            count += 1;
            for option in ["seed", "json", "markdown", "plot"] {
                let has = |a: &clap::Arg| a.get_long() == Some(option);
                let name = subcommand.get_name();
                assert!(subcommand.get_arguments().any(has), "{name} --{option}");
            }
        }
        assert_eq!(count, 8);
        cli.debug_assert();
    }
}
