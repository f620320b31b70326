//! One write on its way to the backing store: in one request if it is short, in
//! parts otherwise, of which one is in memory at a time.

use std::sync::Arc;

use bytes::Bytes;
use scatterhoard_wire::WriteId;
use tokio::{runtime::Handle, sync::oneshot, time::sleep};

use super::{
    Backing, BackingError, Queued, RETRY_FIRST, RETRY_LAST,
    format::{Encoder, Image},
    remote::Parts,
};

/// Longest object that is put with one request, and length of a part: S3 wants
/// 5 MiB at least, and at most 10,000 of them.
const PART_BYTES: u64 = 8 << 20;
/// Attempts to take back one that was broken off: over about a minute.
const TAKE_BACK_TRIES: u32 = 8;

/// Leave to upload a write; nobody else has it until it is dropped.
pub struct Uploading {
    backing: Arc<Backing>,
    write_id: WriteId,
    /// Others may have it by now.
    is_over: bool,
}

impl Uploading {
    pub(super) fn begun(backing: &Arc<Backing>, write_id: WriteId) -> Self {
        Self {
            backing: backing.clone(),
            write_id,
            is_over: false,
        }
    }

    /// It failed: after a pause it waits again, the longer the more often, unless
    /// nothing names it any more.
    pub(crate) async fn again(mut self, mut queued: Queued) {
        sleep(RETRY_FIRST).await;
        queued.put_off();
        self.is_over = true;
        self.backing.ledger.lock().again(self.write_id, queued);
        self.backing.queued.notify_one();
        self.backing.doomed.notify_one();
    }

    /// Begins to send a value of this length.
    pub(crate) fn send(&self, size_bytes: u64) -> Upload<'_> {
        let image = Image {
            write_id: self.write_id,
            size_bytes,
        };
        let mut pieces = Vec::new();
        Upload {
            uploading: self,
            image,
            encoder: Encoder::new(image, &mut pieces),
            pieces,
            parts: None,
        }
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.backing.ledger.lock().end(self.write_id);
        self.backing.doomed.notify_one();
        self.backing.queued.notify_one();
    }
}

/// The value's bytes go in, piece by piece.
pub struct Upload<'a> {
    uploading: &'a Uploading,
    image: Image,
    encoder: Encoder,
    /// What was not sent yet.
    pieces: Vec<Bytes>,
    parts: Option<Unfinished>,
}

impl Upload<'_> {
    /// The next bytes.
    pub(crate) async fn push(&mut self, bytes: Bytes) -> Result<(), BackingError> {
        self.encoder.push(bytes, &mut self.pieces);
        let waiting: usize = self.pieces.iter().map(Bytes::len).sum();
        if self.image.stored_bytes() <= PART_BYTES || (waiting as u64) < PART_BYTES {
            return Ok(());
        }
        self.send_part().await
    }

    async fn send_part(&mut self) -> Result<(), BackingError> {
        let backing = &self.uploading.backing;
        let unfinished = match &mut self.parts {
            Some(unfinished) => unfinished,
            None => {
                let begun = begin_parts(backing, self.image.write_id).await;
                self.parts.insert(backing.note(begun)?)
            }
        };
        let pieces = std::mem::take(&mut self.pieces);
        let Some(parts) = &mut unfinished.parts else {
            return Err(BackingError::NotWhole);
        };
        backing.note(backing.remote.put_part(parts, pieces).await)
    }

    /// All of it has come: when this returns, it is there.
    pub(crate) async fn finish(mut self) -> Result<(), BackingError> {
        self.try_finish().await?;
        let bytes = self.image.stored_bytes();
        metrics::counter!("scatterhoard_backing_uploads_total").increment(1);
        metrics::counter!("scatterhoard_backing_upload_bytes_total").increment(bytes);
        Ok(())
    }

    async fn try_finish(&mut self) -> Result<(), BackingError> {
        if !self.encoder.is_whole() {
            return Err(BackingError::NotWhole);
        }
        let backing = &self.uploading.backing;
        if self.parts.is_none() {
            let pieces = std::mem::take(&mut self.pieces);
            let put = backing.remote.put(self.image.write_id, pieces).await;
            return backing.note(put);
        }
        if !self.pieces.is_empty() {
            self.send_part().await?;
        }
        let backing = &self.uploading.backing;
        let Some(unfinished) = &mut self.parts else {
            return Ok(());
        };
        if let Some(parts) = &mut unfinished.parts {
            backing.note(backing.remote.end_parts(parts).await)?;
            unfinished.parts = None;
        }
        Ok(())
    }
}

/// An upload in parts that is taken back when this is dropped before its end,
/// since what was sent of it would be kept, and paid for: it has failed, or
/// whoever wanted it has gone.
struct Unfinished {
    backing: Arc<Backing>,
    /// None when it is over.
    parts: Option<Parts>,
}

/// By a task of its own: if nobody waits for the answer any more, it is taken back
/// all the same.
async fn begin_parts(
    backing: &Arc<Backing>,
    write_id: WriteId,
) -> Result<Unfinished, BackingError> {
    let (answer, begun) = oneshot::channel();
    let owner = backing.clone();
    backing.chores.spawn(async move {
        let begun = owner.remote.begin_parts(write_id).await;
        let _ = answer.send(begun.map(|parts| Unfinished {
            backing: owner,
            parts: Some(parts),
        }));
    });
    let ended = |_| BackingError::Unreachable("begin: the program ends".into());
    begun.await.map_err(ended)?
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let (Some(mut parts), Ok(runtime)) = (self.parts.take(), Handle::try_current()) else {
            return;
        };
        let backing = self.backing.clone();
        let take_back = async move { backing.take_back(&mut parts).await };
        self.backing.chores.spawn_on(take_back, &runtime);
    }
}

impl Backing {
    /// Tries it a few times: what breaks an upload often breaks this. What stays
    /// is for the bucket's own rules.
    async fn take_back(&self, parts: &mut Parts) {
        let mut pause = RETRY_FIRST;
        for _ in 0..TAKE_BACK_TRIES {
            let Err(error) = self.remote.abort_parts(parts).await else {
                return;
            };
            tracing::info!(%error, "upload in parts not taken back");
            if self.ending.is_cancelled() {
                return;
            }
            // at the end once more, but at once
            let _ = self.ending.run_until_cancelled(sleep(pause)).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }
}
