//! The backing store: what nodes hold is also in a folder or a bucket, and is
//! read from there when nodes have lost it.
//!
//! Its objects are named by write id and never change, so that none can be stale:
//! the index alone decides what a key means, here as on nodes. What the index
//! names no longer is deleted behind it; what was forgotten on the way, by a
//! crash or for its number, is found by comparing lists (`store/stock`).
//!
//! Knows writes, but neither keys nor nodes.

mod cost;
mod deletions;
mod format;
mod id;
mod ledger;
mod location;
pub mod name;
mod remote;
mod upload;

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use scatterhoard_node::random;
use scatterhoard_wire::WriteId;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{keyspace::Object, value::Value};
use deletions::DELETE_GATHER;
use format::{BLOCK_BYTES, Image};
pub use id::keep_all;
use ledger::{Ledger, Next};
pub use location::Location;
use name::CacheId;
use remote::{Names, Remote};
pub use upload::{Upload, Uploading};

/// When a write must be in the backing store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Before it is acknowledged.
    #[default]
    WriteThrough,
    /// Soon after.
    WriteBehind,
}

/// How it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it is.
    pub location: Location,
    /// When writes must be there.
    pub mode: Mode,
    /// Another server than AWS's.
    pub s3_endpoint: Option<String>,
    /// Bytes that may be acknowledged and not yet there (write-behind).
    pub behind_bytes: u64,
    /// Longest time for one request, its retries included.
    pub timeout: Duration,
}

/// Why something is not to be had from it, or not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackingError {
    /// It has no such object.
    #[error("the backing store does not have it")]
    Absent,
    /// What it has is not what was stored.
    #[error("the backing store has it damaged")]
    Damaged,
    /// It does not answer, or refuses.
    #[error("the backing store cannot be used ({0})")]
    Unreachable(String),
    /// Too much waits for it already.
    #[error("the backing store is too far behind")]
    Behind,
    /// Its bytes ended before the value did.
    #[error("the value is not whole")]
    NotWhole,
}

/// Why the proxy does not start with it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The place cannot be used.
    #[error("backing store {location}: {error}")]
    Place {
        /// Where.
        location: Location,
        /// Why.
        error: BackingError,
    },
    /// The file that says which part of it is ours cannot be understood.
    #[error(
        "{0} is damaged: it should hold `ID PLACE`, both of which the log says at each start; write them there again, or remove the file, and a new part of the backing store is begun: what the old one has is then never read again"
    )]
    Unreadable(PathBuf),
    /// That file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Bytes that one request should read at most.
pub(crate) const WINDOW_BYTES: u64 = 8 * BLOCK_BYTES;
/// Bytes that one should read for a first look.
pub(crate) const GLANCE_BYTES: u64 = BLOCK_BYTES;
/// What is overwritten within this time is never uploaded (write-behind).
const GATHER: Duration = Duration::from_millis(500);
/// Granularity of the budget of write-behind; also what an entry costs at least.
const UNIT_BYTES: u64 = 4096;
/// Pauses after failures, ever longer.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(15);
/// Damaged objects that wait to be uploaded anew; of more, the next read finds
/// them again.
const MENDS: usize = 64;
/// Failures after which such an upload is given up, until the next read.
const MEND_TRIES: u32 = 8;

/// Bytes of writes that wait for their upload which are held in memory: of all, and the
/// most of one.
const HELD_BYTES: usize = 16 << 20;
const MOST_HELD_BYTES: u64 = 1 << 20;

/// A write that is to be uploaded, and its part of the budget.
pub(crate) struct Queued {
    object: Arc<Object>,
    due: Instant,
    /// Failures so far.
    failures: u32,
    /// It is there, but damaged.
    is_mend: bool,
    /// Its bytes, if there was room for them: else nodes are asked.
    held: Option<Held>,
    _budget: OwnedSemaphorePermit,
}

/// Bytes in memory that wait for their upload.
struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A backing store in use.
pub struct Backing {
    settings: Settings,
    remote: Remote,
    ledger: Mutex<Ledger<Queued>>,
    /// Rung for new uploads, deletions, and when stock is to be taken.
    queued: Notify,
    doomed: Notify,
    stock: Notify,
    budget: Arc<Semaphore>,
    budget_units: u32,
    /// Room for bytes that are held, in bytes.
    held: Arc<Semaphore>,
    /// Turns of what is uploaded anew.
    mends: Arc<Semaphore>,
    /// What takes back unfinished uploads.
    chores: TaskTracker,
    /// Cancelled when they should hurry.
    ending: CancellationToken,
    answers: AtomicBool,
    /// While this file is there, nothing is deleted for having no name.
    keep_file: PathBuf,
}

