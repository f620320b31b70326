//! What the store does on its own: expire keys, and forget those that are lost.
//! (For repairs see `repair`, for rounds `standby`.)

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Pinned, Store};
use crate::clock;

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

    /// Ends a read that found its object lost: the key goes, so that it can be
    /// written anew and does not pretend to exist.
    /// While an instance is absent that may hold a chunk, the key stays: it is a
    /// miss for now.
    pub fn forget_lost(self: &Arc<Self>, pinned: &Pinned) {
        let mut index = self.index();
        // its chunks may have been moved since
        let (source, key) = (&pinned.source, pinned.key.as_ref());
        let present = index.placed(source.write_id, key, clock::unix_ms());
        let lost = present.unwrap_or(source.clone());
        let nodes = lost.nodes().filter_map(|id| self.pool.node(id));
        if nodes.map(|node| node.absent_instances()).sum::<usize>() > 0 {
            return;
        }
        let mut gone = 0;
        for member in index.members(lost.write_id) {
            // what the hot tier has is not lost
            if !index.has_value(member.key(), member.object.write_id) {
                gone += u64::from(index.lose(member.key(), member.object.write_id));
            }
        }
        if !index.has_value(pinned.key.as_ref(), pinned.object.write_id) {
            gone += u64::from(index.lose(pinned.key.as_ref(), pinned.object.write_id));
        }
        metrics::counter!("scatterhoard_lost_objects_total").increment(gone);
        tracing::warn!(write_id = %lost.write_id, bytes = lost.size_bytes(), keys = gone, "object lost");
        self.free(&mut index);
    }
}
