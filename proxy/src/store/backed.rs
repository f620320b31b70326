//! What is written goes to the backing store as well: before the acknowledgement,
//! or behind it in a bounded queue. Values in memory are sent from there; others
//! are read back from the nodes, a few at a time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use scatterhoard_wire::WriteId;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Key, ObjectReader, Pinned, ReadError, RepairJob, Store, stock::BATCH, write::WriteError,
};
use crate::{
    backing::{Backing, BackingError, Mode, Queued, Uploading},
    keyspace::{Object, StockCursor},
    value::Value,
};

/// Objects that are read back at a time: each takes a few stripes and a part in
/// memory that no budget knows.
pub(super) const UPLOADS_AT_ONCE: usize = 4;

/// While the journal cannot be written.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Longest wait for a turn.
const TURN: Duration = Duration::from_secs(30);

/// Why an object that nodes have is not in the backing store.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Backing(#[from] BackingError),
}

impl From<BackingError> for WriteError {
    fn from(error: BackingError) -> Self {
        Self::NotBacked(error)
    }
}

impl Store {
    fn backing_in(&self, mode: Mode) -> Option<&Arc<Backing>> {
        self.backing.as_ref().filter(|b| b.mode() == mode)
    }

    /// Write-through of a value that is in memory.
    pub(super) async fn back_value(
        &self,
        write_id: WriteId,
        value: &Value,
    ) -> Result<(), WriteError> {
        let Some(backing) = self.backing_in(Mode::WriteThrough) else {
            return Ok(());
        };
        let uploading = backing.begin_own(write_id).await?;
        let mut upload = uploading.send(value.len());
        for segment in value.segments() {
            upload.push(segment.clone()).await?;
        }
        Ok(upload.finish().await?)
    }

    /// Write-through of what came too long for memory, or its turn behind.
    pub(super) async fn back_stored(
        self: &Arc<Self>,
        object: &Arc<Object>,
    ) -> Result<(), WriteError> {
        let Some(backing) = self.backing_in(Mode::WriteThrough) else {
            return self.back_later(object, None).await;
        };
        let Ok(_turn) = timeout(TURN, self.uploads.acquire()).await else {
            return Err(BackingError::Behind.into());
        };
        let uploading = backing.begin_own(object.write_id).await?;
        match self
            .upload(&uploading, self.pin_unnamed(object), None)
            .await
        {
            Ok(()) => Ok(()),
            Err(UploadError::Backing(error)) => Err(error.into()),
            Err(UploadError::Read(error)) => {
                let why = format!("read back: {error}");
                Err(WriteError::NotBacked(BackingError::Unreachable(why)))
            }
        }
    }

    /// Write-behind: a place in the queue, if need be when there is room. With the value,
    /// if it is in memory.
    pub(super) async fn back_later(
        &self,
        object: &Arc<Object>,
        value: Option<&Value>,
    ) -> Result<(), WriteError> {
        if let Some(backing) = self.backing_in(Mode::WriteBehind) {
            let room = backing.admit(object.size_bytes(), self.settings.patience);
            backing.queue(object.clone(), value, room.await?);
        }
        Ok(())
    }

    /// Uploads what was acknowledged before; ends when `drain` is cancelled and
    /// nothing is left.
    pub async fn upload_for_ever(self: Arc<Self>, drain: CancellationToken) {
        let Some(backing) = &self.backing else {
            return;
        };
        let workers = (0..UPLOADS_AT_ONCE).map(|_| async {
            while let Some((uploading, queued)) = backing.next_upload(&drain).await {
                let pinned = self.pin_queued(&queued).await;
                let write_id = queued.object().write_id;
                match self.upload(&uploading, pinned, queued.held()).await {
                    Ok(()) if queued.is_mend() => {
                        tracing::info!(%write_id, "uploaded anew");
                        metrics::counter!("scatterhoard_backing_mended_total").increment(1);
                    }
                    Ok(()) => {}
                    Err(UploadError::Read(error @ ReadError::Lost { .. })) => {
                        tracing::info!(%write_id, %error, "not uploaded");
                        if !queued.is_mend() {
                            // its chunks may have moved: the index knows
                            backing.want_stock();
                        }
                    }
                    Err(error) if !queued.is_worth_another_try(drain.is_cancelled()) => {
                        tracing::info!(%write_id, %error, "not uploaded anew");
                    }
                    Err(error) => {
                        tracing::debug!(%write_id, %error, "not uploaded yet");
                        uploading.again(queued).await;
                    }
                }
            }
        });
        join_all(workers).await;
    }

