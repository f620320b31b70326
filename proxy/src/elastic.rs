//! Nodes are added and drained while the proxy serves: by order, or by how full they are.
//!
//! `pool/membership` and `pool/autoscale` decide, `store/drain` moves what drained nodes
//! hold. Here orders are checked, noted in the journal and carried out, one at a time.

pub mod command;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use scatterhoard_wire::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    pool::{
        autoscale::{Autoscale, Settings, Step, View},
        membership::{Change, Refusal, State, last_active, may_drain, next_free},
    },
    store::Store,
};

/// A node that is added must answer within so long.
const MEET_LIMIT: Duration = Duration::from_secs(20);
/// Nodes that are met at a time.
const MEET_AT_ONCE: usize = 16;
/// How often it is looked how full nodes are.
const LOOK: Duration = Duration::from_secs(1);

/// Makes a function of this name, if that is this program's business.
pub type MakeFunction = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Which nodes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// So many: added are those that have gone, then new ones; drained are the last ones.
    Count(usize),
    /// These.
    Nodes(Vec<NodeId>),
}

/// Why an order is not carried out. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ElasticError {
    /// It makes no sense, or would lose something.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The function of a node that is to be added is not there, or does not answer.
    #[error(
        "function {function} does not answer: {why}; it must be there before its node is added"
    )]
    NotMet {
        /// Its name.
        function: String,
        /// What the platform said.
        why: String,
    },
    /// It could not be noted, and would be forgotten.
    #[error("the journal cannot be written: {0}")]
    Journal(String),
}

/// One node, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub node: u16,
    /// Its function.
    pub function: String,
    /// active, draining or gone.
    pub state: String,
    /// What it holds, in bytes, as it last said.
    pub held_bytes: u64,
    /// What it can hold.
    pub budget_bytes: u64,
    /// Of one that drains: chunks that are to be moved.
    pub chunks_left: Option<usize>,
    /// The same in bytes.
    pub bytes_left: Option<u64>,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Nodes that take chunks.
    pub active: usize,
    /// Nodes that are being emptied.
    pub draining: usize,
    /// Bytes on nodes that are of the pool.
    pub held_bytes: u64,
    /// What active nodes can hold.
    pub budget_bytes: u64,
    /// Objects that found no room lately: what drains waits for it.
    pub without_room: u64,
    /// Objects that wait for a repair, or to be moved.
    pub repairs_waiting: usize,
    /// By number.
    pub nodes: Vec<NodeStatus>,
}

