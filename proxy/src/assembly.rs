//! The parts of a proxy, put together the same way in production and in
//! simulation.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::join_all;
use scatterhoard_node::conduit::Acceptor;
use scatterhoard_wire::Epoch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backing::Backing,
    codec::{Codec, CodecError},
    config::Config,
    journal::{Journal, JournalError},
    pool::{self, Links, Pool, lifecycle, platform::Platform},
    store::{self, Chores, Store},
};

/// An absent instance is lost after so many invokes that met another.
pub const LOST_AFTER: u32 = 3;

/// Why the parts do not fit.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// The erasure code cannot be set up.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The pool, before its nodes were asked anything.
pub fn pool(
    config: &Config,
    platform: Platform,
    link_address: SocketAddr,
    link_tls: Option<Acceptor>,
) -> Arc<Pool> {
    let settings = pool::Settings {
        functions: config.function_names(),
        link_address,
        link_tls,
        linger: config.linger,
        deadline_margin: config.deadline_margin,
        patience: config.patience,
        lost_after: LOST_AFTER,
        backup: config.backup,
        lifecycle: lifecycle::Settings {
            warm_interval: config.warmth.least,
            ..Default::default()
        },
        warmth: config.warmth,
        retire: config.retire,
    };
    Pool::new(settings, platform)
}

/// The store over it, with what the journal has, for a reign of this epoch.
pub fn store(
    config: &Config,
    pool: &Arc<Pool>,
    epoch: Epoch,
    journal: Option<Arc<Journal>>,
    backing: Option<Arc<Backing>>,
) -> Result<(Arc<Store>, Chores), AssemblyError> {
    let codec = Codec::new(config.geometry.full, config.codec)?;
    let settings = store::Settings {
        geometry: config.geometry,
        eviction: config.eviction,
        hot_bytes: config.hot_bytes,
        hot_value_bytes: config.hot_value_bytes,
        patience: config.patience,
        hedge_after: config.hedge_after,
        ack: config.ack,
        pack_up_to_bytes: config.pack_up_to_bytes,
        repair_bytes_per_s: config.repair_bytes_per_s,
        backup_bytes_per_s: config.backup_bytes_per_s,
        memory_bytes: config.inflight_bytes,
        dirty_bytes: config.dirty_bytes,
    };
    let (store, chores) = Store::new(settings, pool.clone(), codec, epoch, journal, backing)?;
    pool.reign(epoch);
    if store.is_empty() {
        pool.raise_floor(store.floor());
    }
    Ok((store, chores))
}

/// Sets everything going that is done without being asked. What nobody waits for
/// ends with `stop`; what was acknowledged is finished until `drain`: on nodes
/// first, then in the backing store, which gets what has come to nodes. The
/// journal's keeper is told to end by who has waited for all of this.
pub fn start(
    store: &Arc<Store>,
    chores: Chores,
    links: Links,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    drain: &CancellationToken,
) -> Keeper {
    store.pool().start(links);
    tasks.spawn(store.clone().expire_for_ever(stop.clone()));
    tasks.spawn(store.clone().repair_for_ever(stop.clone()));
    tasks.spawn(store.clone().make_rounds(stop.clone()));
    let writers = [
        tasks.spawn(store.clone().pack_for_ever(chores.small, drain.clone())),
        tasks.spawn(store.clone().clean_for_ever(stop.clone())),
        tasks.spawn(store.clone().settle_for_ever(chores.dirty, drain.clone())),
    ];
    if let Some(backing) = store.backing().cloned() {
        let written = CancellationToken::new();
        let uploads = [
            tasks.spawn(store.clone().upload_for_ever(written.clone())),
            tasks.spawn(store.clone().take_stock_for_ever(stop.clone())),
        ];
        let removing = store.clone();
        let safe = move || removing.clone().removals_on_disk();
        tasks.spawn(backing.clone().delete_for_ever(safe, stop.clone()));
        tasks.spawn(async move {
            // one that has panicked gives no more work, either
            join_all(writers).await;
            written.cancel();
            join_all(uploads).await;
            backing.end().await;
        });
    }
    Keeper::new(store)
}

/// What writes the journal, if there is one. It ends last: all others may change
/// the index, and wait for the disk.
pub struct Keeper {
    stop: CancellationToken,
    task: TaskTracker,
}

impl Keeper {
    fn new(store: &Arc<Store>) -> Self {
        let (stop, task) = (CancellationToken::new(), TaskTracker::new());
        if let Some(journal) = store.journal().cloned() {
            let store = store.clone();
            // what was kept while nothing could be written goes out with the lock
            let touch = move || drop(store.index());
            task.spawn(journal.keep(touch, stop.clone()));
        }
        task.close();
        Self { stop, task }
    }

    /// Nothing changes the index any more.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns when what has changed until [`Self::stop`] is on the disk.
    pub async fn ended(&self) {
        self.task.wait().await;
    }
}
