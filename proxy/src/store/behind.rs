//! `ack = proxy`: small values are acknowledged from the proxy's memory and
//! written to nodes behind the reply.
//!
//! An opt-in. What is lost if the proxy dies: the values acknowledged since the
//! last ones were settled, at most the dirty budget. Until then they are held
//! in the index, where nothing evicts them; a value that is overwritten
//! before its turn is never sent. When the budget is used up, writers wait.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream::FuturesUnordered};
use scatterhoard_wire::{Layout, WriteId};
use smallvec::SmallVec;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::yield_now,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Store, pack::groups, write::WriteError};
use crate::{
    clock,
    journal::Unplaced,
    keyspace::{HeldString, KeyRef, Keyspace, Waiting, dirty_bytes},
    pool::link::Pace,
    value::Value,
};

/// Values that are taken from the queue at a time.
const BATCH: usize = 16 * 1024;
/// When so many wait, they are written at once, whatever their size.
const MANY: usize = 64 * 1024;
/// Values looked at under one hold of the index's lock.
const LOOK_UP: usize = 256;
/// Objects and segments on their way to nodes at once while there is time: what clients
/// send meanwhile waits for no more than that.
const UNHURRIED: usize = 1;
/// The same when room is wanted.
const HURRIED: usize = 16;
/// Values wait so long for others: together they cost a fraction, and what is overwritten
/// meanwhile costs nothing.
const GATHER: Duration = Duration::from_millis(50);
/// The longest that they do when writing takes long, so that it takes a part of the time.
const GATHER_LONG: Duration = Duration::from_secs(2);
/// One in so many.
const WRITING_SHARE: u32 = 64;
/// Pause before a value that no quorum took is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A key, and the string that it is to mean.
pub struct SmallSet<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The string.
    pub value: &'a [u8],
}

/// A value that may be held, once a key names it.
pub(super) struct Ticket {
    budget: OwnedSemaphorePermit,
    pub(super) value: Arc<[u8]>,
}

impl Ticket {
    /// The key names the value now: it is held until nodes have it.
    pub(super) fn redeem(self, index: &mut Keyspace, key: KeyRef<'_>, write_id: WriteId) {
        if index.hold_value(key, write_id, self.value) {
            // the index says when it is free again
            self.budget.forget();
        }
    }
}

/// What a value of this length takes of the budget.
fn budget_units(len: u64) -> u32 {
    u32::try_from(dirty_bytes(len)).unwrap_or(u32::MAX)
}

/// Who may have values held in the index, and when they are written to nodes.
pub(super) struct Behind {
    budget: Arc<Semaphore>,
    budget_bytes: u32,
    /// What is held beyond the budget: what is free first is no one's.
    excess: AtomicU64,
    /// Rung when values wait to be written, and when there are many.
    wanted: Notify,
    /// Rung when somebody waits for room.
    hurry: Notify,
}

impl Behind {
    /// With a budget of 0 nothing is admitted, and what was before is written.
    pub(super) fn new(budget_bytes: u64) -> Self {
        let budget_bytes = u32::try_from(budget_bytes).unwrap_or(u32::MAX);
        Self {
            budget: Arc::new(Semaphore::new(budget_bytes as usize)),
            budget_bytes,
            excess: AtomicU64::new(0),
            wanted: Notify::new(),
            hurry: Notify::new(),
        }
    }

    /// Holds a value that a predecessor had acknowledged.
    pub(super) fn resume(&self, index: &mut Keyspace, value: Unplaced) {
        let key = KeyRef {
            db: value.db,
            key: &value.key,
        };
        if !index.hold_value(key, value.object.write_id, Arc::from(&value.value[..])) {
            return;
        }
        let units = budget_units(value.value.len() as u64);
        match self.budget.try_acquire_many(units) {
            Ok(room) => room.forget(),
            // there are more than the budget allows if it has become smaller
            Err(_) => {
                self.excess.fetch_add(units.into(), Ordering::Relaxed);
            }
        }
    }

    /// So much is held no longer. Called with the index locked.
    pub(super) fn released(&self, bytes: u64) {
        let excess = self.excess.load(Ordering::Relaxed);
        let repaid = excess.min(bytes);
        if repaid > 0 {
            self.excess.fetch_sub(repaid, Ordering::Relaxed);
        }
        let free = usize::try_from(bytes - repaid).unwrap_or_default();
        self.budget.add_permits(free);
    }

    /// More values wait to be written.
    pub(super) fn call(&self) {
        self.wanted.notify_one();
    }

