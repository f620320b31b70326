//! Objects: keys to values, on top of the index and the pool. Knows no RESP.
//!
//! Writing: place -> encode -> put on nodes -> commit in the index (`write`).
//! Reading: look up and pin -> get cells -> decode (`read`). What leaves the
//! index is told to the nodes; they free it in their next invocation.
//!
//! Locks are taken in this order and never across an await: index, backing
//! store's ledger, node.

mod ahead;
mod backed;
mod behind;
mod body;
mod chunks;
mod combine;
mod commit;
#[cfg(test)]
mod copies;
mod cut;
pub mod drain;
mod edit;
mod farewell;
mod gate;
mod gather;
mod handover;
mod hot;
mod index;
mod inventory;
mod labels;
mod leftovers;
mod maintenance;
mod overlay;
mod pack;
pub mod rate;
mod read;
mod repair;
pub mod repairs;
mod standby;
mod stock;
mod trackers;
mod transaction;
mod view;
mod watch;
mod write;
mod written;

use std::{
    hash::BuildHasher,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::SeedableRng;
use scatterhoard_node::random::HashSet;
use scatterhoard_wire::{Epoch, GeometryPolicy, WriteId};
use tokio::sync::mpsc;

use crate::{
    admission::Admission,
    backing::Backing,
    clock,
    codec::Codec,
    journal::{Journal, JournalError},
    keyspace::{DATABASES, EvictionPolicy, Found, KeyRef, Keyspace, Kind, Object, bytes_of},
    pool::Pool,
    pubsub::{Classes, KeyEvents},
    tracking::Tracking,
    value::Value,
};
use behind::Behind;
pub use behind::SmallSet;
pub use body::Body;
pub use combine::BrokenSource;
pub use edit::Patch;
pub use gate::{Closed, Gate};
pub use hot::HotStrings;
pub use index::IndexGuard;
pub use inventory::Recover;
use pack::Packer;
pub use pack::SmallWrite;
use rate::Rate;
pub use read::{ObjectReader, ReadError};
pub use repair::{REPAIRS_AT_ONCE, RepairJob};
use repairs::Repairs;
pub use standby::{LOOK, ROUNDS_AT_ONCE};
pub use trackers::TrackingEntry;
pub use transaction::{Announcement, Transaction, Uncommitted};
pub use view::View;
pub use watch::Watch;
use watch::Watches;
pub use write::{Broken, WriteError};
pub use written::{Early, Written};

/// When a small write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// When its quorum of nodes has it.
    #[default]
    Quorum,
    /// When the proxy's memory has it: lost if the proxy dies soon after.
    Proxy,
}

/// How the store is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Layouts by size.
    pub geometry: GeometryPolicy,
    /// What goes when nodes are full.
    pub eviction: EvictionPolicy,
    /// Budget of the hot tier in bytes; 0 switches it off.
    pub hot_bytes: u64,
    /// Longest value that the hot tier keeps, in bytes.
    pub hot_value_bytes: u64,
    /// When a small write is acknowledged.
    pub ack: Ack,
    /// What a start goes by.
    pub recover: Recover,
    /// Longest value that shares a segment with others, in bytes; 0: none does.
    pub pack_up_to_bytes: u64,
    /// Budget of values under way to and from clients, in bytes.
    pub memory_bytes: u64,
    /// Budget of values that no node has yet (`ack = proxy`), in bytes.
    pub dirty_bytes: u64,
    /// Bytes of objects read a second for repairs; none: no limit.
    pub repair_bytes_per_s: Option<NonZeroU64>,
    /// Bytes a second copied between instances of nodes; none: no limit.
    pub backup_bytes_per_s: Option<NonZeroU64>,
    /// Longest wait for a node: for its link, or for one answer.
    pub patience: Duration,
    /// How long a read waits at most for its data chunks before it asks for parity.
    pub hedge_after: Duration,
}

/// Keys that share a turn wait for each other in vain, now and then.
const EDIT_TURNS: usize = 4096;

fn turn_of(key: &Key) -> usize {
    foldhash::quality::FixedState::default().hash_one(key) as usize % EDIT_TURNS
}

