//! Several commands as one (MULTI, scripts): what they read and write is staged
//! beside the index, and committed under one hold of its lock, if what they read
//! still holds. If not, they are carried out again. So nobody waits for a
//! transaction, no matter how long its values take to be read or written, and no
//! part of it can be seen before the rest, not even after a crash: the journal
//! takes what was changed under one hold of the lock as one.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use scatterhoard_wire::WriteId;

use super::{
    Key, Store, Watch,
    overlay::{Change, Named, Overlay, Source, Staged, seen},
    pack::{Nameless, groups},
    write::WriteError,
    written::Written,
};
use crate::{
    clock,
    keyspace::{Condition, KeyRef, Keyspace, NewExpiry, Rename},
    pool::link::Pace,
    pubsub::KeyEvent,
    value::Value,
};

/// Values that do not share segments, on their way to nodes at once.
const AT_ONCE: usize = 32;

/// Messages that one transaction publishes, in bytes; and what one takes besides its own.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
const MESSAGE_BYTES: usize = 100;
/// Keys that one transaction touches.
const MAX_KEYS: usize = 1 << 20;

/// Commands on their way to be one.
#[derive(Default)]
pub struct Transaction {
    staged: Mutex<Staged>,
}

/// Why a transaction was not committed.
pub enum Uncommitted {
    /// Something that it read has changed: it may be carried out again. These
    /// values are on nodes already.
    Conflict(Vec<Written>),
    /// A key that was watched has changed: it is not to be carried out at all.
    Watched,
    /// Its values could not be written.
    Write(WriteError),
}

/// What goes out with the commit.
pub enum Announcement {
    /// A message that was published.
    Message {
        /// The channel.
        channel: Bytes,
        /// The message.
        payload: Bytes,
        /// Whether the channel is one of a shard.
        to_shard: bool,
    },
    /// Something that happened to a key.
    Event(KeyEvent),
}

impl Transaction {
    /// Has a message go out with the commit; its number.
    pub fn publishes(&self, channel: Bytes, payload: Bytes, to_shard: bool) -> usize {
        let bytes = channel.len() + payload.len();
        let message = Announcement::Message {
            channel,
            payload,
            to_shard,
        };
        self.announces(message, bytes)
    }

    /// Has it be told with the commit what happened to a key.
    pub fn tells(&self, event: KeyEvent) {
        let bytes = event.key.len();
        self.announces(Announcement::Event(event), bytes);
    }

    fn announces(&self, message: Announcement, bytes: usize) -> usize {
        let staged = &mut *self.staged();
        staged.message_bytes += MESSAGE_BYTES + bytes;
        if staged.message_bytes > MAX_MESSAGE_BYTES {
            let text = "OOM one transaction publishes too much";
            staged.refusal.get_or_insert_with(|| text.to_owned());
            // none of them will go out
            staged.messages.clear();
        }
        staged.messages.push(message);
        staged.messages.len() - 1
    }

    /// Has it refused: nothing of it may stay.
    pub fn refuse(&self, why: String) {
        self.staged().refusal.get_or_insert(why);
    }

    /// Why it must not be committed, if it must not.
    pub fn refusal(&self) -> Option<String> {
        let staged = self.staged();
        if staged.names.len() > MAX_KEYS {
            return Some("OOM one transaction touches too many keys".into());
        }
        staged.refusal.clone()
    }

