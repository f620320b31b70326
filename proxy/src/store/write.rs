//! Writing an object: room on different nodes, cells to each of them, and the
//! rule of how many must have it. The index is not touched here.

use std::sync::Arc;

use futures_util::{StreamExt, TryFutureExt, stream::FuturesUnordered};
use scatterhoard_wire::{Layout, NodeId, WriteId, geometry::GeometryError};

use super::{
    Store,
    body::{Body, InMemory},
    cut::{ChunkOf, NOT_WANTED, Stripes},
    written::{Attempt, Cargo, Written},
};
use crate::{
    admission::Permit,
    backing::BackingError,
    codec::CodecError,
    keyspace::{Kind, Object, eviction::freeing},
    pool::{
        link::Pace,
        node::Reservation,
        placement::{self, Candidate, PlacementError},
        requests::PutError,
    },
    value::Value,
};

/// Why a value was not written. Nothing of it can be seen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// Larger than any object may be.
    #[error(transparent)]
    Size(#[from] GeometryError),
    /// The pool is full and the policy lets nothing be evicted.
    #[error("the pool is full and nothing can be evicted")]
    Full,
    /// A chunk would not even fit an empty node.
    #[error("object of {size_bytes} bytes is too large for the nodes of this pool")]
    TooLarge {
        /// Length of the value.
        size_bytes: u64,
    },
    /// Too few nodes can be reached.
    #[error("too few nodes: {0}")]
    Nodes(PlacementError),
    /// Too few nodes took their chunk.
    #[error("write quorum not reached: {stored} of {need} chunks stored ({why})")]
    Quorum {
        /// Chunks that were stored.
        stored: usize,
        /// Chunks that an acknowledgement needs.
        need: usize,
        /// The last reason why one was not.
        why: String,
    },
    /// A later proxy owns the nodes.
    #[error("a later proxy owns the nodes")]
    Superseded,
    /// The proxy ends.
    #[error("the proxy is stopping")]
    Stopping,
    /// On nodes, but not where it must be besides.
    #[error("{0}")]
    NotBacked(BackingError),
    /// Our own mistake.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Why a value that arrives was not written.
#[derive(Debug)]
pub enum Broken<E> {
    /// Nodes or room are lacking; what is left of the body was not taken.
    Write(WriteError),
    /// Its bytes do not come.
    Body(E),
}

impl<E> From<WriteError> for Broken<E> {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// A write has so many bytes in memory at most, or one stripe. What nodes have
/// already is kept within that, in case one asks again.
const KEEP_BYTES: u64 = 32 << 20;
/// Attempts to find room before a write fails.
const ROOM_ATTEMPTS: usize = 8;
/// Times that nodes are told of garbage for one of them: each may take as long as a node that
/// does not answer is waited for.
const PURGES: usize = 4;
/// Other nodes that a chunk is offered to when its own does not take it.
const SUBSTITUTES: usize = 2;

/// One chunk's way to a node.
struct Sent {
    index: usize,
    node: NodeId,
    tries: usize,
    result: Result<(), PutError>,
}

impl Store {
    /// Makes a value ready to be committed under a new write id. Returns when
    /// every node that can be reached has its chunk, and at least d + 1 have;
    /// with `ack = proxy`, for a small value, when it may be held in memory.
    pub async fn write(self: &Arc<Self>, value: Value) -> Result<Written, WriteError> {
        let layout = self.settings.geometry.layout(value.len())?;
        self.write_as(self.next_write_id(), layout, value).await
    }

    /// The same under a write id that was taken before.
    pub(super) async fn write_as(
        self: &Arc<Self>,
        write_id: WriteId,
        layout: Layout,
        value: Value,
    ) -> Result<Written, WriteError> {
        let value = match self.is_held(layout) {
            true => match self.behind.admit(value, self.settings.patience).await {
                Ok(ticket) => {
                    // nothing of it goes to nodes before a key names it
                    let attempt = Attempt::idle(self, write_id);
                    let object = Arc::new(Object::unplaced(write_id, layout));
                    return Ok(Written {
                        attempt,
                        object: Some(object),
                        cargo: Cargo::Dirty(ticket),
                        kind: Kind::String,
                        upload: None,
                    });
                }
                Err(value) => value,
            },
            false => value,
        };
        self.write_placed(write_id, layout, value).await
    }

    /// Like [`Self::write`], but never behind the reply: for commands that write
    /// several values, which must not wait for room that only they can give back.
    pub async fn write_through(self: &Arc<Self>, value: Value) -> Result<Written, WriteError> {
        let layout = self.settings.geometry.layout(value.len())?;
        self.write_placed(self.next_write_id(), layout, value).await
    }

    /// Like [`Self::write_through`], while the value arrives: in memory that
    /// does not depend on its length.
    pub async fn write_from<B: Body>(
        self: &Arc<Self>,
        size_bytes: u64,
        body: B,
    ) -> Result<Written, Broken<B::Error>> {
        let layout = self.settings.geometry.layout(size_bytes);
        let layout = layout.map_err(WriteError::from)?;
        let mut attempt = Attempt::new(self, self.next_write_id());
        let placement = self.store_chunks(&mut attempt, layout, body, Pace::AtOnce);
        let placement = placement.await?;
        let mut written = Written::on_nodes(attempt, layout, placement);
        written.attempt.backed = self.backing.is_some();
        if let Some(object) = &written.object {
            // read back: in memory that does not depend on its length either
            self.back_stored(object).await?;
        }
        Ok(written)
    }

    /// Puts a value on nodes, with others if it is small and others are under
    /// way, and keeps it for the hot tier.
    pub(super) async fn write_placed(
        self: &Arc<Self>,
        write_id: WriteId,
        layout: Layout,
        value: Value,
    ) -> Result<Written, WriteError> {
        let alone = match self.packer.take_turn(&value) {
            Some(turn) => turn,
            None => return self.write_packed(write_id, layout, value).await,
        };
        let mut written = self
            .write_chunks(write_id, layout, &value, Pace::AtOnce)
            .await?;
        drop(alone);
        written.keep(value, &self.settings);
        Ok(written)
    }

    /// Puts a value on nodes.
    pub(super) async fn write_chunks(
        self: &Arc<Self>,
        write_id: WriteId,
        layout: Layout,
        value: &Value,
        pace: Pace,
    ) -> Result<Written, WriteError> {
        let mut attempt = Attempt::new(self, write_id);
        let placement = if layout.stripes() == 0 {
            Vec::new()
        } else {
            attempt.backed = self.backing.is_some();
            let body = InMemory::new(value);
            let placement = self.store_chunks(&mut attempt, layout, body, pace);
            let placement = placement.map_err(|broken| match broken {
                Broken::Write(error) => error,
                Broken::Body(never) => match never {},
            });
            let backed = self.back_value(write_id, value);
            let (placement, ()) = futures_util::future::try_join(placement, backed).await?;
            placement
        };
        let written = Written::on_nodes(attempt, layout, placement);
        if let Some(object) = written.object.as_ref().filter(|o| o.chunks() > 0) {
            self.back_later(object, Some(value)).await?;
        }
        Ok(written)
    }

    /// Takes the body in and sends it out, side by side.
    async fn store_chunks<B: Body>(
        self: &Arc<Self>,
        attempt: &mut Attempt,
        layout: Layout,
        body: B,
        pace: Pace,
    ) -> Result<Vec<Option<NodeId>>, Broken<B::Error>> {
        let stripes = Stripes::new(attempt.write_id, layout, &self.codec);
        let taking = async {
            let taken = self.take_in(&stripes, layout, body).await;
            if taken.is_err() {
                stripes.break_off();
            }
            taken
        };
        let sending = async {
            // room is made, perhaps at others' cost, for bodies that do come
            let _came = stripes.cell(0, layout.geometry().total() - 1).await;
            let rooms = self.find_room(&layout).await?;
            // from here on dropping the attempt cleans up on all of them
            attempt.nodes.extend(rooms.iter().map(|r| r.node().id));
            let sent = self.send_out(attempt, &stripes, layout, rooms, pace);
            sent.await.map_err(Broken::from)
        };
        let ((), placed) = futures_util::future::try_join(taking, sending).await?;
        Ok(placed)
    }

    /// Cuts the body into stripes, as fast as memory is granted.
    pub(super) async fn take_in<B: Body>(
        &self,
        stripes: &Stripes<'_>,
        layout: Layout,
        mut body: B,
    ) -> Result<(), Broken<B::Error>> {
        for stripe in 0..layout.stripes() {
            stripes.room(KEEP_BYTES).await;
            stripes.begin(match body.is_metered() {
                true => self.memory_for(stripes, stripe).await,
                false => Permit::default(),
            });
            for chunk in 0..layout.geometry().data() {
                let range = layout.data_range(stripe, chunk);
                let len = (range.end - range.start) as usize;
                let cell = body.next(len, layout.cell_len(stripe)).await;
                let cell = cell.map_err(Broken::Body)?;
                stripes.push(cell).map_err(WriteError::from)?;
            }
        }
        Ok(())
    }

    async fn memory_for(&self, stripes: &Stripes<'_>, stripe: u32) -> Permit {
        let bytes = stripes.stripe_bytes(stripe);
        // half of all memory stays free for what is urgent
        if let Some(memory) = self.memory.try_grant_spare(bytes) {
            return memory;
        }
        stripes.economise();
        self.memory.grant(bytes).await
    }

    /// Sends every chunk to its node. Returns when all that can be reached have
    /// theirs, or as soon as too few are left.
    async fn send_out(
        self: &Arc<Self>,
        attempt: &mut Attempt,
        stripes: &Stripes<'_>,
        layout: Layout,
        rooms: Vec<Reservation>,
        pace: Pace,
    ) -> Result<Vec<Option<NodeId>>, WriteError> {
        let (total, need) = (layout.geometry().total(), quorum(&layout));
        let plan = Object::new(attempt.write_id, layout, vec![None; total]);
        let send = |index, room, tries| self.send_chunk(stripes, &plan, pace, index, room, tries);
        // nothing is kept for chunks that have no node
        (rooms.len()..total).for_each(|index| stripes.stored(index, NOT_WANTED));
        let mut sending: FuturesUnordered<_> = rooms
            .into_iter()
            .enumerate()
            .map(|(index, room)| send(index, room, 0))
            .collect();
        let mut placed = vec![None; total];
        let mut why = String::from("too few nodes are reachable");
        while let Some(sent) = sending.next().await {
            match sent.result {
                Ok(()) => placed[sent.index] = Some(sent.node),
                Err(PutError::StaleEpoch) => return Err(WriteError::Superseded),
                Err(error) => {
                    tracing::info!(node = %sent.node, %error, "chunk not stored");
                    why = error.to_string();
                    // another node needs it from the start
                    if sent.tries < SUBSTITUTES
                        && stripes.is_whole()
                        && let Some(room) = self.substitute(&layout, &attempt.nodes)
                    {
                        attempt.nodes.push(room.node().id);
                        stripes.stored(sent.index, 0);
                        sending.push(send(sent.index, room, sent.tries + 1));
                    } else {
                        stripes.stored(sent.index, NOT_WANTED);
                    }
                }
            }
            let stored = placed.iter().flatten().count();
            if stored + sending.len() < need {
                return Err(WriteError::Quorum { stored, need, why });
            }
        }
        // nodes that were tried, but are not named: free what they may have
        let named: Vec<NodeId> = placed.iter().flatten().copied().collect();
        let tried = attempt.nodes.iter().filter(|n| !named.contains(n));
        for node in tried.filter_map(|id| self.pool.node(*id)) {
            node.discard(attempt.write_id);
        }
        attempt.nodes = named;
        Ok(placed)
    }

    async fn send_chunk(
        self: &Arc<Self>,
        stripes: &Stripes<'_>,
        plan: &Object,
        pace: Pace,
        index: usize,
        room: Reservation,
        tries: usize,
    ) -> Sent {
        let chunk = ChunkOf {
            stripes,
            plan,
            room: &room,
            index,
            pace,
        };
        let descriptor = chunk.plan.descriptor(chunk.index);
        let (patience, pace) = (self.settings.patience, chunk.pace);
        let result = self
            .pool
            .put_chunk(room.node(), &descriptor, &chunk, patience, pace)
            .await;
        Sent {
            index: chunk.index,
            node: room.node().id,
            tries,
            result,
        }
    }

    /// Reserves room for one chunk on each of d + p different nodes, or on as
    /// many as can be reached. Evicts if need be.
    async fn find_room(self: &Arc<Self>, layout: &Layout) -> Result<Vec<Reservation>, WriteError> {
        let (want, need) = (layout.geometry().total(), quorum(layout));
        let bytes = layout.accounted_bytes();
        let mut barren = Vec::new();
        for _ in 0..ROOM_ATTEMPTS {
            let candidates = self.pool.candidates();
            match placement::place(&candidates, want, need, bytes, &mut self.rng()) {
                Ok(nodes) => {
                    let reserve = |id: &NodeId| self.pool.node(*id)?.reserve(bytes);
                    let rooms: Option<Vec<Reservation>> = nodes.iter().map(reserve).collect();
                    // none if another write was faster: look again
                    if let Some(rooms) = rooms {
                        return Ok(rooms);
                    }
                }
                Err(error @ PlacementError::TooFewNodes { .. }) => {
                    return Err(WriteError::Nodes(error));
                }
                Err(PlacementError::NoRoom { .. }) => {
                    self.make_room(want, bytes, layout.size_bytes(), &mut barren)
                        .await?;
                }
            }
        }
        Err(WriteError::Full)
    }

    /// Frees `bytes` on as many nodes as a write needs. `barren`: nodes on which that
    /// came to nothing, since another instance has what they should hold: others are
    /// taken instead, as long as there are enough.
    async fn make_room(
        self: &Arc<Self>,
        want: usize,
        bytes: u64,
        size_bytes: u64,
        barren: &mut Vec<NodeId>,
    ) -> Result<(), WriteError> {
        let _one_at_a_time = self.evicting.lock().await;
        let budgets = self
            .pool
            .active()
            .filter_map(|n| n.view().held)
            .map(|h| h.budget_bytes);
        if budgets.max().is_none_or(|largest| largest < bytes) {
            return Err(WriteError::TooLarge { size_bytes });
        }
        // what is garbage already comes first
        let lacking = self
            .lacking_still(|| self.shortfall(want, bytes, barren))
            .await;
        if lacking.is_empty() {
            return Ok(());
        }
        let evicted = {
            let mut index = self.index();
            let evicted = index.evict(self.settings.eviction, &mut self.rng(), freeing(&lacking));
            self.free(&mut index);
            evicted
        };
        if evicted == 0 {
            return Err(WriteError::Full);
        }
        metrics::counter!("scatterhoard_evicted_objects_total").increment(evicted as u64);
        self.purge(&lacking).await;
        let after = self.pool.candidates();
        let lacks = |id: NodeId| after.iter().any(|c| c.node == id && c.free_bytes < bytes);
        barren.extend(lacking.iter().map(|(id, _)| *id).filter(|id| lacks(*id)));
        Ok(())
    }

    /// What lacks on the nodes that lack the least, none of them barren; if that leaves
    /// too few, all are tried again.
    fn shortfall(&self, want: usize, bytes: u64, barren: &mut Vec<NodeId>) -> Vec<(NodeId, u64)> {
        let all = self.pool.candidates();
        let fertile = all.iter().filter(|c| !barren.contains(&c.node));
        let fertile: Vec<Candidate> = fertile.copied().collect();
        if fertile.iter().filter(|c| c.reachable).count() >= want {
            return placement::shortfall(&fertile, want, bytes);
        }
        barren.clear();
        placement::shortfall(&all, want, bytes)
    }

    /// Purges the nodes that lack room, until only such lack it as were purged: meanwhile
    /// others take room, and nodes lack it then on which there may be nothing but garbage.
    /// What lacks on them.
    pub(super) async fn lacking_still(
        self: &Arc<Self>,
        mut shortfall: impl FnMut() -> Vec<(NodeId, u64)>,
    ) -> Vec<(NodeId, u64)> {
        let mut purged = Vec::new();
        for _ in 0..PURGES {
            let lacking = shortfall();
            let others = lacking.iter().filter(|(id, _)| !purged.contains(id));
            let others: Vec<(NodeId, u64)> = others.copied().collect();
            if others.is_empty() {
                return lacking;
            }
            self.purge(&others).await;
            purged.extend(others.iter().map(|(id, _)| *id));
        }
        shortfall()
    }

    pub(super) async fn purge(self: &Arc<Self>, nodes: &[(NodeId, u64)]) {
        let purge = |(id, _): &(NodeId, u64)| {
            let node = self.pool.node(*id).cloned();
            async move {
                let Some(node) = node else { return };
                if let Err(error) = self.pool.purge(&node, self.settings.patience).await {
                    tracing::info!(node = %node.id, %error, "node not purged");
                }
            }
        };
        futures_util::future::join_all(nodes.iter().map(purge)).await;
    }

    /// Room for a chunk on a node that is not among `taken`.
    pub(super) fn substitute(&self, layout: &Layout, taken: &[NodeId]) -> Option<Reservation> {
        let bytes = layout.accounted_bytes();
        let mut candidates = self.pool.candidates();
        candidates.retain(|c| !taken.contains(&c.node));
        let chosen = placement::place(&candidates, 1, 1, bytes, &mut self.rng()).ok()?;
        self.pool.node(*chosen.first()?)?.reserve(bytes)
    }
}

/// Chunks that an acknowledgement needs: one more than reading does, so that
/// the next loss does not take the object.
fn quorum(layout: &Layout) -> usize {
    let geometry = layout.geometry();
    (geometry.data() + 1).min(geometry.total())
}
