//! Chunks that reads or rounds found missing are made anew from the others.
//!
//! A few objects at a time, the lately used first, and no more bytes in a second
//! than is allowed: what clients want comes first. The object is read once, cut and encoded again as
//! when it was written, and sent to those nodes that lack their chunk.

use std::sync::Arc;

use futures_util::future::join_all;
use scatterhoard_wire::{NodeId, WriteId};
use tokio_util::sync::CancellationToken;

use super::{
    Broken, Key, Pinned, ReadError, Store,
    body::Stored,
    cut::{ChunkOf, NOT_WANTED, Stripes},
};
use crate::{
    clock,
    keyspace::{Keyspace, Object},
    pool::{
        link::Pace,
        node::{Node, Reservation},
    },
};

/// Objects under repair at a time. Each is read within the memory for values
/// under way, and waits for nodes to wake.
pub const REPAIRS_AT_ONCE: usize = 4;

/// Chunks of an object that their nodes no longer have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairJob {
    /// A key that named it.
    pub key: Key,
    /// The write that the key named, or the segment in which that lies.
    pub write_id: WriteId,
    /// Indices of the chunks.
    pub missing: Vec<usize>,
    /// Those of them that are there, but not as they were sent.
    pub damaged: Vec<usize>,
    /// Indices of chunks that are where they should be, on nodes that are to go.
    pub leaving: Vec<usize>,
}

