//! Reading an object, or a range of it, from any d of its chunks.
//!
//! Data chunks are asked first; parity steps in at once for what is known to be
//! missing or may well be, and after a delay for what is late. Each request is for a window of
//! cells, so nodes may come and go while a slow client reads. Every cell is
//! checked before anybody sees it, and handed on as soon as its turn comes.
//! Memory is bounded by the window.

mod hedging;
mod missing;
mod through;

use std::{future::Future, ops::Range, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use rand::Rng;
use scatterhoard_node::random;
use scatterhoard_wire::message::Refusal;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Pinned, Store,
    ahead::Ahead,
    chunks::{Chunk, Failure, State, index_of},
    gather::Gather,
};
use crate::{
    backing::BackingError,
    codec::CodecError,
    keyspace::Object,
    pool::{
        NodeError,
        link::{Answer, Asker, Call, Tagged},
        node::Node,
    },
};
use through::Through;

/// Stripes fetched ahead of the one that is delivered next, once enough nodes
/// have said that they hold their chunk. Before that nothing may be handed on,
/// and more cells of the first nodes would only keep the last one waiting.
const AHEAD_STRIPES: u32 = 4;
/// The same where cells take their time: as many as a link holds, and more.
const AHEAD_WHEN_SLOW: u32 = 8;
/// Nobody is late before that: a busy machine takes as long to look.
const LEAST_HEDGE: Duration = Duration::from_millis(5);
/// Left alone for longer, a reader does not know when its answers came.
const SHORT_ABSENCE: Duration = Duration::from_millis(4);
/// Interruptions of a chunk in a row before it is given up.
const MAX_INTERRUPTIONS: u32 = 6;

/// Why a value cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// More than p chunks are gone: the object is lost.
    #[error("object lost: {missing} chunks are gone")]
    Lost {
        /// Chunks that their nodes do not have.
        missing: usize,
    },
    /// Too few nodes answer at the moment.
    #[error("too few nodes answer: {failed} chunks cannot be read")]
    Unavailable {
        /// Chunks that could not be had.
        failed: usize,
    },
    /// Nodes have lost it, and the backing store does not answer.
    #[error("{0}")]
    Backing(BackingError),
    /// Our own mistake.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// A request that was sent, or could not be.
struct Opened {
    tag: u32,
    /// One behind the last stripe that it asks for.
    end: u32,
    call: Result<Call, NodeError>,
}

type Opening = Pin<Box<dyn Future<Output = Opened> + Send>>;

/// Reads one object. Drop it to stop.
pub struct ObjectReader {
    store: Arc<Store>,
    /// The one whose chunks are read: a segment's, for a packed value.
    object: Arc<Object>,
    chunks: Vec<Chunk>,
    /// Chunks in the order in which they are asked.
    order: Vec<usize>,
    gather: Gather,
    /// Only the chunks with bytes of a narrow range were asked: as long as all
    /// of them answer, no others are needed.
    narrow: bool,
    ahead: Ahead,
    /// When it was left alone with bytes handed on.
    left_at: Option<Instant>,
    /// How often absent instances were looked for.
    sought: u32,
    /// Since when.
    sought_since: Option<Instant>,
    /// How many repairs had ended when missing chunks were asked for; `None` if it is a
    /// repair that reads.
    repairs_then: Option<u64>,
    /// How far it is, and what comes from the backing store.
    through: Through,
    opening: FuturesUnordered<Opening>,
    answers: mpsc::Receiver<Tagged>,
    sender: mpsc::Sender<Tagged>,
    // last: everything above is dropped while the object is still pinned
    pinned: Pinned,
}

impl ObjectReader {
    /// Reads the whole of the pinned object.
    pub fn new(pinned: Pinned) -> Self {
        let all = 0..pinned.object.size_bytes();
        Self::range(pinned, all)
    }

    /// Reads these bytes of the pinned object; they must lie within it.
    pub fn range(pinned: Pinned, bytes: Range<u64>) -> Self {
        let (store, object) = (pinned.store.clone(), pinned.source.clone());
        let bytes = pinned.offset + bytes.start..pinned.offset + bytes.end;
        // all of them are missing of one that nobody placed
        let n = object.layout.geometry().total();
        // room for all that is ahead, a confirmation and a final word to each request
        let (sender, answers) = mpsc::channel(n * (2 * AHEAD_WHEN_SLOW as usize + 8));
        let gather = Gather::new(object.layout, bytes);
        let chunk = |i| {
            let state = match object.node(i) {
                Some(_) => State::Spare,
                None => State::Failed(Failure::Missing),
            };
            Chunk::new(i, state, gather.rest())
        };
        let mut reader = Self {
            chunks: (0..n).map(chunk).collect(),
            order: store.reading_order(&object),
            narrow: false,
            ahead: Ahead::new(gather.next()),
            left_at: None,
            sought: 0,
            sought_since: None,
            repairs_then: Some(store.repairs.ended()),
            through: Through::new(gather.bytes()),
            gather,
            opening: FuturesUnordered::new(),
            answers,
            sender,
            store,
            object,
            pinned,
        };
        reader.begin();
        reader
    }

