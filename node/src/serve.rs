//! The link of one invocation: dial, hello, requests, goodbye.
//!
//! One task, one socket, no channels: it reads while little is waiting to be
//! written, takes cells for the running gets in turn, and writes what the
//! socket takes. Whatever a peer sends, the worst outcome is that the link ends
//! and the instance returns.

mod gets;

use std::{cell::RefCell, collections::HashSet, io, io::IoSlice, time::Duration};

use bytes::Bytes;
use scatterhoard_wire::{
    Cell, ChunkId, Epoch, Version, Versions,
    invoke::{Ending, Invocation},
    limits::LIST_PAGE,
    message::{GoodbyeReason, Message, Refusal},
    stream::{Assembler, Frame, SendQueue},
};
use tokio::time::{Instant, timeout};

use crate::{
    end::{End, Event},
    instance::Instance,
};
use gets::Gets;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for what is bound to come; the proxy may be busy encoding.
const GRACE: Duration = Duration::from_millis(500);
/// In the middle of a request nothing moves for so long: the link is dead, and
/// every millisecond is billed.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for goodbye-ok; the proxy may be gone.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// Cells are taken from the store for writing up to about so much.
const SEND_AHEAD_BYTES: usize = 1 << 20;
/// Puts under way at once on one link; the proxy is told when there are more.
const MAX_PUTS: usize = 4096;
/// Deletes that are told together at most.
const MAX_DELETES: u32 = 64;
const IO_SLICES: usize = 32;

/// When to leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// Say goodbye now, under any load.
    pub(crate) goodbye: Instant,
    /// Return now, whether goodbye was answered or not.
    pub(crate) give_up: Instant,
}

/// Serves one link in this version, dialled like this; says how it ended.
pub(crate) async fn serve(
    instance: &RefCell<Instance>,
    invocation: &Invocation,
    version: Version,
    deadlines: Deadlines,
    dial: impl AsyncFnOnce(&RefCell<Instance>, &Invocation) -> io::Result<End>,
) -> Ending {
    let end = match dial(instance, invocation).await {
        Ok(end) => end,
        Err(error) => {
            tracing::warn!(proxy = %invocation.proxy, %error, "cannot dial the proxy");
            return Ending::Unreachable;
        }
    };
    let mut link = Link {
        end,
        instance,
        assembler: Assembler::new(Versions::only(version)),
        queue: SendQueue::new(version),
        gets: Gets::default(),
        puts: HashSet::new(),
        deletes: 0,
        epoch: invocation.epoch,
        leaving: None,
        is_sealed: false,
        last_use: Instant::now(),
        is_new: true,
        unfinished: HashSet::new(),
    };
    let ended = link.run(invocation, deadlines).await;
    link.end.close();
    match ended {
        Ok(ending) => ending,
        Err(error) => {
            tracing::info!(invocation = %invocation.invocation, %error, "link lost");
            Ending::LinkLost
        }
    }
}

/// Connects over TCP; with a certificate given, to the proxy that has it and in TLS, or
/// not at all.
pub(crate) async fn dial(instance: &RefCell<Instance>, invocation: &Invocation) -> io::Result<End> {
    let stream = timeout(CONNECT_TIMEOUT, crate::socket::connect(invocation.proxy)).await??;
    let Some(certificate) = invocation.certificate else {
        let linger = Duration::from_millis(invocation.linger_ms.into());
        return End::alone(stream, linger);
    };
    let dialer = instance.borrow_mut().dialer(certificate)?;
    let handshake = dialer.connect(stream, invocation.proxy.ip());
    Ok(End::beside(timeout(HANDSHAKE_TIMEOUT, handshake).await??))
}

struct Link<'a> {
    end: End,
    instance: &'a RefCell<Instance>,
    assembler: Assembler,
    queue: SendQueue,
    gets: Gets,
    /// Puts whose last cell has not come.
    puts: HashSet<u32>,
    /// Deletes that nobody waits for were carried out: the word of it goes with
    /// the answer to what is just arriving.
    deletes: u32,
    /// The proxy's.
    epoch: Epoch,
    leaving: Option<(GoodbyeReason, Instant)>,
    /// No more cells are taken.
    is_sealed: bool,
    last_use: Instant,
    /// Nothing was asked yet: the first request of the link is bound to come.
    is_new: bool,
    /// Chunks of which a window came, and the rest is bound to come.
    unfinished: HashSet<ChunkId>,
}

/// What a frame means for the life of the link.
enum Next {
    Stay,
    Leave(Ending),
}

