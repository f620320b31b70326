//! What can be asked of a node: keep a chunk, send cells, free, list.
//!
//! Every request has a deadline. A node that is about to return, or whose link
//! broke, is invoked again and asked again: no caller notices the end of an
//! invocation.

use std::{collections::VecDeque, ops::Range, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use scatterhoard_wire::{
    Cell, ChunkDescriptor, ChunkId,
    message::{Message, Refusal},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    NodeError, Pool,
    link::{Answer, Asker, Call, Link, LinkLost, Pace, Tagged},
    node::Node,
};

/// Interruptions in a row, without progress, before a node is given up.
const MAX_INTERRUPTIONS: u32 = 4;

/// Cells of a put that one answer acknowledges.
const PUT_WINDOW_CELLS: u32 = 4;
/// Windows of a put under way at once: they travel while others are answered,
/// and may be of a single cell where the body is no faster.
const PUTS_AHEAD: usize = 4;

/// Well below the time after which a node leaves that expects something.
pub(super) const KEEP_AWAKE_EVERY: Duration = Duration::from_millis(200);

/// A cell that takes longer to write than to hand over to another task.
const LARGE_CELL_BYTES: usize = 32 * 1024;

/// Why a chunk was not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PutError {
    /// The node cannot be used.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// No room on the node after all: place the chunk elsewhere.
    #[error("node is full")]
    Full,
    /// A later proxy owns the node: stop.
    #[error("a later proxy owns the node")]
    StaleEpoch,
    /// What the node needs is not kept any more: the body has gone by.
    #[error("the body has gone by")]
    Gone,
    /// The node refuses what we sent: a fault on the way or in its memory.
    #[error("node refused the cell")]
    BadCell,
    /// It did not answer in time, or was interrupted again and again.
    #[error("node did not answer in time")]
    Timeout,
}

/// Where the cells of a chunk come from: cut out of a value that is written, or
/// rebuilt from the other chunks.
pub trait CellSource: Sync {
    /// The chunk's cell in `stripe`, as soon as it is there; `None` if it cannot
    /// be had any more. Asked in order, and again from an earlier stripe when
    /// another instance answers after an interruption. May be dropped and asked
    /// again, if [`Self::is_ready`] ever says no.
    fn cell(&self, stripe: u32) -> impl Future<Output = Option<Cell>> + Send;

    /// Whether the cell is there. Where it is not, a window ends.
    fn is_ready(&self, stripe: u32) -> bool;

    /// The node has everything below `stripe`.
    fn stored(&self, below: u32);
}

/// How sending over one link ended.
enum Sent {
    Complete,
    /// The node returns, or the link broke.
    Interrupted,
    /// The earlier cells went to another instance.
    Elsewhere,
    /// The next cell is not there yet, and nothing is under way.
    Starved,
}

impl Pool {
    /// Stores a chunk on a node: its cells, in windows, each acknowledged.
    /// `patience` bounds the wait for the link and for each answer, not the whole.
    pub async fn put_chunk(
        self: &Arc<Self>,
        node: &Arc<Node>,
        chunk: &ChunkDescriptor,
        cells: &impl CellSource,
        patience: Duration,
        pace: Pace,
    ) -> Result<(), PutError> {
        let mut put = Put {
            chunk,
            cells,
            patience,
            pace,
            stored: 0,
        };
        let (mut interruptions, mut restarts) = (0, 0);
        let mut used: Option<Arc<Link>> = None;
        let _until_it_is_stored = node.put_begins();
        loop {
            if interruptions > MAX_INTERRUPTIONS || restarts > MAX_INTERRUPTIONS {
                return Err(PutError::Timeout);
            }
            // no node is invoked for a body that has not come
            if !put.next_cell(used.as_deref()).await {
                return Err(PutError::Gone);
            }
            let link = self.link(node, Instant::now() + patience).await?;
            used = Some(link.clone());
            // frees come first on the link: they make the room we count on
            node.tell_garbage(&link, self.floor());
            let before = put.stored;
            match put.send(&link).await? {
                Sent::Complete => return Ok(()),
                Sent::Starved => interruptions = 0,
                Sent::Interrupted if put.stored > before => interruptions = 0,
                Sent::Interrupted => interruptions += 1,
                Sent::Elsewhere => {
                    put.stored = 0;
                    cells.stored(0);
                    restarts += 1;
                }
            }
        }
    }

    /// Asks for the cells of a chunk in these stripes. The asker must have room
    /// for two answers more than cells. Gives up the request when the returned
    /// call is dropped.
    pub async fn get_cells(
        self: &Arc<Self>,
        node: &Arc<Node>,
        chunk: ChunkId,
        stripes: Range<u32>,
        asker: Asker<'_>,
        deadline: Instant,
    ) -> Result<Call, NodeError> {
        let count = stripes.end - stripes.start;
        let link = self.link(node, deadline).await?;
        // one attempt: a second one's answers could not be told from the first's
        let call = link
            .call(asker)
            .map_err(|LinkLost| NodeError::Interrupted)?;
        let get = Message::Get {
            chunk,
            first: stripes.start,
            count,
        };
        match timeout_at(deadline, call.send(get, Bytes::new())).await {
            Ok(Ok(())) => Ok(call),
            Ok(Err(LinkLost)) => Err(NodeError::Interrupted),
            Err(_) => Err(NodeError::Deadline),
        }
    }

    /// Makes the node free what it may by now, and waits until it has: its
    /// account is exact afterwards. Also asked of a node without garbage, whose
    /// last word may be old.
    pub async fn purge(
        self: &Arc<Self>,
        node: &Arc<Node>,
        patience: Duration,
    ) -> Result<(), NodeError> {
        let deadline = Instant::now() + patience;
        for _ in 0..=MAX_INTERRUPTIONS {
            let link = self.link(node, deadline).await?;
            node.tell_garbage(&link, self.floor());
            // answered behind the deletes, since a link keeps its order
            if let Answer::Pong = self.ask(&link, Message::Ping, deadline).await? {
                return Ok(());
            }
        }
        Err(NodeError::Interrupted)
    }

