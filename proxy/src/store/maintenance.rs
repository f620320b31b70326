//! What the store does on its own: expire, and clear out what an instance that
//! had been absent brings back. (For repairs see `repair`.)

use std::{sync::Arc, time::Duration};

use scatterhoard_wire::WriteId;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Pinned, Store};
use crate::{
    clock,
    pool::{PoolEvent, node::Node},
};

const EXPIRE_EVERY: Duration = Duration::from_millis(100);
/// Keys removed under one hold of the index's lock.
const EXPIRE_BATCH: usize = 500;

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
        let mut index = self.index();
        let removed = index.expire(clock::unix_ms(), EXPIRE_BATCH);
        self.free(&mut index);
        removed
    }

    /// Looks after the pool's events, until stopped.
    pub async fn attend(
        self: Arc<Self>,
        mut events: mpsc::Receiver<PoolEvent>,
        stop: CancellationToken,
    ) {
        if !self.is_empty() {
            // a predecessor's journal: what it does not name is garbage
            for node in self.pool.nodes() {
                if stop
                    .run_until_cancelled(self.clear_out(node))
                    .await
                    .is_none()
                {
                    return;
                }
            }
        }
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
            let index = self.index();
            let (live, under_way) = (index.live_write_ids(), self.under_way.lock());
            garbage.retain(|id| !live.contains(id) && !under_way.contains(id));
        }
        tracing::info!(node = %node.id, chunks = chunks.len(), garbage = garbage.len(), "took stock");
        if garbage.is_empty() {
            return;
        }
        garbage.into_iter().for_each(|id| node.discard(id));
        // now, while it is awake: nobody may ask it for long
        if let Err(error) = self.pool.purge(node, self.settings.patience).await {
            tracing::info!(node = %node.id, %error, "node not purged");
        }
    }

    /// Ends a read that found its object lost: the key goes, so that it can be
    /// written anew and does not pretend to exist.
    /// While an instance is absent that may hold a chunk, the key stays: it is a
    /// miss for now.
    pub fn forget_lost(self: &Arc<Self>, pinned: &Pinned) {
        if self.doubtful_until.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let lost = &pinned.source;
        let nodes = lost.nodes().filter_map(|id| self.pool.node(id));
        if nodes.map(|node| node.absent_instances()).sum::<usize>() > 0 {
            return;
        }
        let mut index = self.index();
        let mut gone = 0;
        for member in index.members(lost.write_id) {
            // what the hot tier has is not lost
            if !self.hot.lock().has(member.object.write_id) {
                gone += u64::from(index.remove_if(member.key(), member.object.write_id));
            }
        }
        gone += u64::from(index.remove_if(pinned.key.as_ref(), pinned.object.write_id));
        metrics::counter!("scatterhoard_lost_objects_total").increment(gone);
        tracing::warn!(write_id = %lost.write_id, bytes = lost.size_bytes(), keys = gone, "object lost");
        self.free(&mut index);
    }
}
