//! Small values that are written at the same time share a segment: one object
//! on nodes for many of them, so that they cost its requests together. Each
//! still has its own write id, and is committed, read, overwritten and deleted
//! on its own; the index knows where in which segment it lies.
//!
//! An acknowledged value is on its quorum of nodes, so nobody waits to fill a
//! segment: it takes what has come while the segments before it were written. A
//! value that comes alone goes to nodes alone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use scatterhoard_wire::{Layout, WriteId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Key, ReadError, Store, write::WriteError, written::Written};
use crate::{
    keyspace::{Member, Object, Place},
    pool::link::Pace,
    value::Value,
};

/// Longest segment, unless its first value alone is longer.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Cells are short: a reader of one value must take a whole one.
const SEGMENT_CELL_BYTES: u32 = 32 << 10;
/// Small writes under way at once that go to nodes alone.
const ALONE: usize = 1;
/// Segments under way at once; meanwhile the next one fills.
const SEGMENTS_AT_ONCE: usize = 2;
/// Segments that have been more than half holes for so long are cleaned: those
/// whose values are overwritten all the time become empty by themselves.
const CLEAN_EVERY: Duration = Duration::from_secs(5);
/// Values that wait at once; more wait outside.
const QUEUE: usize = 4096;

/// A value that has a name, and no place yet.
#[derive(Clone)]
pub(super) struct Nameless {
    /// Names the write.
    pub(super) write_id: WriteId,
    /// Says how long it is.
    pub(super) layout: Layout,
    /// The value.
    pub(super) value: Bytes,
}

/// A small value on its way to a segment, and who waits for it.
pub struct SmallWrite {
    value: Nameless,
    reply: oneshot::Sender<Result<Written, WriteError>>,
}

/// Decides who goes alone, and queues the others.
pub(super) struct Packer {
    queue: mpsc::Sender<SmallWrite>,
    alone: Arc<Semaphore>,
    up_to_bytes: u64,
}

impl Packer {
    pub(super) fn new(up_to_bytes: u64) -> (Self, mpsc::Receiver<SmallWrite>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let packer = Self {
            queue,
            alone: Arc::new(Semaphore::new(ALONE)),
            up_to_bytes,
        };
        (packer, receiver)
    }

    /// Whether values of this length share segments.
    pub(super) fn packs(&self, len: u64) -> bool {
        len > 0 && len <= self.up_to_bytes
    }

    /// Leave to go to nodes alone; none if it is to share a segment.
    pub(super) fn take_turn(&self, value: &Value) -> Option<Option<OwnedSemaphorePermit>> {
        if !self.packs(value.len()) {
            return Some(None);
        }
        self.alone.clone().try_acquire_owned().ok().map(Some)
    }
}

/// Cuts values into groups that fit a segment each.
pub(super) fn groups<T>(values: Vec<T>, len: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for value in values {
        let bytes = len(&value);
        match groups.last_mut() {
            Some(group) if bytes <= room => group.push(value),
            _ => {
                groups.push(vec![value]);
                room = SEGMENT_BYTES;
            }
        }
        room = room.saturating_sub(bytes);
    }
    groups
}

impl Store {
    /// Writes a small value together with others.
    pub(super) async fn write_packed(
        self: &Arc<Self>,
        write_id: WriteId,
        layout: Layout,
        value: Value,
    ) -> Result<Written, WriteError> {
        let (reply, answer) = oneshot::channel();
        let bytes = value.into_contiguous();
        let small = SmallWrite {
            value: Nameless {
                write_id,
                layout,
                value: bytes.clone(),
            },
            reply,
        };
        let queued = self.packer.queue.send(small).await;
        let written = match queued {
            Ok(()) => answer.await.unwrap_or(Err(WriteError::Stopping)),
            Err(_) => Err(WriteError::Stopping),
        };
        let mut written = written?;
        written.keep(bytes.into(), &self.settings);
        Ok(written)
    }

