//! The proxy's end of a link: requests out, replies back to whoever asked.
//!
//! A link lives for one invocation. Writing has a task of its own, so that a
//! request given up half-way never leaves half a frame behind. Replies go to
//! bounded queues sized for what was asked; a node that sends more than that
//! breaks the protocol and loses its link.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use scatterhoard_wire::{
    Cell, ChunkDescriptor, InvocationId,
    message::{Held, Message, Refusal},
    stream::{Assembler, Frame, SendQueue},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::mpsc,
};

/// Frames waiting to be written; whoever sends more waits. Cells among them
/// are references to bodies that were admitted before.
const OUT_FRAMES: usize = 64;
const IO_SLICES: usize = 64;

/// What came back for a request.
#[derive(Debug)]
pub enum Answer {
    /// The cells of a put are in memory; whether the chunk is complete.
    Stored {
        /// All cells of the chunk are there.
        complete: bool,
    },
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
    /// Alive.
    Pong,
    /// The link ended before the answer.
    LinkLost,
}

/// An answer with the tag that the asker gave its request.
pub type Tagged = (u8, Answer);

struct Outgoing {
    request: u32,
    message: Message,
    payload: Bytes,
}

struct Waiter {
    tag: u8,
    answers: mpsc::Sender<Tagged>,
}

#[derive(Default)]
struct Waiters {
    by_request: HashMap<u32, Waiter>,
    last_request: u32,
    closed: bool,
}

/// The link of one invocation. Cheap to share.
pub struct Link {
    invocation: InvocationId,
    out: mpsc::Sender<Outgoing>,
    waiters: Mutex<Waiters>,
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
        let unanswered = self
            .link
            .waiters
            .lock()
            .by_request
            .remove(&self.request)
            .is_some();
        if unanswered {
            // best effort: a full queue only means that the node works in vain
            let _ = self.link.out.try_send(Outgoing {
                request: self.request,
                message: Message::Cancel,
                payload: Bytes::new(),
            });
        }
    }
}

/// The writing end that [`Link::new`] hands to [`run`].
pub struct Outbox(mpsc::Receiver<Outgoing>);

impl Link {
    /// A link that is about to be served by [`run`].
    pub fn new(invocation: InvocationId) -> (Arc<Self>, Outbox) {
        let (out, outbox) = mpsc::channel(OUT_FRAMES);
        (
            Arc::new(Self {
                invocation,
                out,
                waiters: Mutex::default(),
            }),
            Outbox(outbox),
        )
    }

    /// The invocation that it lives for.
    pub fn invocation(&self) -> InvocationId {
        self.invocation
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.waiters.lock().closed
    }

    /// Registers a request. Its answers, each with `tag`, go to `answers`,
    /// which must have room for all of them.
    pub fn call(
        self: &Arc<Self>,
        tag: u8,
        answers: &mpsc::Sender<Tagged>,
    ) -> Result<Call, LinkLost> {
        let mut waiters = self.waiters.lock();
        if waiters.closed {
            return Err(LinkLost);
        }
        // 0 is for frames without a request
        waiters.last_request = waiters.last_request.wrapping_add(1).max(1);
        let request = waiters.last_request;
        waiters.by_request.insert(
            request,
            Waiter {
                tag,
                answers: answers.clone(),
            },
        );
        Ok(Call {
            link: self.clone(),
            request,
        })
    }

    /// Sends a message without expecting an answer.
    pub async fn send(&self, message: Message) -> Result<(), LinkLost> {
        let outgoing = Outgoing {
            request: 0,
            message,
            payload: Bytes::new(),
        };
        self.out.send(outgoing).await.map_err(|_| LinkLost)
    }

    /// Sends a message without waiting for room; false if there is none.
    pub fn try_send(&self, message: Message) -> bool {
        self.out
            .try_send(Outgoing {
                request: 0,
                message,
                payload: Bytes::new(),
            })
            .is_ok()
    }

    /// Ends every request that still waits.
    fn close(&self) {
        let mut waiters = self.waiters.lock();
        waiters.closed = true;
        for (_, waiter) in waiters.by_request.drain() {
            let _ = waiter.answers.try_send((waiter.tag, Answer::LinkLost));
        }
    }

