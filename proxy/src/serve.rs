//! The main job, straight down: bind, start what is behind the ports, serve until told
//! to stop, drain.

use std::{io, net::SocketAddr, sync::Arc};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    accept::{self, Door},
    admin::Admin,
    assembly::AssemblyError,
    backing,
    checks::advice::Finding,
    client_tls::{ClientTls, TlsError},
    config::{Config, Functions},
    descriptors,
    engine::Engine,
    epoch::DataDirError,
    journal::JournalError,
    local_pool::Program,
};

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({error}); choose another with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The journal cannot be used.
    #[error("{0}; if it is damaged, remove the folder: the cache then begins empty")]
    Journal(#[from] JournalError),
    /// The backing store cannot be used.
    #[error("{0}; see --backing-store")]
    Backing(#[from] backing::OpenError),
    /// TLS for clients cannot be had.
    #[error("TLS for clients: {0}")]
    ClientTls(#[from] TlsError),
    /// No function answered.
    #[error(
        "no node answered at {endpoint}: {why}; is it running, and are the functions {first} .. {last} there? (--lambda-endpoint, --function-prefix, --nodes)"
    )]
    NoNodes {
        /// Where.
        endpoint: String,
        /// The first node's failure.
        why: String,
        /// First function.
        first: String,
        /// Last function.
        last: String,
    },
    /// The account does not let enough of them run.
    #[error("{}; {}", .0.what, .0.fix.as_deref().unwrap_or_default())]
    Quota(Finding),
    /// The local pool did not start.
    #[error("cannot start the local pool: {0}")]
    LocalPool(anyhow::Error),
    /// The parts do not fit.
    #[error("{0}; if the journal is damaged, remove the folder: the cache then begins empty")]
    Assembly(#[from] AssemblyError),
    /// Something of the system is missing.
    #[error("{0}")]
    System(#[from] io::Error),
    /// Another proxy owns the nodes now.
    #[error("another proxy with a later epoch ({0}) owns these nodes: stopped serving")]
    Superseded(scatterhoard_wire::Epoch),
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServeError> {
    let listen = |error| ServeError::Listen {
        address,
        error,
        flag,
    };
    scatterhoard_node::socket::listen(address)
        .await
        .map_err(listen)
}

impl From<Finding> for ServeError {
    fn from(finding: Finding) -> Self {
        Self::Quota(finding)
    }
}

/// Serves until SIGINT or SIGTERM, then drains.
pub async fn serve(mut config: Config) -> Result<(), ServeError> {
    for warning in config.acl.warnings() {
        tracing::warn!("file of users: {warning}");
    }
    let limit = descriptors::raise();
    let max_clients = descriptors::clients(config.max_clients, limit, config.most_nodes());
    if max_clients < config.max_clients {
        let wanted = config.max_clients;
        tracing::warn!(
            max_clients,
            wanted,
            open_files = limit,
            "fewer clients are served: raise the limit of open files (ulimit -n)"
        );
        config.max_clients = max_clients;
    }
    let clients = bind(config.listen, "--listen").await?;
    let mut doors = vec![Door {
        listener: clients,
        tls: None,
    }];
    if let Some(settings) = &config.tls {
        let tls = ClientTls::new(settings.clone())?;
        doors.push(Door {
            listener: bind(tls.listen(), "--tls-listen").await?,
            tls: Some(Arc::new(tls)),
        });
    }
    let links = bind(config.link_listen, "--link-listen").await?;
    let admin = match config.admin {
        Some(address) => Some(bind(address, "--admin").await?),
        None => None,
    };
    let metrics = metrics_recorder()?;
    // a start may take long, and whoever reads that it is over may end it at once
    let mut stops = Stops::listen()?;
    let program = Program::this()?;
    let engine = tokio::select! {
        biased;
        () = stops.told() => {
            tracing::info!("told to end before it was ready");
            return Ok(());
        }
        // large: it is all of a start
        engine = Box::pin(Engine::start(config, links, &program)) => engine?,
    };
    announce(&engine.context().config, &doors, admin.as_ref())?;
    run(engine, stops, doors, admin, metrics).await
}

fn metrics_recorder() -> Result<PrometheusHandle, ServeError> {
    PrometheusBuilder::new()
        .install_recorder()
        .map_err(|e| io::Error::other(e).into())
}

/// Says what runs where, for people; the log has its own line.
#[allow(
    clippy::print_stdout,
    reason = "this is what the program is asked to print"
)]
fn announce(config: &Config, doors: &[Door], admin: Option<&TcpListener>) -> io::Result<()> {
    let mut address = config.listen;
    let where_from = match &config.functions {
        Functions::Local => "processes on this machine".to_owned(),
        Functions::Endpoint(url) => format!("functions at {url}"),
        Functions::Aws => "functions on AWS Lambda".to_owned(),
    };
    println!("scatterhoard {}", env!("CARGO_PKG_VERSION"));
    println!(
        "  pool    {} nodes of {} MB, {where_from}; {} data + parity chunks",
        config.nodes, config.node_memory_mb, config.geometry.full
    );
    if config.link_tls {
        println!("  links   TLS, every node pins this proxy's certificate");
    }
    for door in doors {
        match door.tls {
            None => address = door.listener.local_addr()?,
            Some(_) => println!("  tls     rediss://{}", door.listener.local_addr()?),
        }
    }
    if let Some(admin) = admin {
        println!(
            "  admin   http://{}/healthz and /metrics",
            admin.local_addr()?
        );
    }
    println!(
        "  try     redis-cli -h {} -p {}",
        address.ip(),
        address.port()
    );
    println!("scatterhoard is ready: redis://{address}");
    Ok(())
}

/// The signals that end the program in good order.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when one of them has come.
    async fn told(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves clients until told to end, then drains.
async fn run(
    engine: Engine,
    mut stops: Stops,
    doors: Vec<Door>,
    admin: Option<TcpListener>,
    metrics: PrometheusHandle,
) -> Result<(), ServeError> {
    let (stop, tasks) = (engine.stop(), engine.tasks());
    for tls in doors.iter().filter_map(|door| door.tls.clone()) {
        tasks.spawn(tls.renew_for_ever(stop.clone()));
    }
    if let Some(listener) = admin {
        let admin = Admin::new(
            engine.context().clone(),
            metrics,
            engine.local(),
            engine.elastic().clone(),
        );
        tasks.spawn(admin.serve(listener, stop.clone()));
    }
    let end = tokio::select! {
        () = accept::accept(engine.context(), doors, engine.sessions(), stop) => Ok(()),
        () = stops.told() => Ok(()),
        epoch = engine.superseded() => Err(ServeError::Superseded(epoch)),
    };
    engine.end().await;
    end
}
