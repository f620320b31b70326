//! What the store does on its own: expire, repair what reads found missing,
//! and clear out what an instance that had been absent brings back.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use scatterhoard_wire::{NodeId, WriteId, limits::MAX_WINDOW_CELLS};
use tokio::{
    sync::{Mutex, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Key, Lookup, ObjectReader, Pinned, ReadError, Store};
use crate::{
    clock,
    keyspace::Object,
    pool::{PoolEvent, link::Pace, node::Node, requests::CellSource},
};

const EXPIRE_EVERY: Duration = Duration::from_millis(100);
/// Keys removed under one hold of the index's lock.
const EXPIRE_BATCH: usize = 500;

/// Chunks of an object that their nodes no longer have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairJob {
    /// The key.
    pub key: Key,
    /// The write that it named.
    pub write_id: WriteId,
    /// Indices of the chunks.
    pub missing: Vec<usize>,
}

impl Store {
    /// Removes expired keys, until stopped.
    pub async fn expire_for_ever(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = interval(EXPIRE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            loop {
                if self.expire_batch() < EXPIRE_BATCH {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }

    fn expire_batch(&self) -> usize {
        let mut index = self.index.lock();
        let removed = index.expire(clock::unix_ms(), EXPIRE_BATCH);
        self.free(&mut index);
        removed
    }

    /// Repairs, one object at a time, until stopped.
    pub async fn repair_for_ever(
        self: Arc<Self>,
        mut jobs: mpsc::Receiver<RepairJob>,
        stop: CancellationToken,
    ) {
        while let Some(Some(job)) = stop.run_until_cancelled(jobs.recv()).await {
            let repaired = self.repair(&job).await;
            self.repairing.lock().remove(&job.write_id);
            match repaired {
                Ok(0) => {}
                Ok(chunks) => {
                    metrics::counter!("scatterhoard_repaired_chunks_total").increment(chunks);
                    tracing::info!(write_id = %job.write_id, chunks, "repaired");
                }
                Err(error) => {
                    tracing::info!(write_id = %job.write_id, %error, "not repaired");
                }
            }
        }
    }

    /// Looks after the pool's events, until stopped.
    pub async fn attend(
        self: Arc<Self>,
        mut events: mpsc::Receiver<PoolEvent>,
        stop: CancellationToken,
    ) {
        while let Some(Some(event)) = stop.run_until_cancelled(events.recv()).await {
            let PoolEvent::InstanceBack(id) = event;
            let Some(node) = self.pool.node(id).cloned() else {
                continue;
            };
            self.clear_out(&node).await;
        }
    }

    /// An instance was absent while keys were deleted: what no key names and no
    /// reader holds is garbage.
    async fn clear_out(self: &Arc<Self>, node: &Arc<Node>) {
        let chunks = match self.pool.list_chunks(node, self.settings.patience).await {
            Ok(chunks) => chunks,
            Err(error) => {
                tracing::info!(node = %node.id, %error, "chunks not listed");
                return;
            }
        };
        let mut garbage: Vec<WriteId> = chunks.iter().map(|c| c.id.write_id).collect();
        {
            let index = self.index.lock();
            let (live, under_way) = (index.live_write_ids(), self.under_way.lock());
            garbage.retain(|id| !live.contains(id) && !under_way.contains(id));
        }
        tracing::info!(node = %node.id, chunks = chunks.len(), garbage = garbage.len(), "took stock");
        garbage.into_iter().for_each(|id| node.discard(id));
    }

    /// Rebuilds missing chunks from the others; how many.
    async fn repair(self: &Arc<Self>, job: &RepairJob) -> Result<u64, RepairError> {
        let mut done = 0;
        for &index in &job.missing {
            let Some(pinned) = self.pin_if_named(job) else {
                return Ok(done);
            };
            done += u64::from(self.repair_chunk(pinned, index).await?);
        }
        Ok(done)
    }

    fn pin_if_named(self: &Arc<Self>, job: &RepairJob) -> Option<Pinned> {
        let mut index = self.index.lock();
        let found = index.peek(job.key.as_ref(), clock::unix_ms());
        self.free(&mut index);
        let object = found?.object;
        if object.write_id != job.write_id || object.size_bytes() == 0 {
            return None;
        }
        index.pin(object.write_id);
        Some(Pinned {
            store: self.clone(),
            key: job.key.clone(),
            object,
        })
    }

    async fn repair_chunk(
        self: &Arc<Self>,
        pinned: Pinned,
        index: usize,
    ) -> Result<bool, RepairError> {
        let (key, object) = (pinned.key.clone(), pinned.object.clone());
        let holders: Vec<NodeId> = object.nodes().collect();
        let own = object.node(index).and_then(|id| self.pool.node(id));
        let room = own
            .filter(|node| node.is_reachable())
            .and_then(|node| node.reserve(object.layout.accounted_bytes()))
            .or_else(|| self.substitute(&object.layout, &holders));
        let Some(room) = room else {
            return Err(RepairError::NoRoom);
        };
        // what it has under this name, if anything, is damaged; freed before the
        // new cells come, since a link keeps its order
        room.node().discard(object.write_id);
        let mut source = Source::new(pinned, index);
        // first, or the target would be awake in vain while the sources wake
        if let Err(error) = source.cell(0).await {
            return Err(RepairError::Read(error));
        }
        let source = Rebuild(Mutex::new(source));
        let descriptor = object.descriptor(index);
        let put = self.pool.put_chunk(
            room.node(),
            &descriptor,
            &source,
            self.settings.patience,
            Pace::Batched,
        );
        let result = put.await;
        let node = room.node();
        let mut keys = self.index.lock();
        let named =
            result.is_ok() && keys.chunk_moved(key.as_ref(), object.write_id, index, node.id);
        drop(keys);
        if named && let Some(own) = own.filter(|own| own.id != node.id) {
            // it may turn up there again
            own.discard(object.write_id);
        }
        if !named && !holders.contains(&node.id) {
            node.discard(object.write_id);
        }
        match result {
            Ok(()) => Ok(named),
            Err(error) => Err(RepairError::Put(error.to_string())),
        }
    }

    /// Ends a read that found its object lost: the key goes, so that it can be
    /// written anew and does not pretend to exist.
    /// While an instance is absent that may hold a chunk, the key stays: it is a
    /// miss for now.
    pub fn forget_lost(self: &Arc<Self>, pinned: &Pinned) {
        let nodes = pinned.object.nodes().filter_map(|id| self.pool.node(id));
        if nodes.map(|node| node.absent_instances()).sum::<usize>() > 0 {
            return;
        }
        let mut index = self.index.lock();
        if index.remove_if(pinned.key.as_ref(), pinned.object.write_id) {
            metrics::counter!("scatterhoard_lost_objects_total").increment(1);
            tracing::warn!(write_id = %pinned.object.write_id, bytes = pinned.object.size_bytes(), "object lost");
        }
        self.free(&mut index);
    }
}

#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error("no node has room")]
    NoRoom,
    #[error(transparent)]
    Read(ReadError),
    #[error("{0}")]
    Put(String),
}

/// The cells of one chunk, rebuilt stripe by stripe from the others.
struct Rebuild(Mutex<Source>);

impl CellSource for Rebuild {
    async fn cell(&self, stripe: u32) -> Option<Bytes> {
        let cell = self.0.lock().await.cell(stripe).await;
        cell.inspect_err(|error| tracing::info!(%error, "cannot rebuild"))
            .ok()
    }

    /// Made when it is asked for, which must not be given up half-way.
    fn is_ready(&self, _stripe: u32) -> bool {
        true
    }

    /// The last ones are kept, whoever has them.
    fn stored(&self, _below: u32) {}
}

struct Source {
    store: Arc<Store>,
    key: Key,
    object: Arc<Object>,
    index: usize,
    reader: ObjectReader,
    next: u32,
    /// The last cells: a node that is interrupted asks for its window again.
    recent: VecDeque<(u32, Bytes)>,
}

impl Source {
    fn new(pinned: Pinned, index: usize) -> Self {
        Self {
            store: pinned.store.clone(),
            key: pinned.key.clone(),
            object: pinned.object.clone(),
            index,
            reader: ObjectReader::new(pinned),
            next: 0,
            recent: VecDeque::new(),
        }
    }

    async fn cell(&mut self, stripe: u32) -> Result<Bytes, ReadError> {
        if let Some((_, cell)) = self.recent.iter().find(|(s, _)| *s == stripe) {
            return Ok(cell.clone());
        }
        if stripe < self.next {
            self.restart()?;
        }
        loop {
            let cells = self.reader.next_stripe().await?;
            let cells = cells.ok_or(ReadError::Unavailable { failed: 0 })?;
            let cell = self.rebuild(cells)?;
            self.recent.push_back((self.next, cell.clone()));
            if self.recent.len() > MAX_WINDOW_CELLS as usize {
                self.recent.pop_front();
            }
            self.next += 1;
            if self.next > stripe {
                return Ok(cell);
            }
        }
    }

    /// From the first stripe again: another instance answers now.
    fn restart(&mut self) -> Result<(), ReadError> {
        match self.store.look_up(self.key.clone()) {
            Lookup::There(pinned) if pinned.object.write_id == self.object.write_id => {
                self.reader = ObjectReader::new(pinned);
                self.next = 0;
                self.recent.clear();
                Ok(())
            }
            _ => Err(ReadError::Unavailable { failed: 0 }),
        }
    }

    fn rebuild(&self, mut data: Vec<Bytes>) -> Result<Bytes, ReadError> {
        let layout = self.object.layout;
        let cell_len = layout.cell_len(self.next);
        for cell in data.iter_mut().filter(|c| c.len() < cell_len) {
            let mut padded = bytes::BytesMut::from(&cell[..]);
            padded.resize(cell_len, 0);
            *cell = padded.freeze();
        }
        let d = layout.geometry().data();
        if self.index < d {
            return Ok(data.swap_remove(self.index));
        }
        let mut parity = self.store.codec.parity(layout.geometry(), &data)?;
        Ok(parity.swap_remove(self.index - d))
    }
}
