//! Repairs that wait for their turn: what was used last goes first.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use scatterhoard_node::random::{HashMap, HashSet};
use scatterhoard_wire::WriteId;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::RepairJob;

/// Objects that wait; of more, the longest unused are found again by the next
/// read or round.
const MOST: usize = 1 << 16;

/// Idleness, and a number that makes it unique.
type Turn = (u32, u64);

/// The queue, and those who wait for it.
#[derive(Default)]
pub(super) struct Repairs {
    inner: Mutex<Queue>,
    more: Notify,
    ended: AtomicU64,
    over: Notify,
}

/// The queue itself; pure. An object is in it once, or under repair.
#[derive(Default)]
pub struct Queue {
    turns: BTreeMap<Turn, WriteId>,
    jobs: HashMap<WriteId, (Turn, RepairJob)>,
    running: HashSet<WriteId>,
    /// Those of them that are read and sent, and do not wait for the rate.
    at_work: HashSet<WriteId>,
    last: u64,
}

impl Repairs {
    /// Queues a repair, or adds to one that waits; not while the object is under
    /// repair. `idleness`: how many uses of others ago it was last used.
    pub(super) fn add(&self, job: RepairJob, idleness: u32) {
        if self.inner.lock().add(job, idleness) {
            self.more.notify_one();
        }
    }

    /// The next one; under repair until [`Self::done`].
    pub(super) async fn next(&self) -> RepairJob {
        loop {
            if let Some(job) = self.inner.lock().begin_next() {
                return job;
            }
            self.more.notified().await;
        }
    }

    /// The repair of this object has waited for its rate.
    pub(super) fn at_work(&self, write_id: WriteId) {
        self.inner.lock().at_work.insert(write_id);
    }

    /// The repair of this object is over.
    pub(super) fn done(&self, write_id: WriteId) {
        // before, for who sees that it is over
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.inner.lock().done(write_id);
        self.over.notify_waiters();
    }

    /// How many are over.
    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether this object is repaired at this moment.
    pub(super) fn is_at_work(&self, write_id: WriteId) -> bool {
        self.inner.lock().at_work.contains(&write_id)
    }

    /// Waits while this object is repaired, until the deadline.
    pub(super) async fn await_end(&self, write_id: WriteId, deadline: Instant) {
        loop {
            let mut over = pin!(self.over.notified());
            // from now on, not from when it is looked after
            over.as_mut().enable();
            if !self.is_at_work(write_id) || timeout_at(deadline, over).await.is_err() {
                return;
            }
        }
    }

    /// Objects that wait or are under repair.
    pub(super) fn len(&self) -> usize {
        let inner = self.inner.lock();
        inner.jobs.len() + inner.running.len()
    }
}

impl Queue {
    /// Queues a repair, or adds to one that waits; whether there is one more.
    pub fn add(&mut self, job: RepairJob, idleness: u32) -> bool {
        let write_id = job.write_id;
        if self.running.contains(&write_id) {
            return false;
        }
        if let Some((_, waiting)) = self.jobs.get_mut(&write_id) {
            for (all, more) in [
                (&mut waiting.missing, job.missing),
                (&mut waiting.damaged, job.damaged),
                (&mut waiting.leaving, job.leaving),
            ] {
                all.extend(more);
                all.sort_unstable();
                all.dedup();
            }
            return false;
        }
        self.last += 1;
        let turn = (idleness, self.last);
        self.turns.insert(turn, write_id);
        self.jobs.insert(write_id, (turn, job));
        if self.turns.len() > MOST
            && let Some((_, dropped)) = self.turns.pop_last()
        {
            self.jobs.remove(&dropped);
        }
        true
    }

    /// The one whose turn it is; under repair until [`Self::done`].
    pub fn begin_next(&mut self) -> Option<RepairJob> {
        let (_, write_id) = self.turns.pop_first()?;
        let (_, job) = self.jobs.remove(&write_id)?;
        self.running.insert(write_id);
        Some(job)
    }

    /// The repair of this object is over.
    pub fn done(&mut self, write_id: WriteId) {
        self.running.remove(&write_id);
        self.at_work.remove(&write_id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::poll;
    use scatterhoard_wire::Epoch;

    use super::*;
    use crate::store::Key;

    fn job(counter: u64, missing: &[usize]) -> RepairJob {
        RepairJob {
            key: Key {
                db: 0,
                bytes: Bytes::new(),
            },
            write_id: WriteId {
                epoch: Epoch(1),
                counter,
            },
            missing: missing.to_vec(),
            damaged: Vec::new(),
            leaving: Vec::new(),
        }
    }

    #[test]
    fn the_lately_used_go_first_and_each_object_once() {
        let mut q = Queue::default();
        assert!(q.add(job(1, &[3]), 50) && q.add(job(2, &[0]), 10) && q.add(job(3, &[0]), 50));
        assert!(!q.add(job(1, &[1, 3]), 0), "waits already");
        let order: Vec<u64> = std::iter::from_fn(|| q.begin_next())
            .map(|job| job.write_id.counter)
            .collect();
        assert_eq!(order, [2, 1, 3]);
        assert!(!q.add(job(1, &[2]), 0), "under repair");
        q.running.clear();
        assert!(q.add(job(1, &[2]), 0));
        assert_eq!(q.begin_next(), Some(job(1, &[2])));
    }

    #[tokio::test]
    async fn readers_wait_for_the_repair_of_their_object_alone() {
        let repairs = Repairs::default();
        for counter in [1, 2] {
            repairs.add(job(counter, &[0]), 0);
        }
        let (one, other) = (repairs.next().await.write_id, repairs.next().await.write_id);
        let later = Instant::now() + Duration::from_secs(600);
        assert!(
            poll!(pin!(repairs.await_end(one, later))).is_ready(),
            "not yet"
        );
        repairs.at_work(one);
        repairs.at_work(other);
        let mut waiting = pin!(repairs.await_end(one, later));
        assert!(poll!(&mut waiting).is_pending());
        repairs.done(other);
        assert!(poll!(&mut waiting).is_pending());
        repairs.done(one);
        assert!(poll!(&mut waiting).is_ready());
        assert_eq!(repairs.ended(), 2);
        assert!(poll!(pin!(repairs.await_end(one, later))).is_ready());
        repairs.add(job(1, &[1]), 0);
        assert!(
            poll!(pin!(repairs.await_end(one, later))).is_ready(),
            "it only waits"
        );
        repairs.next().await;
        repairs.at_work(one);
        repairs.await_end(one, Instant::now()).await;
        assert!(repairs.is_at_work(one));
    }

    #[test]
    fn losses_of_one_object_come_together_and_the_queue_is_bounded() {
        let mut q = Queue::default();
        q.add(job(0, &[3]), 0);
        q.add(job(0, &[1, 3]), 0);
        for counter in 1..=MOST as u64 + 5 {
            q.add(job(counter, &[0]), 7);
        }
        assert_eq!((q.turns.len(), q.jobs.len()), (MOST, MOST));
        assert_eq!(q.begin_next(), Some(job(0, &[1, 3])));
    }
}
