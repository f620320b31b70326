//! A Lambda on this machine that outlives proxies.

use std::{net::SocketAddr, time::Duration};

use local_lambda::{FunctionConfig, Handle, LocalLambda, Settings};
use tokio::runtime::Runtime;

use crate::server::{PROGRAM, free_address};

/// local-lambda in this process, with functions that are real nodes.
pub(crate) struct Platform {
    lambda: Option<LocalLambda>,
    runtime: Runtime,
    address: SocketAddr,
}

impl Platform {
    /// `nodes` functions of 128 MB.
    pub(crate) fn start(nodes: usize) -> Self {
        Self::start_at(free_address(), nodes)
    }

    pub(crate) fn start_at(address: SocketAddr, nodes: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let settings = Settings {
            listen: address,
            ..Settings::default()
        };
        let lambda = runtime.block_on(LocalLambda::start(settings)).unwrap();
        for i in 0..nodes {
            let mut function = FunctionConfig::new(format!("scatterhoard-node-{i:03}"), PROGRAM);
            function.args = vec!["node".into()];
            function.timeout = Duration::from_secs(60);
            lambda.handle().put_function(function).unwrap();
        }
        Self {
            lambda: Some(lambda),
            runtime,
            address,
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        self.lambda.as_ref().unwrap().handle()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(lambda) = self.lambda.take() {
            self.runtime
                .block_on(lambda.shutdown(Duration::from_secs(5)));
        }
    }
}
