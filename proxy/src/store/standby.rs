//! Rounds, from the index's point of view: what should be on a node is brought
//! onto both of its instances, what should not be there is freed, and what
//! neither has is repaired.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use scatterhoard_node::random::HashSet;
use scatterhoard_wire::{ChunkDescriptor, ChunkId, NodeId, WriteId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Key, RepairJob, Store};
use crate::{
    keyspace::{Expected, StockCursor},
    pool::{
        NodeError,
        link::Link,
        node::Node,
        retire::Goes,
        rounds::{CopyError, Round},
    },
};

/// Rounds at a time: two links and a few windows of cells each.
pub const ROUNDS_AT_ONCE: usize = 8;
/// Chunks of a round that travel at a time.
const COPIES_AT_ONCE: usize = 2;
/// How often it is looked whether a round is due.
pub const LOOK: Duration = Duration::from_millis(250);
/// Slots that are looked at under one hold of the index's lock.
const STOCK_BATCH: usize = 4096;
/// Losses that are noted under one.
const LOST_BATCH: usize = 256;

/// What a round came upon.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    copied: u64,
    copied_bytes: u64,
    garbage: usize,
    lost: usize,
    /// Chunks that the one that serves has no room for.
    left_out: usize,
    /// Chunks that only the second one has, and that may yet be named.
    unsettled: usize,
    /// Those of them whose writes were not over when the round began.
    under_way: usize,
}

impl Store {
    /// Makes the rounds that are due, until stopped.
    pub async fn make_rounds(self: Arc<Self>, stop: CancellationToken) {
        let mut rounds = JoinSet::new();
        while !stop.is_cancelled() {
            let room = ROUNDS_AT_ONCE - rounds.len();
            for node in self.pool.due_rounds(room) {
                rounds.spawn(self.clone().round(node));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(_) = rounds.join_next(), if !rounds.is_empty() => {}
                () = self.pool.round_may_be_due(LOOK) => {}
            }
        }
        // each of them lets go of its instances when it is dropped
        rounds.shutdown().await;
    }

    async fn round(self: Arc<Self>, node: Arc<Node>) {
        let id = node.id;
        let mut round = match self.pool.open_round(node, self.settings.patience).await {
            Ok(round) => round,
            Err(error) => {
                tracing::info!(node = %id, %error, "no round");
                return;
            }
        };
        let mut brought = self.bring_together(&round).await;
        if self.gives_labels() && brought.is_ok() {
            brought = self.bring_labels(&round).await.and(brought);
        }
        match brought {
            Ok(tally) => {
                metrics::counter!("scatterhoard_backup_chunks_total").increment(tally.copied);
                metrics::counter!("scatterhoard_backup_bytes_total").increment(tally.copied_bytes);
                tracing::debug!(node = %id, ?tally, second = round.second.is_some(), "round");
                if tally.left_out > 0 || tally.under_way > 0 {
                    return round.done(false);
                }
                match self.hand_over(&mut round, tally.unsettled > 0).await {
                    Ok(true) => round.done_with_second(),
                    Ok(false) => round.done(true),
                    Err(error) => tracing::info!(node = %id, %error, "no hand-over"),
                }
            }
            Err(error) => tracing::info!(node = %id, %error, "round broken off"),
        }
    }

