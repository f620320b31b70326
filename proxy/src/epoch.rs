//! Which reign this is: a number above every earlier one, made durable before
//! the first write, and a lock that keeps a second proxy off the same folder.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use scatterhoard_wire::Epoch;

use crate::clock;

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Cannot be made, read or written.
    #[error("data folder {path}: {error}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another proxy uses it.
    #[error("data folder {0} is in use by another scatterhoard")]
    Locked(PathBuf),
    /// The epoch file is not a number.
    #[error(
        "{0} is damaged: it should hold one number; if nothing else uses these nodes, remove it"
    )]
    Damaged(PathBuf),
}

/// A folder of our own, locked while this lives.
pub struct DataDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl DataDir {
    /// Makes and locks the folder.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |error| DataDirError::Io {
            path: path.to_owned(),
            error,
        };
        fs::create_dir_all(path).map_err(failed)?;
        let options = || {
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path.join("lock"))
        };
        let file = options().map_err(failed)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| DataDirError::Locked(path.to_owned()))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where the journal of the index is.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The file that says which part of the backing store is ours.
    pub fn backing(&self) -> PathBuf {
        self.path.join("backing")
    }

    /// Whether it is to be filled with what nodes hold: it is new, or that was begun
    /// and not finished. What was written meanwhile nobody has seen, and goes.
    pub fn begin_inventory(&self) -> Result<bool, DataDirError> {
        let failed = |error| DataDirError::Io {
            path: self.path.clone(),
            error,
        };
        let is_new = !self.epoch_file().exists();
        if !is_new && !self.inventory_file().exists() {
            return Ok(false);
        }
        File::create(self.inventory_file()).map_err(failed)?;
        File::open(&self.path)
            .and_then(|f| f.sync_all())
            .map_err(failed)?;
        match fs::remove_dir_all(self.journal()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(true),
        }
    }

    /// It is filled.
    pub fn end_inventory(&self) -> Result<(), DataDirError> {
        fs::remove_file(self.inventory_file()).map_err(|error| DataDirError::Io {
            path: self.inventory_file(),
            error,
        })
    }

    /// There while it is being filled.
    fn inventory_file(&self) -> PathBuf {
        self.path.join("inventory")
    }

    fn epoch_file(&self) -> PathBuf {
        self.path.join("epoch")
    }

    fn stored_epoch(&self) -> Result<Epoch, DataDirError> {
        let path = self.epoch_file();
        let mut text = String::new();
        match File::open(&path).and_then(|mut f| f.read_to_string(&mut text)) {
            Ok(_) => text
                .trim()
                .parse()
                .map(Epoch)
                .map_err(|_| DataDirError::Damaged(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Epoch(0)),
            Err(error) => Err(DataDirError::Io { path, error }),
        }
    }

    /// Written beside, synced, renamed, folder synced: at any moment there is
    /// one whole number.
    fn store_epoch(&self, epoch: Epoch) -> Result<(), DataDirError> {
        let path = self.epoch_file();
        let beside = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&beside)?;
            writeln!(file, "{epoch}")?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| DataDirError::Io {
            path: path.clone(),
            error,
        })
    }
}

/// An epoch above the stored one, above every one that a node has met, and,
/// for nodes that could not be asked, above the clock's seconds of all starts
/// before. Stored before it is returned.
pub fn next(dir: Option<&DataDir>, highest_met: Epoch) -> Result<Epoch, DataDirError> {
    let stored = dir.map_or(Ok(Epoch(0)), DataDir::stored_epoch)?;
    let epoch = above(stored, highest_met);
    if let Some(dir) = dir {
        dir.store_epoch(epoch)?;
    }
    Ok(epoch)
}

/// The epoch of a start: above the last one of this folder, and above those that
/// nodes have met.
pub fn above(stored: Epoch, highest_met: Epoch) -> Epoch {
    let by_clock = clock::since_1970().as_secs();
    Epoch(by_clock.max(stored.0.max(highest_met.0).saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_filled_once_and_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(folder.path()).unwrap();
        assert!(dir.begin_inventory().unwrap());
        next(Some(&dir), Epoch(0)).unwrap();
        // interrupted: what is there of a journal is part of it
        fs::create_dir(dir.journal()).unwrap();
        assert!(dir.begin_inventory().unwrap() && !dir.journal().exists());
        next(Some(&dir), Epoch(0)).unwrap();
        fs::create_dir(dir.journal()).unwrap();
        dir.end_inventory().unwrap();
        assert!(!dir.begin_inventory().unwrap() && dir.journal().exists());
    }

    #[test]
    fn every_start_reigns_above_all_before() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(folder.path()).unwrap();
        let first = next(Some(&dir), Epoch(0)).unwrap();
        let second = next(Some(&dir), Epoch(0)).unwrap();
        let third = next(Some(&dir), Epoch(u64::MAX - 9)).unwrap();
        assert!(first < second && second < third);
        assert_eq!(third, Epoch(u64::MAX - 8));
        assert!(matches!(
            DataDir::open(folder.path()),
            Err(DataDirError::Locked(_))
        ));
        drop(dir);
        let dir = DataDir::open(folder.path()).unwrap();
        fs::write(folder.path().join("epoch"), "12x").unwrap();
        assert!(matches!(
            next(Some(&dir), Epoch(0)),
            Err(DataDirError::Damaged(_))
        ));
    }
}
