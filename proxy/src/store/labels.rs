//! What nodes are told of values besides their chunks, so that an index can be made
//! anew (`recover = inventory`): what is committed, soon after, as far as their links
//! are open; in rounds what they lack of that.

use std::sync::Arc;

use scatterhoard_node::random::{HashMap, HashSet};
use scatterhoard_wire::{NodeId, WriteId, checksum, message::Message};

use super::{Recover, Store};
use crate::{
    journal::label,
    keyspace::{Change, KeyRef, Keyspace, Object, StockCursor},
    pool::{NodeError, link::Link, rounds::Round},
};

/// Slots that are looked at under one hold of the index's lock.
const BATCH: usize = 512;

impl Store {
    /// Whether nodes are told what values are called.
    pub(super) fn gives_labels(&self) -> bool {
        self.settings.recover == Recover::Inventory
    }

    /// Tells nodes that are awake what has changed in the index, which is locked.
    pub(super) fn tell_labels(&self, index: &Keyspace) {
        index.changes(|change| {
            if let Change::Named(key, object, expires_unix_ms, _) = change {
                self.tell_label(index, key, object, expires_unix_ms);
            }
        });
    }

    fn tell_label(&self, index: &Keyspace, key: KeyRef<'_>, object: &Object, at: Option<u64>) {
        let Some(label) = label::of(key, object, at) else {
            return;
        };
        let message = Message::Label(label);
        let nodes = index
            .holder(object)
            .nodes()
            .filter_map(|id| self.pool.node(id));
        nodes.for_each(|node| node.give_label(&message));
    }

    /// Gives both instances of a round the labels that they lack.
    pub(super) async fn bring_labels(&self, round: &Round) -> Result<(), NodeError> {
        let links = [Some(&round.main), round.second.as_ref().map(|s| &s.link)];
        for link in links.into_iter().flatten() {
            self.bring_labels_to(round.node.id, link).await?;
        }
        Ok(())
    }

    async fn bring_labels_to(&self, node: NodeId, link: &Arc<Link>) -> Result<(), NodeError> {
        let patience = self.settings.patience;
        let has = self.pool.label_sums_on(link, patience).await?;
        let has: HashMap<WriteId, u32> = has.into_iter().collect();
        let wanted = self.label_sums(node).await;
        let lacking = wanted.iter().filter(|(id, sum)| has.get(id) != Some(sum));
        let lacking: HashSet<WriteId> = lacking.map(|(id, _)| *id).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let stale: Vec<WriteId> = lacking
            .iter()
            .filter(|id| has.contains_key(id))
            .copied()
            .collect();
        self.pool.unlabel_on(link, &stale);
        let mut cursor = Some(StockCursor::default());
        while let Some(at) = cursor {
            let mut told = false;
            cursor = self
                .index()
                .values_on(node, at, BATCH, |source, key, object, expires| {
                    if lacking.contains(&source.write_id)
                        && let Some(label) = label::of(key, object, expires)
                    {
                        // under the index's lock, so that none comes behind a later one
                        told |= link.post(&Message::Label(label));
                    }
                });
            if told {
                self.pool.is_there(link, patience).await?;
            } else {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// For each object of which a node holds chunks the sum of its labels' checksums.
    async fn label_sums(&self, node: NodeId) -> HashMap<WriteId, u32> {
        let mut sums: HashMap<WriteId, u32> = HashMap::default();
        let mut cursor = Some(StockCursor::default());
        while let Some(at) = cursor {
            cursor = self
                .index()
                .values_on(node, at, BATCH, |source, key, object, expires| {
                    if let Some(label) = label::of(key, object, expires) {
                        let sum = sums.entry(source.write_id).or_default();
                        *sum = sum.wrapping_add(checksum::label(label.id, &label.text));
                    }
                });
            tokio::task::yield_now().await;
        }
        sums
    }
}
