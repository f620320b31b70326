//! What the backing store has is compared with what the index names: at the
//! start, now and then, and when too much was to be deleted at once. What nobody
//! names is deleted; what is missing is uploaded from the nodes. So neither a
//! crash nor a store that was away leaves anything behind, and nothing about it
//! need be in the journal.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use scatterhoard_node::random::HashSet;
use scatterhoard_wire::WriteId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Key, RepairJob, Store};
use crate::{
    backing::{Backing, BackingError},
    keyspace::StockCursor,
};

/// A thousand objects cost one request to list.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// The backing store could not be asked.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Something could not be uploaded; then twice as long, and so on.
const LACKING: Duration = Duration::from_secs(60);
/// Names that are looked up in one walk through the index.
const PAGE: usize = 1 << 16;
/// Objects that are read back at a time.
const AT_ONCE: usize = 2;
/// Slots that are looked at under one hold of the index's lock.
pub(super) const BATCH: usize = 4096;

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    listed: usize,
    garbage: usize,
    missing: usize,
    /// Of the missing, those that still are.
    failed: usize,
}

/// Pause after so many times in a row of which each left something missing.
fn pause_after(lacking: u32) -> Duration {
    match lacking {
        0 => EVERY,
        some => (LACKING * (1 << (some - 1).min(16))).min(EVERY),
    }
}

impl Store {
    /// Takes stock, until stopped.
    pub async fn take_stock_for_ever(self: Arc<Self>, stop: CancellationToken) {
        let Some(backing) = self.backing.clone() else {
            return;
        };
        let work = async {
            let mut lacking = 0_u32;
            loop {
                let pause = match self.take_stock(&backing).await {
                    Ok(tally) => {
                        tracing::info!(?tally, "took stock of the backing store");
                        metrics::counter!("scatterhoard_backing_stocks_total").increment(1);
                        lacking = if tally.failed > 0 { lacking + 1 } else { 0 };
                        pause_after(lacking)
                    }
                    Err(error) => {
                        tracing::info!(%error, "no stock taken of the backing store");
                        AGAIN_AFTER
                    }
                };
                tokio::select! {
                    biased;
                    () = sleep(pause) => {}
                    () = backing.stock_wanted() => sleep(AGAIN_AFTER).await,
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    async fn take_stock(self: &Arc<Self>, backing: &Arc<Backing>) -> Result<Tally, BackingError> {
        backing.check().await?;
        // what is begun later is no garbage, and not missing
        let began = self.newest_write_id();
        let (mut tally, mut stored) = (Tally::default(), HashSet::default());
        let (mut names, mut page) = (backing.list(), HashSet::default());
        while let Some(write_id) = names.next().await? {
            tally.listed += 1;
            page.insert(write_id);
            if page.len() == PAGE {
                tally.garbage += self.sift(backing, began, &mut page, &mut stored).await?;
            }
        }
        tally.garbage += self.sift(backing, began, &mut page, &mut stored).await?;
        self.upload_missing(backing, began, &stored, &mut tally)
            .await?;
        Ok(tally)
    }

    /// Has deleted what nobody names; keeps the others as stored.
    async fn sift(
        &self,
        backing: &Backing,
        began: WriteId,
        page: &mut HashSet<WriteId>,
        stored: &mut HashSet<WriteId>,
    ) -> Result<usize, BackingError> {
        if backing.keeps_all() {
            stored.extend(page.drain());
            return Ok(0);
        }
        let suspects = page.iter().copied().filter(|id| *id <= began);
        let garbage = self.garbage_among(suspects.collect()).await;
        for write_id in &garbage {
            backing.room_for_deletions().await?;
            backing.forget(*write_id);
            page.remove(write_id);
        }
        stored.extend(page.drain());
        Ok(garbage.len())
    }

    async fn upload_missing(
        self: &Arc<Self>,
        backing: &Arc<Backing>,
        began: WriteId,
        stored: &HashSet<WriteId>,
        tally: &mut Tally,
    ) -> Result<(), BackingError> {
        let mut cursor = Some(StockCursor::default());
        while let Some(at) = cursor {
            let mut missing = Vec::new();
            cursor = self.index().sources(at, BATCH, |key, object| {
                let on_nodes = object.nodes().next().is_some();
                let write_id = object.write_id;
                if on_nodes && write_id <= began && !stored.contains(&write_id) {
                    let bytes = Bytes::copy_from_slice(key.key);
                    missing.push((Key { db: key.db, bytes }, write_id));
                }
            });
            tally.missing += missing.len();
            let uploads = stream::iter(missing)
                .map(|(key, id)| self.upload_named(backing, key, id))
                .buffer_unordered(AT_ONCE);
            let failed = &mut tally.failed;
            uploads
                .map(Ok)
                .try_for_each(|is_there| {
                    *failed += usize::from(!is_there);
                    // one that fails is no reason to leave out the others: unless none can succeed
                    async move {
                        match is_there {
                            true => Ok(()),
                            false => backing.check().await,
                        }
                    }
                })
                .await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Uploads a write if it still is named, and nobody else does; false if that
    /// failed.
    async fn upload_named(
        self: &Arc<Self>,
        backing: &Arc<Backing>,
        key: Key,
        write_id: WriteId,
    ) -> bool {
        let Some(uploading) = backing.begin(write_id) else {
            return true;
        };
        let Some(pinned) = self.pin_if_named(&RepairJob::of(key, write_id)) else {
            return true;
        };
        self.repair_rate.take(pinned.object.size_bytes()).await;
        let uploaded = self.upload(&uploading, pinned, None).await;
        if let Err(error) = &uploaded {
            tracing::info!(%write_id, %error, "not uploaded");
        }
        uploaded.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_tried_again_ever_later() {
        assert_eq!(pause_after(0), EVERY);
        assert_eq!(pause_after(1), LACKING);
        assert_eq!(pause_after(3), LACKING * 4);
        assert_eq!(pause_after(u32::MAX), EVERY);
    }
}
