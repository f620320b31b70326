//! The main job, straight down: bind, find out who we are, start the pool, serve
//! until told to stop, drain.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use local_lambda::LocalLambda;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    accept::{self, Door},
    admin::Admin,
    apply::Context,
    assembly::{self, AssemblyError},
    backing::{self, Backing},
    client_tls::{ClientTls, TlsError},
    config::{Config, Functions},
    descriptors,
    epoch::{self, DataDir, DataDirError},
    journal::{Journal, JournalError},
    local_pool,
    pool::{self, Pool, link_tls, platform::Platform},
    store::{self, Recover, Store},
};

/// How long a start waits for the nodes' first answers.
const SURVEY_LIMIT: Duration = Duration::from_secs(20);
/// Nodes are given so long to say goodbye.
const POOL_SHUTDOWN: Duration = Duration::from_secs(3);
/// The journal's last sync may take so long.
const JOURNAL_END: Duration = Duration::from_secs(3);

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

/// Serves until SIGINT or SIGTERM, then drains.
pub async fn serve(mut config: Config) -> Result<(), ServeError> {
    for warning in config.acl.warnings() {
        tracing::warn!("file of users: {warning}");
    }
    let limit = descriptors::raise();
    let max_clients = descriptors::clients(config.max_clients, limit, config.nodes);
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
    let data_dir = config.data_dir.as_deref().map(DataDir::open).transpose()?;
    let local = match config.functions {
        Functions::Local => Some(
            local_pool::start(&config)
                .await
                .map_err(ServeError::LocalPool)?,
        ),
        Functions::Endpoint(_) | Functions::Aws => None,
    };
    let started = start(&config, links, local.as_ref(), data_dir.as_ref()).await;
    let result = match started {
        Ok(started) => {
            // whoever reads that it is ready may ask it to stop at once
            let stops = Stops::listen()?;
            announce(&config, &doors, admin.as_ref())?;
            let server = Server {
                stops,
                config,
                metrics,
                local: local.as_ref(),
                started,
            };
            server.run(doors, admin).await
        }
        Err(error) => Err(error),
    };
    if let Some(local) = local {
        local.shutdown(local_pool::SHUTDOWN_GRACE).await;
    }
    // the lock of the folder goes last
    drop(data_dir);
    result
}

fn metrics_recorder() -> Result<PrometheusHandle, ServeError> {
    PrometheusBuilder::new()
        .install_recorder()
        .map_err(|e| io::Error::other(e).into())
}

/// What there is before the first client is served.
struct Started {
    pool: Arc<Pool>,
    store: Arc<Store>,
    chores: store::Chores,
    /// Where nodes dial, unless the pool was started already.
    links: Option<TcpListener>,
}

async fn start(
    config: &Config,
    links: TcpListener,
    local: Option<&LocalLambda>,
    data_dir: Option<&DataDir>,
) -> Result<Started, ServeError> {
    let endpoint = match (&config.functions, local) {
        (_, Some(local)) => Some(local.endpoint_url()),
        (Functions::Endpoint(url), None) => Some(url.clone()),
        (Functions::Aws | Functions::Local, None) => None,
    };
    let platform = Platform::connect(endpoint.as_deref()).await;
    let link_address = match config.link_advertise {
        Some(address) => address,
        None => links.local_addr()?,
    };
    let link_tls = if config.link_tls {
        Some(link_tls::new_certificate()?)
    } else {
        None
    };
    if config.links_can_be_read() {
        tracing::warn!("links are plain text (link_tls = off): for networks of your own only");
    }
    let pool = assembly::pool(config, platform, link_address, link_tls);
    let survey = pool.survey(SURVEY_LIMIT).await;
    if survey.answered == 0 {
        let names = config.function_names();
        return Err(ServeError::NoNodes {
            endpoint: endpoint.unwrap_or_else(|| "AWS Lambda".into()),
            why: survey.failure.unwrap_or_else(|| "no answer in time".into()),
            first: names.first().cloned().unwrap_or_default(),
            last: names.last().cloned().unwrap_or_default(),
        });
    }
    let recovers = match (config.recover, data_dir) {
        (Recover::Journal, _) => false,
        (Recover::Inventory, Some(dir)) => dir.begin_inventory()?,
        (Recover::Inventory, None) => true,
    };
    let epoch = epoch::next(data_dir, survey.highest_epoch)?;
    tracing::info!(%epoch, nodes = survey.answered, "pool is ready");
    let journal = match data_dir {
        Some(dir) => Some(Arc::new(Journal::open(&dir.journal(), config.appendfsync)?)),
        None => None,
    };
    keep_if_doubtful(journal.as_deref(), data_dir)?;
    let backing = match (config.backing.clone(), data_dir) {
        (Some(settings), Some(dir)) => Some(Backing::open(settings, &dir.backing()).await?),
        _ => None,
    };
    let (store, chores) = assembly::store(config, &pool, epoch, journal, backing)?;
    // what is damaged is known now
    keep_if_doubtful(store.journal().map(Arc::as_ref), data_dir)?;
    let mut links = Some(links);
    if recovers && let Some(links) = links.take() {
        pool.start(pool::Links::Tcp(links));
        store.take_inventory().await;
        if let Some(later) = *pool.superseded().borrow() {
            return Err(ServeError::Superseded(later));
        }
        data_dir.map_or(Ok(()), DataDir::end_inventory)?;
    }
    if config.recover == Recover::Inventory && store.is_empty() {
        pool.raise_floor(store.floor());
    }
    Ok(Started {
        pool,
        store,
        chores,
        links,
    })
}

