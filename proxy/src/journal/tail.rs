//! The end of the store's latest log, where a crash of the machine or a bad disk
//! leaves half a record. The store itself drops a record that is cut off, without
//! a word, and refuses one that is garbled: here both are cut and said.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Extension of the store's logs.
const EXTENSION: &str = "jnl";
/// First attempt to cut off a garbled end, in bytes; then twice as much, and so on.
const FIRST_CUT: u64 = 64;
const PIECE: usize = 64 * 1024;

/// The latest log and how far it is written.
pub(super) struct Tail {
    path: PathBuf,
    end: u64,
}

impl Tail {
    /// None in a folder without logs.
    pub(super) fn find(folder: &Path) -> io::Result<Option<Self>> {
        let Some(path) = latest(folder)? else {
            return Ok(None);
        };
        let end = written_end(&path)?;
        Ok(Some(Self { path, end }))
    }

    /// Says what was cut off since; whether anything was.
    pub(super) fn report(&self) -> bool {
        let now = written_end(&self.path).unwrap_or(self.end);
        if now < self.end {
            let cut_bytes = self.end - now;
            tracing::warn!(log = %self.path.display(), cut_bytes, "journal was cut: its last record is not whole");
        }
        now < self.end
    }

    /// Cuts off more and more until `open` succeeds: at most twice as much as
    /// lies behind the damage. The log as it was stays beside it; it is put back
    /// when cutting does not help, since then another one is garbled.
    pub(super) fn cut_while<T, E: From<io::Error>>(
        &self,
        error: E,
        mut open: impl FnMut() -> Result<T, E>,
        is_garbled: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let log = self.path.display();
        let copy = self.path.with_extension("damaged");
        std::fs::copy(&self.path, &copy)?;
        let (mut cut_bytes, mut last) = (FIRST_CUT, error);
        while is_garbled(&last) && cut_bytes < 2 * self.end {
            let file = File::options().write(true).open(&self.path)?;
            file.set_len(self.end.saturating_sub(cut_bytes))?;
            match open() {
                Ok(opened) => {
                    tracing::warn!(%log, cut_bytes, copy = %copy.display(), "journal was cut: its end is garbled");
                    return Ok(opened);
                }
                Err(error) => last = error,
            }
            cut_bytes *= 2;
        }
        std::fs::rename(&copy, &self.path)?;
        Err(last)
    }
}

/// Forces what was written to the latest log to the disk.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    match latest(folder)? {
        Some(path) => File::open(path)?.sync_data(),
        None => Ok(()),
    }
}

fn latest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let paths = files.flatten().map(|file| file.path());
    let logs = paths.filter(|path| path.extension().is_some_and(|e| e == EXTENSION));
    Ok(logs.max_by_key(number))
}

/// One behind the last byte that is not zero: logs are made longer ahead of use.
fn written_end(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut piece = vec![0; PIECE];
    while end > 0 {
        let len = end.min(PIECE as u64);
        file.seek(SeekFrom::Start(end - len))?;
        let piece = &mut piece[..len as usize];
        file.read_exact(piece)?;
        if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
            return Ok(end - len + last as u64 + 1);
        }
        end -= len;
    }
    Ok(0)
}