impl Backing {
    /// Opens the part of a backing store that belongs to the data folder whose
    /// `file` says so, or begins one. One that was there before and cannot be
    /// reached now is no error: nodes may have everything.
    pub async fn open(settings: Settings, file: &Path) -> Result<Arc<Self>, OpenError> {
        let place = |error| OpenError::Place {
            location: settings.location.clone(),
            error,
        };
        let known = id::read(file, &settings.location)?;
        let id = known.unwrap_or_else(|| CacheId(random::random()));
        let remote = Remote::new(&settings, id).map_err(place)?;
        let mut answers = true;
        if known.is_some() {
            let found = async {
                remote.check_marker().await?;
                remote.clear_unfinished().await
            };
            if let Err(error) = found.await {
                tracing::error!(location = %settings.location, %error, "backing store not reached");
                answers = false;
            }
        } else {
            let text = format!("objects of a scatterhoard cache; its data folder names {id}\n");
            remote.put_marker(text).await.map_err(place)?;
            id::write(file, id, &settings.location)?;
        }
        tracing::info!(location = %settings.location, %id, mode = ?settings.mode, "backing store");
        let keep_file = id::keep_file(file);
        Ok(Self::over(remote, settings, keep_file, answers))
    }

    fn over(remote: Remote, settings: Settings, keep_file: PathBuf, answers: bool) -> Arc<Self> {
        let units = u32::try_from(settings.behind_bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        let units = units.clamp(1, u32::MAX >> 4);
        Arc::new(Self {
            remote,
            ledger: Mutex::default(),
            queued: Notify::new(),
            doomed: Notify::new(),
            stock: Notify::new(),
            budget: Arc::new(Semaphore::new(units as usize)),
            budget_units: units,
            held: Arc::new(Semaphore::new(HELD_BYTES)),
            mends: Arc::new(Semaphore::new(MENDS)),
            chores: TaskTracker::new(),
            ending: CancellationToken::new(),
            answers: AtomicBool::new(answers),
            keep_file,
            settings,
        })
    }

    /// When writes must be there.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.settings.location
    }

    /// Whether it answered when it was asked last.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Uploads that wait or are under way, bytes of the budget that they take, and
    /// deletions.
    pub fn waiting(&self) -> (usize, u64, usize) {
        let used = (self.budget_units as usize).saturating_sub(self.budget.available_permits());
        let ledger = self.ledger.lock();
        let bytes = used as u64 * UNIT_BYTES;
        (ledger.uploads(), bytes, ledger.deletions())
    }

    /// What requests to a bucket have cost since the start, in US dollars.
    pub fn usd(&self) -> f64 {
        self.remote.usd()
    }

    /// Notes how a request went.
    fn note<T>(&self, result: Result<T, BackingError>) -> Result<T, BackingError> {
        let answers = !matches!(result, Err(BackingError::Unreachable(_)));
        if self.answers.swap(answers, Ordering::Relaxed) != answers {
            match &result {
                Err(error) => tracing::error!(%error, "backing store fails"),
                Ok(_) => tracing::warn!("backing store answers again"),
            }
        }
        result
    }

    /// These bytes of a write's value, checked. The blocks in which they lie are in
    /// memory as a whole.
    pub async fn read(
        &self,
        write_id: WriteId,
        size_bytes: u64,
        bytes: Range<u64>,
    ) -> Result<Vec<Bytes>, BackingError> {
        let image = Image {
            write_id,
            size_bytes,
        };
        let blocks = image.blocks_of(&bytes);
        let stored = self.remote.get(write_id, image.stored_range(&blocks)).await;
        let stored = self.note(stored)?;
        metrics::counter!("scatterhoard_backing_reads_total").increment(1);
        metrics::counter!("scatterhoard_backing_read_bytes_total").increment(stored.len() as u64);
        image.open(blocks, &stored, &bytes).map_err(|damaged| {
            metrics::counter!("scatterhoard_backing_damaged_total").increment(1);
            tracing::error!(%write_id, %damaged, "backing store has damaged bytes");
            BackingError::Damaged
        })
    }

