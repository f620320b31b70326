//! Reading an object, stripe by stripe, from any d of its chunks.
//!
//! Data chunks are asked first; parity steps in at once for what is known to be
//! missing, and after a delay for what is late. Each request is for a window of
//! cells, so nodes may come and go while a slow client reads. Every cell is
//! checked before anybody sees it. Memory is bounded by the window.

use std::{collections::VecDeque, future::Future, ops::Range, pin::Pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream::FuturesUnordered};
use scatterhoard_wire::message::Refusal;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Pinned, RepairJob, Store};
use crate::{
    codec::CodecError,
    keyspace::Object,
    pool::{
        NodeError,
        link::{Answer, Call, Tagged},
    },
};

/// Cells in one request to a node.
const WINDOW_CELLS: u32 = 2;
/// Stripes fetched ahead of the one that is delivered next.
const AHEAD_STRIPES: u32 = 4;
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
    /// Our own mistake.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Missing,
    Unreachable,
}

enum State {
    /// Not asked: not needed so far.
    Spare,
    /// Nothing under way.
    Idle,
    /// Waiting for the link.
    Opening,
    /// Cells up to `end` are on their way. The call is held for what its
    /// dropping does: it cancels what has not come.
    Reading {
        call: Call,
        end: u32,
    },
    Failed(Failure),
}

struct Chunk {
    state: State,
    /// First stripe that has not come.
    next: u32,
    interruptions: u32,
    /// Counts the requests: answers to an earlier one are of no interest.
    generation: u32,
}

/// Generations fit a tag beside the chunk's index; they may come round.
const MAX_GENERATION: u32 = 0xff_ffff;

/// Tells a request's answers from others' and from those of earlier requests.
fn tag(index: usize, generation: u32) -> u32 {
    // fewer than 256 chunks
    (generation << 8) | (index as u32 & 0xff)
}

type Opening = Pin<Box<dyn Future<Output = (usize, u32, Result<Call, NodeError>)> + Send>>;

/// Reads one object. Drop it to stop.
pub struct ObjectReader {
    store: Arc<Store>,
    object: Arc<Object>,
    chunks: Vec<Chunk>,
    /// Chunks in the order in which they are asked.
    order: Vec<usize>,
    /// Stripes from `next` on, a slot for each chunk.
    stripes: VecDeque<Vec<Option<BytesMut>>>,
    next: u32,
    opening: FuturesUnordered<Opening>,
    answers: mpsc::Receiver<Tagged>,
    sender: mpsc::Sender<Tagged>,
    // last: everything above is dropped while the object is still pinned
    pinned: Pinned,
}

impl ObjectReader {
    /// Reads the pinned object from its first byte.
    pub fn new(pinned: Pinned) -> Self {
        let (store, object) = (pinned.store.clone(), pinned.object.clone());
        let n = object.chunks();
        // room for a full window and a final word of every chunk
        let (sender, answers) = mpsc::channel(n * (WINDOW_CELLS as usize + 2) + 1);
        let chunk = |i| {
            let state = match object.node(i) {
                Some(_) => State::Spare,
                None => State::Failed(Failure::Missing),
            };
            Chunk {
                state,
                next: 0,
                interruptions: 0,
                generation: 0,
            }
        };
        let mut reader = Self {
            chunks: (0..n).map(chunk).collect(),
            order: store.reading_order(&object),
            stripes: VecDeque::new(),
            next: 0,
            opening: FuturesUnordered::new(),
            answers,
            sender,
            store,
            object,
            pinned,
        };
        let d = reader.object.layout.geometry().data();
        (0..d).for_each(|_| reader.enlist());
        reader
    }

