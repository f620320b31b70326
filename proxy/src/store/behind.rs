//! `ack = proxy`: small values are acknowledged from the proxy's memory and
//! written to nodes behind the reply.
//!
//! An opt-in. What is lost if the proxy dies: the values acknowledged since the
//! last ones were settled, at most the dirty budget. Until then they are held
//! beside the index, where nothing evicts them; a value that is overwritten
//! meanwhile is never sent. When the budget is used up, writers wait.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use scatterhoard_wire::{Layout, WriteId};
use smallvec::SmallVec;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Key, Store,
    pack::{Nameless, groups},
    write::WriteError,
};
use crate::{
    clock,
    journal::Unplaced,
    keyspace::{Condition, NewExpiry, Object},
    pool::link::Pace,
    value::Value,
};

/// Values that may wait at once, whatever their size.
const QUEUE: usize = 16 * 1024;
/// So many need not wait for more.
const BATCH: usize = QUEUE / 2;
/// Values looked up under one hold of the index's lock.
const LOOK_UP: usize = 256;
/// Objects and segments on their way to nodes at once, before more are begun.
const CONCURRENCY: usize = 4;
/// Values wait so long for others, unless many wait already: together they cost a
/// fraction, and what is overwritten meanwhile costs nothing.
const GATHER: Duration = Duration::from_millis(50);
/// Pause before a value that no quorum took is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Bookkeeping of a waiting value, in bytes, counted against the budget.
const ENTRY_BYTES: u64 = 256;

/// A value that only the proxy has so far. Its bytes are among the dirty values, until
/// nothing names it any more.
pub struct DirtyWrite {
    key: Key,
    write_id: WriteId,
    layout: Layout,
    _budget: Option<OwnedSemaphorePermit>,
}

impl DirtyWrite {
    fn len(&self) -> u64 {
        self.layout.size_bytes()
    }
}

/// A key, and the string that it is to mean.
pub struct SmallSet<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The string.
    pub value: &'a [u8],
}

/// A place in the queue, taken before the index names the value.
pub(super) struct Ticket {
    slot: mpsc::OwnedPermit<DirtyWrite>,
    budget: OwnedSemaphorePermit,
    layout: Layout,
    pub(super) value: Arc<[u8]>,
}

impl Ticket {
    /// The index names the value now, and it is among the dirty ones: it may be written.
    pub(super) fn redeem(self, key: &Key, write_id: WriteId) {
        self.slot.send(DirtyWrite {
            // copied, like the value
            key: key.detached(),
            write_id,
            layout: self.layout,
            _budget: Some(self.budget),
        });
    }
}

/// What a value of this length takes of the budget.
fn budget_units(len: u64) -> u32 {
    u32::try_from(len + ENTRY_BYTES).unwrap_or(u32::MAX)
}

/// A share of the budget, and a place.
type Room = (OwnedSemaphorePermit, mpsc::OwnedPermit<DirtyWrite>);

/// Admits values to the queue.
pub(super) struct Behind {
    queue: mpsc::Sender<DirtyWrite>,
    budget: Arc<Semaphore>,
    budget_bytes: u32,
}

impl Behind {
    /// A queue with `resumed` values more than usual.
    pub(super) fn new(budget_bytes: u64, resumed: usize) -> (Self, mpsc::Receiver<DirtyWrite>) {
        let (queue, receiver) = mpsc::channel(QUEUE + resumed);
        let budget_bytes = u32::try_from(budget_bytes).unwrap_or(u32::MAX);
        let budget = Arc::new(Semaphore::new(budget_bytes as usize));
        (
            Self {
                queue,
                budget,
                budget_bytes,
            },
            receiver,
        )
    }