impl RepairJob {
    /// Of nothing yet: what says where an object is.
    pub(super) fn of(key: Key, write_id: WriteId) -> Self {
        Self {
            key,
            write_id,
            missing: Vec::new(),
            damaged: Vec::new(),
            leaving: Vec::new(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error("no node has room")]
    NoRoom,
    #[error(transparent)]
    Read(ReadError),
    #[error("{0}")]
    Write(String),
}

impl Store {
    /// Repairs, until stopped.
    pub async fn repair_for_ever(self: Arc<Self>, stop: CancellationToken) {
        let workers = (0..REPAIRS_AT_ONCE).map(|_| async {
            loop {
                let job = self.repairs.next().await;
                self.repair_rate.take(self.bytes_of(&job)).await;
                self.repairs.at_work(job.write_id);
                match self.repair(&job).await {
                    Ok(chunks) => {
                        metrics::counter!("scatterhoard_repaired_chunks_total").increment(chunks);
                        tracing::info!(write_id = %job.write_id, chunks, "repaired");
                    }
                    Err(error) => {
                        if matches!(error, RepairError::NoRoom) && !job.leaving.is_empty() {
                            self.drains.found_no_room();
                        }
                        tracing::info!(write_id = %job.write_id, %error, "not repaired");
                    }
                }
                self.repairs.done(job.write_id);
            }
        });
        let _: Option<Vec<()>> = stop.run_until_cancelled(join_all(workers)).await;
    }

    /// Bytes that are read to repair it: all, or those of chunks that are moved.
    fn bytes_of(&self, job: &RepairJob) -> u64 {
        let mut index = self.index();
        let object = index.segment(job.write_id).cloned();
        let object = object.or_else(|| {
            let found = index.peek(job.key.as_ref(), clock::unix_ms());
            found.map(|found| found.object)
        });
        self.free(&mut index);
        let moved = job.leaving.len() as u64;
        object.map_or(0, |object| match job.missing.is_empty() {
            true => object.layout.accounted_bytes().saturating_mul(moved),
            false => object.size_bytes(),
        })
    }

    /// Makes the missing chunks anew; how many.
    async fn repair(self: &Arc<Self>, job: &RepairJob) -> Result<u64, RepairError> {
        let Some(mut pinned) = self.pin_if_named(job) else {
            return Ok(0);
        };
        // until the last chunk is there: deleted before, it would stay
        let stays = self.again(&pinned);
        let mut missing = job.missing.clone();
        let moved = self.move_chunks(job, &pinned.object, &mut missing).await;
        if missing.is_empty() {
            return Ok(moved);
        }
        if moved > 0 {
            match self.pin_if_named(job) {
                Some(present) => pinned = present,
                None => return Ok(moved),
            }
        }
        let (object, layout) = (pinned.object.clone(), pinned.object.layout);
        let rooms = self.rooms_for(&pinned, &missing);
        if rooms.is_empty() {
            return Err(RepairError::NoRoom);
        }
        let stripes = Stripes::new(object.write_id, layout, &self.codec);
        for index in 0..object.chunks() {
            if !rooms.iter().any(|(missing, _)| *missing == index) {
                stripes.stored(index, NOT_WANTED);
            }
        }
        let taking = async {
            let body = Stored::for_repair(pinned);
            let taken = self.take_in(&stripes, layout, body).await;
            stripes.break_off();
            taken
        };
        let sending = join_all(rooms.iter().map(|(index, room)| {
            let chunk = ChunkOf {
                stripes: &stripes,
                plan: &object,
                room,
                index: *index,
                pace: Pace::Batched,
            };
            self.repair_chunk(job, chunk)
        }));
        let (taken, sent) = tokio::join!(taking, sending);
        match taken {
            Ok(()) => {}
            Err(Broken::Body(error)) => {
                if matches!(error, ReadError::Lost { .. }) {
                    self.forget_lost(&stays);
                }
                return Err(RepairError::Read(error));
            }
            Err(Broken::Write(error)) => return Err(RepairError::Write(error.to_string())),
        }
        Ok(moved + sent.iter().filter(|sent| **sent).count() as u64)
    }

    /// Its own node for each chunk that is missing, or another that has none of
    /// this object.
    fn rooms_for(&self, pinned: &Pinned, missing: &[usize]) -> Vec<(usize, Reservation)> {
        let object = &pinned.object;
        let mut taken: Vec<NodeId> = object.nodes().collect();
        let bytes = object.layout.accounted_bytes();
        let mut rooms = Vec::with_capacity(missing.len());
        for &index in missing {
            let own = object.node(index).and_then(|id| self.pool.node(id));
            let room = own
                .filter(|node| node.is_reachable())
                .and_then(|node| node.reserve(bytes))
                .or_else(|| self.substitute(&object.layout, &taken));
            if let Some(room) = room {
                taken.push(room.node().id);
                rooms.push((index, room));
            }
        }
        rooms
    }

    /// Sends one chunk, and has the index name its node; whether it does.
    async fn repair_chunk(self: &Arc<Self>, job: &RepairJob, chunk: ChunkOf<'_, '_>) -> bool {
        let (object, node) = (chunk.plan, chunk.room.node());
        let descriptor = object.descriptor(chunk.index);
        let patience = self.settings.patience;
        // until the index names it: a drain waits for that
        let _put = node.put_begins();
        if chunk.stripes.cell(0, chunk.index).await.is_none() {
            // nothing came to be sent
            return false;
        }
        if job.damaged.contains(&chunk.index) {
            // freed before the new cells come, since a link keeps its order
            node.discard(object.write_id);
        }
        let put = self
            .pool
            .put_chunk(node, &descriptor, &chunk, patience, chunk.pace);
        let result = put.await;
        chunk.stripes.stored(chunk.index, NOT_WANTED);
        if let Err(error) = &result {
            tracing::info!(node = %node.id, %error, "chunk not repaired");
        }
        self.name_node(job, object, chunk.index, node, result.is_ok())
    }

    /// Has the index name the node that a chunk was sent to, if that `came`; whether it
    /// does. What is not named is freed.
    pub(super) fn name_node(
        &self,
        job: &RepairJob,
        object: &Object,
        chunk: usize,
        node: &Arc<Node>,
        came: bool,
    ) -> bool {
        let mut index = self.index();
        let named = came && index.chunk_moved(job.key.as_ref(), job.write_id, chunk, node.id);
        drop(index);
        let own = object.node(chunk).and_then(|id| self.pool.node(id));
        if named && let Some(own) = own.filter(|own| own.id != node.id) {
            // it may turn up there again
            own.discard(job.write_id);
        }
        if !named && !object.nodes().any(|holder| holder == node.id) {
            node.discard(job.write_id);
        }
        named
    }

    pub(super) fn pin_if_named(self: &Arc<Self>, job: &RepairJob) -> Option<Pinned> {
        let mut index = self.index();
        let object = self.named(&mut index, &job.key, job.write_id)?;
        Some(self.pin_chunks(&mut index, job.key.clone(), object))
    }

    /// The write, if the key names it, or if it is a segment in use.
    pub(super) fn named(
        &self,
        index: &mut Keyspace,
        key: &Key,
        write_id: WriteId,
    ) -> Option<Arc<Object>> {
        if let Some(segment) = index.segment(write_id) {
            return Some(segment.clone());
        }
        let found = index.peek(key.as_ref(), clock::unix_ms());
        self.free(index);
        let is_it = |object: &Arc<Object>| object.write_id == write_id && object.chunks() > 0;
        found.map(|found| found.object).filter(is_it)
    }
}
