//! The index on disk: what each key means, so that the proxy may die.
//!
//! Every change is written to the embedded store's log, with one system call,
//! before the index is unlocked: the death of the process loses nothing that was
//! acknowledged. When the disk has it for certain is the policy's business.
//!
//! When the disk takes no more, changes are refused and reads go on; what the
//! index does on its own meanwhile (expire, evict, move) is kept and written when
//! the store could be opened again.

pub mod label;
mod members;
pub mod memory;
pub mod record;
mod tables;
mod tail;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use scatterhoard_wire::NodeId;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::keyspace::{Change, Keyspace, Object, bytes_of};
use memory::MemoryDisk;
use record::{Entry, RecordError, VERSION};
use tables::{Op, Table, Tables};
use tail::Tail;

/// When what was written is forced to the disk, by Redis's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Before a write is acknowledged.
    Always,
    /// Every second.
    #[default]
    Everysec,
    /// When the system wants to.
    No,
}

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("journal in {path}: {why}")]
pub struct JournalError {
    path: PathBuf,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error(transparent)]
    Store(#[from] fjall::Error),
    #[error(
        "it was written by a later release (records of version {0}; this one reads {VERSION}): start that one again, or move the folder away and begin empty, or by recover = \"inventory\""
    )]
    Later(u8),
}

const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the disk has it.
const ON_DISK_LOOK: Duration = Duration::from_millis(100);
/// After this time a system that is not asked has written what it was given.
const SYSTEM_WRITES_WITHIN: Duration = Duration::from_secs(30);

fn is_garbled(error: &fjall::Error) -> bool {
    matches!(error, fjall::Error::JournalRecovery(_))
}

/// Where a journal is.
#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    Memory(MemoryDisk),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Folder(path) => path,
            Self::Memory(_) => Path::new("memory"),
        }
    }

    fn open(&self) -> Result<Box<dyn Tables>, fjall::Error> {
        Ok(match self {
            Self::Folder(path) => Box::new(tables::Folder::open(path)?),
            Self::Memory(disk) => Box::new(disk.open()?),
        })
    }

    /// Forces to the disk what was written.
    fn sync(&self) -> Result<(), fjall::Error> {
        match self {
            // every write is in the latest log, or in one that the store has synced;
            // asked itself, it would sync under a lock that every write takes
            Self::Folder(path) => tail::sync(path).map_err(Into::into),
            Self::Memory(disk) => disk.sync(),
        }
    }

    /// Does what may take long where nobody waits for it.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match self {
            Self::Folder(_) => tokio::task::spawn_blocking(work).await.ok(),
            Self::Memory(_) => Some(work()),
        }
    }
}

/// The journal of one proxy.
pub struct Journal {
    place: Place,
    fsync: Fsync,
    /// None while it is being opened again.
    tables: Mutex<Option<Box<dyn Tables>>>,
    failed: AtomicBool,
    /// It lacked something when it was opened, or all of it.
    doubtful: AtomicBool,
    failure: Mutex<String>,
    /// Changes written so far, and those that the disk has for certain.
    written: AtomicU64,
    synced: AtomicU64,
    /// When that was last so, in milliseconds since 1970; 0: not since the start.
    synced_unix_ms: AtomicU64,
    /// Rung when the disk has more, or takes no more.
    settled: Notify,
    wanted: Notify,
}

impl Journal {
    /// Opens the journal in a folder, or begins one.
    pub fn open(path: &Path, fsync: Fsync) -> Result<Self, JournalError> {
        let failed = |error: fjall::Error| JournalError {
            path: path.to_owned(),
            why: error.into(),
        };
        let place = Place::Folder(path.to_owned());
        let tail = Tail::find(path).map_err(|error| failed(error.into()))?;
        let tables = match (place.open(), &tail) {
            (Err(error), Some(tail)) if is_garbled(&error) => {
                tail.cut_while(error, || place.open(), is_garbled)
            }
            (opened, _) => opened,
        };
        let tables = tables.map_err(failed)?;
        let is_whole = tail.as_ref().is_some_and(|tail| !tail.report());
        let journal = Self::new(place, tables, fsync);
        journal.doubtful.store(!is_whole, Ordering::Relaxed);
        Ok(journal)
    }