impl Link<'_> {
    async fn run(&mut self, invocation: &Invocation, deadlines: Deadlines) -> io::Result<Ending> {
        let hello = self.instance.borrow().hello(invocation);
        self.queue.push(0, &Message::Hello(hello), Bytes::new());
        if let Some(ending) = self.welcome().await? {
            return Ok(ending);
        }
        let linger = Duration::from_millis(invocation.linger_ms.into());
        self.last_use = Instant::now();
        loop {
            // also what came together with the welcome
            while let Some(frame) = self.next_frame()? {
                if let Next::Leave(ending) = self.handle(frame, deadlines) {
                    return Ok(ending);
                }
            }
            self.gets.take_turns(
                &self.instance.borrow().store,
                &mut self.queue,
                SEND_AHEAD_BYTES,
            );
            let alone = !self.assembler.at_border() && self.is_written();
            if !alone || self.deletes > MAX_DELETES {
                self.tell_deletes();
            }
            self.write_ready()?;
            let now = Instant::now();
            let wake = self.wake_at(linger, deadlines);
            if now >= wake {
                match self.leaving {
                    Some((reason, _)) => return Ok(ending_of(reason)),
                    None if now >= deadlines.goodbye => {
                        self.leave(GoodbyeReason::Deadline, deadlines)
                    }
                    None if self.is_quiet() => self.leave(GoodbyeReason::Idle, deadlines),
                    // in the middle of something, and nothing moves: the proxy is gone
                    None => return Err(io::ErrorKind::TimedOut.into()),
                }
                continue;
            }
            self.wait_and_read(wake).await?;
        }
    }

    /// The next whole frame. Its payload is in a buffer of the store's, if it
    /// has one that fits: most likely it stays there.
    fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let store = |len| self.instance.borrow_mut().store.buffer(len);
        let frame = self.assembler.next_frame_into(store);
        frame.map_err(io::Error::other)
    }

    /// Sends the hello and waits for the answer; an ending if it is no.
    async fn welcome(&mut self) -> io::Result<Option<Ending>> {
        let end = Instant::now() + WELCOME_TIMEOUT;
        loop {
            self.write_ready()?;
            self.wait_and_read(end).await?;
            if Instant::now() >= end {
                return Ok(Some(Ending::LinkLost));
            }
            let Some(frame) = self.assembler.next_frame().map_err(io::Error::other)? else {
                continue;
            };
            return match frame.message {
                Message::Welcome => Ok(None),
                Message::Reject(why) => {
                    tracing::warn!(why, "the proxy refused the link");
                    Ok(Some(Ending::Rejected))
                }
                _ => Err(io::Error::other("expected welcome")),
            };
        }
    }

    /// When something is due although no byte arrives.
    fn wake_at(&self, linger: Duration, deadlines: Deadlines) -> Instant {
        match self.leaving {
            Some((_, give_up)) => give_up,
            None if self.is_quiet() => {
                let linger = if self.is_new || !self.unfinished.is_empty() {
                    linger.max(GRACE)
                } else {
                    linger
                };
                (self.last_use + linger).min(deadlines.goodbye)
            }
            None => (self.last_use + STALL_TIMEOUT).min(deadlines.goodbye),
        }
    }

    fn is_quiet(&self) -> bool {
        self.gets.is_empty()
            && self.puts.is_empty()
            && self.is_written()
            && self.assembler.at_border()
    }

    /// Whether the socket has all of it.
    fn is_written(&self) -> bool {
        self.queue.is_empty() && !self.end.has_unsent()
    }

    /// Backpressure: while much is to be written, nothing more is read. When
    /// leaving, reading goes on, for goodbye-ok comes behind everything else.
    fn is_reading(&self) -> bool {
        self.leaving.is_some()
            || (self.queue.bytes() < 2 * SEND_AHEAD_BYTES && self.gets.has_room())
    }

    /// Waits until something can be read or written, or `wake`.
    async fn wait_and_read(&mut self, wake: Instant) -> io::Result<()> {
        // a get may have more cells than were taken ahead of the socket
        let writing = !self.is_written() || !self.gets.is_empty();
        let reading = self.is_reading();
        let mut spare = self.assembler.spare();
        let into = reading.then_some(&mut spare);
        match self.end.wait(into, writing, wake).await? {
            Event::Read(n) => self.assembler.filled(n),
            // the peer took something
            Event::Writable => self.last_use = Instant::now(),
            Event::Late => {}
        }
        Ok(())
    }

    /// Writes as much as the socket takes.
    fn write_ready(&mut self) -> io::Result<()> {
        while !self.is_written() {
            let mut slices = [IoSlice::new(&[]); IO_SLICES];
            let used = self.queue.slices(&mut slices);
            match self.end.try_write_vectored(&slices[..used]) {
                Ok(n) => self.queue.advance(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
            self.last_use = Instant::now();
        }
        Ok(())
    }

    fn reply(&mut self, request: u32, message: &Message) {
        self.tell_deletes();
        self.queue.push(request, message, Bytes::new());
    }

    /// From here on nothing new is taken; what is under way is handed back.
    fn leave(&mut self, reason: GoodbyeReason, deadlines: Deadlines) {
        if self.leaving.is_some() {
            return;
        }
        for request in self.gets.drain() {
            self.reply(request, &Message::Refused(Refusal::Returning));
        }
        self.reply(0, &Message::Goodbye(reason));
        self.leaving = Some((
            reason,
            (Instant::now() + GOODBYE_TIMEOUT).min(deadlines.give_up),
        ));
    }

    fn handle(&mut self, frame: Frame, deadlines: Deadlines) -> Next {
        self.last_use = Instant::now();
        if matches!(
            frame.message,
            Message::Put { .. } | Message::Get { .. } | Message::List(_)
        ) {
            self.is_new = false;
        }
        let request = frame.request;
        match frame.message {
            Message::GoodbyeOk => {
                // what is still queued is lost on purpose: the proxy has said
                // that it expects nothing more
                let reason = self
                    .leaving
                    .map_or(GoodbyeReason::Released, |(reason, _)| reason);
                return Next::Leave(ending_of(reason));
            }
            Message::Release => self.leave(GoodbyeReason::Released, deadlines),
            Message::Seal => self.is_sealed = true,
            Message::Retire => self.leave(GoodbyeReason::Retired, deadlines),
            Message::Cancel => {
                self.gets.cancel(request);
                self.puts.remove(&request);
            }
            Message::Put { .. } | Message::Get { .. } if self.leaving.is_some() => {
                self.reply(request, &Message::Refused(Refusal::Returning));
            }
            Message::Put { last, .. } if self.is_sealed => {
                if last {
                    self.puts.remove(&request);
                }
                self.reply(request, &Message::Refused(Refusal::Returning));
            }
            Message::Put {
                chunk,
                stripe,
                checksum,
                last,
            } => {
                let cell = Cell {
                    stripe,
                    checksum,
                    payload: frame.payload.freeze(),
                };
                let known = self.puts.len() < MAX_PUTS || self.puts.contains(&request);
                if last {
                    self.puts.remove(&request);
                } else if known {
                    self.puts.insert(request);
                }
                let outcome = if known {
                    self.put(&chunk, cell)
                } else {
                    Err(Refusal::Busy)
                };
                match outcome {
                    Err(why) => {
                        self.unfinished.remove(&chunk.id);
                        self.reply(request, &Message::Refused(why));
                    }
                    Ok(complete) if last => {
                        if complete {
                            self.unfinished.remove(&chunk.id);
                        } else if self.unfinished.len() < MAX_PUTS {
                            self.unfinished.insert(chunk.id);
                        }
                        let held = self.instance.borrow().store.held();
                        self.reply(request, &Message::Stored { complete, held });
                    }
                    Ok(_) => {}
                }
            }
            Message::Get {
                chunk,
                first,
                count,
            } => {
                if self.instance.borrow().store.cell(chunk, first).is_none() {
                    self.reply(request, &Message::Missing);
                } else if !self.gets.add(request, chunk, first, count) {
                    self.reply(request, &Message::Refused(Refusal::Busy));
                }
            }
            Message::Delete(ids) => {
                self.unfinished.retain(|id| !ids.contains(&id.write_id));
                self.instance.borrow_mut().store.delete(&ids);
                self.deleted(request);
            }
            Message::DeleteBelow(floor) => {
                self.unfinished.retain(|id| id.write_id >= floor);
                self.instance.borrow_mut().store.delete_below(floor);
                self.deleted(request);
            }
            Message::List(after) => {
                let (chunks, more) = self.instance.borrow().store.list(after, LIST_PAGE);
                self.reply(request, &Message::Listed { chunks, more });
            }
            Message::Label(label) => self.instance.borrow_mut().store.label(label),
            Message::Unlabel(ids) => self.instance.borrow_mut().store.unlabel(&ids),
            Message::ListLabels(after) => {
                let (labels, more) = self.instance.borrow().store.list_labels(after);
                self.reply(request, &Message::Labels { labels, more });
            }
            Message::SumLabels(after) => {
                let (sums, more) = self.instance.borrow().store.sum_labels(after);
                self.reply(request, &Message::LabelSums { sums, more });
            }
            Message::Ping => {
                let held = self.instance.borrow().store.held();
                self.reply(request, &Message::Pong(held));
            }
            other => {
                tracing::warn!(message = ?other, "the proxy sent what only a node says");
                return Next::Leave(Ending::LinkLost);
            }
        }
        Next::Stay
    }

    fn put(
        &mut self,
        chunk: &scatterhoard_wire::ChunkDescriptor,
        cell: Cell,
    ) -> Result<bool, Refusal> {
        let mut instance = self.instance.borrow_mut();
        // the proxy's epoch counts: it may repair what a predecessor wrote
        if self.epoch < instance.highest_epoch() {
            return Err(Refusal::StaleEpoch);
        }
        instance.store.put(chunk, cell)
    }

    fn deleted(&mut self, request: u32) {
        if request == 0 {
            self.deletes += 1;
            return;
        }
        let held = self.instance.borrow().store.held();
        self.reply(request, &Message::Deleted(held));
    }

    fn tell_deletes(&mut self) {
        for _ in 0..std::mem::take(&mut self.deletes) {
            let held = self.instance.borrow().store.held();
            self.queue.push(0, &Message::Deleted(held), Bytes::new());
        }
    }
}

fn ending_of(reason: GoodbyeReason) -> Ending {
    match reason {
        GoodbyeReason::Idle => Ending::Idle,
        GoodbyeReason::Deadline => Ending::Deadline,
        GoodbyeReason::Released => Ending::Released,
        GoodbyeReason::Retired => Ending::Retired,
    }
}
