//! What a read does about chunks that are not where they should be: it has them
//! looked for, if too few are left without them, and repaired in the end.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Failure, ObjectReader, State};
use crate::{
    pool::node::Node,
    store::{Key, RepairJob},
};

/// How often absent instances are looked for while one object is read: as often
/// as it takes to know that one of them is lost, and once more.
const MAX_SEEKS: u32 = 4;

impl ObjectReader {
    /// Too few chunks are left, but of those that are missing some may be on
    /// instances that did not answer: looks for these; whether there were any.
    pub(super) async fn seek(&mut self) -> bool {
        if self.sought == MAX_SEEKS {
            return false;
        }
        self.sought += 1;
        let missing: Vec<usize> = self.failed(Failure::Missing).collect();
        let sought: Vec<(usize, &Arc<Node>)> = missing
            .into_iter()
            .filter_map(|i| Some((i, self.node(i)?)))
            .filter(|(_, node)| node.sought_instances(None) > 0)
            .collect();
        let pool = self.store.pool.clone();
        let deadline = Instant::now() + self.store.settings.patience;
        let rounds = sought
            .iter()
            .map(|(_, node)| pool.await_round(node, deadline));
        join_all(rounds).await;
        let sought: Vec<usize> = sought.into_iter().map(|(i, _)| i).collect();
        let rest = self.gather.rest();
        for &i in &sought {
            let (has_it, chunk) = (self.gather.has(i), &mut self.chunks[i]);
            chunk.state = State::Asked;
            chunk.until = rest.end;
            chunk.confirmed = false;
            chunk.reset(if has_it { rest.start + 1 } else { rest.start });
        }
        self.top_up();
        !sought.is_empty()
    }

    /// All was read: what was found missing on the way is repaired, unless it may
    /// be on an instance that did not answer: then a round finds out.
    pub(super) fn finish(&mut self) {
        let is_lost = |i: &usize| {
            let node = self.node(*i);
            self.chunks[*i].damaged || node.is_none_or(|n| n.sought_instances(None) == 0)
        };
        let missing: Vec<usize> = self.failed(Failure::Missing).filter(is_lost).collect();
        if missing.is_empty() {
            return;
        }
        // copied: a slice would keep the buffer that the key was read with
        let bytes = Bytes::copy_from_slice(&self.pinned.key.bytes);
        let job = RepairJob {
            key: Key {
                db: self.pinned.key.db,
                bytes,
            },
            write_id: self.object.write_id,
            damaged: missing
                .iter()
                .copied()
                .filter(|i| self.chunks[*i].damaged)
                .collect(),
            missing,
        };
        self.store.repairs.add(job, 0);
    }
}