    async fn bring_together(&self, round: &Round) -> Result<Tally, NodeError> {
        let patience = self.settings.patience;
        // before anything is listed: what is stored and named later is no loss, and
        // what is begun later is no garbage
        let began = self.newest_write_id();
        let under_way = self.under_way.lock().clone();
        let expected = self.expected_on(round.node.id).await;
        let on_main = self.pool.list_on(&round.main, patience).await?;
        let on_second = match &round.second {
            Some(second) => self.pool.list_on(&second.link, patience).await?,
            None => Vec::new(),
        };
        let mut tally = Tally::default();
        let named: HashSet<WriteId> = expected.iter().map(|e| e.chunk.id.write_id).collect();
        let suspects = |chunks: &[ChunkDescriptor]| {
            let ids = chunks.iter().map(|c| c.id.write_id);
            let suspects = ids.filter(|id| *id <= began && !named.contains(id));
            suspects.collect::<HashSet<WriteId>>()
        };
        let garbage = self.garbage_among(suspects(&on_main)).await;
        tally.garbage = garbage.len();
        if !garbage.is_empty() {
            garbage.into_iter().for_each(|id| round.node.discard(id));
            // until it has: what is copied to it needs the room
            self.pool.purge_main(round, patience).await?;
        }
        let (main, second) = (ids(&on_main), ids(&on_second));
        let missing = |e: &&Expected| !main.contains(&e.chunk.id);
        let lost = expected
            .iter()
            .filter(missing)
            .filter(|e| !second.contains(&e.chunk.id));
        let lost: Vec<Expected> = lost.copied().collect();
        tally.lost = lost.len();
        self.note_lost(round, &lost).await;
        let Some(other) = &round.second else {
            return Ok(tally);
        };
        let garbage = self.garbage_among(suspects(&on_second)).await;
        self.pool.free_on(&other.link, &garbage);
        let is_settled = |id: &WriteId| named.contains(id) || garbage.contains(id);
        let elsewhere = on_second.iter().filter(|c| !main.contains(&c.id));
        let elsewhere: Vec<WriteId> = elsewhere.map(|c| c.id.write_id).collect();
        let unsettled = elsewhere.iter().filter(|id| !is_settled(id));
        tally.unsettled = unsettled.clone().count();
        // as soon as a key names them, the one that serves lacks them
        let may_be_named = |id: &&WriteId| **id > began || under_way.contains(*id);
        tally.under_way = unsettled.filter(may_be_named).count();
        let there = |e: &&Expected| second.contains(&e.chunk.id);
        let to_main = expected.iter().filter(missing).filter(there);
        self.copy(round, &other.link, &round.main, to_main, &mut tally)
            .await?;
        let to_second = expected
            .iter()
            .filter(|e| main.contains(&e.chunk.id) && !second.contains(&e.chunk.id));
        self.copy(round, &round.main, &other.link, to_second, &mut tally)
            .await?;
        Ok(tally)
    }

    /// Whether the second instance may go for good, and should: of the two the one
    /// whose time it is.
    async fn hand_over(&self, round: &mut Round, is_unsettled: bool) -> Result<bool, NodeError> {
        let patience = self.settings.patience;
        match self.pool.retirement(round) {
            None => Ok(false),
            Some(Goes::Second) if is_unsettled => Ok(false),
            Some(Goes::Second) => {
                // what it was given may have died since
                self.pool.is_there(&round.main, patience).await?;
                Ok(true)
            }
            Some(Goes::Main) => {
                self.pool.swap(round, patience).await?;
                self.drain_second(round).await?;
                Ok(true)
            }
        }
    }

    /// Copies all that only the second instance has: also what no key names yet.
    async fn drain_second(&self, round: &Round) -> Result<(), NodeError> {
        let patience = self.settings.patience;
        let second = round.second.as_ref().ok_or(NodeError::Interrupted)?;
        // sealed: nothing is added to it any more
        let on_second = self.pool.list_on(&second.link, patience).await?;
        let on_main = ids(&self.pool.list_on(&round.main, patience).await?);
        for chunk in on_second.iter().filter(|c| !on_main.contains(&c.id)) {
            let bytes = chunk.layout.accounted_bytes();
            self.backup_rate.take(bytes).await;
            let _room = round.node.reserve(bytes).ok_or(NodeError::Interrupted)?;
            let copy = self
                .pool
                .copy_chunk(&second.link, &round.main, chunk, patience);
            copy.await.map_err(|_| NodeError::Interrupted)?;
        }
        Ok(())
    }