    /// Waits for room, but no longer than `patience`; gives the value back if
    /// there is none.
    pub(super) async fn admit(&self, value: Value, patience: Duration) -> Result<Ticket, Value> {
        let bytes = budget_units(value.len());
        if bytes > self.budget_bytes {
            return Err(value);
        }
        // mostly there is some, and then no timer is needed; a semaphore gives nothing to
        // who comes while others wait
        let budget = match self.budget.clone().try_acquire_many_owned(bytes) {
            Ok(budget) => Some(budget),
            Err(_) => {
                self.hurry.notify_one();
                let room = self.budget.clone().acquire_many_owned(bytes);
                timeout(patience, room).await.ok().and_then(Result::ok)
            }
        };
        let Some(budget) = budget else {
            return Err(value);
        };
        self.took(bytes);
        // copied: a slice would keep the whole buffer that it was read with
        let value = Arc::from(&value.into_contiguous()[..]);
        Ok(Ticket { budget, value })
    }

    /// Whether all that was taken of the budget is what the index holds. Called with the
    /// index locked.
    pub(super) fn is_even(&self, held_bytes: u64) -> bool {
        let free = self.budget.available_permits() as u64;
        let excess = self.excess.load(Ordering::Relaxed);
        u64::from(self.budget_bytes) + excess == free + held_bytes
    }

    /// So much of the budget was taken: who writes is told when half of it is.
    fn took(&self, bytes: u32) {
        let free = self.budget.available_permits();
        let half = self.budget_bytes as usize / 2;
        if free < half && free + bytes as usize >= half {
            self.call();
        }
    }

    fn is_half_used(&self) -> bool {
        self.budget.available_permits() < self.budget_bytes as usize / 2
    }
}

