//! Nodes are added and drained while the proxy serves: by order, or by how full they are.
//!
//! `pool/membership` and `pool/autoscale` decide, `store/drain` moves what drained nodes
//! hold. Here orders are checked, noted in the journal and carried out, one at a time.

pub mod command;
mod reluctant;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use scatterhoard_wire::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    pool::{
        Newcomer,
        autoscale::{Autoscale, Settings, Step, View},
        membership::{Change, Refusal, State, free, last_active, may_drain},
    },
    store::{Store, drain::Unchanged},
};
use reluctant::Reluctant;

/// A node that is added must answer within so long.
const MEET_LIMIT: Duration = Duration::from_secs(20);
/// All that are added with it: who asks for it waits for so long.
const ADD_LIMIT: Duration = Duration::from_secs(45);
/// Nodes that are met at a time.
const MEET_AT_ONCE: usize = 16;
/// How often it is looked how full nodes are.
const LOOK: Duration = Duration::from_secs(1);

/// Makes a function of this name, if that is this program's business.
pub type MakeFunction = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Which nodes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// So many: added are those that have gone, then new ones, and of the former those
    /// that answer; drained are the last ones.
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
    /// Functions of nodes that are to be added are not there, or do not answer.
    #[error("{}; functions must be there before their nodes are added", in_words(.0))]
    NotMet(Vec<Skipped>),
    /// It could not be noted, and would be forgotten.
    #[error("the journal cannot be written: {0}")]
    Journal(String),
}

/// A node that was not added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its number.
    pub node: u16,
    /// Its function.
    pub function: String,
    /// What the platform said.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "function {} does not answer: {}",
            self.function, self.why
        )
    }
}

fn in_words(skipped: &[Skipped]) -> String {
    let words: Vec<String> = skipped.iter().map(Skipped::to_string).collect();
    words.join("; ")
}

/// Nodes that were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// These.
    pub nodes: Vec<NodeId>,
    /// Not these, whose turn it was: they did not answer.
    pub skipped: Vec<Skipped>,
}

/// One node, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub node: u16,
    /// Its function.
    pub function: String,
    /// active, draining, gone, or unreached: gone, but it may hold what it held.
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
    reluctant: Mutex<Reluctant>,
    /// Drained by order, so that only an order adds them: their code may be updated, or
    /// their functions deleted.
    put_away: Mutex<BTreeSet<NodeId>>,
}

impl Elastic {
    /// For the nodes of this store.
    pub fn new(store: Arc<Store>, make_function: MakeFunction) -> Self {
        Self {
            store,
            make_function,
            turn: tokio::sync::Mutex::default(),
            reluctant: Mutex::default(),
            put_away: Mutex::default(),
        }
    }

    /// Adds nodes whose functions answer; which. All of them, or none.
    ///
    /// # Errors
    /// See [`ElasticError`].
    pub async fn add(&self, which: Which) -> Result<Added, ElasticError> {
        let _turn = self.turn.lock().await;
        self.add_in_turn(which, false).await
    }

    /// `spares`: leaves out those that did not answer lately, or were drained by order.
    async fn add_in_turn(&self, which: Which, spares: bool) -> Result<Added, ElasticError> {
        let pool = self.store.pool();
        let (states, most) = (pool.states(), pool.most_nodes());
        let (newcomers, skipped) = match which {
            Which::Count(0) => return Err(Refusal::Nothing.into()),
            Which::Count(count) => self.meet_some(&states, count, most, spares).await?,
            Which::Nodes(nodes) => {
                let nodes = free_ones(&states, nodes, most)?;
                let (newcomers, failed) = self.meet(nodes, Instant::now() + MEET_LIMIT).await;
                if !failed.is_empty() {
                    return Err(ElasticError::NotMet(failed));
                }
                (newcomers, failed)
            }
        };
        let nodes: Vec<NodeId> = newcomers.iter().map(Newcomer::id).collect();
        let active: Vec<_> = nodes.iter().map(|id| (*id, State::Active)).collect();
        // before anything is put there
        let noted = self.store.note_members(&active);
        noted.map_err(ElasticError::Journal)?;
        let mut put_away = self.put_away.lock();
        for newcomer in newcomers {
            put_away.remove(&newcomer.id());
            pool.admit(newcomer);
        }
        drop(put_away);
        metrics::counter!("scatterhoard_nodes_added_total").increment(nodes.len() as u64);
        Ok(Added { nodes, skipped })
    }