    /// Copies chunks in this order, as fast as backups may.
    async fn copy(
        &self,
        round: &Round,
        from: &Arc<Link>,
        to: &Arc<Link>,
        chunks: impl Iterator<Item = &Expected>,
        tally: &mut Tally,
    ) -> Result<(), NodeError> {
        let to_main = Arc::ptr_eq(to, &round.main);
        let copy = |expected: &Expected| {
            let expected = *expected;
            async move {
                let bytes = expected.chunk.layout.accounted_bytes();
                self.backup_rate.take(bytes).await;
                // that may have taken its time
                if self.index().key_of(&expected).is_none() {
                    return (expected, None);
                }
                // others store on it at the same time
                let room = to_main.then(|| round.node.reserve(bytes));
                if room.as_ref().is_some_and(Option::is_none) {
                    return (expected, Some(Err(CopyError::Full)));
                }
                let patience = self.settings.patience;
                let copy = self.pool.copy_chunk(from, to, &expected.chunk, patience);
                (expected, Some(copy.await))
            }
        };
        let jobs: Vec<_> = chunks.map(copy).collect();
        let mut copies = stream::iter(jobs).buffered(COPIES_AT_ONCE);
        while let Some((expected, result)) = copies.next().await {
            match result {
                None => {}
                Some(Ok(())) => {
                    tally.copied += 1;
                    tally.copied_bytes += expected.chunk.layout.accounted_bytes();
                }
                Some(Err(CopyError::Interrupted)) => return Err(NodeError::Interrupted),
                Some(Err(CopyError::Full)) if to_main => {
                    // others may have room for it
                    tally.left_out += 1;
                    self.note_lost(round, &[expected]).await;
                }
                Some(Err(CopyError::Full)) => {
                    tracing::info!(node = %round.node.id, "no room for all of the backup");
                    return Ok(());
                }
                Some(Err(CopyError::Unsound)) => {
                    tracing::warn!(node = %round.node.id, chunk = ?expected.chunk.id, "chunk is not sound");
                    self.note_lost(round, &[expected]).await;
                }
            }
        }
        Ok(())
    }

    /// What a node should hold, the lately used first.
    async fn expected_on(&self, node: NodeId) -> Vec<Expected> {
        let (mut expected, mut cursor) = (Vec::new(), Some(StockCursor::default()));
        while let Some(at) = cursor {
            cursor = self
                .index()
                .expected_on(node, at, STOCK_BATCH, &mut expected);
            if cursor.is_some() {
                tokio::task::yield_now().await;
            }
        }
        expected.sort_unstable_by_key(|e| e.idleness);
        expected
    }

    /// Those of the write ids, all of them begun some time ago, that no key names
    /// and no reader holds. What is neither under way nor named never will be.
    pub(super) async fn garbage_among(&self, mut suspects: HashSet<WriteId>) -> Vec<WriteId> {
        {
            let under_way = self.under_way.lock();
            suspects.retain(|id| !under_way.contains(id));
        }
        let mut cursor = Some(StockCursor::default());
        while let Some(at) = cursor
            && !suspects.is_empty()
        {
            cursor = self.index().unsuspect(at, STOCK_BATCH, &mut suspects);
            if cursor.is_some() {
                tokio::task::yield_now().await;
            }
        }
        if suspects.is_empty() {
            return Vec::new();
        }
        let index = self.index();
        if index.has_changed() {
            // the journal, which cannot be written, may name them still
            return Vec::new();
        }
        suspects.retain(|id| !index.is_held(*id));
        suspects.into_iter().collect()
    }

    /// Chunks that neither instance has are made anew, unless there may be yet
    /// another that has them: the next round finds it, or gives it up.
    async fn note_lost(&self, round: &Round, lost: &[Expected]) {
        let second = round.second.as_ref().map(|s| s.instance);
        if lost.is_empty() || round.node.sought_instances(second) > 0 {
            return;
        }
        tracing::info!(node = %round.node.id, chunks = lost.len(), "chunks are lost");
        for batch in lost.chunks(LOST_BATCH) {
            self.note_batch(batch);
            tokio::task::yield_now().await;
        }
    }

    fn note_batch(&self, lost: &[Expected]) {
        let index = self.index();
        for expected in lost {
            let Some((key, write_id)) = index.key_of(expected) else {
                continue;
            };
            let key = Key {
                db: key.db,
                bytes: Bytes::copy_from_slice(key.key),
            };
            let job = RepairJob {
                key,
                write_id,
                missing: vec![usize::from(expected.chunk.id.index)],
                damaged: Vec::new(),
            };
            self.repairs.add(job, expected.idleness);
        }
    }
}

fn ids(chunks: &[ChunkDescriptor]) -> HashSet<ChunkId> {
    chunks.iter().map(|c| c.id).collect()
}