/// What a damaged or missing journal does not name may be wanted all the same.
fn keep_if_doubtful(journal: Option<&Journal>, data_dir: Option<&DataDir>) -> io::Result<()> {
    match (journal, data_dir) {
        (Some(journal), Some(dir)) if journal.take_doubt() => backing::keep_all(&dir.backing()),
        _ => Ok(()),
    }
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
}

struct Server<'a> {
    stops: Stops,
    config: Config,
    metrics: PrometheusHandle,
    local: Option<&'a LocalLambda>,
    started: Started,
}

impl Server<'_> {
    async fn run(self, doors: Vec<Door>, admin: Option<TcpListener>) -> Result<(), ServeError> {
        let Started {
            pool,
            store,
            chores,
            links,
        } = self.started;
        let shutdown_timeout = self.config.shutdown_timeout;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        // cancelled when no session is left that could give it work
        let drain = CancellationToken::new();
        let mut superseded = pool.superseded();
        if let Some(links) = links {
            pool.start(pool::Links::Tcp(links));
        }
        let keeper = assembly::start_chores(&store, chores, &tasks, &stop, &drain);
        let context = Arc::new(Context::new(store, self.config));
        for tls in doors.iter().filter_map(|door| door.tls.clone()) {
            tasks.spawn(tls.renew_for_ever(stop.clone()));
        }
        let limits = context.limits.clone();
        tasks.spawn(limits.keep(context.clients.clone(), stop.clone()));
        if let Some(listener) = admin {
            let local = self.local.map(LocalLambda::handle);
            let admin = Admin::new(context.clone(), self.metrics, local);
            tasks.spawn(admin.serve(listener, stop.clone()));
        }
        let Stops {
            mut terminate,
            mut interrupt,
        } = self.stops;
        let sessions = TaskTracker::new();
        let end = tokio::select! {
            () = accept::accept(&context, doors, &sessions, &stop) => Ok(()),
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            _ = superseded.changed() => Err(()),
        };
        tracing::info!(sessions = sessions.len(), "stopping");
        stop.cancel();
        sessions.close();
        tasks.close();
        let drained = async {
            sessions.wait().await;
            drain.cancel();
            tasks.wait().await;
        };
        if timeout(shutdown_timeout, drained).await.is_err() {
            tracing::warn!(
                sessions = sessions.len(),
                tasks = tasks.len(),
                "clients or tasks were cut off"
            );
        }
        keeper.stop();
        if timeout(JOURNAL_END, keeper.ended()).await.is_err() {
            tracing::warn!("journal not synced: its disk does not answer");
        }
        pool.shutdown(POOL_SHUTDOWN).await;
        let later = *superseded.borrow();
        match (end, later) {
            (Err(()), Some(epoch)) => Err(ServeError::Superseded(epoch)),
            _ => Ok(()),
        }
    }
}