    /// The same on a disk that is no disk: for simulations.
    pub fn open_in_memory(disk: &MemoryDisk, fsync: Fsync) -> Result<Self, JournalError> {
        let place = Place::Memory(disk.clone());
        let tables = place.open().map_err(|error| JournalError {
            path: place.path().to_owned(),
            why: error.into(),
        })?;
        Ok(Self::new(place, tables, fsync))
    }

    fn new(place: Place, tables: Box<dyn Tables>, fsync: Fsync) -> Self {
        Self {
            place,
            fsync,
            tables: Mutex::new(Some(tables)),
            failed: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
            failure: Mutex::default(),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            synced_unix_ms: AtomicU64::default(),
            settled: Notify::new(),
            wanted: Notify::new(),
        }
    }

    /// Whether it was found since the last call that keys may be unknown to it: it
    /// was cut, has damaged records, or was not there.
    pub fn take_doubt(&self) -> bool {
        self.doubtful.swap(false, Ordering::Relaxed)
    }

    /// Fills an empty index with what it has; the values that no node has. What
    /// has expired stays out, and what is on nodes that are not members counts
    /// as missing. Damaged records are left out, counted and logged; those of a later
    /// release are no damage, and an error.
    pub fn recover(
        &self,
        index: &mut Keyspace,
        is_member: &dyn Fn(NodeId) -> bool,
        now_ms: u64,
    ) -> Result<Vec<Unplaced>, JournalError> {
        let failed = |why| JournalError {
            path: self.place.path().to_owned(),
            why,
        };
        let tables = self.tables.lock();
        let Some(tables) = tables.as_ref() else {
            return Ok(Vec::new());
        };
        let (mut damaged, mut unplaced, mut error) = (0_u64, Vec::new(), None);
        let mut later = None;
        let mut decode = |value: &[u8]| match Entry::decode(value) {
            Err(RecordError::Version(version)) if version > VERSION => {
                later = Some(version);
                None
            }
            decoded => decoded.ok(),
        };
        let mut segments = Vec::new();
        let read = tables.rows(Table::Segments, &mut |_, value| match decode(value) {
            Some(entry) => segments.push(entry.object.within(is_member)),
            None => damaged += 1,
        });
        read.map_err(|error| failed(error.into()))?;
        index.restore(segments, now_ms, |insert| {
            let read = tables.rows(Table::Keys, &mut |key, value| {
                let (Some(key), Some(entry)) = (record::decode_key(key), decode(value)) else {
                    damaged += 1;
                    return;
                };
                let expired = entry.expires_unix_ms.is_some_and(|at| at <= now_ms);
                if let Some(value) = entry.value.filter(|_| !expired) {
                    let object = entry.object.clone();
                    let (db, key) = (key.db, Bytes::copy_from_slice(key.key));
                    unplaced.push(Unplaced {
                        db,
                        key,
                        object,
                        value,
                    });
                }
                insert(key, entry.object.within(is_member), entry.expires_unix_ms);
            });
            error = read.err();
        });
        if let Some(version) = later {
            return Err(failed(Why::Later(version)));
        }
        if damaged > 0 {
            self.doubtful.store(true, Ordering::Relaxed);
            metrics::counter!("scatterhoard_journal_damaged_total").increment(damaged);
            tracing::warn!(damaged, "records of the journal are damaged and left out");
        }
        error.map_or(Ok(unplaced), |error| Err(failed(error.into())))
    }

    /// Writes what has changed in the index, which is locked. If that fails, the
    /// changes stay where they are.
    pub fn write(&self, index: &mut Keyspace) {
        if self.failed.load(Ordering::Acquire) {
            return;
        }
        match self.try_write(index) {
            Ok(()) => {
                index.forget_changes();
                self.has_written();
            }
            Err(error) => self.fail(&error),
        }
    }

