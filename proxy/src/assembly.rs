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
    pool::{self, Links, Pool, lifecycle, membership, platform::Platform},
    store::{self, Chores, Recover, Store},
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

/// The pool, before its nodes were asked anything: those that are configured, and what
/// the journal says of nodes.
pub fn pool(
    config: &Config,
    platform: Platform,
    link_address: SocketAddr,
    link_tls: Option<Acceptor>,
    journal: Option<&Journal>,
) -> Result<Arc<Pool>, JournalError> {
    let members = journal.map_or(Ok(Vec::new()), Journal::members)?;
    let settings = pool::Settings {
        function_prefix: config.function_prefix.clone(),
        seats: membership::seats(config.nodes, &members),
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
        speaks: config.speaks,
    };
    Ok(Pool::new(settings, platform))
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
        recover: config.recover,
        pack_up_to_bytes: config.pack_up_to_bytes,
        repair_bytes_per_s: config.repair_bytes_per_s,
        backup_bytes_per_s: config.backup_bytes_per_s,
        memory_bytes: config.inflight_bytes,
        dirty_bytes: config.dirty_bytes,
    };
    let (store, chores) = Store::new(settings, pool.clone(), codec, epoch, journal, backing)?;
    pool.reign(epoch);
    // what nodes hold may be all there is
    if store.is_empty() && config.recover != Recover::Inventory {
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
    start_chores(store, chores, tasks, stop, drain)
}

/// The same over a pool that was started before.
pub fn start_chores(
    store: &Arc<Store>,
    chores: Chores,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    drain: &CancellationToken,
) -> Keeper {
    tasks.spawn(store.clone().expire_for_ever(stop.clone()));
    tasks.spawn(store.clone().repair_for_ever(stop.clone()));
    tasks.spawn(store.clone().make_rounds(stop.clone()));
    tasks.spawn(store.clone().drain_for_ever(stop.clone()));
    let writers = [
        tasks.spawn(store.clone().pack_for_ever(chores.small, drain.clone())),
        tasks.spawn(store.clone().clean_for_ever(stop.clone())),
        tasks.spawn(store.clone().settle_for_ever(drain.clone())),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scatterhoard_node::conduit;
    use scatterhoard_wire::{NodeId, WriteId};
    use tokio::{sync::mpsc, time::timeout};

    use super::*;
    use crate::{
        config::Options,
        journal::{Fsync, memory::MemoryDisk},
        keyspace::{Condition, KeyRef, NewExpiry, Object},
    };

    const SOON: Duration = Duration::from_secs(10);
    const EPOCH: Epoch = Epoch(7);

    /// A proxy without nodes, or a successor of it.
    fn proxy(config: &Config, disk: &MemoryDisk) -> (Arc<Store>, Chores, Arc<Journal>) {
        let (invokes, _) = mpsc::channel(1);
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let journal = Arc::new(Journal::open_in_memory(disk, Fsync::Always).unwrap());
        let platform = Platform::local(invokes);
        let pool = pool(config, platform, address, None, Some(&journal)).unwrap();
        let (store, chores) = store(config, &pool, EPOCH, Some(journal.clone()), None).unwrap();
        (store, chores, journal)
    }

    fn change(store: &Store, counter: u64) {
        let layout = store.settings().geometry.layout(100_000).unwrap();
        let write_id = WriteId {
            epoch: EPOCH,
            counter,
        };
        let nodes = vec![Some(NodeId(0)); layout.geometry().total()];
        let object = Arc::new(Object::new(write_id, layout, nodes));
        let key = KeyRef {
            db: 0,
            key: &counter.to_le_bytes(),
        };
        let never = NewExpiry::Set(None);
        let committed = store
            .index()
            .commit(key, object, Condition::Always, never, 0);
        assert!(committed.done);
    }

    #[tokio::test]
    async fn the_journal_is_kept_until_nothing_changes_the_index_any_more() {
        let config = Config::from_options(Options::default()).unwrap();
        let disk = MemoryDisk::default();
        let (store, chores, journal) = proxy(&config, &disk);
        let (_door, links) = mpsc::channel::<(conduit::Reader, conduit::Writer)>(1);
        let (tasks, stop, drain) = <(TaskTracker, CancellationToken, CancellationToken)>::default();
        let keeper = start(&store, chores, Links::Local(links), &tasks, &stop, &drain);
        stop.cancel();
        drain.cancel();
        tasks.close();
        timeout(SOON, tasks.wait()).await.unwrap();
        // whoever was cut off may wait for the disk, still
        change(&store, 1);
        timeout(SOON, journal.on_disk()).await.unwrap();
        change(&store, 2);
        keeper.stop();
        timeout(SOON, keeper.ended()).await.unwrap();
        store.pool().shutdown(Duration::ZERO).await;
        disk.lose_unsynced();
        let (store, ..) = proxy(&config, &disk);
        assert_eq!(store.index().len(0), 2);
    }

    #[tokio::test]
    async fn a_journal_that_failed_is_opened_again_though_nothing_waits_for_the_disk() {
        let config = Config::from_options(Options::default()).unwrap();
        let disk = MemoryDisk::default();
        let (store, chores, journal) = proxy(&config, &disk);
        let (_door, links) = mpsc::channel::<(conduit::Reader, conduit::Writer)>(1);
        let (tasks, stop, drain) = <(TaskTracker, CancellationToken, CancellationToken)>::default();
        let keeper = start(&store, chores, Links::Local(links), &tasks, &stop, &drain);
        // the keeper waits for something to do
        tokio::time::sleep(Duration::from_millis(100)).await;
        disk.fill(true);
        change(&store, 1);
        assert!(journal.failure().is_some());
        disk.fill(false);
        let opened = async {
            while journal.failure().is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, opened).await.unwrap();
        stop.cancel();
        drain.cancel();
        keeper.stop();
        timeout(SOON, keeper.ended()).await.unwrap();
        store.pool().shutdown(Duration::ZERO).await;
    }
}