/// All objects of this proxy.
pub struct Store {
    settings: Settings,
    pool: Arc<Pool>,
    codec: Codec,
    memory: Admission,
    index: Mutex<Keyspace>,
    journal: Option<Arc<Journal>>,
    backing: Option<Arc<Backing>>,
    epoch: Epoch,
    last_write: AtomicU64,
    /// Writes below it were begun before the last flush of everything.
    flushed: Mutex<WriteId>,
    /// Bytes of values on nodes for transactions that are yet to be carried out.
    early: AtomicU64,
    /// Writes that no key names yet, but whose chunks are no garbage.
    under_way: Mutex<HashSet<WriteId>>,
    /// Edits of the same key take turns, by the key's hash.
    edit_turns: Vec<tokio::sync::Mutex<()>>,
    gate: Gate,
    /// Large values that are edited.
    edits: tokio::sync::Semaphore,
    /// Objects that are read back for the backing store.
    uploads: tokio::sync::Semaphore,
    /// One eviction at a time: two would free twice what is needed.
    evicting: tokio::sync::Mutex<()>,
    repairs: Repairs,
    drains: drain::Drains,
    repair_rate: Rate,
    backup_rate: Rate,
    behind: Behind,
    packer: Packer,
    watches: Watches,
    events: KeyEvents,
    tracking: Tracking,
}

/// Work that requests leave to others: for [`Store::pack_for_ever`].
pub struct Chores {
    /// Small values that share segments.
    pub small: mpsc::Receiver<SmallWrite>,
}

/// A key with its database, owned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Database.
    pub db: u8,
    /// The key's bytes.
    pub bytes: Bytes,
}

impl Key {
    /// As the index wants it.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef {
            db: self.db,
            key: &self.bytes,
        }
    }
}

/// What a key's value is when it is asked for.
pub enum Lookup {
    /// No such key.
    Missing,
    /// In the proxy's memory.
    Here(Value),
    /// On the nodes, and pinned there until dropped.
    There(Pinned),
}

/// A key's value, and what the index says of it.
pub struct Looked {
    /// Names the write that it is.
    pub write_id: WriteId,
    /// What the value is.
    pub kind: Kind,
    /// When it expires.
    pub expires_unix_ms: Option<u64>,
    /// The value.
    pub lookup: Lookup,
}

impl Looked {
    fn of(found: &Found) -> Self {
        Self {
            write_id: found.object.write_id,
            kind: found.object.kind(),
            expires_unix_ms: found.expires_unix_ms,
            lookup: Lookup::Missing,
        }
    }
}

impl Lookup {
    /// Length of the value in bytes; 0 if there is none.
    pub fn len(&self) -> u64 {
        match self {
            Self::Missing => 0,
            Self::Here(value) => value.len(),
            Self::There(pinned) => pinned.object.size_bytes(),
        }
    }