/// Who adds and drains nodes.
pub struct Elastic {
    store: Arc<Store>,
    make_function: MakeFunction,
    /// One order at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Elastic {
    /// For the nodes of this store.
    pub fn new(store: Arc<Store>, make_function: MakeFunction) -> Self {
        Self {
            store,
            make_function,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Adds nodes whose functions answer; which. All of them, or none.
    ///
    /// # Errors
    /// See [`ElasticError`].
    pub async fn add(&self, which: Which) -> Result<Vec<NodeId>, ElasticError> {
        let _turn = self.turn.lock().await;
        let pool = self.store.pool();
        let (states, most) = (pool.states(), pool.most_nodes());
        let chosen = match which {
            Which::Count(count) => next_free(&states, count, most)?,
            Which::Nodes(nodes) => free_ones(&states, nodes, most)?,
        };
        let end = Instant::now() + MEET_LIMIT;
        let met = stream::iter(chosen.clone()).map(|id| async move {
            let function = pool.function_name(id);
            let made = (self.make_function)(&function);
            let met = match made {
                Ok(()) => pool.meet(id, end).await.map_err(|e| e.to_string()),
                Err(why) => Err(why),
            };
            met.map_err(|why| ElasticError::NotMet { function, why })
        });
        let mut newcomers = Vec::with_capacity(chosen.len());
        let mut met = met.buffered(MEET_AT_ONCE);
        while let Some(newcomer) = met.next().await {
            newcomers.push(newcomer?);
        }
        let active: Vec<_> = chosen.iter().map(|id| (*id, State::Active)).collect();
        // before anything is put there
        let noted = self.store.note_members(&active);
        noted.map_err(ElasticError::Journal)?;
        for newcomer in newcomers {
            pool.admit(newcomer);
        }
        metrics::counter!("scatterhoard_nodes_added_total").increment(chosen.len() as u64);
        Ok(chosen)
    }

    /// Has nodes emptied, and then left alone; which.
    ///
    /// # Errors
    /// See [`ElasticError`].
    pub async fn drain(&self, which: Which, force: bool) -> Result<Vec<NodeId>, ElasticError> {
        let _turn = self.turn.lock().await;
        let pool = self.store.pool();
        let chosen = match which {
            Which::Count(0) => return Err(Refusal::Nothing.into()),
            Which::Count(count) => last_active(&pool.states(), count),
            Which::Nodes(mut nodes) => {
                nodes.sort_unstable();
                nodes.dedup();
                nodes
            }
        };
        let need = self.store.settings().geometry.full.total();
        may_drain(&self.store.loads(&chosen).await, &chosen, need, force)?;
        for node in chosen.iter().filter_map(|id| pool.node(*id)) {
            let changed = self.store.change_node(node, Change::Drain { force });
            changed.map_err(ElasticError::Journal)?;
        }
        Ok(chosen)
    }

    /// Keeps nodes that were to go, these or all; which.
    ///
    /// # Errors
    /// See [`ElasticError`].
    pub async fn cancel(&self, nodes: Option<Vec<NodeId>>) -> Result<Vec<NodeId>, ElasticError> {
        let _turn = self.turn.lock().await;
        let pool = self.store.pool();
        let chosen = nodes.unwrap_or_else(|| pool.draining().map(|node| node.id).collect());
        let mut kept = Vec::with_capacity(chosen.len());
        for id in chosen {
            let node = pool.node(id).ok_or(Refusal::Unknown(id))?;
            let changed = self.store.change_node(node, Change::Cancel);
            if changed.map_err(ElasticError::Journal)? {
                kept.push(id);
            } else {
                let state = node.state().name();
                return Err(Refusal::State { node: id, state }.into());
            }
        }
        Ok(kept)
    }

    /// How all nodes are.
    pub fn status(&self) -> Status {
        let (drains, without_room) = self.store.drains();
        let pool = self.store.pool();
        let node = |view: crate::pool::node::NodeView| {
            let drain = drains.get(&view.id);
            let held = view.held.filter(|_| view.state.is_member());
            NodeStatus {
                node: view.id.0,
                function: view.function,
                state: view.state.name().to_owned(),
                held_bytes: held.map_or(0, |held| held.bytes),
                budget_bytes: held.map_or(0, |held| held.budget_bytes),
                chunks_left: drain.map(|drain| drain.chunks),
                bytes_left: drain.map(|drain| drain.bytes),
            }
        };
        let view = self.view();
        Status {
            active: view.active,
            draining: view.draining,
            held_bytes: view.used_bytes,
            budget_bytes: view.budget_bytes,
            without_room,
            repairs_waiting: self.store.repairs_waiting(),
            nodes: pool.nodes().map(|n| node(n.view())).collect(),
        }
    }

    fn view(&self) -> View {
        let mut view = View::default();
        for node in self.store.pool().members().map(|node| node.view()) {
            let held = node.held;
            view.used_bytes += held.map_or(0, |held| held.bytes);
            if node.state.takes_chunks() {
                view.active += 1;
                view.unknown += usize::from(held.is_none());
                view.budget_bytes += held.map_or(0, |held| held.budget_bytes);
            } else {
                view.draining += 1;
            }
        }
        view
    }

    /// Adds nodes when they are full, and drains some when they are not, until stopped.
    pub async fn scale_for_ever(self: Arc<Self>, settings: Settings, stop: CancellationToken) {
        let mut scale = Autoscale::new(settings, Instant::now());
        let mut tick = interval(LOOK);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let Some(step) = scale.decide(&self.view(), Instant::now()) else {
                continue;
            };
            let work = async {
                match step {
                    Step::Grow(count) => self.add(Which::Count(count)).await,
                    Step::Shrink(count) => self.drain(Which::Count(count), false).await,
                }
            };
            match stop.run_until_cancelled(work).await {
                Some(Ok(nodes)) => tracing::info!(?step, ?nodes, "pool changes its size"),
                Some(Err(error)) => tracing::warn!(?step, %error, "pool keeps its size"),
                None => {}
            }
        }
    }
}

/// These nodes, in order, if they have gone or are the next ones that there can be.
fn free_ones(
    states: &[State],
    mut nodes: Vec<NodeId>,
    most: usize,
) -> Result<Vec<NodeId>, Refusal> {
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.is_empty() {
        return Err(Refusal::Nothing);
    }
    let mut next = states.len();
    for id in &nodes {
        match states.get(usize::from(id.0)) {
            Some(State::Gone) => {}
            Some(state) => {
                let (node, state) = (*id, state.name());
                return Err(Refusal::State { node, state });
            }
            None if usize::from(id.0) == next && next < most => next += 1,
            None => return Err(Refusal::Unknown(*id)),
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_are_named_must_have_gone_or_be_the_next() {
        let states = [State::Active, State::Gone, State::Draining { force: false }];
        let free = |ids: &[u16]| free_ones(&states, ids.iter().copied().map(NodeId).collect(), 5);
        assert_eq!(free(&[3, 1, 3]), Ok(vec![NodeId(1), NodeId(3)]));
        assert_eq!(free(&[4]), Err(Refusal::Unknown(NodeId(4))));
        assert_eq!(free(&[3, 4, 5]), Err(Refusal::Unknown(NodeId(5))));
        let taken = |id, state| {
            Err(Refusal::State {
                node: NodeId(id),
                state,
            })
        };
        assert_eq!(free(&[0]), taken(0, "active"));
        assert_eq!(free(&[2]), taken(2, "draining"));
        assert_eq!(free(&[]), Err(Refusal::Nothing));
    }
}
