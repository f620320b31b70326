//! The default pool: local-lambda inside this program, running this program, or
//! another, as the node process.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use local_lambda::{FunctionConfig, LocalLambda, Output, Settings};

use crate::config::Config;

/// What a node process runs.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Further variables of its environment.
    pub env: BTreeMap<String, String>,
}

impl Program {
    /// A program that is a node when it is asked to as `scatterhoard` is.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            args: vec!["node".into()],
            env: BTreeMap::new(),
        }
    }

    /// This one.
    ///
    /// # Errors
    /// When the system does not know where it is.
    pub fn this() -> io::Result<Self> {
        Ok(Self::at(std::env::current_exe()?))
    }
}

/// Starts a Lambda on this machine with these functions.
pub async fn start(
    config: &Config,
    program: &Program,
    names: impl Iterator<Item = String>,
) -> anyhow::Result<LocalLambda> {
    let concurrency = u32::from(config.nodes).saturating_mul(2).max(1000);
    let settings = Settings {
        account_concurrency: concurrency,
        output: Output::Inherit,
        ..Settings::default()
    };
    let lambda = LocalLambda::start(settings).await?;
    let handle = lambda.handle();
    for name in names {
        handle.put_function(function(config, program, name))?;
    }
    Ok(lambda)
}

/// The function of one node.
pub fn function(config: &Config, program: &Program, name: String) -> FunctionConfig {
    let mut function = FunctionConfig::new(name, &program.path);
    function.args = program.args.iter().map(Into::into).collect();
    function.memory_mb = config.node_memory_mb;
    function.timeout = config.function_timeout;
    function.env = program.env.clone();
    function.env.extend([
        ("SCATTERHOARD_LOG".into(), "warn".into()),
        // a node keeps what it uses again itself; what its allocator keeps
        // for sizes that do not come any more would be beyond its budget
        ("MIMALLOC_PURGE_DELAY".into(), "0".into()),
    ]);
    function
}

/// How long its processes may take to go.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
