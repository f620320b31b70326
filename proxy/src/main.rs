//! The `scatterhoard` program: `serve` (the default), `pool` and `node`.

use std::{ffi::OsStr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use scatterhoard_proxy::{
    config::{Config, LogFormat, Options},
    elastic::command::PoolCommand,
    serve::{ServeError, serve},
};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An object cache that speaks the Redis protocol and keeps its data,
/// erasure-coded, in the memory of function instances.
#[derive(Parser)]
#[command(name = "scatterhoard", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serve Redis clients (the default)
    Serve(Box<Serve>),
    /// Add, drain and update nodes of a running proxy
    Pool(PoolCommand),
    /// Be a node process: started by a Lambda runtime, not by hand
    Node,
}

#[derive(Args)]
struct Serve {
    /// Settings in TOML; flags and environment go before it
    #[arg(long, env = "SCATTERHOARD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Wrong settings: the same as for wrong flags.
const EXIT_USAGE: u8 = 2;
/// Another proxy has taken over: do not restart.
const EXIT_SUPERSEDED: u8 = 3;

/// Threads that are in the middle of something are given so long.
const THREADS_END: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // before clap, whose tables would stay in the memory of every node
    if std::env::args_os().skip(1).eq([OsStr::new("node")]) {
        return node();
    }
    let cli = Cli::parse();
    match cli
        .command
        .unwrap_or_else(|| Command::Serve(Box::new(cli.serve)))
    {
        Command::Node => node(),
        Command::Pool(command) => pool(command),
        Command::Serve(serve) => run(*serve),
    }
}

fn node() -> ExitCode {
    match scatterhoard_node::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(ExitCode::FAILURE, &error),
    }
}

#[allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a person reads it"
)]
fn pool(command: PoolCommand) -> ExitCode {
    match command.run(|text| eprintln!("{text}")) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(ExitCode::FAILURE, &error),
    }
}

#[allow(clippy::print_stderr, reason = "a person reads it")]
fn fail(code: ExitCode, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("scatterhoard: {error}");
    code
}

fn run(args: Serve) -> ExitCode {
    let file = match args.config.as_deref().map(Options::from_file).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(error) => return fail(EXIT_USAGE.into(), &error),
    };
    let config = match Config::from_options(args.options.or(file)) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE.into(), &error),
    };
    if let Err(error) = start_log(&config) {
        return fail(EXIT_USAGE.into(), &error);
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(config.threads).enable_all();
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(ExitCode::FAILURE, &error),
    };
    let served = runtime.block_on(serve(config));
    // dropped, it would wait for threads in a file system that hangs
    runtime.shutdown_timeout(THREADS_END);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ ServeError::Superseded(_)) => fail(EXIT_SUPERSEDED.into(), &error),
        Err(error) => fail(ExitCode::FAILURE, &error),
    }
}

fn start_log(config: &Config) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.log).map_err(|e| format!("log: {e}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Human => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