impl Store {
    /// With `ack = proxy`: has keys mean strings from now on, in order, as SET does. Only if
    /// all of them are small and there is room for them at once; whether it was done.
    pub fn commit_behind(&self, db: u8, sets: &[SmallSet<'_>]) -> bool {
        let mut strings: SmallVec<[HeldString<'_>; 16]> = SmallVec::new();
        let mut all: u32 = 0;
        for set in sets {
            let Ok(layout) = self.settings.geometry.layout(set.value.len() as u64) else {
                return false;
            };
            if !self.is_held(layout) {
                return false;
            }
            all = all.saturating_add(budget_units(set.value.len() as u64));
            strings.push(HeldString {
                key: KeyRef { db, key: set.key },
                layout,
                value: set.value,
            });
        }
        let Ok(budget) = self.behind.budget.try_acquire_many(all) else {
            return false;
        };
        // the index says when it is free again
        budget.forget();
        self.behind.took(all);
        let now = clock::unix_ms();
        let mut index = self.index();
        // with the index locked: what is committed later has a higher one
        let first = self.next_write_ids(strings.len() as u64);
        index.hold_all(&strings, first, now);
        self.free(&mut index);
        true
    }

    /// Whether a value may be acknowledged while only the proxy has it.
    pub(super) fn is_held(&self, layout: Layout) -> bool {
        layout.size_bytes() <= self.settings.hot_value_bytes && layout.stripes() == 1
    }

    /// Writes what was acknowledged from memory; ends when `drain` is cancelled
    /// and nothing is left.
    pub async fn settle_for_ever(self: Arc<Self>, drain: CancellationToken) {
        let mut settling = FuturesUnordered::new();
        let mut groups = VecDeque::new();
        // those that no quorum took, and when they are tried again
        let mut refused: VecDeque<(Instant, Vec<Waiting>)> = VecDeque::new();
        let (mut due, mut began, mut pause) = (None, Instant::now(), GATHER);
        let mut hurries = false;
        loop {
            let (wanted, hurry) = (self.behind.wanted.notified(), self.behind.hurry.notified());
            let waiting = self.index.lock().waiting();
            let is_last = drain.is_cancelled();
            let is_idle = groups.is_empty() && refused.is_empty() && settling.is_empty();
            if waiting == 0 && is_idle && is_last {
                return;
            }
            let now = Instant::now();
            while let Some((_, group)) = refused.pop_front_if(|(at, _)| *at <= now) {
                groups.push_back(group);
            }
            let many = waiting >= MANY || self.behind.is_half_used();
            let is_pressed = is_last || hurries || many;
            let at_once = match (is_last, is_pressed) {
                // one that hangs is not to hold up others, there is no time
                (true, _) => usize::MAX,
                (false, true) => HURRIED,
                (false, false) => UNHURRIED,
            };
            while settling.len() < at_once
                && let Some(group) = groups.pop_front()
            {
                settling.push(self.settle(group));
            }
            let at = (waiting > 0).then(|| *due.get_or_insert(now + pause));
            let again = refused.front().map(|(at, _)| *at);
            let room = groups.is_empty() && settling.len() < at_once;
            let is_due = at.is_some_and(|at| is_pressed || now >= at);
            if is_due && room {
                (due, hurries) = (None, false);
                if settling.is_empty() {
                    began = now;
                }
                groups.extend(self.waiting_groups().await);
                continue;
            }
            tokio::select! {
                biased;
                Some(not_taken) = settling.next(), if !settling.is_empty() => {
                    if let Some(group) = not_taken {
                        refused.push_back((Instant::now() + RETRY_AFTER, group));
                    }
                    if settling.is_empty() && groups.is_empty() {
                        pause = (began.elapsed() * WRITING_SHARE).clamp(GATHER, GATHER_LONG);
                    }
                }
                () = hurry => hurries = true,
                () = wanted => {}
                () = sleep_until(at.unwrap_or(now)), if at.is_some() && room => {}
                () = sleep_until(again.unwrap_or(now)), if again.is_some() => {}
                () = drain.cancelled(), if !is_last => {}
            }
        }
    }

    /// What goes to nodes together.
    async fn waiting_groups(&self) -> Vec<Vec<Waiting>> {
        let mut taken = Vec::new();
        for _ in 0..BATCH / LOOK_UP {
            {
                let mut index = self.index.lock();
                index.take_waiting(LOOK_UP, &mut taken);
                if index.waiting() == 0 {
                    break;
                }
            }
            yield_now().await;
        }
        let len = |waiting: &Waiting| waiting.layout.size_bytes();
        let is_small = |waiting: &Waiting| self.packer.packs(len(waiting));
        let (small, large): (Vec<_>, Vec<_>) = taken.into_iter().partition(is_small);
        let alone = large.into_iter().map(|waiting| vec![waiting]);
        groups(small, len).into_iter().chain(alone).collect()
    }

    /// Writes what is left of a group to nodes; gives it back if they do not take it.
    async fn settle(self: &Arc<Self>, mut group: Vec<Waiting>) -> Option<Vec<Waiting>> {
        let values = self.waiting_values(&mut group).await;
        if group.is_empty() {
            return None;
        }
        let error = self.try_settle(&group, values).await.err()?;
        // none will take them any more; the journal has them, if there is one
        if self.pool.is_stopping() {
            tracing::warn!(values = group.len(), %error, "acknowledged values are not on nodes");
            return None;
        }
        metrics::counter!("scatterhoard_settle_errors_total").increment(1);
        tracing::warn!(values = group.len(), %error, "acknowledged values not on nodes yet");
        Some(group)
    }

    /// The values of a group, one behind the other; those that were overwritten leave it.
    async fn waiting_values(&self, group: &mut Vec<Waiting>) -> Bytes {
        let len: u64 = group.iter().map(|w| w.layout.size_bytes()).sum();
        let mut values = BytesMut::with_capacity(usize::try_from(len).unwrap_or_default());
        let mut left = Vec::with_capacity(group.len());
        for some in group.chunks(LOOK_UP) {
            {
                let index = self.index.lock();
                for waiting in some {
                    if let Some(value) = index.waiting_value(waiting) {
                        values.extend_from_slice(value);
                        left.push(*waiting);
                    }
                }
            }
            yield_now().await;
        }
        *group = left;
        values.freeze()
    }

    async fn try_settle(
        self: &Arc<Self>,
        group: &[Waiting],
        values: Bytes,
    ) -> Result<(), WriteError> {
        if let [one] = group {
            let value = Value::from(values);
            let written = self.write_chunks(one.write_id, one.layout, &value, Pace::Batched);
            let written = written.await?;
            let mut index = self.index();
            index.settle(one, written.into_parts().0);
            self.free(&mut index);
            return Ok(());
        }
        let members = group.iter().map(|w| (w.write_id, w.layout));
        let objects = self.write_segment(members, values.into(), Pace::Batched);
        let mut objects = objects.await?.into_iter();
        for some in group.chunks(LOOK_UP) {
            {
                let mut index = self.index();
                for (waiting, object) in some.iter().zip(objects.by_ref()) {
                    index.settle(waiting, object);
                }
                self.free(&mut index);
            }
            yield_now().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_writes_is_told_when_half_of_the_budget_is_used() {
        let value = |len: usize| Value::from(bytes::Bytes::from(vec![7; len]));
        let units = budget_units(1000);
        let behind = Behind::new(u64::from(4 * units));
        let mut tickets = Vec::new();
        for (i, told) in [false, false, true, false].into_iter().enumerate() {
            tickets.push(behind.admit(value(1000), Duration::from_secs(60)).await);
            let called = behind.wanted.notified().now_or_never().is_some();
            assert_eq!(called, told, "value {i}");
        }
        assert!(tickets.iter().all(Result::is_ok));
    }
}