    fn staged(&self) -> parking_lot::MutexGuard<'_, Staged> {
        self.staged.lock()
    }

    /// A key was changed, though it means what it did.
    pub(super) fn touches(&self, key: &Key) {
        let name = (key.db, key.bytes.clone());
        self.staged().touched.insert(name);
    }

    /// Works on the index as the transaction sees it.
    pub(super) fn over<R>(&self, store: &Store, work: impl FnOnce(&mut Overlay<'_>) -> R) -> R {
        let mut staged = self.staged();
        let mut index = store.index();
        let result = work(&mut Overlay {
            index: &mut index,
            staged: &mut staged,
        });
        store.free(&mut index);
        drop(index);
        let garbage = staged.take_garbage();
        drop(staged);
        drop(garbage);
        result
    }

    /// Makes a value ready to be committed by the transaction.
    pub(super) async fn write(
        &self,
        store: &Arc<Store>,
        value: Value,
    ) -> Result<Written, WriteError> {
        let settings = store.settings();
        let layout = settings.geometry.layout(value.len())?;
        let small = value.len() <= settings.hot_value_bytes && layout.stripes() <= 1;
        if small && self.staged().may_hold(value.len()) {
            return Ok(Written::held(store, layout, value));
        }
        store.write_through(value).await
    }

    /// Has everything happen at once, or nothing; not if one of the watched keys has
    /// changed. `announce` sends its messages, before anybody can see what changed, and
    /// must not look at the index.
    pub async fn commit<'w, R>(
        self,
        store: &Arc<Store>,
        watches: impl Iterator<Item = &'w Watch> + Clone,
        announce: impl FnOnce(Vec<Announcement>) -> R,
    ) -> Result<R, Uncommitted> {
        let mut staged = self.staged.into_inner();
        // looked at first: nothing is written in vain
        let verdict = store.verdict(&mut store.index(), &staged, watches.clone());
        if let Some(why) = verdict {
            return Err(why.of(staged));
        }
        if let Err(error) = store.place_held(&mut staged).await {
            return Err(Uncommitted::Write(error));
        }
        let mut index = store.index();
        let verdict = store.verdict(&mut index, &staged, watches);
        if let Some(why) = verdict {
            drop(index);
            return Err(why.of(staged));
        }
        let messages = std::mem::take(&mut staged.messages);
        store.commit_staged(&mut index, staged, clock::unix_ms());
        let announced = announce(messages);
        store.free(&mut index);
        Ok(announced)
    }
}

/// Why a transaction cannot be committed.
enum Hindrance {
    Watched,
    Changed,
}

impl Hindrance {
    /// Not while the index is locked.
    fn of(self, staged: Staged) -> Uncommitted {
        match self {
            Self::Watched => Uncommitted::Watched,
            Self::Changed => Uncommitted::Conflict(staged.into_uploads()),
        }
    }
}

