//! Nodes come and go while the pool runs. What that means for chunks is the store's
//! business, and who decides it that of `elastic`.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use scatterhoard_wire::{
    Epoch, InvocationId, NodeId, Token,
    invoke::{Invocation, Purpose},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Pool, about,
    link::Link,
    membership::{Change, State},
    node::Node,
    platform::InvokeFailure,
    platform::errors::Cause,
};

/// So many nodes may be added beyond those that there are at the start.
const HEADROOM: usize = 4096;
/// How often it is looked whether an invocation of a node that has gone is over.
const AT_REST_LOOK: Duration = Duration::from_millis(50);

/// Nodes by number. One that was there once keeps its place.
pub(super) struct Seats {
    places: Box<[OnceLock<Arc<Node>>]>,
    taken: AtomicUsize,
    /// Who adds one holds it.
    adding: Mutex<()>,
}

impl Seats {
    pub(super) fn new(nodes: Vec<Arc<Node>>) -> Self {
        let most = (nodes.len() + HEADROOM).min(usize::from(u16::MAX));
        let mut places = Vec::with_capacity(most);
        places.resize_with(most, OnceLock::new);
        let seats = Self {
            places: places.into_boxed_slice(),
            taken: AtomicUsize::new(0),
            adding: Mutex::default(),
        };
        nodes.into_iter().for_each(|node| seats.push(node));
        seats
    }

    /// The next one, whose number says so; others are left out.
    fn push(&self, node: Arc<Node>) {
        let _adding = self.adding.lock();
        let taken = self.taken.load(Ordering::Acquire);
        if usize::from(node.id.0) == taken
            && self.places.get(taken).is_some_and(|p| p.set(node).is_ok())
        {
            self.taken.store(taken + 1, Ordering::Release);
        }
    }

    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Arc<Node>> + Clone {
        let taken = self.taken.load(Ordering::Acquire);
        self.places[..taken].iter().filter_map(OnceLock::get)
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.places.get(usize::from(id.0))?.get()
    }

    pub(super) fn len(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

/// A node that was met, and may be admitted.
pub struct Newcomer(Arc<Node>);

impl Newcomer {
    /// Its number.
    pub fn id(&self) -> NodeId {
        self.0.id
    }
}

impl Pool {
    /// All nodes that ever were, by number.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Arc<Node>> + Clone {
        self.seats.all()
    }

    /// Those that may hold something: active ones, and those that are being emptied.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Node>> + Clone {
        self.nodes().filter(|node| node.state().is_member())
    }

    /// Those that are being emptied.
    pub fn draining(&self) -> impl Iterator<Item = &Arc<Node>> + Clone {
        self.nodes().filter(|node| node.state().is_draining())
    }

    /// Those that take chunks.
    pub fn active(&self) -> impl Iterator<Item = &Arc<Node>> + Clone {
        self.nodes().filter(|node| node.state().takes_chunks())
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.seats.get(id)
    }

    /// The states of all nodes, by number.
    pub fn states(&self) -> Vec<State> {
        self.nodes().map(|node| node.state()).collect()
    }

    /// How many numbers there are for nodes.
    pub fn most_nodes(&self) -> usize {
        self.seats.places.len()
    }

    /// The name of a node's function.
    pub fn function_name(&self, id: NodeId) -> String {
        function_name(&self.settings.function_prefix, id)
    }

    /// Asks a node that is none of the pool how it is, by `end`: whether its function
    /// is there, and how many bytes it takes.
    ///
    /// # Errors
    /// Why its function did not answer.
    pub async fn meet(
        self: &Arc<Self>,
        id: NodeId,
        end: Instant,
    ) -> Result<Newcomer, InvokeFailure> {
        let node = match self.node(id) {
            Some(node) => node.clone(),
            None => self.make_node(id, State::Gone, Instant::now(), Instant::now()),
        };
        // one invocation of a node at a time
        while !node.is_at_rest() {
            if Instant::now() >= end {
                let why = "an earlier invocation of it has not returned";
                return Err(InvokeFailure::refused(Cause::Unreachable, why));
            }
            sleep(AT_REST_LOOK).await;
        }
        node.begin_anew(self.settings.lost_after);
        let epoch = self.ask_how_it_is(&node, end).await?;
        // no reason for this proxy to end: it is none of its nodes
        if epoch.0 > self.epoch.load(Ordering::Acquire) {
            let why = format!("it serves a later proxy, of epoch {epoch}");
            return Err(InvokeFailure::Report(why));
        }
        Ok(Newcomer(node))
    }

