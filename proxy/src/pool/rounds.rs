//! Rounds: the two instances of a node awake at the same time, so that chunks
//! can be listed on both and copied from one to the other.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use scatterhoard_wire::{
    Cell, ChunkDescriptor, InstanceId, WriteId,
    limits::DELETE_BATCH,
    message::{Message, Refusal},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use tokio_util::task::AbortOnDropHandle;

use super::{
    NodeError, Pool,
    backup::Ending,
    lifecycle::Event,
    link::{Answer, Asker, Link, LinkLost, Pace},
    node::{Node, Second, SecondAccess},
};

/// An instance that was invoked for a round returns when it hears nothing for so
/// long.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// So they hear something this often.
const KEEP_AWAKE: Duration = Duration::from_millis(50);
/// The same of one that was invoked for others: it returns when it hears nothing for its
/// linger time.
const KEEP_SERVING: Duration = Duration::from_millis(3);
/// Cells of a chunk that are copied at a time.
const COPY_CELLS: u32 = 4;

/// Why a chunk was not copied.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the links ended, or its instance is about to return: go on in the
    /// next round.
    #[error("interrupted")]
    Interrupted,
    /// The instance that was to have it is full.
    #[error("instance is full")]
    Full,
    /// What should be copied is not there, or is damaged.
    #[error("nothing sound to copy")]
    Unsound,
}

/// Two instances of a node, awake. They are let go when this is dropped.
pub struct Round {
    /// The node.
    pub node: Arc<Node>,
    /// The link that serves requests, too.
    pub main: Arc<Link>,
    /// The other instance, if the platform gave one.
    pub second: Option<Second>,
    pool: Arc<Pool>,
    began: Instant,
    how: Ending,
    is_merged: bool,
    retires: bool,
    is_vain: bool,
    _awake: AbortOnDropHandle<()>,
}

impl Round {
    /// All that was to be done is done. `is_merged`: the instance that serves has
    /// all that the other one has.
    pub fn done(mut self, is_merged: bool) {
        self.done_with(Ending::Done, is_merged);
    }

    fn done_with(&mut self, how: Ending, is_merged: bool) {
        self.how = match self.second {
            None if self.pool.has_standbys() => Ending::Alone,
            _ => how,
        };
        self.is_merged = is_merged;
    }

    /// Chunks are on neither instance, and may be on one that has not returned to the
    /// platform yet: the next round may meet it. `is_vain`: the second instance holds
    /// nothing, and goes, lest the platform choose it in place of that one.
    pub fn done_early(mut self, is_merged: bool, is_vain: bool) {
        self.done_with(Ending::Early, is_merged);
        self.is_vain = is_vain;
    }

    /// The same of a node that nothing names any more: its instances return at once, so
    /// that the next round may meet others.
    pub fn done_with_all(self) {
        self.node.release();
        self.done(true);
    }

    /// The same, and the second instance goes for good: the one that serves has
    /// all that it has.
    pub fn done_with_second(mut self) {
        self.retires = true;
        self.done(true);
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        let main = self.main.invocation();
        match &self.second {
            Some(second) if self.retires => self.pool.retire(&self.node, second),
            Some(second) if self.is_vain => self.node.send_away(second),
            Some(second) => {
                second.link.send(&Message::Release);
            }
            None => {}
        }
        if self.node.woken_in_vain(main, self.began) {
            self.main.send(&Message::Release);
        }
        let second = self.second.as_ref().map(|s| (main, s.instance));
        let merged = second.filter(|_| self.is_merged);
        if self.node.end_round(self.how, merged, Instant::now()) {
            self.pool.rounds.notify_one();
        }
    }
}

impl Pool {
    /// Nodes whose round is due, in turn, and if there are any, others whose round would
    /// be soon; each of them must be given to [`Self::open_round`].
    pub fn due_rounds(&self, at_most: usize) -> Vec<Arc<Node>> {
        let now = Instant::now();
        let count = self.seats.len();
        let first = self.next_round.load(Ordering::Relaxed) % count.max(1);
        let in_turn = self.nodes().cycle().skip(first).take(count);
        let begun = in_turn.clone().filter(|node| node.begin_round(now));
        let mut due: Vec<Arc<Node>> = begun.take(at_most).cloned().collect();
        if !due.is_empty() {
            let rest = at_most - due.len();
            let soon = in_turn.filter(|node| node.begin_round_in_company(now));
            due.extend(soon.take(rest).cloned());
        }
        if let Some(last) = due.last() {
            let next = usize::from(last.id.0) + 1;
            self.next_round.store(next, Ordering::Relaxed);
        }
        due
    }

