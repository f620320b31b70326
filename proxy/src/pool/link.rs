//! The proxy's end of a link: requests out, replies back to whoever asked.
//!
//! A link lives for one invocation. Frames go into a queue, whole, and whoever
//! puts one there writes what the socket takes at once; a task of the link
//! writes the rest. So a request given up half-way never leaves half a frame
//! behind, and a small one costs no switch to another task. Replies go to
//! bounded queues sized for what was asked; a node that sends more than that
//! breaks the protocol and loses its link.

mod serving;

use std::{
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use scatterhoard_node::conduit::Writer;
use scatterhoard_node::random::HashMap;
use scatterhoard_wire::{
    Cell, ChunkDescriptor, InvocationId, Version, WriteId,
    message::{Label, Message, Refusal},
    stream::SendQueue,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use serving::{Notice, run};

/// Bytes waiting to be written; whoever sends more waits. Cells among them are
/// references to bodies that were admitted before.
const OUT_BYTES: usize = 2 << 20;
const IO_SLICES: usize = 64;
/// What is urgent takes so much with it that waits for company.
const LIGHT_BYTES: usize = 4 << 10;

/// What came back for a request.
#[derive(Debug)]
pub enum Answer {
    /// The cells of a put are in memory; whether the chunk is complete.
    Stored {
        /// All cells of the chunk are there.
        complete: bool,
    },
    /// The node has the chunk, and its first cell is on the way.
    Coming,
    /// A cell as it arrived, not yet checked.
    Cell {
        /// Stripe that it claims.
        stripe: u32,
        /// Checksum that it claims.
        checksum: u32,
        /// Its bytes.
        payload: BytesMut,
    },
    /// The chunk is not there.
    Missing,
    /// Not done.
    Refused(Refusal),
    /// Freed.
    Deleted,
    /// Chunks that are there.
    Listed {
        /// One page, in order.
        chunks: Vec<ChunkDescriptor>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// Labels that are there.
    Labels {
        /// One page, in order.
        labels: Vec<Label>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// The sums of the labels that are there, by object.
    LabelSums {
        /// One page, in order.
        sums: Vec<(WriteId, u32)>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// Alive.
    Pong,
    /// The link ended before the answer.
    LinkLost,
}

/// An answer with the tag that the asker gave its request.
pub type Tagged = (u32, Answer);

/// Where the answers to a request go.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// Comes back with every answer.
    pub tag: u32,
    /// Cells that are asked for; the last of them ends the request.
    pub cells: u32,
    /// Whether [`Answer::Coming`] is wanted.
    pub announce: bool,
    /// Must have room for all answers.
    pub answers: &'a mpsc::Sender<Tagged>,
}

impl<'a> Asker<'a> {
    /// Somebody with one request.
    pub fn single(answers: &'a mpsc::Sender<Tagged>) -> Self {
        Self {
            tag: 0,
            cells: 0,
            announce: false,
            answers,
        }
    }
}

struct Waiter {
    tag: u32,
    /// Cells that have not come.
    cells: u32,
    /// To be told before the first cell is whole.
    announce: bool,
    answers: mpsc::Sender<Tagged>,
}

#[derive(Default)]
struct Waiters {
    by_request: HashMap<u32, Waiter>,
    /// Since when somebody waits and nothing comes. Giving a request up does not
    /// end the silence; only the node does: it is asked to.
    silent_since: Option<Instant>,
    last_request: u32,
    closed: bool,
}

/// The link of one invocation. Cheap to share.
pub struct Link {
    invocation: InvocationId,
    out: Mutex<Out>,
    /// Rung when the queue was not written to its end at once.
    unsent: Notify,
    /// Rung when there is room in the queue again, or never will be.
    room: Notify,
    waiters: Mutex<Waiters>,
    /// Cancelled when the link is given up.
    given_up: CancellationToken,
}

/// The writing end: the queue, and the socket until the link ends.
struct Out {
    queue: SendQueue,
    socket: Option<Arc<Writer>>,
    /// Goodbye-ok is in the queue: nothing may follow it.
    is_last: bool,
}

impl Out {
    /// Whether the socket has all of it.
    fn is_written(&self) -> bool {
        self.queue.is_empty() && !self.socket.as_ref().is_some_and(|s| s.has_unsent())
    }

    /// Writes what the socket takes; an error ends the link.
    fn write_ready(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        while !self.queue.is_empty() || socket.has_unsent() {
            let mut slices = [IoSlice::new(&[]); IO_SLICES];
            let used = self.queue.slices(&mut slices);
            match socket.try_write_vectored(&slices[..used]) {
                Ok(0) if used > 0 => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.queue.advance(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// When a frame goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Now: somebody waits for the answer.
    AtOnce,
    /// Together with what else is queued in this moment: fewer system calls,
    /// and fewer wake-ups of the node.
    Batched,
}

/// The link ended before the request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("link lost")]
pub struct LinkLost;

/// A request under way. Dropping it forgets the answers and, unless the last
/// one has come, tells the node to stop.
pub struct Call {
    link: Arc<Link>,
    request: u32,
}

impl Drop for Call {
    fn drop(&mut self) {
        let (unanswered, is_last) = {
            let mut waiters = self.link.waiters.lock();
            let unanswered = waiters.by_request.remove(&self.request).is_some();
            (unanswered, waiters.by_request.is_empty())
        };
        if unanswered {
            // best effort: otherwise the node only works in vain
            self.link
                .push(self.request, &Message::Cancel, Bytes::new(), Pace::AtOnce);
        }
        if unanswered && is_last {
            // a node that need answer nothing any more is not mute: it says so
            self.link.send(&Message::Ping);
        }
    }
}

impl Link {
    /// A link of this version that is open; [`run`] serves it.
    pub fn new(invocation: InvocationId, version: Version, socket: Writer) -> Arc<Self> {
        Arc::new(Self {
            invocation,
            out: Mutex::new(Out {
                queue: SendQueue::new(version),
                socket: Some(Arc::new(socket)),
                is_last: false,
            }),
            unsent: Notify::new(),
            room: Notify::new(),
            waiters: Mutex::default(),
            given_up: CancellationToken::new(),
        })
    }

    /// The invocation that it lives for.
    pub fn invocation(&self) -> InvocationId {
        self.invocation
    }

    /// The version that both ends speak.
    pub fn version(&self) -> Version {
        self.out.lock().queue.version()
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.waiters.lock().closed
    }

    /// Registers a request, whose answers go to `asker`.
    pub fn call(self: &Arc<Self>, asker: Asker<'_>) -> Result<Call, LinkLost> {
        let mut waiters = self.waiters.lock();
        if waiters.closed {
            return Err(LinkLost);
        }
        // 0 is for frames without a request
        waiters.last_request = waiters.last_request.wrapping_add(1).max(1);
        let request = waiters.last_request;
        waiters.silent_since.get_or_insert_with(Instant::now);
        waiters.by_request.insert(
            request,
            Waiter {
                tag: asker.tag,
                cells: asker.cells,
                announce: asker.announce,
                answers: asker.answers.clone(),
            },
        );
        Ok(Call {
            link: self.clone(),
            request,
        })
    }

    /// Queues a frame and writes what can be written, if it is to go at once;
    /// false if the link has ended. For control frames: others ask for room first.
    fn push(&self, request: u32, message: &Message, payload: Bytes, pace: Pace) -> bool {
        let mut out = self.out.lock();
        if out.socket.is_none() || out.is_last {
            return false;
        }
        out.is_last = *message == Message::GoodbyeOk;
        let (was_written, is_light) = (out.is_written(), out.queue.bytes() <= LIGHT_BYTES);
        out.queue.push(request, message, payload);
        // behind much it is the task's turn; an error shows there, too
        let at_once = is_light && pace == Pace::AtOnce;
        if (at_once && (out.write_ready().is_err() || !out.is_written()))
            || (was_written && pace == Pace::Batched)
        {
            self.unsent.notify_one();
        }
        true
    }

    async fn push_when_room(
        &self,
        request: u32,
        message: &Message,
        payload: Bytes,
        pace: Pace,
    ) -> Result<(), LinkLost> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // before looking, or a change in between would be missed
            room.as_mut().enable();
            if self.out.lock().queue.bytes() < OUT_BYTES {
                return if self.push(request, message, payload, pace) {
                    Ok(())
                } else {
                    Err(LinkLost)
                };
            }
            room.await;
        }
    }

    /// Sends a control message that expects no answer, or whose answer is a
    /// [`Notice`]; false if the link has ended.
    pub fn send(&self, message: &Message) -> bool {
        self.push(0, message, Bytes::new(), Pace::AtOnce)
    }

    /// The same for what goes before others, which follow at once: together with
    /// them, so that the node wakes up once.
    pub fn precede(&self, message: &Message) -> bool {
        self.push(0, message, Bytes::new(), Pace::Batched)
    }

    /// The same for what nobody waits for: it goes with what is queued, and not at
    /// all if there is much; whether it is queued.
    pub fn post(&self, message: &Message) -> bool {
        let has_room = self.out.lock().queue.bytes() < OUT_BYTES;
        has_room && self.push(0, message, Bytes::new(), Pace::Batched)
    }

    /// Lets the node hear something, unless it is about to hear more: what a stuck
    /// socket does not take must not pile up.
    pub fn keep_awake(&self) {
        if self.out.lock().is_written() {
            self.send(&Message::Ping);
        }
    }

    /// Whether somebody has waited for `patience` while nothing came: the node
    /// is frozen without notice, cut off, or stuck.
    pub fn is_mute(&self, patience: Duration) -> bool {
        let waiters = self.waiters.lock();
        waiters
            .silent_since
            .is_some_and(|since| since.elapsed() >= patience)
    }

    /// Ends the link: its requests go to the node's next invocation.
    pub fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Something came, or went out.
    fn heard(&self) {
        let mut waiters = self.waiters.lock();
        let waits = !waiters.by_request.is_empty();
        waiters.silent_since = waits.then(Instant::now);
    }

    /// Ends every request that still waits.
    fn close(&self) {
        let mut out = self.out.lock();
        if let Some(socket) = out.socket.take() {
            socket.close();
        }
        out.queue = SendQueue::new(out.queue.version());
        drop(out);
        self.room.notify_waiters();
        let mut waiters = self.waiters.lock();
        waiters.closed = true;
        for (_, waiter) in waiters.by_request.drain() {
            let _ = waiter.answers.try_send((waiter.tag, Answer::LinkLost));
        }
    }

    /// A cell begins to arrive: whoever waits for the first one hears of it.
    fn announce(&self, request: u32) -> io::Result<()> {
        let mut waiters = self.waiters.lock();
        let Some(waiter) = waiters.by_request.get_mut(&request) else {
            return Ok(());
        };
        if !std::mem::take(&mut waiter.announce) {
            return Ok(());
        }
        match waiter.answers.try_send((waiter.tag, Answer::Coming)) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(too_much()),
            _ => Ok(()),
        }
    }

    /// Hands an answer over. The entry goes with the last answer.
    fn answer(&self, request: u32, answer: Answer) -> io::Result<()> {
        let mut waiters = self.waiters.lock();
        let Some(waiter) = waiters.by_request.get_mut(&request) else {
            return Ok(());
        };
        let (tag, is_cell) = (waiter.tag, matches!(answer, Answer::Cell { .. }));
        waiter.cells = waiter.cells.saturating_sub(is_cell.into());
        let is_last = !is_cell || waiter.cells == 0;
        match waiter.answers.try_send((tag, answer)) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(too_much()),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {
                if is_last {
                    waiters.by_request.remove(&request);
                }
                if waiters.by_request.is_empty() {
                    // it has said all that it was to say
                    waiters.silent_since = None;
                }
                Ok(())
            }
        }
    }
}

impl Call {
    /// Sends the request itself, or one more frame of it.
    pub async fn send(&self, message: Message, payload: Bytes) -> Result<(), LinkLost> {
        let link = &self.link;
        link.push_when_room(self.request, &message, payload, Pace::AtOnce)
            .await
    }

    /// Sends one cell of a put.
    pub async fn put(
        &self,
        chunk: &ChunkDescriptor,
        cell: Cell,
        last: bool,
        pace: Pace,
    ) -> Result<(), LinkLost> {
        let (stripe, checksum) = (cell.stripe, cell.checksum);
        let message = Message::Put {
            chunk: *chunk,
            stripe,
            checksum,
            last,
        };
        self.link
            .push_when_room(self.request, &message, cell.payload, pace)
            .await
    }
}

fn too_much() -> io::Error {
    io::Error::other("the node sent more than was asked for")
}

#[cfg(test)]
mod tests;
