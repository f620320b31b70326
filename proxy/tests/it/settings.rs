//! What is asked of the program, and how it refuses what cannot be.

use std::net::TcpListener;

use crate::server::{Server, run};

/// Exit code and what is written for people.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code().expect("an exit code"), text)
}

fn config(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scatterhoard.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn version_and_help() {
    let version = run(&["--version"]);
    assert!(version.status.success());
    let text = String::from_utf8(version.stdout).unwrap();
    assert_eq!(
        text.trim(),
        concat!("scatterhoard ", env!("CARGO_PKG_VERSION"))
    );
    for arguments in [&["--help"][..], &["serve", "--help"]] {
        let help = run(arguments);
        assert!(help.status.success());
        let text = String::from_utf8(help.stdout).unwrap();
        for flag in [
            "--config",
            "--listen",
            "--nodes",
            "--node-memory-mb",
            "--data-parity",
            "--hot-tier-mb",
            "--data-dir",
            "--admin",
            "--lambda-endpoint",
        ] {
            assert!(
                text.contains(flag),
                "{arguments:?}: {flag} is missing:\n{text}"
            );
        }
    }
}

#[test]
fn who_cannot_acknowledge_writes_says_so() {
    let server = Server::start(&["--ack", "proxy", "--hot-tier-mb", "0"]);
    assert!(server.log().contains("ack = proxy does nothing"));
    server.stop();
}

#[test]
fn a_port_in_use_names_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    for flag in ["--listen", "--admin", "--link-listen"] {
        let mut arguments = vec!["serve", flag, &address];
        for other in ["--listen", "--admin", "--link-listen"] {
            if other != flag {
                arguments.extend([other, free]);
            }
        }
        let (code, text) = refused(&arguments);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(flag) && text.contains(&address), "{text}");
    }
}

#[test]
fn an_unknown_setting_is_named_with_line_and_nearest_name() {
    let (_folder, path) = config("# ours\nnodes = 14\n\nhot_teir_mb = 3\n");
    let (code, text) = refused(&["serve", "--config", &path]);
    assert_eq!(code, 2, "{text}");
    for part in [path.as_str(), "line 4", "`hot_teir_mb`", "`hot_tier_mb`"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[test]
fn configs_that_cannot_be_read() {
    let (code, text) = refused(&["serve", "--config", "/nowhere/at/all.toml"]);
    assert!(
        code == 2 && text.contains("/nowhere/at/all.toml"),
        "{code} {text}"
    );
    let (folder, path) = config("nodes = \"many\"\n");
    let (code, text) = refused(&["serve", "--config", &path]);
    assert!(
        code == 2 && text.contains("nodes") && text.contains("line 1"),
        "{code} {text}"
    );
    let (code, text) = refused(&["serve", "--config", folder.path().to_str().unwrap()]);
    assert!(code == 2 && text.contains("cannot read"), "{code} {text}");
    for wrong in [
        "nodes = \n",
        "= 3",
        "\u{0}",
        "[nodes]\na = 1\n",
        "nodes = 1\nnodes = 2\n",
    ] {
        let (_folder, path) = config(wrong);
        let (code, text) = refused(&["serve", "--config", &path]);
        assert!(
            code == 2 && text.contains(&path),
            "{wrong:?}: {code} {text}"
        );
        assert!(!text.contains("panicked"), "{text}");
    }
    let (folder, path) = config("");
    std::fs::write(folder.path().join("scatterhoard.toml"), [0xff, 0xfe, b'\n']).unwrap();
    let (code, text) = refused(&["serve", "--config", &path]);
    assert!(code == 2 && text.contains(&path), "{code} {text}");
}

#[test]
fn values_that_cannot_work() {
    for (arguments, part) in [
        (&["--nodes", "3"][..], "nodes"),
        (&["--nodes", "-1"], "-1"),
        (&["--nodes", "many"], "--nodes"),
        (&["--data-parity", "0+2"], "data_parity"),
        (&["--data-parity", "ten"], "data_parity"),
        (&["--node-memory-mb", "64"], "node_memory_mb"),
        (&["--lambda-endpoint", "localhost:9001"], "lambda_endpoint"),
        (&["--listen", "6379"], "--listen"),
        (&["--maxmemory-policy", "lru"], "allkeys-lru"),
        (&["--hot-tier-gb", "1"], "--hot-tier-gb"),
        (&["--log", "=,=loud"], "log"),
    ] {
        let (code, text) = refused(&[&["serve"][..], arguments].concat());
        assert!(
            code == 2 && text.contains(part),
            "{arguments:?}: {code} {text}"
        );
    }
}

#[test]
fn flags_go_before_the_file() {
    let (_folder, path) = config("nodes = 7\ndata_parity = \"4+2\"\nproto_max_bulk_mb = 9\n");
    let server = Server::start(&["--config", &path, "--nodes", "6"]);
    let limit: Vec<String> = redis::cmd("CONFIG")
        .arg(&["GET", "proto-max-bulk-len"])
        .query(&mut server.client())
        .unwrap();
    assert_eq!(limit[1], (9 << 20).to_string());
    assert!(server.admin("GET", "/healthz").contains("of 6 nodes"));
    server.stop();
}

#[test]
fn a_data_folder_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let first = Server::start(&["--data-dir", path]);
    let (code, text) = refused(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--data-dir",
        path,
    ]);
    assert!(code == 1 && text.contains(path), "{code} {text}");
    first.stop();
    Server::start(&["--data-dir", path]).stop();
    std::fs::write(folder.path().join("epoch"), "not a number").unwrap();
    let (code, text) = refused(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
        "--data-dir",
        path,
    ]);
    assert!(code == 1 && text.contains("epoch"), "{code} {text}");
}