    /// A value that a predecessor had acknowledged.
    pub(super) fn resume(&self, value: Unplaced) {
        let bytes = budget_units(value.value.len() as u64);
        let budget = self.budget.clone();
        let write = DirtyWrite {
            key: Key {
                db: value.db,
                bytes: value.key,
            },
            write_id: value.object.write_id,
            layout: value.object.layout,
            // more than the budget if it has become smaller
            _budget: budget.try_acquire_many_owned(bytes).ok(),
        };
        // there is room for all of them
        let _ = self.queue.try_send(write);
    }

    /// Waits for room, but no longer than `patience`; gives the value back if
    /// there is none.
    pub(super) async fn admit(
        &self,
        layout: Layout,
        value: Value,
        patience: Duration,
    ) -> Result<Ticket, Value> {
        let bytes = budget_units(value.len());
        if bytes > self.budget_bytes {
            return Err(value);
        }
        let room = match self.room_at_once(bytes) {
            Some(room) => Some(room),
            None => {
                let room = async {
                    let budget = self.budget.clone().acquire_many_owned(bytes).await.ok()?;
                    let slot = self.queue.clone().reserve_owned().await.ok()?;
                    Some((budget, slot))
                };
                timeout(patience, room).await.ok().flatten()
            }
        };
        let Some((budget, slot)) = room else {
            return Err(value);
        };
        // copied: a slice would keep the whole buffer that it was read with
        let value = Arc::from(&value.into_contiguous()[..]);
        Ok(Ticket {
            slot,
            budget,
            layout,
            value,
        })
    }
}

impl Behind {
    /// Mostly there is some, and then no timer is needed. Who waits comes first: a
    /// semaphore gives nothing to others meanwhile.
    fn room_at_once(&self, bytes: u32) -> Option<Room> {
        let budget = self.budget.clone().try_acquire_many_owned(bytes).ok()?;
        let slot = self.queue.clone().try_reserve_owned().ok()?;
        Some((budget, slot))
    }
}

