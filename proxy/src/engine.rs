//! A proxy without its ports: who we are, the pool, the store, and the sessions of
//! whoever comes in, until all is drained. [`crate::serve`] puts ports in front of it;
//! a program that has it inside connects by its [`Entrance`].

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use local_lambda::LocalLambda;
use scatterhoard_wire::{Epoch, NodeId};
use tokio::{io::DuplexStream, net::TcpListener, runtime::Handle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    apply::{Context, Stats},
    assembly::{self, Keeper},
    backing::{self, Backing},
    checks,
    clients::Arrival,
    config::{Config, Functions},
    elastic::{self, Elastic},
    epoch::{self, DataDir},
    journal::Journal,
    local_pool::{self, Program},
    pool::{
        self, Pool, link_tls,
        membership::{self, State},
        platform::Platform,
    },
    serve::ServeError,
    session::Session,
    store::{self, Recover, Store},
};

/// How long a start waits for the nodes' first answers.
const SURVEY_LIMIT: Duration = Duration::from_secs(20);
/// Nodes are given so long to say goodbye.
const POOL_SHUTDOWN: Duration = Duration::from_secs(3);
/// What was cut off may take so long to end.
const CUT_OFF: Duration = Duration::from_secs(2);
/// The journal's last sync may take so long.
const JOURNAL_END: Duration = Duration::from_secs(3);

/// What a connection within the program may have under way in each direction. With less
/// its ends wait for each other (docs/performance.md).
const PIPE_BYTES: usize = 1 << 20;

/// A proxy that runs.
pub struct Engine {
    context: Arc<Context>,
    pool: Arc<Pool>,
    elastic: Arc<Elastic>,
    local: Option<LocalLambda>,
    keeper: Keeper,
    sessions: TaskTracker,
    tasks: TaskTracker,
    /// No new requests.
    stop: CancellationToken,
    /// Cancelled when no session is left that could give work to what ends then.
    drain: CancellationToken,
    data_dir: Option<DataDir>,
    /// Where it was started.
    runtime: Handle,
}

