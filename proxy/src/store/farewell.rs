//! The end of a drain: what the instances of a node hold, and nothing names any more, is
//! dropped in a round, so that it never comes back (`recover = inventory`). It is known
//! of each instance, for it was asked what it holds after that; one that cannot be
//! reached is not waited for without end, but said.

use std::{sync::Arc, time::Duration};

use scatterhoard_wire::NodeId;
use tokio::time::timeout;

use super::Store;
use crate::pool::{NodeError, membership::Change, node::Node, rounds::Round};

/// For so long the instances of a node are looked for that nothing names any more. What a
/// predecessor left may be busy for 15 s, and is given up after three rounds without it.
const LIMIT: Duration = Duration::from_secs(60);

impl Store {
    /// Nothing names the node, or will by this order: it goes when its instances hold
    /// nothing, or after some time.
    pub(super) fn let_go(&self, node: &Arc<Node>, order: u64) {
        let mut nodes = self.drains.nodes.lock();
        // it may have been kept, and be to go again
        let Some(progress) = nodes.get(&node.id).filter(|p| p.order == order) else {
            return;
        };
        let Some(since) = progress.bare_since else {
            return;
        };
        let emptied = &progress.emptied;
        let change = if node.is_deleted() || !emptied.is_empty() && !node.has_others_than(emptied) {
            Change::Emptied
        } else if since.elapsed() >= LIMIT {
            Change::GivenUp
        } else {
            drop(nodes);
            self.pool.have_round(node);
            return;
        };
        if let Err(why) = self.note_changes(&[node], change) {
            tracing::info!(node = %node.id, ?why, "node is empty, but stays for now");
            return;
        }
        nodes.remove(&node.id);
        metrics::counter!("scatterhoard_nodes_drained_total").increment(1);
        let (id, function) = (node.id, &node.function);
        if change == Change::Emptied {
            tracing::info!(node = %id, function, "node is empty, and not used any more");
        } else {
            tracing::warn!(node = %id, function, "node is not used any more, but an instance of it was not reached, and may hold what it held: delete its function before a start with recover = inventory, or drain it once more");
        }
    }

    /// If nothing names the round's node any more: has its instances drop all that they
    /// hold; whether they have.
    pub(super) async fn bid_farewell(&self, round: &Round) -> Result<bool, NodeError> {
        let (id, patience) = (round.node.id, self.settings.patience);
        let is_bare = |id: &NodeId| {
            let nodes = self.drains.nodes.lock();
            nodes.get(id).is_some_and(|p| p.bare_since.is_some())
        };
        if !is_bare(&id) {
            return Ok(false);
        }
        // a machine that dies must not bring back an index that names what was dropped
        if let Some(journal) = self.journal.as_ref().filter(|j| j.is_forced())
            && timeout(patience, journal.on_disk()).await.is_err()
        {
            return Err(NodeError::Deadline);
        }
        let (order, instances) = {
            // under this lock it may be kept after all: what is put there then comes behind
            let nodes = self.drains.nodes.lock();
            let progress = nodes.get(&id).filter(|p| p.bare_since.is_some());
            let Some(progress) = progress.filter(|_| round.node.state().is_draining()) else {
                return Ok(false);
            };
            let instances = self.pool.drop_all(round).ok_or(NodeError::Interrupted)?;
            (progress.order, instances)
        };
        let second = round.second.as_ref().map(|second| &second.link);
        for link in [Some(&round.main), second].into_iter().flatten() {
            // behind that, since a link keeps its order
            if !self.pool.list_on(link, patience).await?.is_empty() {
                return Err(NodeError::Interrupted);
            }
        }
        self.drains.note(id, order, |progress| {
            let is_new = |id: &_| !progress.emptied.contains(id);
            let new: Vec<_> = instances.into_iter().filter(is_new).collect();
            if progress.bare_since.is_some() {
                progress.emptied.extend(new);
            }
        });
        Ok(true)
    }
}
