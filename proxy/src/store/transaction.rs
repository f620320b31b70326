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
    overlay::{Change, Named, Source, Staged, seen},
    pack::{Nameless, groups},
    write::WriteError,
    written::Written,
};
use crate::{
    clock,
    keyspace::{Condition, KeyRef, Keyspace, NewExpiry},
    pool::link::Pace,
    value::Value,
};

/// Values that do not share segments, on their way to nodes at once.
const AT_ONCE: usize = 32;

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

/// A message that goes out with the commit.
pub struct Announcement {
    /// The channel.
    pub channel: Bytes,
    /// The message.
    pub payload: Bytes,
    /// Whether the channel is one of a shard.
    pub to_shard: bool,
}

impl Transaction {
    /// Has a message go out with the commit; its number.
    pub fn publishes(&self, channel: Bytes, payload: Bytes, to_shard: bool) -> usize {
        let messages = &mut self.staged().messages;
        messages.push(Announcement {
            channel,
            payload,
            to_shard,
        });
        messages.len() - 1
    }

    pub(super) fn staged(&self) -> parking_lot::MutexGuard<'_, Staged> {
        self.staged.lock()
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
    /// changed. The messages that go out now.
    pub async fn commit(
        self,
        store: &Arc<Store>,
        watches: &[Watch],
    ) -> Result<Vec<Announcement>, Uncommitted> {
        let mut staged = self.staged.into_inner();
        if let Err(error) = store.place_held(&mut staged).await {
            return Err(Uncommitted::Write(error));
        }
        let now = clock::unix_ms();
        let mut index = store.index();
        let has_changed = |watch: &Watch| watch.has_changed_in(&mut index, now);
        let watched = watches.iter().any(has_changed);
        if watched || !store.still_holds(&mut index, &staged, now) {
            store.free(&mut index);
            drop(index);
            if watched {
                return Err(Uncommitted::Watched);
            }
            let mut written = staged.into_written();
            written.retain(|w| w.upload.is_some());
            return Err(Uncommitted::Conflict(written));
        }
        let messages = std::mem::take(&mut staged.messages);
        store.commit_staged(&mut index, staged, now);
        store.free(&mut index);
        Ok(messages)
    }
}

impl Store {
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

    /// Whether all is as it was when the transaction looked, and what it moves can
    /// be moved.
    fn still_holds(&self, index: &mut Keyspace, staged: &Staged, now: u64) -> bool {
        staged.names.iter().all(|((db, key), stage)| {
            let found = |index: &mut Keyspace| index.peek(KeyRef { db: *db, key }, now);
            let unchanged = stage
                .seen
                .is_none_or(|expected| seen(found(index).as_ref()) == expected);
            let moves = match &stage.change {
                Some(Change::Named(Named {
                    object,
                    from: Source::Key(from),
                    ..
                })) => *from != (*db, key.clone()) && self.is_dirty(object.write_id),
                _ => false,
            };
            unchanged && !moves
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
        for db in &staged.flushed {
            index.flush(Some(*db));
        }
        let flushed = *self.flushed.lock();
        let names = staged.names.values();
        let written = names.filter_map(|stage| match &stage.change {
            Some(Change::Named(named)) => named.from.written(),
            _ => None,
        });
        // one of them begun before FLUSHALL: all of them were written before it
        let torn = written
            .into_iter()
            .any(|written| written.is_before(flushed));
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
                        // as it is now: it may have been repaired meanwhile
                        let object = index.take(from.as_ref(), now);
                        moved.push((key, object, expires_unix_ms));
                    }
                }
                Some(change) => changed.push((key, change)),
            }
        }
        for (key, change) in changed {
            let Change::Named(named) = change else {
                index.remove(key.as_ref(), now);
                continue;
            };
            let Some(written) = named.from.into_written() else {
                continue;
            };
            let (object, cargo) = written.into_parts();
            if torn {
                index.discard(object);
                continue;
            }
            let expiry = NewExpiry::Set(named.expires_unix_ms);
            self.commit_one(index, &key, object, cargo, Condition::Always, expiry, now);
        }
        for (key, object, expires_unix_ms) in moved {
            if let Some(object) = object {
                let expiry = NewExpiry::Set(expires_unix_ms);
                index.commit(key.as_ref(), object, Condition::Always, expiry, now);
            }
        }
        for written in staged.retired {
            let (object, _) = written.into_parts();
            index.discard(object);
        }
    }
}
