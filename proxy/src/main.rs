//! The `scatterhoard` program: `serve` (the default), `pool`, `node`, and what looks at a
//! platform: `doctor` and `probe`.

mod allocator;

use std::{ffi::OsStr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use scatterhoard_proxy::{
    config::{Config, LogFormat, Options},
    doctor,
    elastic::command::PoolCommand,
    local_pool::Program,
    probe,
    serve::{ServeError, serve},
};
use tracing_subscriber::EnvFilter;

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
    /// Look at everything that serving with these settings needs, and say what to fix
    Doctor(Box<Doctor>),
    /// Measure the platform's functions, and write a profile for --platform-profile
    Probe(Box<Probe>),
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

#[derive(Args)]
struct Doctor {
    #[command(flatten)]
    serve: Serve,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Probe {
    #[command(flatten)]
    serve: Serve,
    /// How many functions to measure: the first ones
    #[arg(long, value_name = "K", default_value_t = 4)]
    functions: u16,
    /// How long, in minutes: the longer, the longer the silences that are tried
    #[arg(long, value_name = "M", default_value_t = 30.0)]
    minutes: f64,
    /// Where the profile goes
    #[arg(long, value_name = "FILE", default_value = "platform-profile.json")]
    output: PathBuf,
}

/// Wrong settings: the same as for wrong flags.
const EXIT_USAGE: u8 = 2;
/// Another proxy has taken over: do not restart.
const EXIT_SUPERSEDED: u8 = 3;

/// Threads that are in the middle of something are given so long.
const THREADS_END: Duration = Duration::from_secs(1);
/// A week.
const MOST_MINUTES: f64 = 10_080.0;

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
        Command::Doctor(doctor) => run_doctor(*doctor),
        Command::Probe(probe) => run_probe(*probe),
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

/// The settings, and a log by them.
fn settings(args: Serve, log: Option<&str>) -> Result<Config, ExitCode> {
    let usage = |error: &dyn std::fmt::Display| fail(EXIT_USAGE.into(), error);
    let file = args.config.as_deref().map(Options::from_file).transpose();
    let mut options = args
        .options
        .or(file.map_err(|e| usage(&e))?.unwrap_or_default());
    if options.log.is_none() {
        options.log = log.map(str::to_owned);
    }
    let config = Config::from_options(options).map_err(|e| usage(&e))?;
    start_log(&config).map_err(|e| usage(&e))?;
    Ok(config)
}

fn runtime(config: &Config) -> Result<tokio::runtime::Runtime, ExitCode> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(config.threads).enable_all();
    builder.build().map_err(|e| fail(ExitCode::FAILURE, &e))
}

/// Runs it to its end on a runtime of its own.
fn on_runtime<T>(config: &Config, job: impl Future<Output = T>) -> Result<T, ExitCode> {
    let runtime = runtime(config)?;
    let done = runtime.block_on(job);
    // dropped, it would wait for threads in a file system that hangs
    runtime.shutdown_timeout(THREADS_END);
    Ok(done)
}

fn run(args: Serve) -> ExitCode {
    allocator::keep_freed_pages();
    let served = settings(args, None).and_then(|config| on_runtime(&config.clone(), serve(config)));
    match served {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error @ ServeError::Superseded(_))) => fail(EXIT_SUPERSEDED.into(), &error),
        Ok(Err(error)) => fail(ExitCode::FAILURE, &error),
        Err(code) => code,
    }
}

/// What is found is printed, not logged.
const QUIET: &str = "error";

fn program() -> Result<Program, ExitCode> {
    Program::this().map_err(|e| fail(ExitCode::FAILURE, &e))
}

#[allow(clippy::print_stdout, reason = "this is what it is asked to print")]
fn run_doctor(args: Doctor) -> ExitCode {
    let examined = settings(args.serve, Some(QUIET)).and_then(|config| {
        let program = program()?;
        on_runtime(&config, doctor::examine(&config, &program))
    });
    let examination = match examined {
        Ok(examination) => examination,
        Err(code) => return code,
    };
    if args.json {
        match serde_json::to_string_pretty(&examination) {
            Ok(json) => println!("{json}"),
            Err(error) => return fail(ExitCode::FAILURE, &error),
        }
    } else {
        print!("{}", examination.text());
    }
    match examination.ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a person reads it"
)]
fn run_probe(args: Probe) -> ExitCode {
    if !(args.minutes > 0.0 && args.minutes <= MOST_MINUTES) {
        return fail(
            EXIT_USAGE.into(),
            &format!("--minutes must be more than 0, and at most {MOST_MINUTES}"),
        );
    }
    let wanted = probe::Settings {
        functions: args.functions,
        time: Duration::from_secs_f64(args.minutes * 60.0),
        output: args.output,
    };
    let say = |line: String| eprintln!("{line}");
    let probed = settings(args.serve, Some(QUIET)).and_then(|config| {
        let program = program()?;
        on_runtime(&config, probe::probe(&config, &wanted, &program, &say))
    });
    match probed {
        Ok(Ok(_)) => {
            println!("{}", wanted.output.display());
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => fail(ExitCode::FAILURE, &error),
        Err(code) => code,
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