    /// Writes segments; ends when `drain` is cancelled and nothing is left.
    pub async fn pack_for_ever(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<SmallWrite>,
        drain: CancellationToken,
    ) {
        let mut writing = FuturesUnordered::new();
        let mut batch = Vec::with_capacity(QUEUE);
        loop {
            tokio::select! {
                biased;
                Some(()) = writing.next(), if !writing.is_empty() => {}
                _ = queue.recv_many(&mut batch, QUEUE), if writing.len() < SEGMENTS_AT_ONCE => {
                    let groups = groups(std::mem::take(&mut batch), |w| w.value.value.len() as u64);
                    writing.extend(groups.into_iter().map(|group| self.answer(group)));
                }
                () = drain.cancelled(), if writing.is_empty() && queue.is_empty() => return,
            }
        }
    }

    async fn answer(self: &Arc<Self>, group: Vec<SmallWrite>) {
        let (values, replies): (Vec<_>, Vec<_>) =
            group.into_iter().map(|w| (w.value, w.reply)).unzip();
        match self.write_together(&values, Pace::AtOnce).await {
            // whoever is gone drops what was written
            Ok(written) => replies.into_iter().zip(written).for_each(|(reply, one)| {
                let _ = reply.send(Ok(one));
            }),
            Err(error) => replies.into_iter().for_each(|reply| {
                let _ = reply.send(Err(error.clone()));
            }),
        }
    }

    /// Puts values on nodes, in one segment if there are several.
    pub(super) async fn write_together(
        self: &Arc<Self>,
        values: &[Nameless],
        pace: Pace,
    ) -> Result<Vec<Written>, WriteError> {
        if let [one] = values {
            let value = Value::from(one.value.clone());
            let written = self.write_chunks(one.write_id, one.layout, &value, pace);
            return Ok(vec![written.await?]);
        }
        let objects = self.write_all(values, pace).await?;
        let packed = |object| Written::packed(self, object);
        Ok(objects.into_iter().map(packed).collect())
    }

    async fn write_all(
        self: &Arc<Self>,
        values: &[Nameless],
        pace: Pace,
    ) -> Result<Vec<Arc<Object>>, WriteError> {
        let whole = Value::from_segments(values.iter().map(|v| v.value.clone()).collect());
        let members = values.iter().map(|v| (v.write_id, v.layout));
        self.write_segment(members, whole, pace).await
    }

    /// Puts values on nodes in one segment, in which they lie one behind the other. Each of
    /// the objects must be committed, moved to or discarded.
    pub(super) async fn write_segment(
        self: &Arc<Self>,
        members: impl ExactSizeIterator<Item = (WriteId, Layout)>,
        whole: Value,
        pace: Pace,
    ) -> Result<Vec<Arc<Object>>, WriteError> {
        let size_bytes = whole.len();
        let geometry = self.settings.geometry.layout(size_bytes)?.geometry();
        let layout = Layout::new(geometry, size_bytes, SEGMENT_CELL_BYTES)?;
        // later than those of its values: a flush in between takes them all
        let id = self.next_write_id();
        let written = self.write_chunks(id, layout, &whole, pace).await?;
        metrics::counter!("scatterhoard_segments_written_total").increment(1);
        metrics::counter!("scatterhoard_packed_values_total").increment(members.len() as u64);
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let mut offset_bytes = 0;
        let place = |(write_id, layout): (WriteId, Layout)| {
            let place = Place {
                segment: id,
                offset_bytes,
            };
            offset_bytes += layout.size_bytes() as u32;
            Arc::new(Object::packed(write_id, layout, place))
        };
        let objects: Vec<Arc<Object>> = members.map(place).collect();
        // locked before it is no longer a write under way: in between it would be garbage
        let mut index = self.index();
        let (segment, _) = written.into_parts();
        index.add_segment(segment, count, size_bytes);
        drop(index);
        Ok(objects)
    }
}

