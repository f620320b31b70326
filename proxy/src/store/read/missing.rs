//! What a read does about chunks that are not where they should be: it has them
//! looked for, if too few are left without them, and repaired in the end.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Failure, ObjectReader, ReadError, State};
use crate::{
    clock,
    pool::node::Node,
    store::{Key, RepairJob},
};

/// How often chunks that are missing are looked for while one object is read: as
/// often as it takes to know that an instance is lost, and for each time once more
/// where a round was made meanwhile.
const MAX_SEEKS: u32 = 8;

impl ObjectReader {
    /// What it means that too few chunks are left and nothing can be done: nothing is
    /// lost that may be on an instance which did not answer so far, or is made anew.
    pub(super) fn verdict(&self, error: ReadError) -> ReadError {
        let ReadError::Lost { missing: failed } = error else {
            return error;
        };
        let mut nodes = self.failed(Failure::Missing).filter_map(|i| self.node(i));
        let is_sought = nodes.any(|node| node.may_turn_up());
        let is_repaired =
            self.repairs_then.is_some() && self.store.repairs.is_at_work(self.object.write_id);
        if is_sought || is_repaired {
            return ReadError::Unavailable { failed };
        }
        error
    }

    /// Too few chunks are left: asks again where what is missing may be by now, or
    /// else looks for it on instances that did not answer; whether there was anything
    /// to do.
    pub(super) async fn seek(&mut self) -> bool {
        let patience = self.store.settings.patience;
        let mut again = self.moved();
        if !again.is_empty() {
            // drains move chunks again and again, each time to where they can be read
            self.sought_since = None;
            self.sought = 0;
            self.ask_again(&again);
            return true;
        }
        let since = *self.sought_since.get_or_insert_with(Instant::now);
        if self.sought == MAX_SEEKS || since.elapsed() > patience * 2 {
            return false;
        }
        self.sought += 1;
        let states: Vec<State> = self.chunks.iter().map(|c| c.state).collect();
        tracing::debug!(write_id = %self.object.write_id, ?states, moved = ?again, "too few chunks");
        let missing: Vec<usize> = self.failed(Failure::Missing).collect();
        let mut elsewhere: Vec<(usize, Arc<Node>)> = Vec::new();
        for i in missing {
            let Some(node) = self.node(i) else { continue };
            if node.rounds_ended() != self.chunks[i].rounds_then {
                // the one that answers has what the other one had
                again.push(i);
            } else if node.may_turn_up() {
                elsewhere.push((i, node.clone()));
            }
        }
        if again.is_empty() && elsewhere.is_empty() {
            return self.repaired().await;
        }
        if again.is_empty() {
            let pool = self.store.pool.clone();
            let deadline = Instant::now() + patience;
            let rounds = elsewhere.iter();
            join_all(rounds.map(|(_, node)| pool.await_round(node, deadline))).await;
            again.extend(elsewhere.iter().map(|(i, _)| *i));
        }
        self.ask_again(&again);
        !again.is_empty()
    }

    /// What is missing may be made anew on the nodes that lost it, at this moment: asks
    /// again if a repair has ended meanwhile.
    async fn repaired(&mut self) -> bool {
        let Some(then) = self.repairs_then else {
            return false;
        };
        let repairs = &self.store.repairs;
        let deadline = Instant::now() + self.store.settings.patience;
        repairs.await_end(self.object.write_id, deadline).await;
        let now = repairs.ended();
        if now == then {
            return false;
        }
        self.repairs_then = Some(now);
        let missing: Vec<usize> = self.failed(Failure::Missing).collect();
        self.ask_again(&missing);
        true
    }

    /// Repairs move chunks: takes over where they are by now. Those that this read
    /// lacks and that are on another node than it thought.
    fn moved(&mut self) -> Vec<usize> {
        let key = self.pinned.key.as_ref();
        // its key may mean something else by now
        let present = self
            .store
            .index()
            .placed(self.object.write_id, key, clock::unix_ms());
        let Some(present) = present else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut self.object, present);
        let has_moved = |i: &usize| {
            self.chunks[*i].is_failed()
                && self.object.node(*i).is_some()
                && self.object.node(*i) != before.node(*i)
        };
        (0..self.chunks.len()).filter(has_moved).collect()
    }

    fn ask_again(&mut self, chunks: &[usize]) {
        let rest = self.gather.rest();
        for &i in chunks {
            let (has_it, chunk) = (self.gather.has(i), &mut self.chunks[i]);
            chunk.state = State::Asked;
            chunk.until = rest.end;
            chunk.confirmed = false;
            chunk.reset(if has_it { rest.start + 1 } else { rest.start });
        }
        self.top_up();
    }

    /// All was read: what was found missing on the way is repaired, unless it may
    /// be on an instance that did not answer: then a round finds out.
    pub(super) fn finish(&mut self) {
        let is_lost = |i: &usize| {
            let node = self.node(*i);
            self.chunks[*i].damaged || node.is_none_or(|n| !n.may_turn_up())
        };
        let mut missing: Vec<usize> = self.failed(Failure::Missing).filter(is_lost).collect();
        if missing.is_empty() {
            return;
        }
        // those are not missing, but on other nodes by now
        let moved = self.moved();
        missing.retain(|i| !moved.contains(i));
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
            leaving: Vec::new(),
        };
        self.store.repairs.add(job, 0);
    }
}
