//! The examples, as somebody runs them who tries the client.

use std::process::{Command, Output};

use crate::{
    cluster::proxies,
    servers::{Server, folder},
};

/// What an example prints.
fn run(name: &str, arguments: &[&str]) -> String {
    let program = folder().join("examples").join(name);
    assert!(
        program.is_file(),
        "{} is not there: cargo build -p scatterhoard-client --examples",
        program.display()
    );
    let output = Command::new(program).args(arguments).output().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let (out, err) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{name}: {status}\n{out}{err}");
    out.into_owned()
}

#[track_caller]
fn assert_says(out: &str, lines: &[&str]) {
    for line in lines {
        assert!(out.contains(line), "{line} is missing in:\n{out}");
    }
}

#[test]
fn those_for_one_server() {
    for server in [Server::redis(&[]), Server::scatterhoard(&[])] {
        let url = format!("redis://{}", server.address);
        let basic = run("basic", &[&url]);
        let wanted = [
            "Some(b\"hello\")",
            "stored: true",
            "Some(10000000) bytes",
            "no use",
            "3 deleted",
        ];
        assert_says(&basic, &wanted);
        let range = run("range", &[&url]);
        let wanted = ["ten bytes", "the last 10 bytes", "5000000 bytes in "];
        assert_says(&range, &wanted);
        let through = run("read_through", &[&url]);
        assert_says(&through, &["without a value: 100", "with one: 100"]);
        assert_eq!(through.matches("loading").count(), 1);
        assert_says(
            &run("cluster", &[&url]),
            &["30 of 30 found", "33 deleted, 0 redirects"],
        );

        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&from, &body).unwrap();
        let paths = [&from, &to].map(|path| path.to_str().unwrap());
        let file = run("file", &[paths[0], paths[1], &url]);
        assert_says(&file, &["3000000 bytes are under example:file:from"]);
        assert!(std::fs::read(to).unwrap() == body);
    }
}

#[test]
fn that_for_several() {
    let servers = proxies();
    let url = format!("redis://{}", servers[0].address);
    let out = run("cluster", &[&url]);
    assert_says(
        &out,
        &["30 of 30 found", "Some(3000000) bytes", "33 deleted"],
    );
    for server in &servers {
        assert_says(&out, &[&format!("connected to {}", server.address)]);
    }
}

#[cfg(feature = "embedded")]
#[test]
fn that_within_a_program() {
    let out = run("embedded", &[]);
    let wanted = [
        "10000000 bytes, the same: true",
        "10000000 bytes as a stream",
        "ended",
    ];
    assert_says(&out, &wanted);
}
