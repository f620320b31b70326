//! A disk that is no disk: what a simulated proxy leaves behind when it dies.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;

use super::tables::{Op, Table, Tables};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Default)]
struct Contents {
    keys: Rows,
    segments: Rows,
    nodes: Rows,
}

#[derive(Default)]
struct State {
    written: Contents,
    synced: Contents,
    is_full: bool,
    /// Who opened it last; what others write is lost.
    owner: u64,
}

/// The disk. Clones are the same one.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

impl MemoryDisk {
    /// Its process dies: what it writes from now on is lost.
    pub fn sever(&self) {
        self.0.lock().owner += 1;
    }

    /// Its machine dies, too: what was not forced to the disk is lost.
    pub fn lose_unsynced(&self) {
        let mut state = self.0.lock();
        state.owner += 1;
        state.written = state.synced.clone();
    }

    /// Whether it takes anything from now on.
    pub fn fill(&self, is_full: bool) {
        self.0.lock().is_full = is_full;
    }

    pub(super) fn open(&self) -> Result<Opened, fjall::Error> {
        let mut state = self.0.lock();
        if state.is_full {
            return Err(full());
        }
        state.owner += 1;
        Ok(Opened {
            disk: self.clone(),
            owner: state.owner,
        })
    }

    pub(super) fn sync(&self) -> Result<(), fjall::Error> {
        let mut state = self.0.lock();
        state.synced = state.written.clone();
        Ok(())
    }
}

fn full() -> fjall::Error {
    io::Error::from(io::ErrorKind::StorageFull).into()
}

pub(super) struct Opened {
    disk: MemoryDisk,
    owner: u64,
}

impl Opened {
    fn change(&self, change: impl FnOnce(&mut Contents)) -> Result<(), fjall::Error> {
        let mut state = self.disk.0.lock();
        if state.owner != self.owner {
            return Ok(());
        }
        if state.is_full {
            return Err(full());
        }
        change(&mut state.written);
        Ok(())
    }
}

impl Contents {
    fn table(&mut self, table: Table) -> &mut Rows {
        match table {
            Table::Keys => &mut self.keys,
            Table::Segments => &mut self.segments,
            Table::Nodes => &mut self.nodes,
        }
    }
}

impl Tables for Opened {
    fn clear(&self) -> Result<(), fjall::Error> {
        self.change(|contents| {
            contents.keys.clear();
            contents.segments.clear();
        })
    }

    fn commit(&self, ops: Vec<Op>) -> Result<(), fjall::Error> {
        self.change(|contents| {
            for op in ops {
                match op {
                    Op::Put(table, key, value) => contents.table(table).insert(key, value),
                    Op::Remove(table, key) => contents.table(table).remove(&key),
                };
            }
        })
    }

    fn rows(&self, table: Table, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), fjall::Error> {
        let mut written = self.disk.0.lock().written.clone();
        let rows = written.table(table);
        rows.iter().for_each(|(key, value)| each(key, value));
        Ok(())
    }
}
