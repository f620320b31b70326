//! An index made anew from what nodes hold (`recover = inventory`), before anything
//! is served: both instances of each node are awake at the same time, as in a round,
//! and list chunks and labels. Nothing is freed before that is over.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::{ROUNDS_AT_ONCE, Store};
use crate::{
    clock,
    journal::label,
    keyspace::{
        StockCursor,
        inventory::{Findings, Inventory},
    },
    pool::{NodeError, node::Node, rounds::Round},
};

/// What a start goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Recover {
    /// The journal alone; without one the cache begins empty.
    #[default]
    Journal,
    /// Where there is no journal, what nodes say they hold.
    Inventory,
}

/// A start waits so long for nodes at most, and then goes on with what it has.
const LIMIT: Duration = Duration::from_secs(30);
/// Memory for what is found.
const ROOM_BYTES: usize = 1 << 30;
/// How often it is looked whether a node can be asked again.
const RETRY: Duration = Duration::from_millis(100);
/// Slots that are written to the journal at once.
const JOURNAL_BATCH: usize = 4096;

impl Store {
    /// Fills the index, which is empty, with what nodes hold. The pool must have been
    /// started, and rounds must not.
    pub async fn take_inventory(self: &Arc<Self>) {
        let (began, nodes) = (Instant::now(), self.pool.nodes().count());
        let inventory = Mutex::new(Inventory::new(nodes, ROOM_BYTES));
        let visits: Vec<_> = self
            .pool
            .nodes()
            .map(|n| self.visit(n, &inventory, began + LIMIT))
            .collect();
        let visits = stream::iter(visits).buffer_unordered(ROUNDS_AT_ONCE);
        let met: Vec<bool> = visits.collect().await;
        let met = met.into_iter().filter(|met| *met).count();
        let now = clock::unix_ms();
        let findings = inventory.into_inner().settle(now);
        let Findings {
            bytes,
            expired,
            doubtful,
            left_out,
            ..
        } = findings;
        tracing::info!(keys = findings.keys.len(), bytes, expired, doubtful, left_out, nodes = met, took = ?began.elapsed(), "index made anew from what nodes hold");
        if met < nodes {
            tracing::warn!(
                nodes = nodes - met,
                "nodes did not say what they hold: what only they have is lost"
            );
        }
        for (node, write_id) in &findings.strays {
            if let Some(node) = self.pool.node(*node) {
                node.discard(*write_id);
            }
        }
        self.index().take_in(findings, now);
        let mut cursor = Some(StockCursor::default());
        while let Some(at) = cursor {
            cursor = self.index().note_all(at, JOURNAL_BATCH);
            tokio::task::yield_now().await;
        }
    }

    /// Lists a node, again and again until it is done; whether it is in time.
    async fn visit(&self, node: &Arc<Node>, inventory: &Mutex<Inventory>, end: Instant) -> bool {
        // the first one met may be a new one, beside that which holds the data
        node.assume_unknown_instances(Instant::now());
        while Instant::now() < end {
            if !self.pool.begin_round(node) {
                sleep(RETRY).await;
                continue;
            }
            // not to be given up half-way: it must be let go in good order
            let round = match self
                .pool
                .open_round(node.clone(), self.settings.patience)
                .await
            {
                Ok(round) => round,
                Err(error) => {
                    tracing::info!(node = %node.id, %error, "node not reached");
                    continue;
                }
            };
            match timeout_at(end, self.list(&round, inventory)).await {
                Ok(Ok(())) => {
                    round.done(false);
                    return true;
                }
                Ok(Err(error)) => tracing::info!(node = %node.id, %error, "node not listed"),
                Err(_) => return false,
            }
        }
        false
    }

    async fn list(&self, round: &Round, inventory: &Mutex<Inventory>) -> Result<(), NodeError> {
        let (patience, node) = (self.settings.patience, round.node.id);
        let links = [Some(&round.main), round.second.as_ref().map(|s| &s.link)];
        for link in links.into_iter().flatten() {
            let chunks = self.pool.list_on(link, patience).await?;
            {
                let mut found = inventory.lock();
                chunks.iter().for_each(|chunk| found.chunk(node, chunk));
            }
            let take = |labels: Vec<_>| {
                let mut found = inventory.lock();
                for (key, entry) in labels.iter().filter_map(label::read) {
                    found.label(key, entry.object, entry.expires_unix_ms);
                }
            };
            self.pool.list_labels_on(link, patience, take).await?;
        }
        Ok(())
    }
}