impl Store {
    /// Why this cannot be committed, if it cannot.
    fn verdict<'w>(
        &self,
        index: &mut Keyspace,
        staged: &Staged,
        mut watches: impl Iterator<Item = &'w Watch>,
    ) -> Option<Hindrance> {
        let now = clock::unix_ms();
        let watched = watches.any(|watch| watch.has_changed_in(index, now));
        let holds = watched || self.still_holds(index, staged, now);
        self.free(index);
        match (watched, holds) {
            (true, _) => Some(Hindrance::Watched),
            (false, false) => Some(Hindrance::Changed),
            (false, true) => None,
        }
    }

    /// Puts values on nodes that were held in memory, small ones together.
    async fn place_held(self: &Arc<Self>, staged: &mut Staged) -> Result<(), WriteError> {
        let mut held: Vec<&mut Written> = staged
            .names
            .values_mut()
            .filter_map(|stage| match &mut stage.change {
                Some(Change::Named(Named {
                    from: Source::Written(written),
                    ..
                })) => Some(written),
                _ => None,
            })
            .filter(|written| written.held_value().is_some())
            .collect();
        let values: Vec<Nameless> = held
            .iter()
            .filter_map(|written| {
                let value = written.held_value()?.clone().into_contiguous();
                Some(Nameless {
                    write_id: written.write_id(),
                    layout: written.object().layout,
                    value,
                })
            })
            .collect();
        let placed = self.place_all(values).await?;
        for (held, placed) in held.iter_mut().zip(placed) {
            held.take_place(placed);
        }
        Ok(())
    }

    async fn place_all(
        self: &Arc<Self>,
        values: Vec<Nameless>,
    ) -> Result<Vec<Written>, WriteError> {
        if let [one] = &values[..] {
            let written = self.write_as(one.write_id, one.layout, one.value.clone().into());
            return Ok(vec![written.await?]);
        }
        let packs = |value: &Nameless| self.packer.packs(value.value.len() as u64);
        let order: Vec<WriteId> = values.iter().map(|v| v.write_id).collect();
        let (small, large): (Vec<_>, Vec<_>) = values.into_iter().partition(packs);
        let mut placing = Vec::new();
        for group in groups(small, |v| v.value.len() as u64) {
            placing.push(self.place_group(group).boxed());
        }
        for value in large {
            placing.push(self.place_group(vec![value]).boxed());
        }
        let written: Vec<Vec<Written>> = stream::iter(placing)
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut by_id: BTreeMap<WriteId, Written> = written
            .into_iter()
            .flatten()
            .map(|written| (written.write_id(), written))
            .collect();
        Ok(order.iter().filter_map(|id| by_id.remove(id)).collect())
    }

    async fn place_group(
        self: &Arc<Self>,
        group: Vec<Nameless>,
    ) -> Result<Vec<Written>, WriteError> {
        let written = self.write_together(&group, Pace::AtOnce).await?;
        let keep = |(mut written, value): (Written, Nameless)| {
            written.keep(value.value.into(), &self.settings);
            written
        };
        Ok(written.into_iter().zip(group).map(keep).collect())
    }

    /// Whether all is as it was when the transaction looked.
    fn still_holds(&self, index: &mut Keyspace, staged: &Staged, now: u64) -> bool {
        let flushed = *self.flushed.lock();
        staged.names.iter().all(|((db, key), stage)| {
            let found = |index: &mut Keyspace| index.peek(KeyRef { db: *db, key }, now);
            let unchanged = stage
                .seen
                .is_none_or(|expected| seen(found(index).as_ref()) == expected);
            let hinders = match &stage.change {
                // FLUSHALL counts it as written before
                Some(Change::Named(Named {
                    from: Source::Written(written),
                    ..
                })) => written.is_before(flushed),
                _ => false,
            };
            unchanged && !hinders
        })
    }

    fn commit_staged(&self, index: &mut Keyspace, staged: Staged, now: u64) {
        if self.watches.any() {
            // what is changed and changed back was changed
            let changed = staged
                .names
                .iter()
                .filter(|(_, stage)| stage.change.is_some());
            for (db, bytes) in changed.map(|(name, _)| name).chain(&staged.touched) {
                let (db, bytes) = (*db, bytes.clone());
                self.watches.touch(&Key { db, bytes });
            }
        }
        if self.tracking.any() {
            for (_, bytes) in &staged.touched {
                self.tracking.changed(bytes);
            }
        }
        for db in &staged.flushed {
            index.flush(Some(*db));
        }
        let (mut moved, mut changed) = (Vec::new(), Vec::new());
        for ((db, bytes), stage) in staged.names {
            let key = Key { db, bytes };
            match stage.change {
                None => {}
                Some(Change::Named(Named {
                    from: Source::Key((db, bytes)),
                    expires_unix_ms,
                    ..
                })) => {
                    let from = Key { db, bytes };
                    if from == key {
                        index.set_expiry(key.as_ref(), expires_unix_ms, now);
                    } else {
                        moved.push((from, key, expires_unix_ms));
                    }
                }
                Some(change) => changed.push((key, change)),
            }
        }
        let renames = moved.iter().map(|(from, to, expires_unix_ms)| Rename {
            from: from.as_ref(),
            to: to.as_ref(),
            expiry: Some(*expires_unix_ms),
        });
        index.rename_all(&renames.collect::<Vec<_>>(), now);
        for (key, change) in changed {
            let Change::Named(named) = change else {
                index.remove(key.as_ref(), now);
                continue;
            };
            let Some(written) = named.from.into_written() else {
                continue;
            };
            let (object, cargo) = written.into_parts();
            let expiry = NewExpiry::Set(named.expires_unix_ms);
            self.commit_one(index, &key, object, cargo, Condition::Always, expiry, now);
        }
        for written in staged.retired {
            let (object, _) = written.into_parts();
            index.discard(object);
        }
    }
}