    fn has_written(&self) {
        self.written.fetch_add(1, Ordering::Release);
        if self.fsync == Fsync::Always {
            self.wanted.notify_one();
        }
    }

    fn try_write(&self, index: &Keyspace) -> Result<(), fjall::Error> {
        let tables = self.tables.lock();
        let Some(tables) = tables.as_ref() else {
            return Err(fjall::Error::Poisoned);
        };
        let (mut ops, mut result) = (Vec::new(), Ok(()));
        index.changes(|change| {
            if let Change::Flushed = change {
                // on its own: what comes behind it in the batch must stay
                result = tables.clear();
            } else {
                add(&mut ops, change);
            }
        });
        result?;
        tables.commit(ops)
    }

    fn fail(&self, error: &fjall::Error) {
        metrics::counter!("scatterhoard_journal_errors_total").increment(1);
        tracing::error!(path = %self.place.path().display(), %error, "journal cannot be written; writes are refused");
        *self.failure.lock() = error.to_string();
        self.failed.store(true, Ordering::Release);
        // nobody waits in vain
        self.settled.notify_waiters();
        // it is to be opened again, also if nothing waits to be forced to the disk
        self.wanted.notify_one();
    }

    /// Why nothing can be written at the moment.
    pub fn failure(&self) -> Option<String> {
        let failed = self.failed.load(Ordering::Acquire);
        failed.then(|| self.failure.lock().clone())
    }

    /// When changes were last forced to the disk, if they were since the start.
    pub fn synced_unix_ms(&self) -> Option<u64> {
        Some(self.synced_unix_ms.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// Returns when what was written before is as safe as the policy wants it
    /// before an acknowledgement.
    pub async fn settled(&self) {
        if self.fsync != Fsync::Always {
            return;
        }
        let written = self.written.load(Ordering::Acquire);
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // before looking, or a change in between would be missed
            settled.as_mut().enable();
            if self.synced.load(Ordering::Acquire) >= written || self.failure().is_some() {
                return;
            }
            settled.await;
        }
    }

    /// Whether it is forced to the disk from time to time.
    pub fn is_forced(&self) -> bool {
        self.fsync != Fsync::No
    }

    /// Returns when the disk has what was written before, for certain or, if nobody
    /// forces it to, by all likelihood.
    pub async fn on_disk(&self) {
        let written = self.written.load(Ordering::Acquire);
        if self.fsync == Fsync::No {
            return sleep(SYSTEM_WRITES_WITHIN).await;
        }
        while self.synced.load(Ordering::Acquire) < written {
            sleep(ON_DISK_LOOK).await;
        }
    }

    /// Forces it to the disk as the policy says, and opens it again after it has
    /// failed, until stopped.
    pub async fn keep(self: Arc<Self>, index: impl Fn() + Send, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if self.failed.load(Ordering::Acquire) {
                let _ = stop.run_until_cancelled(sleep(REOPEN_EVERY)).await;
                self.reopen().await;
                // what was kept meanwhile
                index();
                continue;
            }
            match self.fsync {
                Fsync::Always => {
                    let _ = stop.run_until_cancelled(self.wanted.notified()).await;
                }
                Fsync::Everysec | Fsync::No => {
                    let _ = stop
                        .run_until_cancelled(sleep(Duration::from_secs(1)))
                        .await;
                }
            }
            if self.fsync != Fsync::No {
                self.sync().await;
            }
        }
        self.sync().await;
    }

    async fn sync(self: &Arc<Self>) {
        let written = self.written.load(Ordering::Acquire);
        if written == self.synced.load(Ordering::Acquire) {
            return;
        }
        let place = self.place.clone();
        match self.place.apart(move || place.sync()).await {
            Some(Ok(())) => {
                self.synced.store(written, Ordering::Release);
                let now = crate::clock::unix_ms();
                self.synced_unix_ms.store(now, Ordering::Relaxed);
                self.settled.notify_waiters();
            }
            Some(Err(error)) => self.fail(&error),
            None => {}
        }
    }