    /// The object's length in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.object.size_bytes()
    }

    /// What is read.
    pub fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// The next stripe's bytes, in order; `None` at the end. The first stripe
    /// comes only when d nodes have confirmed that they hold their whole chunk.
    /// After an error, nothing more comes.
    pub async fn next_stripe(&mut self) -> Result<Option<Vec<Bytes>>, ReadError> {
        if self.next >= self.object.layout.stripes() {
            self.finish();
            return Ok(None);
        }
        self.top_up();
        let hedge_after = self.store.settings.hedge_after;
        let mut hedge_at = Instant::now() + hedge_after;
        let give_up = Instant::now() + self.store.settings.patience * 2;
        loop {
            if let Some(cells) = self.take_stripe() {
                return Ok(Some(self.decode(cells)?));
            }
            self.check_enough()?;
            tokio::select! {
                Some((tag, answer)) = self.answers.recv() => self.on_answer(tag, answer),
                Some((chunk, end, call)) = self.opening.next(), if !self.opening.is_empty() => {
                    self.on_open(chunk, end, call);
                }
                () = sleep_until(hedge_at.min(give_up)) => {
                    if Instant::now() >= give_up {
                        let failed = self.late().count();
                        return Err(ReadError::Unavailable { failed });
                    }
                    // one more for each that is late
                    metrics::counter!("scatterhoard_hedged_reads_total").increment(1);
                    (0..self.late().count()).for_each(|_| self.enlist());
                    hedge_at = Instant::now() + hedge_after;
                }
            }
            self.top_up();
        }
    }

    /// Chunks that were asked and have not brought the stripe that is due.
    fn late(&self) -> impl Iterator<Item = usize> + '_ {
        let asked = |c: &Chunk| !matches!(c.state, State::Spare | State::Failed(_));
        let late = move |(_, c): &(usize, &Chunk)| asked(c) && c.next <= self.next;
        self.chunks.iter().enumerate().filter(late).map(|(i, _)| i)
    }

    /// Asks one more chunk, if there is one.
    fn enlist(&mut self) {
        let spare = |i: &&usize| matches!(self.chunks[**i].state, State::Spare);
        if let Some(&i) = self.order.iter().find(spare) {
            self.chunks[i].state = State::Idle;
        }
    }

    /// Keeps every enlisted chunk busy, up to the window.
    fn top_up(&mut self) {
        let total = self.object.layout.stripes();
        let horizon = total.min(self.next.saturating_add(AHEAD_STRIPES));
        for i in 0..self.chunks.len() {
            if !matches!(self.chunks[i].state, State::Idle) {
                continue;
            }
            let from = self.chunks[i].next.max(self.next);
            if from >= horizon {
                continue;
            }
            self.chunks[i].next = from;
            self.chunks[i].state = State::Opening;
            self.chunks[i].generation = (self.chunks[i].generation + 1) & MAX_GENERATION;
            let window = from..horizon.min(from + WINDOW_CELLS);
            self.opening.push(self.open(i, window));
        }
    }

    fn open(&self, index: usize, window: Range<u32>) -> Opening {
        let (store, sender) = (self.store.clone(), self.sender.clone());
        let (id, node) = (self.object.descriptor(index).id, self.object.node(index));
        let deadline = Instant::now() + store.settings.patience;
        let tag = tag(index, self.chunks[index].generation);
        Box::pin(async move {
            let end = window.end;
            let Some(node) = node.and_then(|n| store.pool.node(n)) else {
                return (index, end, Err(NodeError::Deadline));
            };
            let call = store
                .pool
                .get_cells(node, id, window, tag, &sender, deadline)
                .await;
            (index, end, call)
        })
    }

    fn on_open(&mut self, index: usize, end: u32, call: Result<Call, NodeError>) {
        let chunk = &mut self.chunks[index];
        if !matches!(chunk.state, State::Opening) {
            return;
        }
        match call {
            Ok(call) if chunk.next < end => chunk.state = State::Reading { call, end },
            Ok(call) => {
                call.finish();
                chunk.state = State::Idle;
            }
            Err(NodeError::Interrupted) => self.interrupted(index),
            Err(error) => {
                let node = self.object.node(index);
                tracing::info!(?node, %error, "chunk not reachable");
                self.fail(index, Failure::Unreachable);
            }
        }
    }

    fn on_answer(&mut self, answered: u32, answer: Answer) {
        let index = (answered & 0xff) as usize;
        if answered != tag(index, self.chunks[index].generation) {
            return;
        }
        match answer {
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
                    return self.fail(index, Failure::Missing);
                }
                self.keep(index, stripe, payload);
            }
            Answer::Missing => self.fail(index, Failure::Missing),
            Answer::Refused(Refusal::Returning | Refusal::Busy) | Answer::LinkLost => {
                self.interrupted(index);
            }
            _ => self.fail(index, Failure::Unreachable),
        }
    }

    /// The request came to nothing, but the node may be asked again.
    fn interrupted(&mut self, index: usize) {
        let chunk = &mut self.chunks[index];
        chunk.interruptions += 1;
        if chunk.interruptions > MAX_INTERRUPTIONS {
            self.fail(index, Failure::Unreachable);
        } else if !matches!(chunk.state, State::Failed(_)) {
            chunk.state = State::Idle;
        }
    }

    fn keep(&mut self, index: usize, stripe: u32, payload: BytesMut) {
        let chunk = &mut self.chunks[index];
        chunk.next = stripe + 1;
        chunk.interruptions = 0;
        let ended = matches!(chunk.state, State::Reading { end, .. } if end == chunk.next);
        if ended
            && let State::Reading { call, .. } = std::mem::replace(&mut chunk.state, State::Idle)
        {
            call.finish();
        }
        // late: the stripe was decoded without it
        let Some(offset) = stripe.checked_sub(self.next) else {
            return;
        };
        while self.stripes.len() <= offset as usize {
            self.stripes
                .push_back((0..self.chunks.len()).map(|_| None).collect());
        }
        self.stripes[offset as usize][index] = Some(payload);
    }

    fn fail(&mut self, index: usize, failure: Failure) {
        if matches!(self.chunks[index].state, State::Failed(_)) {
            return;
        }
        self.chunks[index].state = State::Failed(failure);
        self.enlist();
    }

    fn failed(&self, failure: Failure) -> impl Iterator<Item = usize> + '_ {
        let is_it =
            move |(_, c): &(usize, &Chunk)| matches!(c.state, State::Failed(f) if f == failure);
        self.chunks.iter().enumerate().filter(is_it).map(|(i, _)| i)
    }

    /// Whether d chunks can still bring the stripe that is due.
    fn check_enough(&self) -> Result<(), ReadError> {
        let d = self.object.layout.geometry().data();
        let due = self.stripes.front();
        let usable = |(i, c): &(usize, &Chunk)| {
            !matches!(c.state, State::Failed(_)) || due.is_some_and(|cells| cells[*i].is_some())
        };
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

    fn take_stripe(&mut self) -> Option<Vec<Option<BytesMut>>> {
        let d = self.object.layout.geometry().data();
        let due = self.stripes.front()?;
        if due.iter().flatten().count() < d {
            return None;
        }
        self.stripes.pop_front()
    }

    fn decode(&mut self, cells: Vec<Option<BytesMut>>) -> Result<Vec<Bytes>, ReadError> {
        let layout = self.object.layout;
        let stripe = self.next;
        let degraded = cells
            .iter()
            .take(layout.geometry().data())
            .any(Option::is_none);
        let mut data = self
            .store
            .codec
            .data(layout.geometry(), cells, layout.cell_len(stripe))?;
        for (chunk, cell) in data.iter_mut().enumerate() {
            let range = layout.data_range(stripe, chunk);
            cell.truncate((range.end - range.start) as usize);
        }
        if degraded && layout.geometry().data() > 1 {
            metrics::counter!("scatterhoard_degraded_stripes_total").increment(1);
        }
        self.next += 1;
        self.top_up();
        Ok(data)
    }

    /// All was read: what was found missing on the way is repaired.
    fn finish(&mut self) {
        let missing: Vec<usize> = self.failed(Failure::Missing).collect();
        if missing.is_empty() {
            return;
        }
        let write_id = self.object.write_id;
        if !self.store.repairing.lock().insert(write_id) {
            return;
        }
        // copied: a slice would keep the buffer that the key was read with
        let bytes = Bytes::copy_from_slice(&self.pinned.key.bytes);
        let key = super::Key {
            db: self.pinned.key.db,
            bytes,
        };
        let job = RepairJob {
            key,
            write_id,
            missing,
        };
        // full: the next read finds it again
        if self.store.repairs.try_send(job).is_err() {
            self.store.repairing.lock().remove(&write_id);
        }
    }
}

impl Store {
    /// Data chunks in order, then parity. Copies are equal, so those whose
    /// node is awake come first.
    fn reading_order(&self, object: &Object) -> Vec<usize> {
        let mut order: Vec<usize> = (0..object.chunks()).collect();
        if object.layout.geometry().data() == 1 {
            let start = rand::random_range(0..object.chunks().max(1));
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