    /// What is stored of a write was found damaged: if the key names it still, it is
    /// to be uploaded anew.
    pub(super) fn mend_backed(&self, key: &Key, write_id: WriteId) {
        let Some(backing) = &self.backing else {
            return;
        };
        // both under one lock: what leaves the index later finds it in the queue
        let mut index = self.index();
        if let Some(object) = self.named(&mut index, key, write_id) {
            backing.mend(object);
        }
    }

    /// Sends what is in memory, or else what nodes have.
    pub(super) async fn upload(
        &self,
        uploading: &Uploading,
        pinned: Pinned,
        held: Option<Bytes>,
    ) -> Result<(), UploadError> {
        let object = pinned.source.clone();
        let mut upload = uploading.send(object.size_bytes());
        if let Some(value) = held {
            upload.push(value).await?;
        } else {
            let mut reader = Box::new(ObjectReader::new(pinned).unmetered());
            while let Some(cells) = reader.next_cells().await? {
                for cell in cells {
                    upload.push(cell).await?;
                }
            }
        }
        Ok(upload.finish().await?)
    }

    /// As it was written; after a failure where the index has it by now, if it
    /// names it already.
    async fn pin_queued(self: &Arc<Self>, queued: &Queued) -> Pinned {
        if queued.has_failed()
            && let Some(key) = self.key_naming(queued.object().write_id).await
            && let Some(pinned) = self.pin_if_named(&key)
        {
            return pinned;
        }
        self.pin_unnamed(queued.object())
    }

    /// Searched for: seldom needed, and nothing need keep it.
    async fn key_naming(&self, write_id: WriteId) -> Option<RepairJob> {
        let (mut cursor, mut found) = (Some(StockCursor::default()), None);
        while let Some(at) = cursor.filter(|_| found.is_none()) {
            cursor = self.index().sources(at, BATCH, |key, object| {
                if object.write_id == write_id {
                    let bytes = Bytes::copy_from_slice(key.key);
                    found = Some(Key { db: key.db, bytes });
                }
            });
            tokio::task::yield_now().await;
        }
        found.map(|key| RepairJob::of(key, write_id))
    }

    /// An object that no key need name, and none whose repair is wanted.
    fn pin_unnamed(self: &Arc<Self>, object: &Arc<Object>) -> Pinned {
        let key = Key {
            db: 0,
            bytes: Bytes::new(),
        };
        self.pin_chunks(&mut self.index(), key, object.clone())
    }

    /// Returns when the journal on disk no longer names what has left the index
    /// before.
    pub async fn removals_on_disk(self: Arc<Self>) {
        let Some(journal) = &self.journal else {
            return;
        };
        loop {
            // written when it is unlocked, unless the disk takes no more
            drop(self.index());
            if !self.index().has_changed() {
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        journal.on_disk().await;
    }

    /// What has left the index need not be in the backing store, either.
    pub(super) fn forget_backed(&self, freed: &[Arc<Object>]) {
        let Some(backing) = &self.backing else {
            return;
        };
        // values in segments, empty ones, and those that no node had yet were never
        // there by themselves
        for object in freed.iter().filter(|o| o.chunks() > 0) {
            backing.forget(object.write_id);
        }
    }
}
