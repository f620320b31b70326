//! Nodes are emptied: chunks that the index names there are moved to others, until it
//! names none.
//!
//! Moving goes the way of repairs, behind those: as fast as they may, the lately used
//! first. A chunk is copied as it is; what cannot be had from its node is made anew from
//! the others. What a write or a repair has reserved on the node before it was to go may
//! be named late, so those are waited for. A node that nothing names any more goes when
//! its instances have dropped what they hold (`farewell`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use scatterhoard_wire::{InstanceId, NodeId, WriteId};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{RepairJob, Store, standby::job_for};
use crate::{
    keyspace::{Expected, Object, eviction::freeing},
    pool::{
        membership::{Change, Load, State},
        node::Node,
        placement::{self, Candidate},
    },
};

/// How often it is looked whether a node is to be emptied.
const LOOK: Duration = Duration::from_secs(1);
/// Pause between two walks, so long as there is something to do; twice as long, and so
/// on, while nothing gets on.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const AGAIN_AFTER_AT_MOST: Duration = Duration::from_secs(10);
/// Objects that wait to be moved: repairs must not wait behind too many.
const AHEAD: usize = 256;
/// Chunks that are queued under one hold of the index's lock.
const BATCH: usize = 128;
/// Moves go behind repairs: what is lost is urgent.
const BEHIND: u32 = 1 << 31;

/// How far the emptying of a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which order to drain it this is of.
    pub(super) order: u64,
    /// Every write that may have been promised room there has this id or a lower one.
    began: WriteId,
    /// Chunks that the index names there, when it was last looked.
    pub chunks: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Somebody is in the middle of something that may yet be named there.
    pub is_waiting: bool,
    /// Since when nothing names it, or will by this order.
    pub(super) bare_since: Option<Instant>,
    /// Instances that hold nothing since then.
    pub(super) emptied: Vec<InstanceId>,
}

/// Why nodes stay what they are, all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// This one is in a state from which that cannot follow.
    State(NodeId, State),
    /// The journal cannot be written.
    Journal(String),
}

/// Nodes that are being emptied.
#[derive(Default)]
pub(super) struct Drains {
    /// Locked, too, while a node's state changes.
    pub(super) nodes: Mutex<BTreeMap<NodeId, Progress>>,
    orders: AtomicU64,
    /// Moves that found no room since the last look, and before that.
    no_room: Mutex<(u64, u64)>,
}

impl Drains {
    fn begin(&self, newest: WriteId) -> Progress {
        Progress {
            order: self.orders.fetch_add(1, Ordering::Relaxed),
            began: newest,
            chunks: 0,
            bytes: 0,
            is_waiting: true,
            bare_since: None,
            emptied: Vec::new(),
        }
    }

    /// So far it is, unless it was ordered anew.
    pub(super) fn note(&self, node: NodeId, order: u64, what: impl FnOnce(&mut Progress)) {
        let mut nodes = self.nodes.lock();
        if let Some(progress) = nodes.get_mut(&node).filter(|p| p.order == order) {
            what(progress);
        }
    }

    /// A chunk found no node that takes it.
    pub(super) fn found_no_room(&self) {
        self.no_room.lock().0 += 1;
    }

    fn looks_again(&self) {
        let mut no_room = self.no_room.lock();
        *no_room = (0, no_room.0);
    }
}

impl Store {
    /// How far the emptying of nodes is, and how many objects found no room lately.
    pub fn drains(&self) -> (BTreeMap<NodeId, Progress>, u64) {
        let (now, before) = *self.drains.no_room.lock();
        (self.drains.nodes.lock().clone(), now.max(before))
    }

    /// All nodes with their bytes; those that the index names where it matters: on
    /// nodes that are being emptied, and on these.
    pub async fn loads(&self, chosen: &[NodeId]) -> Vec<Load> {
        let mut loads = Vec::new();
        let candidates = self.pool.candidates();
        for node in self.pool.nodes() {
            let (id, state) = (node.id, node.state());
            let of_it = |c: &&Candidate| c.node == id && c.reachable;
            let mut load = Load {
                node: id,
                state,
                named_bytes: 0,
                free_bytes: candidates.iter().find(of_it).map_or(0, |c| c.free_bytes),
            };
            if state.is_draining() || chosen.contains(&id) {
                load.named_bytes = bytes_of(&self.expected_on(id).await);
            }
            loads.push(load);
        }
        loads
    }