    /// Returns when a round may be due that was not a moment ago; at the latest
    /// after `most`.
    pub async fn round_may_be_due(&self, most: Duration) {
        let _ = timeout(most, self.rounds.notified()).await;
    }

    /// Wakes the node, and a second instance of it beside the first one.
    pub async fn open_round(
        self: &Arc<Self>,
        node: Arc<Node>,
        patience: Duration,
    ) -> Result<Round, NodeError> {
        let began = Instant::now();
        let deadline = began + patience;
        let opened = async {
            let main = self.link_for(&node, Event::RoundWanted, deadline).await?;
            let every = match node.woken_for_round(main.invocation()) {
                true => KEEP_AWAKE,
                false => KEEP_SERVING,
            };
            let mut second = None;
            if self.has_standbys() {
                second = tokio::select! {
                    biased;
                    second = self.second_link(&node, deadline) => second?,
                    never = keep_awake(vec![main.clone()], every) => match never {},
                };
            }
            let links = [Some(&main), second.as_ref().map(|s| &s.link)];
            let links = links.into_iter().flatten().cloned().collect();
            let awake = async move { match keep_awake(links, every).await {} };
            let awake = AbortOnDropHandle::new(self.tasks.spawn(awake));
            Ok((main, second, awake))
        };
        match opened.await {
            Ok((main, second, awake)) => Ok(Round {
                node,
                main,
                second,
                pool: self.clone(),
                began,
                how: Ending::BrokenOff,
                is_merged: false,
                retires: false,
                is_vain: false,
                _awake: awake,
            }),
            Err(error) => {
                if let Some(second) = node.open_second() {
                    second.link.send(&Message::Release);
                }
                node.end_round(Ending::BrokenOff, None, Instant::now());
                Err(error)
            }
        }
    }

    async fn second_link(
        self: &Arc<Self>,
        node: &Arc<Node>,
        deadline: Instant,
    ) -> Result<Option<Second>, NodeError> {
        let mut asked = false;
        loop {
            let changed = node.changed.notified();
            tokio::pin!(changed);
            // before looking, or a change in between would be missed
            changed.as_mut().enable();
            match node.second(asked, Instant::now()) {
                SecondAccess::Open(second) => return Ok(Some(second)),
                SecondAccess::None => return Ok(None),
                SecondAccess::Wait(_) if self.stop.is_cancelled() => {
                    return Err(NodeError::Stopping);
                }
                SecondAccess::Wait(action) => {
                    // the one of the last round may still be returning
                    asked |= action.is_some();
                    self.act(node, action);
                }
            }
            tokio::time::timeout_at(deadline, changed)
                .await
                .map_err(|_| NodeError::Deadline)?;
        }
    }

    /// Has a round made of this node as soon as possible, and waits for its end,
    /// or that of one under way.
    pub async fn await_round(&self, node: &Node, deadline: Instant) {
        let before = node.urge_round();
        self.rounds.notify_one();
        loop {
            let changed = node.changed.notified();
            tokio::pin!(changed);
            // before looking, or a change in between would be missed
            changed.as_mut().enable();
            if node.rounds_ended() != before {
                return;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return;
            }
        }
    }

    /// All complete chunks of the instance at the other end of a link.
    pub async fn list_on(
        &self,
        link: &Arc<Link>,
        patience: Duration,
    ) -> Result<Vec<ChunkDescriptor>, NodeError> {
        let mut all: Vec<ChunkDescriptor> = Vec::new();
        loop {
            let list = Message::List(all.last().map(|c| c.id));
            match self.ask(link, list, Instant::now() + patience).await? {
                Answer::Listed { chunks, more } => {
                    let progress = !chunks.is_empty();
                    all.extend(chunks);
                    if !more || !progress {
                        return Ok(all);
                    }
                }
                Answer::LinkLost | Answer::Refused(_) => return Err(NodeError::Interrupted),
                _ => return Err(NodeError::Deadline),
            }
        }
    }

    /// Has the instance that serves free what it may, and waits until it has. Not
    /// a request: it keeps nobody awake beyond the round.
    pub async fn purge_main(&self, round: &Round, patience: Duration) -> Result<(), NodeError> {
        round.node.tell_garbage(&round.main, self.floor());
        let deadline = Instant::now() + patience;
        // answered behind the deletes, since a link keeps its order
        match self.ask(&round.main, Message::Ping, deadline).await? {
            Answer::Pong => Ok(()),
            _ => Err(NodeError::Interrupted),
        }
    }

