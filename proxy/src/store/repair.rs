//! Chunks that reads found missing are made anew from the others.
//!
//! One object at a time, and no more of them in a second than is allowed: what
//! clients want comes first. The object is read once, cut and encoded again as
//! when it was written, and sent to those nodes that lack their chunk.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use scatterhoard_wire::{NodeId, WriteId};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Broken, Key, Lookup, Pinned, ReadError, Store,
    body::Stored,
    cut::{ChunkOf, Stripes},
};
use crate::{
    clock,
    pool::{link::Pace, node::Reservation},
};

/// Chunks of an object that their nodes no longer have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairJob {
    /// A key that named it.
    pub key: Key,
    /// The write that the key named, or the segment in which that lies.
    pub write_id: WriteId,
    /// Indices of the chunks.
    pub missing: Vec<usize>,
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
    /// Repairs, one object at a time, until stopped.
    pub async fn repair_for_ever(
        self: Arc<Self>,
        mut jobs: mpsc::Receiver<RepairJob>,
        stop: CancellationToken,
    ) {
        while let Some(Some(job)) = stop.run_until_cancelled(jobs.recv()).await {
            let begun = Instant::now();
            let repaired = self.repair(&job).await;
            self.repairing.lock().remove(&job.write_id);
            let read_bytes = match repaired {
                Ok((chunks, read_bytes)) => {
                    metrics::counter!("scatterhoard_repaired_chunks_total").increment(chunks);
                    tracing::info!(write_id = %job.write_id, chunks, "repaired");
                    read_bytes
                }
                Err(error) => {
                    tracing::info!(write_id = %job.write_id, %error, "not repaired");
                    0
                }
            };
            let end = begun + self.repair_time(read_bytes);
            let pause = tokio::time::sleep_until(end);
            let _ = stop.run_until_cancelled(pause).await;
        }
    }

    /// How long reading so much for repairs must take.
    fn repair_time(&self, bytes: u64) -> Duration {
        self.settings
            .repair_bytes_per_s
            .map_or(Duration::ZERO, |rate| {
                Duration::from_secs_f64(bytes as f64 / rate.get() as f64)
            })
    }

    /// Makes the missing chunks anew; how many, and how many bytes it took.
    async fn repair(self: &Arc<Self>, job: &RepairJob) -> Result<(u64, u64), RepairError> {
        let Some(pinned) = self.pin_if_named(job) else {
            return Ok((0, 0));
        };
        let (object, layout) = (pinned.object.clone(), pinned.object.layout);
        // until the last chunk is there: deleted before, it would stay
        let _stays = self.again(&pinned);
        let rooms = self.rooms_for(&pinned, &job.missing);
        if rooms.is_empty() {
            return Err(RepairError::NoRoom);
        }
        let stripes = Stripes::new(layout, &self.codec);
        for index in 0..object.chunks() {
            if !rooms.iter().any(|(missing, _)| *missing == index) {
                stripes.stored(index, u32::MAX);
            }
        }
        let taking = async {
            let body = Stored::new(Lookup::There(pinned));
            let taken = self.take_in(&stripes, layout, body).await;
            stripes.break_off();
            taken
        };
        let sending = join_all(rooms.iter().map(|(index, room)| {
            // what it has under this name, if anything, is damaged; freed before
            // the new cells come, since a link keeps its order
            room.node().discard(object.write_id);
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
            Err(Broken::Body(error)) => return Err(RepairError::Read(error)),
            Err(Broken::Write(error)) => return Err(RepairError::Write(error.to_string())),
        }
        let done = sent.iter().filter(|sent| **sent).count() as u64;
        Ok((done, layout.size_bytes()))
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
        let put = self
            .pool
            .put_chunk(node, &descriptor, &chunk, patience, chunk.pace);
        let result = put.await;
        chunk.stripes.stored(chunk.index, u32::MAX);
        if let Err(error) = &result {
            tracing::info!(node = %node.id, %error, "chunk not repaired");
        }
        let mut index = self.index();
        let named = result.is_ok()
            && index.chunk_moved(job.key.as_ref(), job.write_id, chunk.index, node.id);
        drop(index);
        let own = object.node(chunk.index).and_then(|id| self.pool.node(id));
        if named && let Some(own) = own.filter(|own| own.id != node.id) {
            // it may turn up there again
            own.discard(job.write_id);
        }
        if !named && !object.nodes().any(|holder| holder == node.id) {
            node.discard(job.write_id);
        }
        named
    }

    fn pin_if_named(self: &Arc<Self>, job: &RepairJob) -> Option<Pinned> {
        let mut index = self.index();
        let object = match index.segment(job.write_id) {
            Some(segment) => segment.clone(),
            None => {
                let found = index.peek(job.key.as_ref(), clock::unix_ms());
                self.free(&mut index);
                found?.object
            }
        };
        if object.write_id != job.write_id || object.chunks() == 0 {
            return None;
        }
        Some(self.pin_chunks(&mut index, job.key.clone(), object))
    }
}