impl Store {
    /// With `ack = proxy`: has keys mean strings from now on, in order, as SET does. Only if
    /// all of them are small and there is room for them at once; whether it was done.
    pub fn commit_behind(&self, db: u8, sets: &[SmallSet<'_>]) -> bool {
        let Some(behind) = &self.behind else {
            return false;
        };
        let mut layouts: SmallVec<[Layout; 16]> = SmallVec::new();
        for set in sets {
            match self.settings.geometry.layout(set.value.len() as u64) {
                Ok(layout) if self.is_held(layout) => layouts.push(layout),
                _ => return false,
            }
        }
        let units = |layout: &Layout| budget_units(layout.size_bytes());
        let all = layouts.iter().map(units).fold(0, u32::saturating_add);
        let Ok(mut budget) = behind.budget.clone().try_acquire_many_owned(all) else {
            return false;
        };
        let Ok(slots) = behind.queue.try_reserve_many(sets.len()) else {
            return false;
        };
        let now = clock::unix_ms();
        let mut index = self.index();
        for ((set, layout), slot) in sets.iter().zip(layouts).zip(slots) {
            let key = Key {
                db,
                bytes: Bytes::copy_from_slice(set.key),
            };
            let write_id = self.next_write_id();
            let object = Self::unplaced(write_id, layout);
            let (condition, expiry) = (Condition::Always, NewExpiry::Set(None));
            index.commit(key.as_ref(), object, condition, expiry, now);
            self.dirty.lock().hold(write_id, set.value.into());
            slot.send(DirtyWrite {
                key,
                write_id,
                layout,
                _budget: budget.split(units(&layout) as usize),
            });
        }
        self.free(&mut index);
        true
    }

    /// Whether a value may be acknowledged while only the proxy has it.
    pub(super) fn is_held(&self, layout: Layout) -> bool {
        layout.size_bytes() <= self.settings.hot_value_bytes && layout.stripes() == 1
    }

    /// Writes what was acknowledged from memory; ends when `drain` is cancelled
    /// and nothing is left.
    pub async fn settle_for_ever(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<DirtyWrite>,
        drain: CancellationToken,
    ) {
        let mut settling = FuturesUnordered::new();
        let mut batch: Vec<DirtyWrite> = Vec::new();
        let mut due = Instant::now();
        // without write-behind nobody holds the other end
        let mut closed = false;
        loop {
            let room = settling.len() < CONCURRENCY;
            let missing = BATCH - batch.len();
            tokio::select! {
                biased;
                Some(()) = settling.next(), if !settling.is_empty() => {}
                taken = queue.recv_many(&mut batch, missing), if missing > 0 && !closed => {
                    closed = taken == 0;
                    if batch.len() == taken {
                        due = Instant::now() + GATHER;
                    }
                }
                () = sleep_until(due), if room && !batch.is_empty() => {
                    let groups = self.groups_of(std::mem::take(&mut batch));
                    settling.extend(groups.into_iter().map(|group| self.settle(group)));
                }
                () = drain.cancelled(), if settling.is_empty() && batch.is_empty() && queue.is_empty() => {
                    return;
                }
            }
            if batch.len() == BATCH {
                due = Instant::now();
            }
        }
    }

    /// What goes to nodes together, without what was overwritten since.
    fn groups_of(&self, batch: Vec<DirtyWrite>) -> Vec<Vec<DirtyWrite>> {
        let mut named = Vec::with_capacity(batch.len());
        let mut rest = batch.into_iter();
        while rest.len() > 0 {
            let dirty = self.dirty.lock();
            let some = rest.by_ref().take(LOOK_UP);
            named.extend(some.filter(|w| dirty.holds(w.write_id)));
        }
        let is_small = |write: &DirtyWrite| self.packer.packs(write.len());
        let (small, large): (Vec<_>, Vec<_>) = named.into_iter().partition(is_small);
        let alone = large.into_iter().map(|write| vec![write]);
        groups(small, DirtyWrite::len)
            .into_iter()
            .chain(alone)
            .collect()
    }

    async fn settle(self: &Arc<Self>, mut group: Vec<DirtyWrite>) {
        loop {
            let values = self.held_values(&mut group);
            if group.is_empty() {
                return;
            }
            match self.try_settle(&group, &values).await {
                Ok(()) => return,
                // none will take them any more; the journal has them, if there is one
                Err(error) if self.pool.is_stopping() => {
                    tracing::warn!(values = group.len(), %error, "acknowledged values are not on nodes");
                    return;
                }
                Err(error) => {
                    metrics::counter!("scatterhoard_settle_errors_total").increment(1);
                    tracing::warn!(values = group.len(), %error, "acknowledged values not on nodes yet");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// The values of a group; those that were overwritten leave it.
    fn held_values(&self, group: &mut Vec<DirtyWrite>) -> Vec<Nameless> {
        let mut values = Vec::with_capacity(group.len());
        let dirty = self.dirty.lock();
        group.retain(|write| {
            let value = dirty.value(write.write_id).map(|value| Nameless {
                write_id: write.write_id,
                layout: write.layout,
                value: Bytes::from_owner(value),
            });
            let is_held = value.is_some();
            values.extend(value);
            is_held
        });
        values
    }

    async fn try_settle(
        self: &Arc<Self>,
        group: &[DirtyWrite],
        values: &[Nameless],
    ) -> Result<(), WriteError> {
        let written = self.write_together(values, Pace::Batched).await?;
        let mut index = self.index();
        for (write, written) in group.iter().zip(written) {
            let (object, _) = written.into_parts();
            // overwritten meanwhile: garbage
            if index.rehome(write.key.as_ref(), object) {
                let write_id = write.write_id;
                if let Some(value) = self.dirty.lock().take(write_id) {
                    index.keep_value(write.key.as_ref(), write_id, value);
                }
            }
        }
        self.free(&mut index);
        Ok(())
    }

    /// An object whose chunks are on no node yet.
    pub(super) fn unplaced(write_id: WriteId, layout: Layout) -> Arc<Object> {
        Arc::new(Object::new(
            write_id,
            layout,
            vec![None; layout.geometry().total()],
        ))
    }
}
