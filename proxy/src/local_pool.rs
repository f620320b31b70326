//! The default pool: local-lambda inside this program, running this program as
//! the node process.

use std::{collections::BTreeMap, time::Duration};

use local_lambda::{FunctionConfig, LocalLambda, Output, Settings};

use crate::config::Config;

/// Starts a Lambda on this machine with one function per node.
pub async fn start(config: &Config) -> anyhow::Result<LocalLambda> {
    let concurrency = u32::from(config.nodes).saturating_mul(2).max(1000);
    let settings = Settings {
        account_concurrency: concurrency,
        output: Output::Inherit,
        ..Settings::default()
    };
    let lambda = LocalLambda::start(settings).await?;
    let program = std::env::current_exe()?;
    let handle = lambda.handle();
    for name in config.function_names() {
        let mut function = FunctionConfig::new(name, &program);
        function.args = vec!["node".into()];
        function.memory_mb = config.node_memory_mb;
        function.timeout = config.function_timeout;
        function.env = BTreeMap::from([
            ("SCATTERHOARD_LOG".into(), "warn".into()),
            // a node keeps what it uses again itself; what its allocator keeps
            // for sizes that do not come any more would be beyond its budget
            ("MIMALLOC_PURGE_DELAY".into(), "0".into()),
        ]);
        handle.put_function(function)?;
    }
    Ok(lambda)
}

/// How long its processes may take to go.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