    async fn reopen(self: &Arc<Self>) {
        let journal = self.clone();
        let opened = self.place.apart(move || {
            // closed first: the store locks its folder
            let mut tables = journal.tables.lock();
            *tables = None;
            journal.place.open().map(|opened| *tables = Some(opened))
        });
        match opened.await {
            Some(Ok(())) => {
                self.failed.store(false, Ordering::Release);
                // what was written before may wait to be forced to the disk
                self.wanted.notify_one();
                tracing::warn!(path = %self.place.path().display(), "journal opened again");
            }
            Some(Err(error)) => *self.failure.lock() = error.to_string(),
            None => {}
        }
    }
}

/// A value that only the journal has.
pub struct Unplaced {
    /// Database of its key.
    pub db: u8,
    /// The key.
    pub key: Bytes,
    /// What it names.
    pub object: Object,
    /// The value.
    pub value: Bytes,
}

fn add(ops: &mut Vec<Op>, change: Change<'_>) {
    match change {
        Change::Flushed => {}
        Change::Removed(key) => ops.push(Op::Remove(Table::Keys, record::encode_key(key))),
        Change::Named(key, object, expires_unix_ms, value) => {
            let entry = Entry {
                object: Object::clone(object),
                expires_unix_ms,
                value: value.map(bytes_of),
            };
            ops.push(Op::Put(
                Table::Keys,
                record::encode_key(key),
                entry.encode(),
            ));
        }
        Change::Segment(object) => {
            let entry = Entry {
                object: Object::clone(object),
                expires_unix_ms: None,
                value: None,
            };
            let id = record::encode_write_id(object.write_id);
            ops.push(Op::Put(Table::Segments, id.to_vec(), entry.encode()));
        }
        Change::SegmentGone(id) => {
            ops.push(Op::Remove(
                Table::Segments,
                record::encode_write_id(id).to_vec(),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use scatterhoard_wire::{Epoch, Geometry, Layout, WriteId};

    use super::*;

    #[test]
    fn what_a_later_release_has_written_is_not_taken_for_damaged() {
        let object = |counter| {
            let layout = Layout::new(Geometry::new(1, 1).unwrap(), 30, 100).unwrap();
            let epoch = Epoch(1);
            Object::new(
                WriteId { epoch, counter },
                layout,
                vec![Some(NodeId(0)), None],
            )
        };
        for (table, byte, is_later) in [
            (Table::Keys, VERSION + 1, true),
            (Table::Segments, VERSION + 1, true),
            (Table::Keys, 0, false),
        ] {
            let disk = MemoryDisk::default();
            let tables = disk.open().unwrap();
            let row = |counter: u64, version: u8| {
                let (object, expires_unix_ms, value) = (object(counter), None, None);
                let entry = Entry {
                    object,
                    expires_unix_ms,
                    value,
                };
                let mut value = entry.encode();
                value[0] = version;
                (record::encode_write_id(entry.object.write_id), value)
            };
            let put = |(key, value): ([u8; 16], Vec<u8>)| Op::Put(table, key.to_vec(), value);
            let ops = vec![put(row(1, VERSION)), put(row(2, byte))];
            tables.commit(ops).unwrap();
            let journal = Journal::open_in_memory(&disk, Fsync::Always).unwrap();
            let recovered = journal.recover(&mut Keyspace::default(), &|_| true, 1);
            let error = recovered.map(|_| ()).map_err(|e| e.to_string());
            assert_eq!(error.is_err(), is_later, "{error:?}");
            assert_eq!(journal.take_doubt(), !is_later);
            if let Err(error) = error {
                let words = ["memory: it was written by a later release", "version 2;"];
                assert!(words.iter().all(|w| error.contains(w)), "{error}");
            }
        }
    }
}