    /// Notes the states that nodes get by this change, at once, and changes them: all or
    /// none.
    ///
    /// # Errors
    /// Why none has changed.
    pub fn change_nodes(&self, nodes: &[&Arc<Node>], change: Change) -> Result<(), Unchanged> {
        let mut drains = self.drains.nodes.lock();
        self.note_changes(nodes, change)?;
        for node in nodes {
            if node.state().is_draining() {
                // what is begun from now on finds no room there
                drains.insert(node.id, self.drains.begin(self.newest_write_id()));
            } else {
                drains.remove(&node.id);
            }
        }
        Ok(())
    }

    /// The same for who holds the lock on drains.
    pub(super) fn note_changes(
        &self,
        nodes: &[&Arc<Node>],
        change: Change,
    ) -> Result<(), Unchanged> {
        let state = |node: &&Arc<Node>| {
            let before = node.state();
            let after = before.after(change).map(|state| (node.id, state));
            after.ok_or(Unchanged::State(node.id, before))
        };
        let states = nodes.iter().map(state).collect::<Result<Vec<_>, _>>()?;
        self.note_members(&states).map_err(Unchanged::Journal)?;
        for node in nodes {
            self.pool.change(node.id, change);
        }
        Ok(())
    }

    /// Notes states of nodes in the journal, if there is one.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn note_members(&self, members: &[(NodeId, State)]) -> Result<(), String> {
        match &self.journal {
            Some(journal) => journal.note_members(members),
            None => Ok(()),
        }
    }

    /// Empties the nodes that are to go, until stopped.
    pub async fn drain_for_ever(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            let mut pause = AGAIN_AFTER;
            let mut before = 0;
            loop {
                let left = self.drain_once().await;
                if left == 0 && self.drains.nodes.lock().is_empty() {
                    (pause, before) = (AGAIN_AFTER, 0);
                    self.pool.membership_changed(LOOK).await;
                    continue;
                }
                pause = match left == before && left > 0 {
                    true => (pause * 2).min(AGAIN_AFTER_AT_MOST),
                    false => AGAIN_AFTER,
                };
                before = left;
                self.pool.membership_changed(pause).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Looks at all nodes that are to go once, and has moved what they hold; how many
    /// chunks they held before.
    async fn drain_once(self: &Arc<Self>) -> usize {
        let draining: Vec<Arc<Node>> = self.pool.draining().cloned().collect();
        {
            let mut nodes = self.drains.nodes.lock();
            nodes.retain(|id, _| draining.iter().any(|node| node.id == *id));
            let newest = self.newest_write_id();
            for node in &draining {
                // by a predecessor's order
                let progress = || self.drains.begin(newest);
                nodes.entry(node.id).or_insert_with(progress);
            }
        }
        self.drains.looks_again();
        let mut left = 0;
        for node in draining {
            let Some(progress) = self.drains.nodes.lock().get(&node.id).cloned() else {
                continue;
            };
            // before the walk: what is named by then is found
            let is_waiting = self.may_yet_be_named(&node, &progress);
            let expected = self.expected_on(node.id).await;
            left += expected.len();
            let is_bare = expected.is_empty() && !is_waiting && self.nobody_reads_on(node.id);
            self.drains.note(node.id, progress.order, |progress| {
                progress.chunks = expected.len();
                progress.bytes = bytes_of(&expected);
                progress.is_waiting = is_waiting;
                match is_bare {
                    true => _ = progress.bare_since.get_or_insert_with(Instant::now),
                    false => (progress.bare_since, progress.emptied) = (None, Vec::new()),
                }
            });
            if is_bare {
                self.let_go(&node, progress.order);
            } else if !expected.is_empty() {
                self.queue_moves(&node, &expected).await;
            }
        }
        left
    }

    /// Whether a write or a repair is under way that was promised room on the node.
    fn may_yet_be_named(&self, node: &Node, progress: &Progress) -> bool {
        let earlier = |id: &WriteId| *id <= progress.began;
        node.has_reservations() || self.under_way.lock().iter().any(earlier)
    }

    /// Whether nobody reads there what no key names any more, by an index that is in the
    /// journal.
    fn nobody_reads_on(&self, node: NodeId) -> bool {
        let index = self.index();
        !index.has_changed() && !index.is_read_on(node)
    }

    /// Has chunks moved, a few at a time, so long as the node is to go.
    async fn queue_moves(&self, node: &Node, expected: &[Expected]) {
        for batch in expected.chunks(BATCH) {
            while self.repairs.len() >= AHEAD {
                if !node.state().is_draining() {
                    return;
                }
                sleep(AGAIN_AFTER).await;
            }
            let index = self.index();
            for expected in batch {
                if let Some(mut job) = job_for(&index, expected) {
                    job.leaving.push(usize::from(expected.chunk.id.index));
                    self.repairs.add(job, BEHIND | (expected.idleness >> 1));
                }
            }
        }
        // what was queued last has its time, or the next walk finds all of it again
        let end = Instant::now() + self.settings.patience;
        while self.repairs.len() > 0 && node.state().is_draining() && Instant::now() < end {
            sleep(AGAIN_AFTER / 4).await;
        }
    }

    /// Copies chunks of an object from nodes that are to go to others; how many. What
    /// cannot be copied is `missing` then.
    pub(super) async fn move_chunks(
        self: &Arc<Self>,
        job: &RepairJob,
        object: &Arc<Object>,
        missing: &mut Vec<usize>,
    ) -> u64 {
        let mut taken: Vec<NodeId> = object.nodes().collect();
        let mut moved = 0;
        for &chunk in &job.leaving {
            let from = object.node(chunk).and_then(|id| self.pool.node(id));
            // moved meanwhile, or it stays after all
            let Some(from) = from.filter(|node| node.state().is_draining()) else {
                continue;
            };
            if missing.contains(&chunk) {
                continue;
            }
            let mut room = self.substitute(&object.layout, &taken);
            if room.is_none() && from.state() == (State::Draining { force: true }) {
                self.evict_for(object, &taken).await;
                room = self.substitute(&object.layout, &taken);
            }
            let Some(room) = room else {
                missing.push(chunk);
                continue;
            };
            let to = room.node().clone();
            // it may not go before the index names it
            let _put = to.put_begins();
            let copied = self.copy_between(from, &to, object, chunk).await;
            if copied {
                room.settle();
            }
            if self.name_node(job, object, chunk, &to, copied) {
                metrics::counter!("scatterhoard_moved_chunks_total").increment(1);
                taken.push(to.id);
                moved += 1;
            } else if !copied {
                missing.push(chunk);
            }
        }
        moved
    }

    async fn copy_between(
        self: &Arc<Self>,
        from: &Arc<Node>,
        to: &Arc<Node>,
        object: &Object,
        chunk: usize,
    ) -> bool {
        let patience = self.settings.patience;
        let deadline = Instant::now() + patience;
        let links = tokio::try_join!(self.pool.link(from, deadline), self.pool.link(to, deadline));
        let (near, far) = match links {
            Ok(links) => links,
            Err(error) => {
                tracing::info!(from = %from.id, to = %to.id, %error, "chunk not moved");
                return false;
            }
        };
        let descriptor = object.descriptor(chunk);
        // it is told first what it may free: room is counted on
        self.pool.tell_garbage(to, &far);
        let copy = self.pool.copy_chunk(&near, &far, &descriptor, patience);
        match copy.await {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(from = %from.id, to = %to.id, %error, "chunk not moved");
                false
            }
        }
    }

    /// Makes room for a chunk of this object on a node that has none of it, at the cost
    /// of others.
    async fn evict_for(self: &Arc<Self>, object: &Object, taken: &[NodeId]) {
        let _one_at_a_time = self.evicting.lock().await;
        let bytes = object.layout.accounted_bytes();
        let lacking = || {
            let mut candidates = self.pool.candidates();
            candidates.retain(|c| !taken.contains(&c.node));
            placement::shortfall(&candidates, 1, bytes)
        };
        let lacking = self.lacking_still(lacking).await;
        if lacking.is_empty() {
            return;
        }
        let evicted = {
            let mut index = self.index();
            let evicted = index.evict(self.settings.eviction, &mut self.rng(), freeing(&lacking));
            self.free(&mut index);
            evicted
        };
        metrics::counter!("scatterhoard_evicted_objects_total").increment(evicted as u64);
        self.purge(&lacking).await;
    }
}

fn bytes_of(expected: &[Expected]) -> u64 {
    let bytes = expected.iter().map(|e| e.chunk.layout.accounted_bytes());
    bytes.sum()
}