    /// Reads the whole of it, if there is memory to spare for its first stripe;
    /// or gives it back. For values whose turn has not come.
    pub fn early(pinned: Pinned) -> Result<Self, Pinned> {
        let mut reader = Self::new(pinned);
        let bytes = reader.stripe_bytes(reader.gather.next());
        if reader.ahead.extend(&reader.store.memory, bytes) {
            Ok(reader)
        } else {
            Err(reader.pinned)
        }
    }

    /// Reads in memory that is accounted for elsewhere.
    #[must_use]
    pub fn unmetered(mut self) -> Self {
        self.ahead.unmetered();
        self
    }

    /// Reads for a repair, which must not wait for itself.
    #[must_use]
    pub fn for_repair(mut self) -> Self {
        self.repairs_then = None;
        self
    }

    /// Asks the d data chunks, or those of them that hold bytes of the range.
    fn begin(&mut self) {
        let d = self.object.layout.geometry().data();
        let rest = self.gather.rest();
        let wanted = |chunk: usize, stripe: &u32| self.gather.wanted(*stripe).contains(&chunk);
        // more than two stripes: every chunk has a cell of one in between
        self.narrow =
            d > 1 && rest.len() <= 2 && rest.clone().any(|s| self.gather.wanted(s).len() < d);
        if !self.narrow {
            return (0..d).for_each(|_| self.enlist());
        }
        for chunk in 0..d {
            let first = rest.clone().find(|s| wanted(chunk, s));
            let last = rest.clone().rfind(|s| wanted(chunk, s));
            let asked = &mut self.chunks[chunk];
            if let (Some(first), Some(last)) = (first, last) {
                asked.reset(first);
                asked.until = last + 1;
                match asked.state {
                    State::Spare => asked.state = State::Asked,
                    _ => self.narrow = false,
                }
            }
        }
        let is_asked = |i: &usize| self.chunks[*i].is_asked();
        let in_doubt = (0..d).filter(is_asked).any(|i| self.is_in_doubt(i));
        // or else there is nothing better than to wait for it
        let may_do_without = || (0..self.chunks.len()).filter(|i| self.is_sound(*i)).count() >= d;
        if !self.narrow || in_doubt && may_do_without() {
            self.widen();
        }
    }