impl Engine {
    /// Starts it: nodes dial `links`, and the local pool runs `program`. On the current
    /// tokio runtime, where nothing goes on if it fails, or is given up.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn start(
        config: Config,
        links: TcpListener,
        program: &Program,
    ) -> Result<Self, ServeError> {
        let data_dir = config.data_dir.as_deref().map(DataDir::open).transpose()?;
        let kept = Kept::open(&config, data_dir.as_ref())?;
        let seats = membership::seats(config.nodes, &kept.members()?);
        let local = match config.functions {
            Functions::Local => Some(
                local_pool::start(&config, program, names(&config, &seats))
                    .await
                    .map_err(ServeError::LocalPool)?,
            ),
            Functions::Endpoint(_) | Functions::Aws => None,
        };
        let started = start(&config, links, local.as_ref(), data_dir.as_ref(), kept).await;
        let started = match (started, local) {
            (Ok(started), local) => Ok((started, local)),
            (Err(error), None) => Err(error),
            (Err(error), Some(local)) => {
                local.shutdown(local_pool::SHUTDOWN_GRACE).await;
                Err(error)
            }
        };
        let (started, local) = started?;
        let Started {
            pool,
            store,
            chores,
            links,
            platform,
        } = started;
        let (stop, drain) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        if let Some(links) = links {
            pool.start(pool::Links::Tcp(links));
        }
        if checks::applies(&config) {
            let (settings, stop) = (config.clone(), stop.clone());
            tasks.spawn(checks::watch_for_ever(
                settings,
                platform,
                pool.clone(),
                stop,
            ));
        }
        let keeper = assembly::start_chores(&store, chores, &tasks, &stop, &drain);
        let elastic = Elastic::new(
            store.clone(),
            make_function(&config, program, local.as_ref()),
        );
        let elastic = Arc::new(elastic);
        if let Some(settings) = config.autoscale {
            tasks.spawn(elastic.clone().scale_for_ever(settings, stop.clone()));
        }
        let context = Arc::new(Context::new(store, config));
        let limits = context.limits.clone();
        tasks.spawn(limits.keep(context.clients.clone(), stop.clone()));
        Ok(Self {
            context,
            pool,
            elastic,
            local,
            keeper,
            sessions: TaskTracker::new(),
            tasks,
            stop,
            drain,
            data_dir,
            runtime: Handle::current(),
        })
    }

    /// What all sessions share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Adds nodes and drains them.
    pub fn elastic(&self) -> &Arc<Elastic> {
        &self.elastic
    }

    /// Where sessions run; their end is waited for.
    pub fn sessions(&self) -> &TaskTracker {
        &self.sessions
    }

    /// Where all else runs that ends with [`Engine::stop`].
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Cancelled when it is to end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Steers the local pool, if there is one.
    pub fn local(&self) -> Option<local_lambda::Handle> {
        self.local.as_ref().map(LocalLambda::handle)
    }

    /// Where clients within the program come in.
    pub fn entrance(&self) -> Entrance {
        Entrance {
            context: Arc::downgrade(&self.context),
            sessions: self.sessions.clone(),
            stop: self.stop.clone(),
            runtime: self.runtime.clone(),
        }
    }

    /// Returns when another proxy owns the nodes.
    pub async fn superseded(&self) -> Epoch {
        let mut superseded = self.pool.superseded();
        loop {
            let later = *superseded.borrow_and_update();
            if let Some(epoch) = later {
                return epoch;
            }
            if superseded.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes no more requests, finishes what was acknowledged, and ends. Returns whether
    /// all was done within `shutdown_timeout_s`.
    pub async fn end(self) -> bool {
        tracing::info!(sessions = self.sessions.len(), "stopping");
        self.stop.cancel();
        self.sessions.close();
        self.tasks.close();
        let drained = async {
            self.sessions.wait().await;
            self.drain.cancel();
            self.tasks.wait().await;
        };
        let limit = self.context.config.shutdown_timeout;
        let mut is_done = timeout(limit, drained).await.is_ok();
        if !is_done {
            tracing::warn!(
                sessions = self.sessions.len(),
                tasks = self.tasks.len(),
                "clients or tasks are cut off"
            );
            // what goes on in a program would keep the data folder
            self.context.clients.end_all();
            self.drain.cancel();
        }
        self.keeper.stop();
        if timeout(JOURNAL_END, self.keeper.ended()).await.is_err() {
            tracing::warn!("journal not synced: its disk does not answer");
            is_done = false;
        }
        self.pool.shutdown(POOL_SHUTDOWN).await;
        if !is_done {
            // what waited for nodes has an error by now
            let rest = async {
                self.sessions.wait().await;
                self.tasks.wait().await;
            };
            let _ = timeout(CUT_OFF, rest).await;
        }
        if let Some(local) = self.local {
            local.shutdown(local_pool::SHUTDOWN_GRACE).await;
        }
        // the lock of the folder goes last
        drop(self.data_dir);
        is_done
    }
}

/// Where clients within the program come in. Does not keep the proxy running.
#[derive(Clone)]
pub struct Entrance {
    context: Weak<Context>,
    sessions: TaskTracker,
    stop: CancellationToken,
    runtime: Handle,
}

impl Entrance {
    /// A connection to a session of its own, which runs where the proxy does. None once
    /// that is to end.
    pub fn connect(&self) -> Option<DuplexStream> {
        let context = self.context.upgrade()?;
        if self.stop.is_cancelled() {
            return None;
        }
        Stats::count(&context.stats.connections);
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let arrival = Arrival {
            peer: here,
            local: here,
            descriptor: -1,
            end: CancellationToken::new(),
        };
        let is_strange = context.config.acl.anybody().is_none();
        let strangers = &context.clients.strangers;
        let stranger = is_strange.then(|| strangers.enter(arrival.end.clone()));
        let session = Session::new(far.into(), arrival, stranger, context);
        let stop = self.stop.clone();
        let run = async move {
            if let Err(error) = session.run(stop).await {
                tracing::debug!(%error, "session within the program ended");
            }
        };
        self.sessions.spawn_on(run, &self.runtime);
        Some(near)
    }
}

/// What there is before the first client is served.
struct Started {
    pool: Arc<Pool>,
    store: Arc<Store>,
    chores: store::Chores,
    platform: Platform,
    /// Where nodes dial, unless the pool was started already.
    links: Option<TcpListener>,
}

/// What an earlier proxy left in the data folder.
struct Kept {
    /// The index is to be made anew from what nodes hold.
    recovers: bool,
    journal: Option<Arc<Journal>>,
}

impl Kept {
    fn open(config: &Config, data_dir: Option<&DataDir>) -> Result<Self, ServeError> {
        let recovers = match (config.recover, data_dir) {
            (Recover::Journal, _) => false,
            (Recover::Inventory, Some(dir)) => dir.begin_inventory()?,
            (Recover::Inventory, None) => true,
        };
        let open = |dir: &DataDir| Journal::open(&dir.journal(), config.appendfsync);
        let journal = data_dir.map(open).transpose()?.map(Arc::new);
        keep_if_doubtful(journal.as_deref(), data_dir)?;
        Ok(Self { recovers, journal })
    }

    fn members(&self) -> Result<Vec<(NodeId, State)>, ServeError> {
        let members = self.journal.as_ref().map(|journal| journal.members());
        Ok(members.transpose()?.unwrap_or_default())
    }
}

/// The functions of those nodes that belong to the pool.
fn names<'a>(config: &'a Config, seats: &'a [State]) -> impl Iterator<Item = String> + 'a {
    let members = (0..).zip(seats).filter(|(_, state)| state.is_member());
    members.map(|(i, _)| pool::function_name(&config.function_prefix, NodeId(i)))
}

/// How a function comes to be for a node that is added.
fn make_function(
    config: &Config,
    program: &Program,
    local: Option<&LocalLambda>,
) -> elastic::MakeFunction {
    let Some(handle) = local.map(LocalLambda::handle) else {
        // whoever runs them makes them
        return Box::new(|_| Ok(()));
    };
    let (config, program) = (config.clone(), program.clone());
    Box::new(move |name| {
        let function = local_pool::function(&config, &program, name.to_owned());
        handle.put_function(function).map_err(|e| e.to_string())
    })
}

/// A pool that ends with the start, unless that has succeeded.
struct Beginning {
    pool: Arc<Pool>,
    has_started: bool,
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if !self.has_started {
            self.pool.stop();
        }
    }
}