    /// Has an instance free what is garbage.
    pub fn free_on(&self, link: &Link, garbage: &[WriteId]) {
        for batch in garbage.chunks(DELETE_BATCH) {
            link.send(&Message::Delete(batch.to_vec()));
        }
    }

    /// Has the instances of a round drop all that they hold; which they are. `None`: a
    /// link has ended.
    pub fn drop_all(&self, round: &Round) -> Option<Vec<InstanceId>> {
        let second = round.second.as_ref();
        let second = second.map(|second| (&*second.link, second.instance));
        round.node.drop_all(&round.main, second)
    }

    /// A round of this node is due now.
    pub fn have_round(&self, node: &Node) {
        node.urge_round();
        self.rounds.notify_one();
    }

    /// Copies a chunk from one instance to another, a few cells at a time, each
    /// of them checked.
    pub async fn copy_chunk(
        &self,
        from: &Arc<Link>,
        to: &Arc<Link>,
        chunk: &ChunkDescriptor,
        patience: Duration,
    ) -> Result<(), CopyError> {
        let stripes = chunk.layout.stripes();
        for first in (0..stripes).step_by(COPY_CELLS as usize) {
            let count = COPY_CELLS.min(stripes - first);
            let cells = fetch(from, chunk, first, count, patience).await?;
            let complete = store(to, chunk, cells, patience).await?;
            if first + count == stripes && !complete {
                return Err(CopyError::Interrupted);
            }
        }
        Ok(())
    }
}

/// A task of its own: the round may be busy for longer than a node waits.
async fn keep_awake(links: Vec<Arc<Link>>, every: Duration) -> Infallible {
    loop {
        sleep(every).await;
        links.iter().for_each(|link| link.keep_awake());
    }
}

/// Gets `count` cells of a chunk, from stripe `first` on.
async fn fetch(
    link: &Arc<Link>,
    chunk: &ChunkDescriptor,
    first: u32,
    count: u32,
    patience: Duration,
) -> Result<Vec<Cell>, CopyError> {
    let (sender, mut answers) = mpsc::channel(count as usize + 2);
    let asker = Asker {
        cells: count,
        ..Asker::single(&sender)
    };
    let call = link.call(asker)?;
    let get = Message::Get {
        chunk: chunk.id,
        first,
        count,
    };
    in_time(patience, call.send(get, Bytes::new())).await??;
    let mut cells = Vec::with_capacity(count as usize);
    while cells.len() < count as usize {
        let answer = in_time(patience, answers.recv()).await?;
        let Some((_, answer)) = answer else {
            return Err(CopyError::Interrupted);
        };
        match answer {
            Answer::Cell {
                stripe,
                checksum,
                payload,
            } if stripe == first + cells.len() as u32
                && chunk.verifies(stripe, checksum, &payload) =>
            {
                cells.push(Cell {
                    stripe,
                    checksum,
                    payload: payload.freeze(),
                });
            }
            Answer::Cell { .. } | Answer::Missing => return Err(CopyError::Unsound),
            _ => return Err(CopyError::Interrupted),
        }
    }
    Ok(cells)
}

/// Puts cells on an instance; whether the chunk is complete with them.
async fn store(
    link: &Arc<Link>,
    chunk: &ChunkDescriptor,
    cells: Vec<Cell>,
    patience: Duration,
) -> Result<bool, CopyError> {
    // one answer for all, and one refusal for each
    let (sender, mut answers) = mpsc::channel(cells.len() + 2);
    let call = link.call(Asker::single(&sender))?;
    let last = cells.len() - 1;
    for (i, cell) in cells.into_iter().enumerate() {
        let put = call.put(chunk, cell, i == last, Pace::Batched);
        in_time(patience, put).await??;
    }
    match in_time(patience, answers.recv()).await? {
        Some((_, Answer::Stored { complete })) => Ok(complete),
        Some((_, Answer::Refused(Refusal::Full))) => Err(CopyError::Full),
        Some((_, Answer::Refused(Refusal::BadCell))) => Err(CopyError::Unsound),
        _ => Err(CopyError::Interrupted),
    }
}

async fn in_time<T>(patience: Duration, future: impl Future<Output = T>) -> Result<T, CopyError> {
    timeout(patience, future)
        .await
        .map_err(|_| CopyError::Interrupted)
}

impl From<LinkLost> for CopyError {
    fn from(_: LinkLost) -> Self {
        Self::Interrupted
    }
}
