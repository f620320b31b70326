//! The program `local-lambda`: serve from a configuration file, or ask a
//! running one.

mod ask;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use hyper::Method;
use local_lambda::config::Config;
use local_lambda::{InstanceId, InstanceInfo, Ledger, LocalLambda, Reclaim};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A Lambda for one machine.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGINT or SIGTERM; prints the endpoint.
    Serve {
        /// The configuration; see local-lambda.example.toml.
        #[arg(long)]
        config: PathBuf,
    },
    /// List the instances of a running local-lambda.
    Instances {
        #[command(flatten)]
        at: At,
    },
    /// Take instances away from a running local-lambda; prints their ids.
    Reclaim {
        #[command(flatten)]
        at: At,
        /// These instances only.
        #[arg(long, value_delimiter = ',')]
        ids: Option<Vec<u64>>,
        /// Instances of this function only.
        #[arg(long)]
        function: Option<String>,
        /// So many of them, drawn at random.
        #[arg(long)]
        count: Option<usize>,
        /// Seed of the draw.
        #[arg(long)]
        seed: Option<u64>,
        /// Busy ones too.
        #[arg(long)]
        busy: bool,
    },
    /// Show the bill of a running local-lambda.
    Ledger {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args)]
struct At {
    /// The endpoint that `serve` printed.
    #[arg(long, env = "LOCAL_LAMBDA_ENDPOINT")]
    endpoint: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Serve { config } => serve(config).await,
        Command::Instances { at } => instances(&at.endpoint).await,
        Command::Reclaim {
            at,
            ids,
            function,
            count,
            seed,
            busy,
        } => {
            let ids = ids.map(|ids| ids.into_iter().map(InstanceId).collect());
            let order = Reclaim {
                ids,
                function,
                count,
                seed,
                busy,
            };
            let taken: Vec<InstanceId> =
                ask::json(&at.endpoint, Method::POST, "/_local/reclaim", Some(&order)).await?;
            print(taken.iter().map(|id| format!("{id}\n")).collect())
        }
        Command::Ledger { at } => ledger(&at.endpoint).await,
    }
}

async fn serve(path: PathBuf) -> Result<()> {
    let config = Config::from_file(&path)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let lambda = LocalLambda::start(config.settings).await?;
    let handle = lambda.handle();
    for function in config.functions {
        handle.put_function(function)?;
    }
    print(format!("{}\n", lambda.endpoint_url()))?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for signals")?,
        _ = terminate.recv() => {}
    }
    lambda.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn instances(endpoint: &str) -> Result<()> {
    let list: Vec<InstanceInfo> =
        ask::json(endpoint, Method::GET, "/_local/instances", None::<&()>).await?;
    let mut text = format!(
        "{:>6} {:<24} {:>8} {:<9} {:>9} {:>9} {:>8} {:>11}\n",
        "ID", "FUNCTION", "PID", "STATE", "AGE s", "IDLE s", "RSS MB", "INVOCATIONS"
    );
    for i in list {
        let state = format!("{:?}", i.state).to_lowercase();
        let idle = i
            .idle
            .map_or("-".to_owned(), |d| format!("{:.1}", d.as_secs_f64()));
        let pid = i.pid.map_or("-".to_owned(), |p| p.to_string());
        text += &format!(
            "{:>6} {:<24} {:>8} {:<9} {:>9.1} {:>9} {:>8.1} {:>11}\n",
            i.id.0,
            i.function,
            pid,
            state,
            i.age.as_secs_f64(),
            idle,
            i.rss_bytes as f64 / 1e6,
            i.invocations
        );
    }
    print(text)
}

async fn ledger(endpoint: &str) -> Result<()> {
    let ledger: Ledger = ask::json(endpoint, Method::GET, "/_local/ledger", None::<&()>).await?;
    let mut text = format!(
        "{:<24} {:>9} {:>6} {:>7} {:>9} {:>11} {:>12} {:>12}\n",
        "FUNCTION", "REQUESTS", "COLD", "ERRORS", "THROTTLED", "BILLED ms", "GB-s", "USD"
    );
    let total = ("TOTAL".to_owned(), ledger.total);
    for (name, b) in ledger.functions.into_iter().chain([total]) {
        text += &format!(
            "{name:<24} {:>9} {:>6} {:>7} {:>9} {:>11} {:>12.3} {:>12.8}\n",
            b.requests, b.cold_starts, b.errors, b.throttles, b.billed_ms, b.gb_s, b.usd
        );
    }
    print(text)
}

/// Prints without panicking when nobody reads any more.
fn print(text: String) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