    /// Waits for room in the budget of write-behind.
    pub(crate) async fn admit(
        &self,
        size_bytes: u64,
        patience: Duration,
    ) -> Result<OwnedSemaphorePermit, BackingError> {
        let units = u32::try_from(size_bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        // one that is larger than all of it goes alone
        let units = units.clamp(1, self.budget_units);
        let permit = self.budget.clone().acquire_many_owned(units);
        match timeout(patience, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(BackingError::Behind),
        }
    }

    /// A write that is to be uploaded later. Its value, if it is in memory, is kept for
    /// that as long as there is room: nodes are paid for.
    pub(crate) fn queue(
        &self,
        object: Arc<Object>,
        value: Option<&Value>,
        budget: OwnedSemaphorePermit,
    ) {
        let write_id = object.write_id;
        let held = value.filter(|v| v.len() <= MOST_HELD_BYTES).and_then(|v| {
            let len = u32::try_from(v.len()).ok()?;
            let room = self.held.clone().try_acquire_many_owned(len).ok()?;
            let bytes = match v {
                // copied: a slice would keep the whole buffer that it was read with
                Value::One(slice) => Bytes::copy_from_slice(slice),
                // copied by that
                pieces => pieces.clone().into_contiguous(),
            };
            Some(Held { bytes, _room: room })
        });
        let queued = Queued {
            object,
            due: Instant::now() + GATHER,
            failures: 0,
            is_mend: false,
            held,
            _budget: budget,
        };
        self.ledger.lock().wait(write_id, queued);
        self.queued.notify_one();
    }

    /// What is stored of a write that is named is damaged: it is to be uploaded
    /// anew, unless that is under way, or too much is.
    pub(crate) fn mend(&self, object: Arc<Object>) {
        let Ok(turn) = self.mends.clone().try_acquire_owned() else {
            return;
        };
        let write_id = object.write_id;
        let queued = Queued {
            object,
            due: Instant::now(),
            failures: 0,
            is_mend: true,
            held: None,
            _budget: turn,
        };
        if self.ledger.lock().mend(write_id, queued) {
            self.queued.notify_one();
        }
    }

    /// The oldest write that waits to be uploaded, when it has waited long enough;
    /// none when `drain` is cancelled and nothing is left.
    pub(crate) async fn next_upload(
        self: &Arc<Self>,
        drain: &CancellationToken,
    ) -> Option<(Uploading, Queued)> {
        loop {
            let queued = self.queued.notified();
            let hurry = drain.is_cancelled();
            let due = {
                let now = Instant::now();
                let mut ledger = self.ledger.lock();
                match ledger.begin_next(&now, |q| if hurry { now } else { q.due }) {
                    Next::Begun(write_id, next) => {
                        return Some((Uploading::begun(self, write_id), next));
                    }
                    Next::Later(due) => Some(due),
                    Next::Nothing if hurry && !ledger.is_waiting() => return None,
                    Next::Nothing => None,
                }
            };
            tokio::select! {
                biased;
                () = queued => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = drain.cancelled(), if !hurry => {}
            }
        }
    }

    /// Leave to upload a write of one's own now: when an attempt before, which came
    /// to nothing, is cleared away.
    pub(crate) async fn begin_own(
        self: &Arc<Self>,
        write_id: WriteId,
    ) -> Result<Uploading, BackingError> {
        let cleared = async {
            loop {
                match self.begin(write_id) {
                    Some(uploading) => break uploading,
                    None => sleep(DELETE_GATHER).await,
                }
            }
        };
        let begun = timeout(self.settings.timeout, cleared).await;
        begun.map_err(|_| BackingError::Behind)
    }

    /// Leave to upload a write now, unless that is under way already.
    pub(crate) fn begin(self: &Arc<Self>, write_id: WriteId) -> Option<Uploading> {
        let begun = self.ledger.lock().begin(write_id);
        begun.then(|| Uploading::begun(self, write_id))
    }

    /// Whether what no key names is kept; says so.
    pub(crate) fn keeps_all(&self) -> bool {
        let keeps = self.keep_file.exists();
        if keeps {
            tracing::warn!(file = %self.keep_file.display(), "journal was damaged or missing at a start: what no key names is kept in the backing store; remove this file to have it deleted");
        }
        keeps
    }

    /// Whether it is the place where the cache's objects are.
    pub(crate) async fn check(&self) -> Result<(), BackingError> {
        self.note(self.remote.check_marker().await)
    }

    /// All that is there.
    pub(crate) fn list(&self) -> Names<'_> {
        self.remote.list()
    }

    /// Stock should be taken.
    pub(crate) fn want_stock(&self) {
        self.stock.notify_one();
    }

    /// Waits until it should.
    pub(crate) async fn stock_wanted(&self) {
        self.stock.notified().await;
    }

    /// No upload is begun any more: returns when those that were broken off are
    /// taken back.
    pub async fn end(&self) {
        self.ending.cancel();
        self.chores.close();
        self.chores.wait().await;
    }
}

impl Queued {
    /// What is to be uploaded.
    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// Its bytes, if they are in memory.
    pub(crate) fn held(&self) -> Option<Bytes> {
        self.held.as_ref().map(|held| held.bytes.clone())
    }

    /// Whether that was tried in vain: its chunks may be elsewhere by now.
    pub(crate) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Whether it was stored already, but damaged: nobody waits for it.
    pub(crate) fn is_mend(&self) -> bool {
        self.is_mend
    }

    /// Whether to try it again after one more failure.
    pub(crate) fn is_worth_another_try(&self, hurry: bool) -> bool {
        !self.is_mend || (!hurry && self.failures + 1 < MEND_TRIES)
    }

    fn put_off(&mut self) {
        let pause = RETRY_FIRST * (1 << self.failures.min(8));
        self.failures += 1;
        self.due = Instant::now() + pause.min(RETRY_LAST);
    }
}

#[cfg(test)]
mod tests;