    /// All complete chunks of the instance that answers.
    pub async fn list_chunks(
        self: &Arc<Self>,
        node: &Arc<Node>,
        patience: Duration,
    ) -> Result<Vec<ChunkDescriptor>, NodeError> {
        let link = self.link(node, Instant::now() + patience).await?;
        self.list_on(&link, patience).await
    }

    pub(super) async fn ask(
        &self,
        link: &Arc<Link>,
        message: Message,
        deadline: Instant,
    ) -> Result<Answer, NodeError> {
        let (sender, mut answers) = mpsc::channel(1);
        let Ok(call) = link.call(Asker::single(&sender)) else {
            return Ok(Answer::LinkLost);
        };
        match timeout_at(deadline, call.send(message, Bytes::new())).await {
            Ok(Ok(())) => {}
            Ok(Err(LinkLost)) => return Ok(Answer::LinkLost),
            Err(_) => return Err(NodeError::Deadline),
        }
        match timeout_at(deadline, answers.recv()).await {
            Ok(Some((_, answer))) => Ok(answer),
            Ok(None) => Ok(Answer::LinkLost),
            Err(_) => Err(NodeError::Deadline),
        }
    }
}

/// A chunk on its way to one node.
struct Put<'a, S> {
    chunk: &'a ChunkDescriptor,
    cells: &'a S,
    patience: Duration,
    pace: Pace,
    /// The node has said that it has everything below.
    stored: u32,
}

impl<S: CellSource> Put<'_, S> {
    /// Waits for the next cell to send; false if there is none any more. The node
    /// that has those before it stays awake: in its next invocation it may be
    /// another instance, and what came before may be gone.
    async fn next_cell(&self, used: Option<&Link>) -> bool {
        let mut cell = pin!(self.cells.cell(self.stored));
        loop {
            match timeout(KEEP_AWAKE_EVERY, &mut cell).await {
                Ok(cell) => return cell.is_some(),
                Err(_) => used.iter().for_each(|link| link.keep_awake()),
            }
        }
    }

    /// Sends what is not stored yet, a few windows ahead of the answers.
    async fn send(&mut self, link: &Arc<Link>) -> Result<Sent, PutError> {
        let total = self.chunk.layout.stripes();
        // one answer for a window, and one refusal for each of its cells
        let room = PUTS_AHEAD * (PUT_WINDOW_CELLS as usize + 1);
        let (sender, mut answers) = mpsc::channel(room);
        let mut calls: VecDeque<Call> = VecDeque::new();
        let mut next = self.stored;
        loop {
            let more = next < total && calls.len() < PUTS_AHEAD;
            if more && self.cells.is_ready(next) {
                let end = self.window_end(next);
                let asker = Asker {
                    tag: end,
                    ..Asker::single(&sender)
                };
                let Ok(call) = link.call(asker) else {
                    return Ok(Sent::Interrupted);
                };
                if let Some(ended) = self.send_window(&call, next..end).await? {
                    return Ok(ended);
                }
                calls.push_back(call);
                next = end;
                continue;
            }
            if calls.is_empty() {
                return Ok(Sent::Starved);
            }
            let answer = tokio::select! {
                biased;
                answer = timeout(self.patience, answers.recv()) => {
                    answer.map_err(|_| PutError::Timeout)?
                }
                cell = self.cells.cell(next), if more => {
                    if cell.is_none() {
                        return Err(PutError::Gone);
                    }
                    continue;
                }
            };
            let Some((end, Answer::Stored { complete })) = answer else {
                return refused(answer);
            };
            calls.pop_front();
            if complete {
                self.cells.stored(total);
                return Ok(Sent::Complete);
            }
            if end == total {
                return Ok(Sent::Elsewhere);
            }
            self.stored = end;
            self.cells.stored(end);
        }
    }

    /// The window that begins at `first`: what is there of it.
    fn window_end(&self, first: u32) -> u32 {
        let total = self.chunk.layout.stripes();
        let limit = total.min(first + PUT_WINDOW_CELLS);
        let ready = |stripe: &u32| self.cells.is_ready(*stripe);
        first + (first..limit).take_while(ready).count() as u32
    }

    async fn send_window(&self, call: &Call, window: Range<u32>) -> Result<Option<Sent>, PutError> {
        let last = window.end - 1;
        for stripe in window {
            let Some(cell) = self.cells.cell(stripe).await else {
                return Err(PutError::Gone);
            };
            // the link's own task writes large cells while the next are encoded
            let pace = if cell.payload.len() > LARGE_CELL_BYTES {
                Pace::Batched
            } else {
                self.pace
            };
            let put = call.put(self.chunk, cell, stripe == last, pace);
            match timeout(self.patience, put).await {
                Ok(Ok(())) => {}
                Ok(Err(LinkLost)) => return Ok(Some(Sent::Interrupted)),
                Err(_) => return Err(PutError::Timeout),
            }
        }
        Ok(None)
    }
}

/// What an answer means that is not a stored window.
fn refused(answer: Option<Tagged>) -> Result<Sent, PutError> {
    match answer {
        Some((_, Answer::Refused(why))) => match why {
            Refusal::Returning | Refusal::Busy => Ok(Sent::Interrupted),
            Refusal::Full => Err(PutError::Full),
            Refusal::StaleEpoch => Err(PutError::StaleEpoch),
            Refusal::BadCell => Err(PutError::BadCell),
        },
        _ => Ok(Sent::Interrupted),
    }
}
