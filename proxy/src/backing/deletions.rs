//! What nothing names any more leaves the backing store, in batches, behind a
//! journal that does not name it either.

use std::{sync::Arc, time::Duration};

use scatterhoard_wire::WriteId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Backing, BackingError, RETRY_FIRST, RETRY_LAST, ledger::Forgotten};

/// Deletions in one request, as S3 takes them.
const DELETE_BATCH: usize = 1000;
/// Deletions wait so long for others.
pub(super) const DELETE_GATHER: Duration = Duration::from_millis(200);
/// Deletions that may wait while stock is taken; then that waits.
pub(super) const DELETIONS_AHEAD: usize = DELETE_BATCH * 8;

impl Backing {
    /// Nothing names this write any more, or ever will.
    pub fn forget(&self, write_id: WriteId) {
        let forgotten = self.ledger.lock().forget(write_id);
        if forgotten == Forgotten::Skipped {
            metrics::counter!("scatterhoard_backing_skipped_total").increment(1);
        }
        self.doomed.notify_one();
    }

    /// Deletes what nothing names any more, until stopped. What is doomed waits for
    /// `safe`: until a journal without it would be found after a crash, too.
    pub async fn delete_for_ever<F: Future<Output = ()> + Send>(
        self: Arc<Self>,
        safe: impl Fn() -> F + Send,
        stop: CancellationToken,
    ) {
        let (mut pause, mut until) = (RETRY_FIRST, 0);
        while !stop.is_cancelled() {
            let batch = self.ledger.lock().take_doomed(until, DELETE_BATCH);
            if batch.is_empty() {
                if self.ledger.lock().take_incomplete() {
                    self.stock.notify_one();
                }
                let more = async {
                    let doomed = loop {
                        // not in the condition: the lock would be held meanwhile
                        let doomed = self.ledger.lock().doomed();
                        match doomed {
                            Some(doomed) => break doomed,
                            None => self.doomed.notified().await,
                        }
                        sleep(DELETE_GATHER).await;
                    };
                    safe().await;
                    doomed
                };
                until = stop.run_until_cancelled(more).await.unwrap_or(until);
                continue;
            }
            let (gone, result) = self.remote.delete(&batch).await;
            self.ledger.lock().deleted(&gone, &batch);
            self.queued.notify_one();
            let deleted = gone.len() as u64;
            metrics::counter!("scatterhoard_backing_deletes_total").increment(deleted);
            match self.note(result) {
                Ok(()) => pause = RETRY_FIRST,
                Err(_) => {
                    let _ = stop.run_until_cancelled(sleep(pause)).await;
                    pause = (pause * 2).min(RETRY_LAST);
                }
            }
        }
    }

    /// Waits until deletions were carried out, if there are too many; not for ever
    /// if none is.
    pub(crate) async fn room_for_deletions(&self) -> Result<(), BackingError> {
        // long enough for a request that comes behind a failed one and its pause
        let patience = self.settings.timeout * 3;
        let (mut gone, mut give_up) = (0, Instant::now() + patience);
        loop {
            let (waiting, gone_now) = {
                let ledger = self.ledger.lock();
                (ledger.deletions(), ledger.gone())
            };
            if waiting <= DELETIONS_AHEAD {
                return Ok(());
            }
            if gone != gone_now {
                (gone, give_up) = (gone_now, Instant::now() + patience);
            } else if Instant::now() >= give_up {
                return Err(BackingError::Behind);
            }
            sleep(DELETE_GATHER).await;
        }
    }
}
