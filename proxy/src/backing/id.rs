//! The file in the data folder that says which part of which backing store is ours,
//! and the one beside it that says that nothing there is to be deleted for having
//! no name.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Location, OpenError, name::CacheId};

/// While this file is there, nothing is deleted for having no name.
pub(super) fn keep_file(file: &Path) -> PathBuf {
    file.with_extension("keep")
}

/// The journal may lack keys: what none names is kept from now on, beyond this
/// start, too, until somebody removes a file. Nothing to do if nothing was ever
/// stored for the data folder whose `file` would say so.
pub fn keep_all(file: &Path) -> io::Result<()> {
    if !file.try_exists()? {
        return Ok(());
    }
    fs::File::create(keep_file(file))?.sync_all()?;
    sync_folder_of(file)
}

/// `ID LOCATION`; none if it is another place, or nothing was stored before. A
/// line that cannot be understood is no reason to begin anew: what was stored
/// would belong to nobody.
pub(super) fn read(file: &Path, location: &Location) -> Result<Option<CacheId>, OpenError> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(file, error)),
    };
    let (id, place) = parse(&bytes).ok_or_else(|| OpenError::Unreadable(file.to_owned()))?;
    Ok((place == location.to_string()).then_some(id))
}

fn parse(bytes: &[u8]) -> Option<(CacheId, &str)> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (id, place) = line.split_once(' ')?;
    place.parse::<Location>().ok()?;
    Some((id.parse().ok()?, place))
}

/// Written beside, synced, renamed, folder synced: it is there as a whole or not
/// at all, and still is after the machine has failed.
pub(super) fn write(file: &Path, id: CacheId, location: &Location) -> Result<(), OpenError> {
    let beside = file.with_extension("new");
    let write = || -> io::Result<()> {
        let mut new = fs::File::create(&beside)?;
        writeln!(new, "{id} {location}")?;
        new.sync_all()?;
        fs::rename(&beside, file)?;
        sync_folder_of(file)
    };
    write().map_err(|error| unusable(file, error))
}

fn sync_folder_of(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn unusable(file: &Path, error: io::Error) -> OpenError {
    OpenError::File {
        path: file.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_is_of_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backing");
        let places = ["file:///a b ", "s3://bucket/a"].map(|text| text.parse().unwrap());
        let [here, there]: [Location; 2] = places;
        assert_eq!(read(&file, &here).unwrap(), None);
        write(&file, CacheId(7), &here).unwrap();
        assert_eq!(read(&file, &here).unwrap(), Some(CacheId(7)));
        assert_eq!(read(&file, &there).unwrap(), None);
        assert!(!file.with_extension("new").exists());
    }

    #[test]
    fn what_cannot_be_understood_is_no_new_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backing");
        let here = "s3://bucket".parse().unwrap();
        let whole = b"00000000000000ab s3://bucket\n";
        fs::write(&file, whole).unwrap();
        assert_eq!(read(&file, &here).unwrap(), Some(CacheId(0xab)));
        for damaged in [
            &whole[..0],
            &whole[..9],
            &whole[..whole.len() - 1],
            b"00000000000000a\xff s3://bucket\n",
            b"0000000000000xab s3://bucket\n",
            b"00000000000000ab bucket\n",
        ] {
            fs::write(&file, damaged).unwrap();
            let error = read(&file, &here).unwrap_err().to_string();
            assert!(error.contains("remove") && error.contains("log"), "{error}");
        }
    }
}
