//! The index: what each key means. Pure; time comes in as an argument.
//!
//! Slots live in a slab: a key keeps its slot for life, so a scan that walks
//! the slab sees every key that is there throughout. A recency list runs
//! through the slots; expiries are kept in order beside them. Whatever leaves
//! the index (overwritten, deleted, expired, evicted) is handed out through
//! [`Keyspace::take_freed`], unless a reader has pinned it: then when the last
//! reader lets go.

mod changes;
mod dirty;
pub mod eviction;
mod hot;
pub mod inventory;
mod names;
mod news;
mod object;
mod overwrite;
mod recency;
mod rename;
mod segments;
mod stock;
mod walk;

use std::{collections::BTreeSet, sync::Arc};

use hashbrown::{HashTable, hash_table::Entry};
use rand::Rng;
use scatterhoard_node::random::{HashMap, Hashing};
use scatterhoard_wire::WriteId;

pub use changes::Change;
use changes::Changes;
use dirty::Dirty;
pub use dirty::{Waiting, dirty_bytes};
pub use eviction::EvictionPolicy;
use hot::Hot;
pub use hot::HotString;
pub use hot::bytes_of;
pub use names::Names;
use news::News;
pub use news::{Departure, MAX_CHANGED, MAX_DEPARTURES, Why};
pub use object::{Kind, Object, Place};
pub use overwrite::HeldString;
use recency::{Links, Recency};
pub use rename::Rename;
pub use segments::Member;
use segments::Segments;
pub use stock::{Elsewhere, Expected, StockCursor};

/// Number of databases that SELECT knows.
pub const DATABASES: usize = 16;

/// Which key of which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// Database, below [`DATABASES`].
    pub db: u8,
    /// The key.
    pub key: &'a [u8],
}

/// When a new value may be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// Only if the key does not exist (NX).
    Absent,
    /// Only if it exists (XX).
    Present,
    /// Only if it still names this write; `None`: if it still does not exist.
    Names(Option<WriteId>),
}

/// The expiry that a commit gives its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewExpiry {
    /// That of the value it replaces, if any.
    Keep,
    /// This one, in milliseconds since 1970; `None` for never.
    Set(Option<u64>),
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Whether the key names the new object now.
    pub done: bool,
    /// The write that it named before.
    pub previous: Option<WriteId>,
}

struct Slot {
    key: Box<[u8]>,
    db: u8,
    /// No node has the value yet: it is held, not only kept.
    is_dirty: bool,
    /// It is in the queue of those.
    is_queued: bool,
    object: Object,
    /// 0: never.
    expires_unix_ms: u64,
    /// The value, if it is kept.
    hot: Option<Arc<[u8]>>,
    links: Links,
}

// a million keys are an ordinary load
const _: () = assert!(size_of::<Option<Slot>>() <= 112, "each key has one");

/// A look at one key.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it names.
    pub object: Arc<Object>,
    /// When it expires.
    pub expires_unix_ms: Option<u64>,
    /// The value, if the index keeps it.
    pub hot: Option<Arc<[u8]>>,
}

/// All keys of all databases.
pub struct Keyspace {
    slots: Vec<Option<Slot>>,
    vacant: Vec<u32>,
    table: HashTable<u32>,
    hasher: Hashing,
    recency: Recency,
    hot: Hot,
    dirty: Dirty,
    expiries: BTreeSet<(u64, u32)>,
    counts: [u64; DATABASES],
    bytes: u64,
    pins: HashMap<WriteId, u32>,
    deferred: HashMap<WriteId, Arc<Object>>,
    segments: Segments,
    changes: Changes,
    news: News,
    freed: Vec<Arc<Object>>,
    expired_total: u64,
}

impl Default for Keyspace {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            vacant: Vec::new(),
            table: HashTable::new(),
            hasher: Hashing::default(),
            recency: Recency::default(),
            hot: Hot::default(),
            dirty: Dirty::default(),
            expiries: BTreeSet::new(),
            counts: [0; DATABASES],
            bytes: 0,
            pins: HashMap::default(),
            deferred: HashMap::default(),
            segments: Segments::default(),
            changes: Changes::default(),
            news: News::default(),
            freed: Vec::new(),
            expired_total: 0,
        }
    }
}