    /// Hands an answer over. The entry goes with the last answer.
    fn answer(&self, request: u32, answer: Answer) -> io::Result<()> {
        let mut waiters = self.waiters.lock();
        let Some(waiter) = waiters.by_request.get(&request) else {
            return Ok(());
        };
        let (tag, is_cell) = (waiter.tag, matches!(answer, Answer::Cell { .. }));
        match waiter.answers.try_send((tag, answer)) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(io::Error::other("the node sent more than was asked for"))
            }
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {
                if !is_cell {
                    waiters.by_request.remove(&request);
                }
                Ok(())
            }
        }
    }
}

impl Call {
    /// Sends the request itself, or one more frame of it.
    pub async fn send(&self, message: Message, payload: Bytes) -> Result<(), LinkLost> {
        let outgoing = Outgoing {
            request: self.request,
            message,
            payload,
        };
        self.link.out.send(outgoing).await.map_err(|_| LinkLost)
    }

    /// Sends one cell of a put.
    pub async fn put(
        &self,
        chunk: &ChunkDescriptor,
        cell: Cell,
        last: bool,
    ) -> Result<(), LinkLost> {
        let message = Message::Put {
            chunk: *chunk,
            stripe: cell.stripe,
            checksum: cell.checksum,
            last,
        };
        self.send(message, cell.payload).await
    }

    /// No more answers are expected although the last one was a cell.
    pub fn finish(self) {
        self.link.waiters.lock().by_request.remove(&self.request);
    }
}

/// What the owner of a link is told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The node said what it holds.
    Held(Held),
    /// The oldest unconfirmed delete was carried out.
    Deleted,
    /// The node takes no more requests.
    Goodbye,
}

/// Serves a link until it ends; says why, `None` after a proper goodbye.
pub async fn run(
    link: &Arc<Link>,
    outbox: Outbox,
    reader: OwnedReadHalf,
    assembler: Assembler,
    writer: OwnedWriteHalf,
    notice: &(impl Fn(Notice) + Sync),
) -> Option<io::Error> {
    // whichever direction ends first ends the link
    let end = tokio::select! {
        end = read(link, reader, assembler, notice) => end,
        end = write(outbox, writer) => end,
    };
    link.close();
    end.err()
}

async fn read(
    link: &Arc<Link>,
    mut reader: OwnedReadHalf,
    mut assembler: Assembler,
    notice: &(impl Fn(Notice) + Sync),
) -> io::Result<()> {
    let mut said_goodbye = false;
    loop {
        while let Some(frame) = assembler.next_frame().map_err(io::Error::other)? {
            said_goodbye |= receive(link, frame, notice).await?;
        }
        let n = reader.read_buf(&mut assembler.spare()).await?;
        if n == 0 {
            return if said_goodbye {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        assembler.filled(n);
    }
}

/// Handles one frame; true if it was the goodbye.
async fn receive(
    link: &Arc<Link>,
    frame: Frame,
    notice: &(impl Fn(Notice) + Sync),
) -> io::Result<bool> {
    let answer = match frame.message {
        Message::Stored { complete, held } => {
            notice(Notice::Held(held));
            Answer::Stored { complete }
        }
        Message::Cell { stripe, checksum } => Answer::Cell {
            stripe,
            checksum,
            payload: frame.payload,
        },
        Message::Missing => Answer::Missing,
        Message::Refused(why) => Answer::Refused(why),
        Message::Deleted(held) => {
            notice(Notice::Held(held));
            if frame.request == 0 {
                notice(Notice::Deleted);
                return Ok(false);
            }
            Answer::Deleted
        }
        Message::Listed { chunks, more } => Answer::Listed { chunks, more },
        Message::Pong(held) => {
            notice(Notice::Held(held));
            Answer::Pong
        }
        Message::Goodbye(_) => {
            notice(Notice::Goodbye);
            // behind everything that was sent before: the node may go then
            link.send(Message::GoodbyeOk)
                .await
                .map_err(io::Error::other)?;
            return Ok(true);
        }
        other => return Err(io::Error::other(format!("the node sent {other:?}"))),
    };
    link.answer(frame.request, answer)?;
    Ok(false)
}

async fn write(mut outbox: Outbox, mut writer: OwnedWriteHalf) -> io::Result<()> {
    let mut queue = SendQueue::default();
    let mut batch = Vec::with_capacity(OUT_FRAMES);
    while outbox.0.recv_many(&mut batch, OUT_FRAMES).await > 0 {
        for out in batch.drain(..) {
            queue.push(out.request, &out.message, out.payload);
        }
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); IO_SLICES];
            let used = queue.slices(&mut slices);
            let n = writer.write_vectored(&slices[..used]).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            queue.advance(n);
        }
    }
    Ok(())
}
