//! What can be asked of a node: keep a chunk, send cells, free, list.
//!
//! Every request has a deadline. A node that is about to return, or whose link
//! broke, is invoked again and asked again: no caller notices the end of an
//! invocation.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use scatterhoard_wire::{
    ChunkDescriptor, ChunkId,
    limits::MAX_WINDOW_CELLS,
    message::{Message, Refusal},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    NodeError, Pool,
    link::{Answer, Asker, Call, Link, LinkLost, Pace},
    node::Node,
};

/// Interruptions in a row, without progress, before a node is given up.
const MAX_INTERRUPTIONS: u32 = 16;

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
    /// The chunk's cell in `stripe`. Asked in order, and again from an earlier
    /// stripe when another instance answers after an interruption. An empty
    /// cell is refused by the node, which ends the put.
    fn cell(&self, stripe: u32) -> impl Future<Output = Bytes> + Send;
}

/// How one window of a put ended.
enum Window {
    Stored { complete: bool },
    Interrupted,
}

impl Pool {
    /// Stores a chunk on a node: its cells, in windows, each acknowledged.
    /// `patience` bounds the wait for the link and for each window, not the whole.
    pub async fn put_chunk(
        self: &Arc<Self>,
        node: &Arc<Node>,
        chunk: &ChunkDescriptor,
        cells: &impl CellSource,
        patience: Duration,
        pace: Pace,
    ) -> Result<(), PutError> {
        let total = chunk.layout.stripes();
        let (mut from, mut interruptions, mut restarts) = (0, 0, 0);
        loop {
            if interruptions > MAX_INTERRUPTIONS || restarts > MAX_INTERRUPTIONS {
                return Err(PutError::Timeout);
            }
            let link = self.link(node, Instant::now() + patience).await?;
            // frees come first on the link: they make the room we count on
            node.tell_garbage(&link, self.floor());
            let window = from..total.min(from + MAX_WINDOW_CELLS);
            let end = window.end;
            match put_window(&link, chunk, window, cells, patience, pace).await? {
                Window::Stored { complete: true } => return Ok(()),
                Window::Stored { complete: false } if end < total => {
                    (from, interruptions) = (end, 0);
                }
                // the earlier cells went to another instance: all over again
                Window::Stored { complete: false } => {
                    (from, restarts) = (0, restarts + 1);
                }
                Window::Interrupted => interruptions += 1,
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
        let mut all: Vec<ChunkDescriptor> = Vec::new();
        let link = self.link(node, Instant::now() + patience).await?;
        loop {
            let list = Message::List(all.last().map(|c| c.id));
            match self.ask(&link, list, Instant::now() + patience).await? {
                Answer::Listed { chunks, more } => {
                    let progress = !chunks.is_empty();
                    all.extend(chunks);
                    if !more || !progress {
                        return Ok(all);
                    }
                }
                _ => return Err(NodeError::Deadline),
            }
        }
    }

    async fn ask(
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

async fn put_window(
    link: &Arc<Link>,
    chunk: &ChunkDescriptor,
    window: Range<u32>,
    cells: &impl CellSource,
    patience: Duration,
    pace: Pace,
) -> Result<Window, PutError> {
    // one answer for the window, and one refusal for each of its cells
    let (sender, mut answers) = mpsc::channel(MAX_WINDOW_CELLS as usize + 1);
    let Ok(call) = link.call(Asker::single(&sender)) else {
        return Ok(Window::Interrupted);
    };
    let last = window.end - 1;
    for stripe in window {
        let payload = cells.cell(stripe).await;
        // the link's own task writes large cells while the next are encoded
        let pace = if payload.len() > LARGE_CELL_BYTES {
            Pace::Batched
        } else {
            pace
        };
        let sent = timeout(
            patience,
            call.put(chunk, chunk.cell(stripe, payload), stripe == last, pace),
        );
        match sent.await {
            Ok(Ok(())) => {}
            Ok(Err(LinkLost)) => return Ok(Window::Interrupted),
            Err(_) => return Err(PutError::Timeout),
        }
    }
    match timeout(patience, answers.recv()).await {
        Err(_) => Err(PutError::Timeout),
        Ok(Some((_, Answer::Stored { complete }))) => Ok(Window::Stored { complete }),
        Ok(Some((_, Answer::Refused(why)))) => match why {
            Refusal::Returning | Refusal::Busy => Ok(Window::Interrupted),
            Refusal::Full => Err(PutError::Full),
            Refusal::StaleEpoch => Err(PutError::StaleEpoch),
            Refusal::BadCell => Err(PutError::BadCell),
        },
        Ok(_) => Ok(Window::Interrupted),
    }
}