async fn start(
    config: &Config,
    links: TcpListener,
    local: Option<&LocalLambda>,
    data_dir: Option<&DataDir>,
    kept: Kept,
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
    if config.holds_no_writes() {
        tracing::warn!(
            "ack = proxy does nothing: without hot_tier_mb and dirty_mb writes wait for a quorum"
        );
    }
    let pool = assembly::pool(
        config,
        platform.clone(),
        link_address,
        link_tls,
        kept.journal.as_deref(),
    )?;
    let mut beginning = Beginning {
        pool: pool.clone(),
        has_started: false,
    };
    let endpoint = endpoint.unwrap_or_else(|| "AWS Lambda".into());
    let started = fill(config, &pool, platform, &endpoint, links, data_dir, kept).await;
    match &started {
        Ok(_) => beginning.has_started = true,
        Err(_) => pool.shutdown(POOL_SHUTDOWN).await,
    }
    started
}

/// Meets the nodes, and makes the index of what there is.
async fn fill(
    config: &Config,
    pool: &Arc<Pool>,
    platform: Platform,
    endpoint: &str,
    links: TcpListener,
    data_dir: Option<&DataDir>,
    kept: Kept,
) -> Result<Started, ServeError> {
    let Kept { recovers, journal } = kept;
    let survey = pool.survey(SURVEY_LIMIT).await;
    if survey.answered == 0 {
        let names = config.function_names();
        return Err(ServeError::NoNodes {
            endpoint: endpoint.to_owned(),
            why: survey.failure.unwrap_or_else(|| "no answer in time".into()),
            first: names.first().cloned().unwrap_or_default(),
            last: names.last().cloned().unwrap_or_default(),
        });
    }
    if checks::applies(config) {
        checks::quota(config, &platform).await?;
    }
    let epoch = epoch::next(data_dir, survey.highest_epoch)?;
    tracing::info!(%epoch, nodes = survey.answered, "pool is ready");
    let backing = match (config.backing.clone(), data_dir) {
        (Some(settings), Some(dir)) => Some(Backing::open(settings, &dir.backing()).await?),
        _ => None,
    };
    let (store, chores) = assembly::store(config, pool, epoch, journal, backing)?;
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
        pool: pool.clone(),
        store,
        chores,
        links,
        platform,
    })
}

/// What a damaged or missing journal does not name may be wanted all the same.
fn keep_if_doubtful(journal: Option<&Journal>, data_dir: Option<&DataDir>) -> io::Result<()> {
    match (journal, data_dir) {
        (Some(journal), Some(dir)) if journal.take_doubt() => backing::keep_all(&dir.backing()),
        _ => Ok(()),
    }
}