/// Values are moved out of segments that are more than half holes.
impl Store {
    /// Moves them, until stopped.
    pub async fn clean_for_ever(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = interval(CLEAN_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if self.refusal().is_some() {
                continue;
            }
            while let Some(Cleaned::More) = stop.run_until_cancelled(self.clean()).await {}
            self.index().age_sparse();
        }
    }

    /// Fills one segment with what is left in sparse ones.
    async fn clean(self: &Arc<Self>) -> Cleaned {
        let (mut left, mut bytes) = (Vec::new(), 0);
        let mut outcome = Cleaned::More;
        // one more may come up to the limit
        while bytes < SEGMENT_BYTES / 2 {
            let Some(id) = self.index().take_sparse() else {
                outcome = Cleaned::All;
                break;
            };
            match self.members_of(id).await {
                Ok(members) => {
                    bytes += members
                        .iter()
                        .map(|(_, v)| v.value.len() as u64)
                        .sum::<u64>();
                    left.extend(members);
                }
                Err(error) => {
                    tracing::info!(segment = %id, %error, "segment not cleaned");
                    self.index().note_sparse(id);
                    outcome = Cleaned::All;
                    break;
                }
            }
        }
        let (members, values): (Vec<Member>, Vec<Nameless>) = left.into_iter().unzip();
        if values.is_empty() {
            return outcome;
        }
        let objects = match self.write_all(&values, Pace::Batched).await {
            Ok(objects) => objects,
            Err(error) => {
                tracing::info!(%error, "segments not cleaned");
                let places = members.iter().filter_map(|m| m.object.place());
                let mut index = self.index();
                places.for_each(|place| index.note_sparse(place.segment));
                return Cleaned::All;
            }
        };
        metrics::counter!("scatterhoard_moved_values_total").increment(values.len() as u64);
        let mut index = self.index();
        for (member, object) in members.iter().zip(objects) {
            index.rehome(member.key(), object);
        }
        self.free(&mut index);
        outcome
    }

    /// What keys name in a segment, with their values.
    async fn members_of(
        self: &Arc<Self>,
        id: WriteId,
    ) -> Result<Vec<(Member, Nameless)>, ReadError> {
        let (pinned, members) = {
            let mut index = self.index();
            let members = index.members(id);
            let (Some(segment), Some(first)) = (index.segment(id).cloned(), members.first()) else {
                return Ok(Vec::new());
            };
            let key = Key {
                db: first.db,
                bytes: Bytes::copy_from_slice(&first.key),
            };
            (self.pin_chunks(&mut index, key, segment), members)
        };
        let again = self.again(&pinned);
        let whole = match self.read_whole(pinned).await {
            Ok(whole) => whole,
            Err(error) => {
                if matches!(error, ReadError::Lost { .. }) {
                    self.forget_lost(&again);
                }
                return Err(error);
            }
        };
        let value = |member: Member| {
            let start = member.object.place().map_or(0, |p| p.offset_bytes.into());
            let value = whole.slice(start..start + member.object.size_bytes());
            let value = Nameless {
                write_id: member.object.write_id,
                layout: member.object.layout,
                value: value.into_contiguous(),
            };
            (member, value)
        };
        Ok(members.into_iter().map(value).collect())
    }
}

/// What a round of cleaning came to.
enum Cleaned {
    /// There may be more to do.
    More,
    /// Nothing more, or nothing more for now.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fit_a_segment_and_keep_their_order() {
        let lens = [
            SEGMENT_BYTES / 2,
            SEGMENT_BYTES / 2,
            1,
            2 * SEGMENT_BYTES,
            1,
        ];
        let groups = groups(lens.to_vec(), |len| *len);
        let expected = [&lens[..2], &lens[2..3], &lens[3..4], &lens[4..]];
        assert_eq!(groups, expected);
    }
}