    /// Those of its bytes that are in memory.
    pub fn bytes_here(&self) -> u64 {
        match self {
            Self::Here(value) => value.len(),
            Self::Missing | Self::There(_) => 0,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An object whose chunks stay, whatever becomes of its key.
pub struct Pinned {
    store: Arc<Store>,
    key: Key,
    object: Arc<Object>,
    /// Whose chunks hold its bytes: its own, or those of its segment.
    source: Arc<Object>,
    /// Where they begin there.
    offset: u64,
}

impl Pinned {
    /// The key that was looked up.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What is pinned.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut index = self.store.index();
        index.unpin(self.source.write_id);
        self.store.free(&mut index);
    }
}

/// What a commit did, with the value before still readable.
pub struct CommitOutcome {
    /// Whether the key names the new value now.
    pub done: bool,
    /// Whether it named nothing before.
    pub is_new: bool,
    /// The value before, if it was asked for.
    pub previous: Lookup,
}

impl Store {
    /// An empty store of this epoch over a pool, and the work that it gives
    /// its own tasks.
    pub fn new(
        settings: Settings,
        pool: Arc<Pool>,
        codec: Codec,
        epoch: Epoch,
        journal: Option<Arc<Journal>>,
        backing: Option<Arc<Backing>>,
    ) -> Result<(Arc<Self>, Chores), JournalError> {
        let mut index = Keyspace::default();
        let unplaced = match &journal {
            Some(journal) => {
                index.keep_changes();
                let now = clock::unix_ms();
                pool.with_those_left(|is_member| journal.recover(&mut index, is_member, now))?
            }
            None => Vec::new(),
        };
        if settings.recover == Recover::Inventory {
            index.keep_changes();
        }
        let recovered = (0..DATABASES as u8).any(|db| index.len(db) > 0);
        if recovered {
            // the first one met of a node may be a new one, beside that which
            // holds the data
            let now = tokio::time::Instant::now();
            pool.members().for_each(|n| n.assume_unknown_instances(now));
        }
        let writes_behind = settings.ack == Ack::Proxy && settings.hot_bytes > 0;
        let behind = Behind::new(if writes_behind {
            settings.dirty_bytes
        } else {
            0
        });
        index.keep_values(settings.hot_bytes, settings.hot_value_bytes);
        for value in unplaced {
            behind.resume(&mut index, value);
        }
        let (packer, small) = Packer::new(settings.pack_up_to_bytes);
        let store = Self {
            packer,
            watches: Watches::default(),
            events: KeyEvents::default(),
            tracking: Tracking::default(),
            memory: Admission::new(settings.memory_bytes),
            settings,
            pool,
            codec,
            index: Mutex::new(index),
            journal,
            backing,
            epoch,
            last_write: AtomicU64::new(0),
            flushed: Mutex::new(WriteId { epoch, counter: 0 }),
            early: AtomicU64::new(0),
            under_way: Mutex::default(),
            edit_turns: (0..EDIT_TURNS)
                .map(|_| tokio::sync::Mutex::default())
                .collect(),
            gate: Gate::default(),
            edits: tokio::sync::Semaphore::new(edit::EDITS_AT_ONCE),
            uploads: tokio::sync::Semaphore::new(backed::UPLOADS_AT_ONCE),
            evicting: tokio::sync::Mutex::default(),
            repairs: Repairs::default(),
            drains: drain::Drains::default(),
            repair_rate: Rate::new(settings.repair_bytes_per_s),
            backup_rate: Rate::new(settings.backup_bytes_per_s),
            behind,
        };
        Ok((Arc::new(store), Chores { small }))
    }

    /// Whether no key names anything.
    pub fn is_empty(&self) -> bool {
        let index = self.index();
        (0..DATABASES as u8).all(|db| index.len(db) == 0)
    }

    /// The first write id of this reign.
    pub fn floor(&self) -> WriteId {
        WriteId {
            epoch: self.epoch,
            counter: 0,
        }
    }

    /// Why writes are refused at the moment.
    pub fn refusal(&self) -> Option<String> {
        self.journal.as_ref()?.failure()
    }

    /// The journal, if there is one.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// The backing store, if there is one.
    pub fn backing(&self) -> Option<&Arc<Backing>> {
        self.backing.as_ref()
    }

    /// The pool underneath.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// How it is set up.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where what happens to keys is published.
    pub fn events(&self) -> &KeyEvents {
        &self.events
    }

    /// Who wants to be told when keys change.
    pub fn tracking(&self) -> &Tracking {
        &self.tracking
    }

    /// Has these classes of events published from now on.
    pub fn notify(&self, classes: Classes) {
        let mut index = self.index();
        self.events.set(classes);
        index.keep_departures(classes.have_departures());
    }

    /// Where writes wait for a transaction that cannot get through.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Waits for the key's turn to be edited; held until dropped.
    pub async fn edit_turn(&self, key: &Key) -> tokio::sync::MutexGuard<'_, ()> {
        self.edit_turns[turn_of(key)].lock().await
    }

    /// The same for several keys, in an order in which nobody waits for ever.
    pub async fn edit_turns<'a>(
        &self,
        keys: impl Iterator<Item = &'a Key>,
    ) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let turns: std::collections::BTreeSet<usize> = keys.map(turn_of).collect();
        let mut held = Vec::with_capacity(turns.len());
        for turn in turns {
            held.push(self.edit_turns[turn].lock().await);
        }
        held
    }

    /// The memory for values under way.
    pub fn memory(&self) -> &Admission {
        &self.memory
    }

    /// Bytes in the hot tier.
    pub fn hot_bytes(&self) -> u64 {
        self.index.lock().hot_bytes()
    }

    /// Values that no node has yet.
    pub fn dirty_values(&self) -> usize {
        self.index.lock().dirty_values()
    }

    /// Objects that wait for their repair, or are under it.
    pub fn repairs_waiting(&self) -> usize {
        self.repairs.len()
    }

    fn next_write_id(&self) -> WriteId {
        self.next_write_ids(1)
    }

    /// The first of so many.
    fn next_write_ids(&self, count: u64) -> WriteId {
        let counter = self.last_write.fetch_add(count, Ordering::Relaxed) + 1;
        WriteId {
            epoch: self.epoch,
            counter,
        }
    }

    /// Every write that was begun so far has this id or a lower one.
    fn newest_write_id(&self) -> WriteId {
        WriteId {
            epoch: self.epoch,
            counter: self.last_write.load(Ordering::Relaxed),
        }
    }

    /// The key's value, ready to be read. Counts as a use.
    pub fn look_up_named(self: &Arc<Self>, key: Key) -> Option<Looked> {
        self.look_up_in(&mut self.index(), key)
    }

    fn look_up_in(self: &Arc<Self>, index: &mut Keyspace, key: Key) -> Option<Looked> {
        let found = index.get(key.as_ref(), clock::unix_ms());
        self.free(index);
        let found = found?;
        let looked = Looked::of(&found);
        let lookup = self.pin(index, key, found);
        Some(Looked { lookup, ..looked })
    }

    /// Another pin of the same object.
    pub fn again(self: &Arc<Self>, pinned: &Pinned) -> Pinned {
        self.index().pin(pinned.source.write_id);
        Pinned {
            store: self.clone(),
            key: pinned.key.clone(),
            object: pinned.object.clone(),
            source: pinned.source.clone(),
            offset: pinned.offset,
        }
    }

    fn pin(self: &Arc<Self>, index: &mut Keyspace, key: Key, found: Found) -> Lookup {
        if found.object.size_bytes() == 0 {
            return Lookup::Here(Value::Empty);
        }
        match found.hot {
            Some(value) => Lookup::Here(bytes_of(&value).into()),
            None => Lookup::There(self.pin_chunks(index, key, found.object)),
        }
    }

    fn pin_chunks(self: &Arc<Self>, index: &mut Keyspace, key: Key, object: Arc<Object>) -> Pinned {
        let (source, offset) = index.source(&object);
        index.pin(source.write_id);
        Pinned {
            store: self.clone(),
            key,
            object,
            source,
            offset,
        }
    }

    /// Reads a whole value into memory that no budget knows; for small ones. Fills the hot tier.
    pub async fn read_whole(self: &Arc<Self>, pinned: Pinned) -> Result<Value, ReadError> {
        let (key, object) = (pinned.key.clone(), pinned.object.clone());
        let mut reader = ObjectReader::new(pinned).unmetered();
        let mut segments = Vec::new();
        while let Some(cells) = reader.next_cells().await? {
            segments.extend(cells);
        }
        drop(reader);
        let value = Value::from_segments(segments);
        if value.len() <= self.settings.hot_value_bytes && self.settings.hot_bytes > 0 {
            let whole: Arc<[u8]> = Arc::from(&value.clone().into_contiguous()[..]);
            // not if it was written again meanwhile
            self.index()
                .keep_value(key.as_ref(), object.write_id, whole);
        }
        Ok(value)
    }

    /// Whether a value is small enough to be read whole, and to be kept.
    pub fn is_small(&self, object: &Object) -> bool {
        object.size_bytes() <= self.settings.hot_value_bytes && object.layout.stripes() <= 1
    }

    fn rng(&self) -> rand::rngs::SmallRng {
        rand::rngs::SmallRng::from_rng(&mut scatterhoard_node::random::rng())
    }
}
