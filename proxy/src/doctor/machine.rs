//! This machine: open files, the data folder.

use std::{fs, io::Write, path::Path};

use crate::{
    checks::advice::Finding,
    config::{Config, Functions},
    descriptors,
    epoch::{DataDir, DataDirError},
};

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    vec![open_files(config), data_dir(config)]
}

fn open_files(config: &Config) -> Finding {
    let check = "open files";
    let limit = descriptors::raise();
    let clients = descriptors::clients(config.max_clients, limit, config.nodes);
    let limit = limit.map_or("no limit".into(), |n| format!("a limit of {n}"));
    let wanted = config.max_clients;
    if clients < wanted {
        return Finding::warning(
            check,
            format!("{limit} leaves room for {clients} clients of {wanted}"),
            "raise the limit of open files (ulimit -n, or LimitNOFILE= in the unit)",
        );
    }
    Finding::ok(check, format!("{limit} leaves room for {wanted} clients"))
}

fn data_dir(config: &Config) -> Finding {
    let check = "data folder";
    let Some(path) = config.data_dir.as_deref() else {
        let what = "none: the index is lost when the proxy ends";
        return match config.functions {
            Functions::Local => Finding::ok(check, what),
            _ => Finding::warning(
                check,
                what,
                "set --data-dir to a folder that outlives the machine",
            ),
        };
    };
    let shown = path.display();
    match DataDir::open(path) {
        Ok(_lock) => match writes(path) {
            Ok(()) => Finding::ok(check, format!("{shown} can be written and locked")),
            Err(error) => Finding::error(
                check,
                format!("{shown} cannot be written: {error}"),
                "see that the disk is not full, and not read-only",
            ),
        },
        Err(DataDirError::Locked(_)) => Finding::warning(
            check,
            format!("{shown} is in use by another scatterhoard"),
            "if that is the proxy, all is well; else stop it",
        ),
        Err(error) => Finding::error(
            check,
            error.to_string(),
            "make the folder, and give it to the user that runs the proxy",
        ),
    }
}

fn writes(folder: &Path) -> std::io::Result<()> {
    let path = folder.join("doctor");
    let mut file = fs::File::create(&path)?;
    file.write_all(&[0; 4096])?;
    file.sync_all()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checks::advice::Severity, config::Options};

    fn config(folder: Option<&Path>) -> Config {
        let options = Options {
            data_dir: folder.map(Into::into),
            lambda_endpoint: Some("aws".into()),
            ..Options::default()
        };
        Config::from_options(options).unwrap()
    }

    #[test]
    fn a_data_folder_can_be_there_or_taken_or_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let severity = |folder| data_dir(&config(folder)).severity;
        assert_eq!(severity(None), Severity::Warning);
        assert_eq!(severity(Some(folder.path())), Severity::Ok);
        assert!(!folder.path().join("doctor").exists());
        let taken = DataDir::open(folder.path()).unwrap();
        assert_eq!(severity(Some(folder.path())), Severity::Warning);
        drop(taken);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(severity(Some(&file)), Severity::Error);
    }

    #[test]
    fn more_clients_than_files_are_a_warning() {
        let mut many = config(None);
        assert!(open_files(&config(None)).what.contains("clients"));
        if descriptors::raise().is_some() {
            many.max_clients = usize::MAX;
            assert_eq!(open_files(&many).severity, Severity::Warning);
        }
    }
}
