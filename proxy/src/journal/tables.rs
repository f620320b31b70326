//! What a journal is kept in: tables whose changes are written as one.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

/// Caches of the store: the index itself is in memory, and never reads it.
const CACHE_BYTES: u64 = 4 << 20;
/// Before older logs are turned into tables.
const LOG_BYTES: u64 = 64 << 20;
const MEMTABLE_BYTES: u64 = 16 << 20;

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Keys,
    Segments,
    /// Which nodes belong to the pool.
    Nodes,
}

/// A change of one row.
pub(super) enum Op {
    Put(Table, Vec<u8>, Vec<u8>),
    Remove(Table, Vec<u8>),
}

pub(super) trait Tables: Send {
    /// Removes all rows of keys and segments.
    fn clear(&self) -> Result<(), fjall::Error>;
    /// Writes all of it or nothing: when it returns, only the death of the machine
    /// can undo it.
    fn commit(&self, ops: Vec<Op>) -> Result<(), fjall::Error>;
    /// Every row's key and value, in the keys' order.
    fn rows(&self, table: Table, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), fjall::Error>;
}

/// The embedded store in its folder.
pub(super) struct Folder {
    database: Database,
    keys: Keyspace,
    segments: Keyspace,
    nodes: Keyspace,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, fjall::Error> {
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            // one that waits for room in the queue of both needs the other
            .worker_threads(2)
            .max_journaling_size(LOG_BYTES)
            .manual_journal_persist(true)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        Ok(Self {
            keys: database.keyspace("keys", options)?,
            segments: database.keyspace("segments", options)?,
            nodes: database.keyspace("nodes", options)?,
            database,
        })
    }

    fn table(&self, table: Table) -> &Keyspace {
        match table {
            Table::Keys => &self.keys,
            Table::Segments => &self.segments,
            Table::Nodes => &self.nodes,
        }
    }
}

impl Tables for Folder {
    fn clear(&self) -> Result<(), fjall::Error> {
        self.keys.clear().and_then(|()| self.segments.clear())
    }

    fn commit(&self, ops: Vec<Op>) -> Result<(), fjall::Error> {
        if ops.is_empty() {
            return self.database.persist(PersistMode::Buffer);
        }
        let batch = self.database.batch();
        let mut batch = batch.durability(Some(PersistMode::Buffer));
        for op in ops {
            match op {
                Op::Put(table, key, value) => batch.insert(self.table(table), key, value),
                Op::Remove(table, key) => batch.remove(self.table(table), key),
            }
        }
        batch.commit()
    }

    fn rows(&self, table: Table, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), fjall::Error> {
        for row in self.table(table).iter() {
            let (key, value) = row.into_inner()?;
            each(&key, &value);
        }
        Ok(())
    }
}