    /// It takes chunks from now on; newcomers with new numbers come in their order.
    /// Whether it was admitted.
    pub fn admit(&self, newcomer: Newcomer) -> bool {
        let node = newcomer.0;
        node.left_alone_since(Instant::now());
        if self.node(node.id).is_none() {
            self.seats.push(node.clone());
            self.retirements.lock().grow(self.seats.len());
        }
        let admitted = self.node(node.id).is_some() && self.change(node.id, Change::Join);
        // what an instance of its former time holds takes the room of what is to come
        node.urge_round();
        self.rounds.notify_one();
        admitted
    }

    /// Does something that asks which nodes are of the pool. One that nobody knows is not
    /// configured any more, and was not drained: it is kept.
    pub fn with_those_left<T>(&self, ask: impl FnOnce(&dyn Fn(NodeId) -> bool) -> T) -> T {
        let left = RefCell::new(BTreeSet::new());
        let is_member = |id: NodeId| match self.node(id) {
            Some(node) => node.state().is_member(),
            None if usize::from(id.0) < self.most_nodes() => {
                left.borrow_mut().insert(id);
                true
            }
            None => false,
        };
        let done = ask(&is_member);
        self.keep(&left.into_inner());
        done
    }

    fn keep(&self, nodes: &BTreeSet<NodeId>) {
        let Some(last) = nodes.last() else { return };
        let new = u16::try_from(self.seats.len()).unwrap_or(u16::MAX);
        let now = Instant::now();
        for id in (new..=last.0).map(NodeId) {
            let state = match nodes.contains(&id) {
                true => State::Active,
                false => State::Gone,
            };
            let node = self.make_node(id, state, now, now);
            // nobody has asked it
            node.overdue(now);
            self.seats.push(node);
        }
        self.retirements.lock().grow(self.seats.len());
        let names: Vec<u16> = nodes.iter().map(|id| id.0).collect();
        tracing::warn!(nodes = ?names, "nodes beyond `nodes` hold what is stored: they are used until they are drained, as `nodes` was lowered before; drain them with `scatterhoard pool drain --nodes`, and delete their functions after that");
    }

    /// Tells a node what it may free.
    pub fn tell_garbage(&self, node: &Node, link: &Link) {
        node.tell_garbage(link, self.floor());
    }

    /// Changes the state of a node, if that can be.
    pub fn change(&self, id: NodeId, change: Change) -> bool {
        let before = self.node(id).map(|node| node.state());
        let changed = self.node(id).is_some_and(|node| node.change(change));
        if changed {
            if let (Some(State::Unreached), Change::Drain { .. }, Some(node)) =
                (before, change, self.node(id))
            {
                // whatever instances it has are to be found
                node.begin_anew(self.settings.lost_after);
                node.assume_unknown_instances(Instant::now());
            }
            tracing::info!(node = %id, ?change, "node changes its state");
            self.membership.notify_one();
        }
        changed
    }

    /// Returns when a node's state has changed since the last call, or after `most`.
    pub async fn membership_changed(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.membership.notified()).await;
    }

    /// Invokes a node without a link, which must have no other invocation, by `end`; the
    /// highest epoch that it has met.
    pub(super) async fn ask_how_it_is(
        &self,
        node: &Arc<Node>,
        end: Instant,
    ) -> Result<Epoch, InvokeFailure> {
        let invocation: Invocation =
            self.invocation(node, InvocationId(0), Purpose::Warm, Token(0));
        let call = self.platform.invoke_anyway(&node.function, &invocation);
        let result = timeout_at(end, call).await;
        let report = result.unwrap_or_else(|_| {
            let text = "no answer in time";
            Err(InvokeFailure::refused(Cause::Unreachable, text))
        })?;
        node.met(about(&report));
        Ok(report.highest_epoch)
    }
}

/// The name of a node's function.
pub fn function_name(prefix: &str, id: NodeId) -> String {
    format!("{prefix}-{:03}", id.0)
}
