//! Rounds, from the index's point of view: what should be on a node is brought
//! onto both of its instances, what should not be there is freed, and what
//! neither has is repaired.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use scatterhoard_node::random::HashSet;
use scatterhoard_wire::{ChunkDescriptor, ChunkId, NodeId, WriteId};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Key, RepairJob, Store, handover::HandOver};
use crate::{
    keyspace::{Elsewhere, Expected, Keyspace, StockCursor},
    pool::{
        NodeError,
        link::Link,
        node::Node,
        retire::Unsettled,
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
    unsettled: Unsettled,
    /// What is lost may be on an instance that is still at work for a dead proxy.
    is_early: bool,
    /// The second instance holds nothing.
    is_second_empty: bool,
}

/// What an instance holds and need not.
#[derive(Default)]
pub(super) struct Strays {
    /// No key names them.
    garbage: Vec<WriteId>,
    /// Their chunks should be on other nodes.
    moved: Vec<Elsewhere>,
    all: HashSet<WriteId>,
}

impl Strays {
    /// Whether all that the instance holds of this write goes.
    pub(super) fn contains(&self, id: &WriteId) -> bool {
        self.all.contains(id)
    }
}

impl Store {
    /// Makes the rounds that are due, until stopped.
    pub async fn make_rounds(self: Arc<Self>, stop: CancellationToken) {
        let mut rounds = JoinSet::new();
        while !stop.is_cancelled() {
            while rounds.try_join_next().is_some() {}
            let room = ROUNDS_AT_ONCE - rounds.len();
            let due = self.pool.due_rounds(room);
            let may_be_more = due.len() == room;
            for node in due {
                rounds.spawn(self.clone().round(node));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(_) = rounds.join_next(), if may_be_more && !rounds.is_empty() => {}
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
        match self.bid_farewell(&round).await {
            Ok(false) => {}
            Ok(true) => return round.done_with_all(),
            Err(error) => {
                tracing::info!(node = %id, %error, "instances are not known to be empty");
                return;
            }
        }
        let mut brought = self.bring_together(&round).await;
        if self.gives_labels() && brought.is_ok() {
            brought = self.bring_labels(&round).await.and(brought);
        }
        match brought {
            Ok(tally) => {
                metrics::counter!("scatterhoard_backup_chunks_total").increment(tally.copied);
                metrics::counter!("scatterhoard_backup_bytes_total").increment(tally.copied_bytes);
                tracing::debug!(node = %id, ?tally, second = round.second.is_some(), "round");
                let is_merged = tally.unsettled.is_merged();
                if tally.is_early {
                    return round.done_early(is_merged, tally.is_second_empty);
                }
                match self.hand_over(&mut round, tally.unsettled).await {
                    HandOver::Done => round.done_with_second(),
                    HandOver::None => round.done(is_merged),
                    // what only the one that served has is brought soon
                    HandOver::BrokenOff => {}
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
        let is_put_under_way = round.node.is_put_under_way();
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
        // what is not whole or not named yet was counted before this round, and is for the next
        let may_be_named = |id: &WriteId| *id > began || under_way.contains(id);
        let is_later = |id: &WriteId| !named.contains(id) && may_be_named(id);
        // on either: those that the other instance took are lacking here once they are named
        let mut on_both = on_main.iter().chain(&on_second);
        if is_put_under_way || on_both.any(|c| is_later(&c.id.write_id)) {
            round.node.owe_backup();
        }
        tally.garbage = self.discard_from(round, suspects(&on_main)).await?;
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
        tally.is_early = !lost.is_empty() && round.node.is_inherited(Instant::now());
        tally.is_second_empty = on_second.is_empty();
        if tally.is_early && tally.is_second_empty {
            // filled, it would be one more that may be met in place of who has them
            return Ok(tally);
        }
        let strays = self.strays_among(round, suspects(&on_second)).await;
        tally.garbage += strays.all.len();
        // a repair that brings a moved one back brings it to the one that serves
        let all: Vec<WriteId> = strays.all.iter().copied().collect();
        self.pool.free_on(&other.link, &all);
        let is_settled = |id: &WriteId| named.contains(id) || strays.contains(id);
        let elsewhere = on_second.iter().filter(|c| !main.contains(&c.id));
        let elsewhere: Vec<WriteId> = elsewhere.map(|c| c.id.write_id).collect();
        let unsettled = elsewhere.iter().filter(|id| !is_settled(id));
        tally.unsettled.in_use = unsettled.clone().count();
        // as soon as a key names them, the one that serves lacks them
        tally.unsettled.under_way = unsettled.filter(|id| may_be_named(id)).count();
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
                let room = to_main.then(|| round.node.reserve_own(bytes));
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
                Some(Err(CopyError::Interrupted)) => {
                    self.drop_half(round, to, &expected);
                    return Err(NodeError::Interrupted);
                }
                Some(Err(CopyError::Full)) if to_main => {
                    // others may have room for it
                    tally.unsettled.left_out += 1;
                    self.note_lost(round, &[expected]).await;
                }
                Some(Err(CopyError::Full)) => {
                    tally.unsettled.not_backed_up += 1;
                    tracing::info!(node = %round.node.id, "no room for all of the backup");
                    return Ok(());
                }
                Some(Err(CopyError::Unsound)) => {
                    // what goes meanwhile is freed while it is copied
                    let is_named = self.drop_half(round, to, &expected);
                    if is_named {
                        tracing::warn!(node = %round.node.id, chunk = ?expected.chunk.id, "chunk is not sound");
                        self.note_lost(round, &[expected]).await;
                    }
                }
            }
        }
        Ok(())
    }

    /// Frees what came of a chunk before its copying failed: an instance does not list
    /// it, so nobody would. The one that serves keeps it while a key names it, for that
    /// is repaired. Whether one does.
    pub(super) fn drop_half(&self, round: &Round, to: &Arc<Link>, expected: &Expected) -> bool {
        let id = expected.chunk.id.write_id;
        let index = self.index();
        let is_named = index.key_of(expected).is_some();
        let is_wanted = is_named || index.is_held(id);
        drop(index);
        if !Arc::ptr_eq(to, &round.main) {
            self.pool.free_on(to, &[id]);
        } else if !is_wanted {
            round.node.discard(id);
        }
        is_named
    }

    /// Has the instance that serves free those of the write ids that are garbage, or
    /// whose chunks should be elsewhere, and waits until it has: what is copied to it
    /// needs the room. How many.
    pub(super) async fn discard_from(
        &self,
        round: &Round,
        suspects: HashSet<WriteId>,
    ) -> Result<usize, NodeError> {
        let node = &round.node;
        let strays = self.strays_among(round, suspects).await;
        strays.garbage.iter().for_each(|id| node.discard(*id));
        let mut count = strays.garbage.len();
        if !strays.moved.is_empty() {
            let index = self.index();
            // a repair that brings one back pins it, under this lock, before it
            // sends: then this is told before that
            let moved = strays.moved.iter();
            let moved = moved.filter(|e| !index.has_changed() && index.is_elsewhere(node.id, e));
            moved.for_each(|e| {
                node.discard(e.write_id);
                count += 1;
            });
        }
        if count > 0 {
            self.pool.purge_main(round, self.settings.patience).await?;
        }
        Ok(count)
    }

    /// Those of the write ids, all of them begun some time ago, of which the node need
    /// not hold anything.
    pub(super) async fn strays_among(
        &self,
        round: &Round,
        mut suspects: HashSet<WriteId>,
    ) -> Strays {
        let garbage = self.garbage_among(suspects.clone()).await;
        let mut all: HashSet<WriteId> = garbage.iter().copied().collect();
        suspects.retain(|id| !all.contains(id));
        let moved = self.elsewhere_among(round.node.id, suspects).await;
        all.extend(moved.iter().map(|e| e.write_id));
        Strays {
            garbage,
            moved,
            all,
        }
    }

    /// Those of the write ids that are named, but have no chunk that should be on this
    /// node, and that nobody reads or repairs.
    async fn elsewhere_among(&self, node: NodeId, suspects: HashSet<WriteId>) -> Vec<Elsewhere> {
        let (mut found, mut cursor) = (Vec::new(), Some(StockCursor::default()));
        while let Some(at) = cursor
            && !suspects.is_empty()
        {
            cursor = self
                .index()
                .elsewhere(node, at, STOCK_BATCH, &suspects, &mut found);
            if cursor.is_some() {
                tokio::task::yield_now().await;
            }
        }
        if found.is_empty() {
            return found;
        }
        let under_way = self.under_way.lock().clone();
        let index = self.index();
        if index.has_changed() {
            // the journal, which cannot be written, may say that they are here
            return Vec::new();
        }
        // a repair may have brought one back since it was found
        found.retain(|e| !under_way.contains(&e.write_id) && index.is_elsewhere(node, e));
        found
    }

    /// What a node should hold, the lately used first.
    pub(super) async fn expected_on(&self, node: NodeId) -> Vec<Expected> {
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
    pub(super) async fn note_lost(&self, round: &Round, lost: &[Expected]) {
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
            if let Some(mut job) = job_for(&index, expected) {
                job.missing.push(usize::from(expected.chunk.id.index));
                self.repairs.add(job, expected.idleness);
            }
        }
    }
}

/// A repair of nothing yet, if a key names the chunk still.
pub(super) fn job_for(index: &Keyspace, expected: &Expected) -> Option<RepairJob> {
    let (key, write_id) = index.key_of(expected)?;
    let key = Key {
        db: key.db,
        bytes: Bytes::copy_from_slice(key.key),
    };
    Some(RepairJob::of(key, write_id))
}

pub(super) fn ids(chunks: &[ChunkDescriptor]) -> HashSet<ChunkId> {
    chunks.iter().map(|c| c.id).collect()
}