    /// Meets so many nodes, going on with the next ones for those that have gone and do
    /// not answer. A new one cannot be left out: numbers follow each other.
    async fn meet_some(
        &self,
        states: &[State],
        count: usize,
        most: usize,
        spares: bool,
    ) -> Result<(Vec<Newcomer>, Vec<Skipped>), ElasticError> {
        let end = Instant::now() + ADD_LIMIT;
        let is_new = |node: u16| usize::from(node) >= states.len();
        let all: Vec<NodeId> = {
            let (reluctant, put_away) = (self.reluctant.lock(), self.put_away.lock());
            let now = Instant::now();
            let may_come =
                |id: &NodeId| !spares || reluctant.may_be_asked(*id, now) && !put_away.contains(id);
            let (gone, new): (Vec<_>, Vec<_>) = free(states, most).partition(|id| !is_new(id.0));
            let gone = gone.into_iter().filter(may_come);
            gone.chain(new.into_iter().take_while(may_come)).collect()
        };
        if all.len() < count {
            return Err(Refusal::TooMany { most }.into());
        }
        let (mut candidates, mut met, mut skipped) = (all.into_iter(), Vec::new(), Vec::new());
        while met.len() < count {
            let group: Vec<_> = candidates.by_ref().take(count - met.len()).collect();
            let is_over = group.is_empty() || Instant::now() >= end;
            if is_over || skipped.iter().any(|s: &Skipped| is_new(s.node)) {
                return Err(ElasticError::NotMet(skipped));
            }
            let (newcomers, failed) = self.meet(group, end.min(Instant::now() + MEET_LIMIT)).await;
            met.extend(newcomers);
            skipped.extend(failed);
        }
        Ok((met, skipped))
    }

    /// Those of the nodes that answer by `end`, in their order, and those that do not.
    async fn meet(&self, nodes: Vec<NodeId>, end: Instant) -> (Vec<Newcomer>, Vec<Skipped>) {
        let pool = self.store.pool();
        let met = stream::iter(nodes).map(|id| async move {
            let function = pool.function_name(id);
            let met = match (self.make_function)(&function) {
                Ok(()) => pool.meet(id, end).await.map_err(|e| e.advice()),
                Err(why) => Err(why),
            };
            let is_met = met.is_ok();
            let mut reluctant = self.reluctant.lock();
            reluctant.was_asked(id, is_met, Instant::now());
            let node = id.0;
            met.map_err(|why| Skipped {
                node,
                function,
                why,
            })
        });
        let (mut newcomers, mut failed) = (Vec::new(), Vec::new());
        let mut met = met.buffered(MEET_AT_ONCE);
        while let Some(met) = met.next().await {
            match met {
                Ok(newcomer) => newcomers.push(newcomer),
                Err(skipped) => failed.push(skipped),
            }
        }
        (newcomers, failed)
    }

    /// Has nodes emptied, and then left alone; which.
    ///
    /// # Errors
    /// See [`ElasticError`].
    pub async fn drain(&self, which: Which, force: bool) -> Result<Vec<NodeId>, ElasticError> {
        let _turn = self.turn.lock().await;
        let drained = self.drain_in_turn(which, force).await?;
        self.put_away.lock().extend(&drained);
        Ok(drained)
    }

    async fn drain_in_turn(&self, which: Which, force: bool) -> Result<Vec<NodeId>, ElasticError> {
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
        let nodes: Vec<_> = chosen.iter().filter_map(|id| pool.node(*id)).collect();
        self.store.change_nodes(&nodes, Change::Drain { force })?;
        Ok(chosen)
    }

    /// Keeps nodes that were to go, these or all; which. All of them, or none.
    ///
    /// # Errors
    /// See [`ElasticError`].
    pub async fn cancel(&self, nodes: Option<Vec<NodeId>>) -> Result<Vec<NodeId>, ElasticError> {
        let _turn = self.turn.lock().await;
        let pool = self.store.pool();
        let Some(mut chosen) = nodes else {
            loop {
                let nodes: Vec<_> = pool.draining().collect();
                match self.store.change_nodes(&nodes, Change::Cancel) {
                    // it went in this moment: fewer are left
                    Err(Unchanged::State(..)) => {}
                    Err(error) => return Err(error.into()),
                    Ok(()) => return Ok(nodes.into_iter().map(|node| node.id).collect()),
                }
            }
        };
        chosen.sort_unstable();
        chosen.dedup();
        let node = |id: &NodeId| pool.node(*id).ok_or(Refusal::Unknown(*id));
        let nodes = chosen.iter().map(node).collect::<Result<Vec<_>, _>>()?;
        self.store.change_nodes(&nodes, Change::Cancel)?;
        Ok(chosen)
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

    async fn grow(&self, count: usize) -> Result<Vec<NodeId>, ElasticError> {
        let _turn = self.turn.lock().await;
        let added = self.add_in_turn(Which::Count(count), true).await?;
        for skipped in &added.skipped {
            tracing::warn!(%skipped, "another node is added in its place");
        }
        Ok(added.nodes)
    }

    async fn shrink(&self, count: usize) -> Result<Vec<NodeId>, ElasticError> {
        let _turn = self.turn.lock().await;
        self.drain_in_turn(Which::Count(count), false).await
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
                    Step::Grow(count) => self.grow(count).await,
                    Step::Shrink(count) => self.shrink(count).await,
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

impl From<Unchanged> for ElasticError {
    fn from(why: Unchanged) -> Self {
        match why {
            Unchanged::State(node, state) => {
                let state = state.name();
                Refusal::State { node, state }.into()
            }
            Unchanged::Journal(why) => Self::Journal(why),
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
            Some(state) if !state.is_member() => {}
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