impl Keyspace {
    fn hash(&self, key: KeyRef<'_>) -> u64 {
        std::hash::BuildHasher::hash_one(&self.hasher, (key.db, key.key))
    }

    fn find(&self, key: KeyRef<'_>) -> Option<u32> {
        let is_it = |&i: &u32| self.slots[i as usize].as_ref().is_some_and(|s| s.is(key));
        self.table.find(self.hash(key), is_it).copied()
    }

    fn slot(&self, i: u32) -> Option<&Slot> {
        self.slots.get(i as usize)?.as_ref()
    }

    /// The slot of a key that has not expired; one that has goes.
    fn live(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<u32> {
        self.find(key).filter(|i| !self.meets_expired(*i, now_ms))
    }

    /// Whether what is in a slot has expired; it goes then.
    fn meets_expired(&mut self, i: u32, now_ms: u64) -> bool {
        let has_expired = self.slot(i).is_some_and(|slot| slot.is_expired(now_ms));
        if has_expired {
            self.expired_total += 1;
            self.leave(i, Why::Expired);
        }
        has_expired
    }

    /// What the key names. Counts as a use.
    pub fn get(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<Found> {
        let i = self.live(key, now_ms)?;
        self.recency.touch(&mut self.slots, i);
        self.slot(i).map(Slot::found)
    }

    /// What the key names. Does not count as a use.
    pub fn peek(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<Found> {
        let i = self.live(key, now_ms)?;
        self.slot(i).map(Slot::found)
    }

    /// Makes the key name a new object, if the condition holds. If not, the new
    /// object is freed.
    pub fn commit(
        &mut self,
        key: KeyRef<'_>,
        object: Arc<Object>,
        condition: Condition,
        expiry: NewExpiry,
        now_ms: u64,
    ) -> Committed {
        let present = self.live(key, now_ms);
        let previous = present.and_then(|i| self.slot(i));
        let previous = previous.map(|slot| slot.object.write_id);
        let allowed = match condition {
            Condition::Always => true,
            Condition::Absent => present.is_none(),
            Condition::Present => present.is_some(),
            Condition::Names(write_id) => previous == write_id,
        };
        if !allowed {
            self.release(object);
            return Committed {
                done: false,
                previous,
            };
        }
        let i = match present {
            Some(i) => {
                self.replace(i, object);
                i
            }
            None => self.insert(key, Arc::unwrap_or_clone(object)),
        };
        if let NewExpiry::Set(at) = expiry {
            self.expire_live(i, at, now_ms);
        }
        Committed {
            done: true,
            previous,
        }
    }

    /// The slot that it gets.
    fn insert(&mut self, key: KeyRef<'_>, object: Object) -> u32 {
        self.counts[usize::from(key.db)] += 1;
        self.bytes += object.size_bytes();
        let slot = Slot {
            key: key.key.into(),
            db: key.db,
            is_dirty: false,
            is_queued: false,
            object,
            expires_unix_ms: 0,
            hot: None,
            links: Links::default(),
        };
        let i = match self.vacant.pop() {
            Some(i) => i,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.join_segment(&slot.object, i);
        self.changes.slot(i);
        self.news.changed(key.key);
        self.slots[i as usize] = Some(slot);
        self.recency.push(&mut self.slots, i);
        self.enter(i, key);
        i
    }

    /// Has a key be found in this slot, in which it is.
    fn enter(&mut self, i: u32, key: KeyRef<'_>) {
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash_of = |&i: &u32| {
            let key = slots[i as usize].as_ref().map(|s| (s.db, &s.key[..]));
            std::hash::BuildHasher::hash_one(hasher, key.unwrap_or_default())
        };
        let hash = std::hash::BuildHasher::hash_one(hasher, (key.db, key.key));
        match self.table.entry(hash, |_| false, hash_of) {
            Entry::Vacant(entry) => {
                entry.insert(i);
            }
            Entry::Occupied(_) => {}
        }
    }

    fn replace(&mut self, i: u32, mut object: Arc<Object>) {
        let size = object.size_bytes();
        self.cool(i);
        self.join_segment(&object, i);
        self.changes.slot(i);
        let Some(slot) = self.slots[i as usize].as_mut() else {
            return;
        };
        std::mem::swap(&mut slot.object, Arc::make_mut(&mut object));
        let old = object;
        self.news.changed(&slot.key);
        self.bytes = self.bytes + size - old.size_bytes();
        self.recency.touch(&mut self.slots, i);
        self.release(old);
    }

    fn join_segment(&mut self, object: &Object, slot: u32) {
        if let Some(place) = object.place() {
            self.segments.joined(place.segment, slot);
        }
    }

    fn remove_slot(&mut self, i: u32) -> Option<Arc<Object>> {
        let slot = self.slots.get_mut(i as usize)?.take();
        // put back for the unlinking, which goes through the neighbours
        self.slots[i as usize] = slot;
        self.recency.unlink(&mut self.slots, i);
        let slot = self.slots[i as usize].take()?;
        self.left_hot(&slot);
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, (slot.db, &slot.key[..]));
        if let Ok(entry) = self.table.find_entry(hash, |&j| j == i) {
            entry.remove();
        }
        self.vacant.push(i);
        self.expiries.remove(&(slot.expires_unix_ms, i));
        self.counts[usize::from(slot.db)] -= 1;
        self.bytes -= slot.object.size_bytes();
        let object = Arc::new(slot.object);
        self.news.changed(&slot.key);
        self.changes.removed(slot.db, slot.key);
        self.release(object.clone());
        Some(object)
    }

    /// Removes a key; what it named.
    pub fn remove(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<Arc<Object>> {
        let i = self.live(key, now_ms)?;
        self.remove_slot(i)
    }

    /// Removes a key whose value is lost, if it still names this write.
    pub fn lose(&mut self, key: KeyRef<'_>, write_id: WriteId) -> bool {
        match self.find(key) {
            Some(i) if self.slot(i).is_some_and(|s| s.object.write_id == write_id) => {
                self.leave(i, Why::Evicted)
            }
            _ => false,
        }
    }

    /// A key goes that no command removes.
    fn leave(&mut self, i: u32, why: Why) -> bool {
        if let Some(slot) = self.slots.get(i as usize).and_then(Option::as_ref) {
            self.news.left(slot.db, &slot.key, why);
        }
        self.remove_slot(i).is_some()
    }

    /// Notes that chunk `index` is on `node` now, if this write is a segment or
    /// still named by the key; says whether it is.
    pub fn chunk_moved(
        &mut self,
        key: KeyRef<'_>,
        write_id: WriteId,
        index: usize,
        node: scatterhoard_wire::NodeId,
    ) -> bool {
        let slot = self.find(key);
        if let Some(segment) = self.segments.object_mut(write_id) {
            self.changes.segment(write_id);
            Arc::make_mut(segment).put_chunk_on(index, node);
            return true;
        }
        let Some(i) = slot.filter(|i| self.is_named(*i, write_id)) else {
            return false;
        };
        self.changes.slot(i);
        if let Some(slot) = self.slots[i as usize].as_mut() {
            slot.object.put_chunk_on(index, node);
        }
        true
    }

    /// Whether the key still names this write.
    pub fn names(&self, key: KeyRef<'_>, write_id: WriteId) -> bool {
        self.find(key).is_some_and(|i| self.is_named(i, write_id))
    }

    fn is_named(&self, i: u32, write_id: WriteId) -> bool {
        self.slot(i)
            .is_some_and(|slot| slot.object.write_id == write_id)
    }

    /// Gives the key an expiry, or none; false if there is no such key. One in
    /// the past removes it.
    pub fn set_expiry(&mut self, key: KeyRef<'_>, at_ms: Option<u64>, now_ms: u64) -> bool {
        let Some(i) = self.live(key, now_ms) else {
            return false;
        };
        self.expire_live(i, at_ms, now_ms);
        true
    }

    fn expire_live(&mut self, i: u32, at_ms: Option<u64>, now_ms: u64) {
        if at_ms.is_some_and(|at| at <= now_ms) {
            self.remove_slot(i);
        } else {
            self.expire_slot(i, at_ms.unwrap_or(0));
        }
    }

    /// 0: never.
    fn expire_slot(&mut self, i: u32, at_ms: u64) {
        let Some(slot) = self.slots[i as usize].as_mut() else {
            return;
        };
        if slot.expires_unix_ms == at_ms {
            return;
        }
        self.changes.slot(i);
        self.news.changed(&slot.key);
        self.expiries.remove(&(slot.expires_unix_ms, i));
        slot.expires_unix_ms = at_ms;
        if at_ms != 0 {
            self.expiries.insert((at_ms, i));
        }
    }

    /// Removes at most `max` keys that have expired; how many it found.
    pub fn expire(&mut self, now_ms: u64, max: usize) -> usize {
        let mut removed = 0;
        while removed < max {
            let Some(&(at, i)) = self.expiries.first() else {
                break;
            };
            if at > now_ms {
                break;
            }
            self.leave(i, Why::Expired);
            removed += 1;
        }
        self.expired_total += removed as u64;
        removed
    }

    /// Number of keys in a database, expired ones included until they are met.
    pub fn len(&self, db: u8) -> u64 {
        self.counts[usize::from(db)]
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many keys have expired since the start.
    pub fn expired_total(&self) -> u64 {
        self.expired_total
    }

    /// Keeps a write's chunks until [`Self::unpin`], whatever becomes of its key.
    pub fn pin(&mut self, write_id: WriteId) {
        *self.pins.entry(write_id).or_insert(0) += 1;
    }

    /// Ends one pin.
    pub fn unpin(&mut self, write_id: WriteId) {
        let Some(count) = self.pins.get_mut(&write_id) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.pins.remove(&write_id);
            self.freed.extend(self.deferred.remove(&write_id));
        }
    }

    fn release(&mut self, object: Arc<Object>) {
        self.leave_segment(&object);
        if self.pins.contains_key(&object.write_id) {
            self.deferred.insert(object.write_id, object);
        } else {
            self.freed.push(object);
        }
    }

    /// Frees an object that was written, but will not be committed.
    pub fn discard(&mut self, object: Arc<Object>) {
        self.release(object);
    }

    /// Whether any reader holds anything.
    pub fn has_pins(&self) -> bool {
        !self.pins.is_empty()
    }

    /// Objects that nobody needs any more, since the last call.
    pub fn take_freed(&mut self) -> Vec<Arc<Object>> {
        std::mem::take(&mut self.freed)
    }

    /// Takes victims in the policy's order until `enough` says so; removes them.
    /// How many were removed.
    pub fn evict(
        &mut self,
        policy: EvictionPolicy,
        rng: &mut impl Rng,
        mut wanted: impl FnMut(&Object) -> eviction::Verdict,
    ) -> usize {
        let victims = eviction::victims(self, policy, rng, &mut wanted);
        victims
            .iter()
            .filter(|i| self.leave(**i, Why::Evicted))
            .count()
    }
}

impl Slot {
    fn key(&self) -> KeyRef<'_> {
        KeyRef {
            db: self.db,
            key: &self.key,
        }
    }

    fn is(&self, key: KeyRef<'_>) -> bool {
        self.db == key.db && *self.key == *key.key
    }

    fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_unix_ms != 0 && self.expires_unix_ms <= now_ms
    }

    fn expiry(&self) -> Option<u64> {
        Some(self.expires_unix_ms).filter(|at| *at != 0)
    }

    fn found(&self) -> Found {
        Found {
            object: Arc::new(self.object.clone()),
            expires_unix_ms: self.expiry(),
            hot: self.hot.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
