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
        let files = match std::fs::read_dir(folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
        let paths = files.flatten().map(|file| file.path());
        let logs = paths.filter(|path| path.extension().is_some_and(|e| e == EXTENSION));
        let Some(path) = logs.max_by_key(number) else {
            return Ok(None);
        };
        let end = written_end(&path)?;
        Ok(Some(Self { path, end }))
    }

    /// Says what the store has cut off since.
    pub(super) fn report(&self) {
        let now = written_end(&self.path).unwrap_or(self.end);
        if now < self.end {
            let cut_bytes = self.end - now;
            tracing::warn!(log = %self.path.display(), cut_bytes, "journal was cut: its last record is not whole");
        }
    }

    /// Cuts off more and more until `open` succeeds; at most twice what is
    /// garbled.
    pub(super) fn cut_until<T, E>(&self, mut open: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        let mut cut_bytes = FIRST_CUT;
        loop {
            let end = self.end.saturating_sub(cut_bytes);
            let cut = File::options()
                .write(true)
                .open(&self.path)
                .and_then(|log| log.set_len(end));
            let opened = open();
            if opened.is_ok() || cut.is_err() || end == 0 {
                let log = self.path.display();
                tracing::warn!(%log, cut_bytes, opened = opened.is_ok(), "journal was cut: its end is garbled");
                return opened;
            }
            cut_bytes *= 2;
        }
    }
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