    /// Length of what is read in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.gather.len_bytes()
    }

    /// What is read.
    pub fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// The next bytes, in order: cells, at most up to the end of a stripe;
    /// `None` at the end. The first come only when d nodes have confirmed that
    /// they hold their whole chunk. After an error, nothing more comes.
    pub async fn next_cells(&mut self) -> Result<Option<Vec<Bytes>>, ReadError> {
        if self.through.is_open() {
            return self.next_through().await;
        }
        if self.gather.is_done() {
            self.finish();
            self.ahead.finish();
            return Ok(None);
        }
        if self.left_at.is_some_and(|at| at.elapsed() > SHORT_ABSENCE) {
            // what came meanwhile says nothing about the nodes
            self.chunks.iter_mut().for_each(Chunk::forget_time);
        }
        let (due, bytes) = (self.gather.next(), self.stripe_bytes(self.gather.next()));
        self.ahead.advance(due, &self.store.memory, bytes).await;
        self.top_up();
        let hedge_after = self.hedge_after();
        let mut hedge_at = Instant::now() + hedge_after;
        let mut give_up = Instant::now() + self.store.settings.patience * 2;
        loop {
            if self.is_confirmed() {
                let cells = self.take()?;
                if !cells.is_empty() {
                    // while these are handed on, the next may travel
                    while let Some(Some(opened)) = self.opening.next().now_or_never() {
                        self.on_open(opened);
                    }
                    self.left_at = Some(Instant::now());
                    self.through.handed_on(&cells);
                    return Ok(Some(cells));
                }
            }
            if let Err(error) = self.check_enough() {
                let error = match self.turn_to_backing(error).await {
                    Ok(cells) => return Ok(Some(cells)),
                    Err(error) => error,
                };
                if !self.seek().await {
                    return Err(self.through.error(self.verdict(error)));
                }
                give_up = Instant::now() + self.store.settings.patience * 2;
            }
            tokio::select! {
                biased;
                Some((tag, answer)) = self.answers.recv() => self.on_answer(tag, answer),
                Some(opened) = self.opening.next(), if !self.opening.is_empty() => {
                    self.on_open(opened);
                }
                () = sleep_until(hedge_at.min(give_up)) => {
                    if Instant::now() >= give_up {
                        let failed = self.late().count();
                        let error = ReadError::Unavailable { failed };
                        return self.turn_to_backing(error).await.map(Some);
                    }
                    self.hedge();
                    hedge_at = Instant::now() + hedge_after;
                }
            }
            self.top_up();
        }
    }

    /// Whether all bytes were handed on, and `None` is what comes next.
    pub fn is_at_end(&self) -> bool {
        !self.through.is_open() && self.gather.is_done()
    }

    /// One behind the last stripe that may be asked for now, given memory.
    fn horizon(&mut self) -> u32 {
        let slow = self.chunks.iter().any(|c| c.slow);
        let ahead = match (slow, self.is_confirmed()) {
            (true, _) => AHEAD_WHEN_SLOW,
            (false, true) => AHEAD_STRIPES,
            (false, false) => 1,
        };
        let last = self.gather.rest().end.min(self.gather.next() + ahead);
        while self.ahead.end() < last {
            let bytes = self.stripe_bytes(self.ahead.end());
            if !self.ahead.extend(&self.store.memory, bytes) {
                break;
            }
        }
        self.ahead.end()
    }

    /// Memory that reading a stripe takes, in bytes.
    fn stripe_bytes(&self, stripe: u32) -> u64 {
        let layout = self.object.layout;
        let cells = match self.narrow {
            true => self.gather.wanted(stripe).len(),
            // others are asked in place of what is in doubt or late, and those may come, too
            false => {
                let asked = self.chunks.iter().filter(|c| c.is_asked()).count();
                asked.max(layout.geometry().data())
            }
        };
        (cells * layout.cell_len(stripe)) as u64
    }

    /// Whether as many nodes as reading needs have said that they hold theirs.
    fn is_confirmed(&self) -> bool {
        if self.left_at.is_some() {
            // it was: what is handed on cannot be taken back
            return true;
        }
        let d = self.object.layout.geometry().data();
        let confirmed = |c: &&Chunk| c.confirmed && !c.is_failed();
        let asked = |c: &&Chunk| c.is_asked() && (c.confirmed || c.next < self.ahead.end());
        let need = match self.narrow {
            true => self.chunks.iter().filter(asked).count(),
            false => d,
        };
        self.chunks.iter().filter(confirmed).count() >= need
    }

    fn take(&mut self) -> Result<Vec<Bytes>, ReadError> {
        let stripe = self.gather.next();
        let chunks = &self.chunks;
        let given_up = |c: usize| !chunks[c].is_asked();
        let cells = self.gather.take(&self.store.codec, given_up)?;
        if self.gather.next() > stripe {
            self.release_laggards();
            self.top_up();
        }
        Ok(cells)
    }

    /// Keeps every chunk that is asked busy, as far as there is memory.
    fn top_up(&mut self) {
        let (due, horizon) = (self.gather.next(), self.horizon());
        for i in 0..self.chunks.len() {
            if let Some(window) = self.chunks[i].ask(due, horizon) {
                if !self.chunks[i].confirmed {
                    let rounds = self.node(i).map_or(0, |node| node.rounds_ended());
                    self.chunks[i].rounds_then = rounds;
                }
                self.opening.push(self.open(i, window));
            }
        }
    }

    fn open(&self, index: usize, window: Range<u32>) -> Opening {
        let (store, sender) = (self.store.clone(), self.sender.clone());
        let (id, node) = (self.object.descriptor(index).id, self.object.node(index));
        let tag = self.chunks[index].tag();
        let announce = !self.chunks[index].confirmed;
        Box::pin(async move {
            let end = window.end;
            let Some(node) = node.and_then(|n| store.pool.node(n)) else {
                let call = Err(NodeError::Deadline);
                return Opened { tag, end, call };
            };
            let asker = Asker {
                tag,
                cells: end - window.start,
                announce,
                answers: &sender,
            };
            // from when it is looked after: the reader may have been left alone
            let deadline = Instant::now() + store.settings.patience;
            let call = store.pool.get_cells(node, id, window, asker, deadline);
            let call = call.await;
            Opened { tag, end, call }
        })
    }

    fn on_open(&mut self, opened: Opened) {
        let Opened {
            tag: opened,
            end,
            call,
        } = opened;
        let index = index_of(opened);
        let chunk = &mut self.chunks[index];
        // answers may be quicker than this: then it was asked again, perhaps
        if opened != chunk.tag() || !chunk.is_asked() {
            return;
        }
        match call {
            Ok(call) => chunk.opened(end, call),
            Err(NodeError::Interrupted | NodeError::Deadline) => self.lost_touch(index),
            Err(error) => {
                let node = self.object.node(index);
                tracing::info!(?node, %error, "chunk not reachable");
                self.fail(index, Failure::Unreachable);
            }
        }
    }

    fn on_answer(&mut self, answered: u32, answer: Answer) {
        let index = index_of(answered);
        if answered != self.chunks[index].tag() {
            return;
        }
        match answer {
            Answer::Coming => self.chunks[index].confirmed = true,
            Answer::Cell {
                stripe,
                checksum,
                payload,
            } => {
                let descriptor = self.object.descriptor(index);
                let is_due = stripe == self.chunks[index].next;
                if !is_due || !descriptor.verifies(stripe, checksum, &payload) {
                    metrics::counter!("scatterhoard_bad_cells_total").increment(1);
                    let node = self.object.node(index);
                    tracing::warn!(?node, stripe, is_due, "cell fails its checks");
                    self.chunks[index].damaged = true;
                    return self.fail(index, Failure::Missing);
                }
                self.keep(index, stripe, payload);
            }
            Answer::Missing => self.fail(index, Failure::Missing),
            Answer::Refused(Refusal::Returning | Refusal::Busy) => self.interrupted(index),
            Answer::LinkLost => self.lost_touch(index),
            _ => self.fail(index, Failure::Unreachable),
        }
    }

    /// The link is gone, perhaps with all that the node had: nobody need wait until that
    /// is known.
    fn lost_touch(&mut self, index: usize) {
        if self.chunks[index].interruptions == 0 && !self.narrow {
            self.replace(index);
        }
        self.interrupted(index);
    }

    /// The request came to nothing, but the node may be asked again.
    fn interrupted(&mut self, index: usize) {
        let chunk = &mut self.chunks[index];
        chunk.interruptions += 1;
        if chunk.interruptions > MAX_INTERRUPTIONS {
            self.fail(index, Failure::Unreachable);
        } else if chunk.is_asked() {
            chunk.reset(chunk.next);
        }
    }

    fn keep(&mut self, index: usize, stripe: u32, payload: BytesMut) {
        let chunk = &mut self.chunks[index];
        if let Some(took) = chunk.came(stripe, Instant::now())
            && let Some(node) = self.node(index)
        {
            node.answered(took);
        }
        metrics::counter!("scatterhoard_cells_read_total").increment(1);
        self.gather.keep(stripe, index, payload);
    }

    fn fail(&mut self, index: usize, failure: Failure) {
        let chunk = &mut self.chunks[index];
        if chunk.is_failed() {
            return;
        }
        chunk.reset(chunk.next);
        chunk.state = State::Failed(failure);
        if self.narrow {
            self.widen();
        } else {
            self.replace(index);
        }
    }

    fn failed(&self, failure: Failure) -> impl Iterator<Item = usize> + '_ {
        let is_it = move |(_, c): &(usize, &Chunk)| c.state == State::Failed(failure);
        self.chunks.iter().enumerate().filter(is_it).map(|(i, _)| i)
    }

    /// Whether d chunks can still bring the stripe that is due.
    fn check_enough(&self) -> Result<(), ReadError> {
        let d = self.object.layout.geometry().data();
        // before the header, cells of a chunk that is gone by now do not count
        let is_confirmed = self.is_confirmed();
        let usable =
            |(i, c): &(usize, &Chunk)| !c.is_failed() || is_confirmed && self.gather.has(*i);
        if self.chunks.iter().enumerate().filter(usable).count() >= d {
            return Ok(());
        }
        let missing = self.failed(Failure::Missing).count();
        if self.chunks.len() - missing < d {
            return Err(ReadError::Lost { missing });
        }
        let failed = missing + self.failed(Failure::Unreachable).count();
        Err(ReadError::Unavailable { failed })
    }

    fn node(&self, index: usize) -> Option<&Arc<Node>> {
        self.store.pool.node(self.object.node(index)?)
    }
}

impl Store {
    /// Data chunks in order, then parity. Copies are equal, so those whose
    /// node is awake come first.
    fn reading_order(&self, object: &Object) -> Vec<usize> {
        let mut order: Vec<usize> = (0..object.chunks()).collect();
        if object.layout.geometry().data() == 1 {
            let start = random::rng().random_range(0..object.chunks().max(1));
            order.rotate_left(start);
            let asleep = |i: &usize| {
                let node = object.node(*i).and_then(|n| self.pool.node(n));
                node.is_none_or(|n| n.open_link().is_none())
            };
            order.sort_by_key(asleep);
        }
        order
    }
}
