//! The program itself, over real sockets: servers that behave, and servers that do not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod server;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use server::{Manners, Server};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scatterhoard-bench");

/// What a run of `load` left behind.
struct Ran {
    output: Output,
    json: Value,
    folder: tempfile::TempDir,
}

impl Ran {
    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn rows(&self) -> &[Value] {
        self.json["rows"].as_array().unwrap()
    }
}

/// `load`, short, with these options besides.
fn load(options: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.json");
    let usual = [["--rounds", "2"], ["--seconds", "0.1"]];
    let usual = usual.iter().filter(|usual| {
        let is_given = |option: &&str| option.split('=').next() == Some(usual[0]);
        !options.iter().any(is_given)
    });
    let output = Command::new(PROGRAM)
        .arg("load")
        .args(usual.flatten())
        .arg("--json")
        .arg(&json)
        .arg("--plot")
        .arg(folder.path())
        .args(options)
        .output()
        .unwrap();
    let json =
        std::fs::read(&json).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
    Ran {
        output,
        json,
        folder,
    }
}

/// Ran to its end without an error.
fn good(options: &[&str]) -> Ran {
    let ran = load(options);
    assert!(ran.output.status.success(), "{}", ran.stderr());
    assert_eq!(ran.json["ended_early"], Value::Null);
    ran
}

/// Ended with an error that says all of `words`, and with the exit code for it.
fn bad(options: &[&str], words: &[&str]) -> Ran {
    let ran = load(options);
    let stderr = ran.stderr();
    assert_eq!(ran.output.status.code(), Some(1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
    ran
}

#[test]
fn closed_loops_give_rows_percentiles_and_a_drawing() {
    let (a, b) = (Server::start(Manners::Good), Server::start(Manners::Good));
    let pid = format!("a={}", std::process::id());
    let targets = [&*a.target("a"), &*b.target("b")];
    let ran = good(&[
        "--target",
        targets[0],
        "--target",
        targets[1],
        "--pid",
        &pid,
        "--pid",
        &pid,
        "--sizes",
        "1k,20k",
        "--clients",
        "3",
        "--pipeline",
        "2",
        "--seed",
        "42",
    ]);
    let named: Vec<_> = ran
        .rows()
        .iter()
        .map(|row| {
            (
                row["op"].as_str(),
                row["size"].as_str(),
                row["target"].as_str(),
            )
        })
        .collect();
    assert_eq!(named.len(), 8);
    assert_eq!(named[0], (Some("set"), Some("1k"), Some("a")));
    assert_eq!(named[7], (Some("get"), Some("20k"), Some("b")));
    for row in ran.rows() {
        let part = &row[row["op"].as_str().unwrap()];
        assert!(part["count"].as_u64().unwrap() >= 2 * 2 * 3);
        assert!(part["max_us"].as_f64() >= part["p99_us"].as_f64());
        assert!(part["shares"].as_array().unwrap().len() > 2);
        assert_eq!(row["rounds"].as_array().unwrap().len(), 2);
    }
    assert!(ran.rows()[0]["cpu_s_per_gb"].is_f64() && ran.rows()[1]["cpu_s_per_gb"].is_null());
    assert_eq!(ran.rows()[0]["processes"].as_array().unwrap().len(), 1);
    let stdout = ran.stdout();
    assert!(
        stdout.contains("p99.9") && stdout.contains("seed 42"),
        "{stdout}"
    );
    let svg = std::fs::read_to_string(ran.folder.path().join("latency.svg")).unwrap();
    assert_eq!(svg.matches("<polyline").count(), 8);
    // nothing is left there
    assert_eq!((a.keys(), b.keys()), (0, 0));
}

#[test]
fn a_mix_of_sizes_and_operations_on_popular_keys_is_verified() {
    let server = Server::start(Manners::Good);
    let ran = good(&[
        "--target",
        &server.target("a"),
        "--mix",
        "get=70,set=30",
        "--size-mix",
        "lognormal:median=2k,sigma=1,min=100,max=50k",
        "--popularity",
        "zipf:1.1",
        "--clients",
        "8",
        "--keys",
        "50",
        "--markdown",
    ]);
    let row = &ran.rows()[0];
    assert_eq!(row["op"], "get=70,set=30");
    assert_eq!(row["size_bytes"], Value::Null);
    let count = |op: &str| row[op]["count"].as_f64().unwrap();
    let share = count("set") / (count("set") + count("get"));
    assert!(share > 0.02 && share < 0.8, "{share}");
    let stdout = ran.stdout();
    assert!(
        stdout.contains("| - SET |") && stdout.contains("|---|"),
        "{stdout}"
    );
}

#[test]
fn misses_are_counted_and_filled() {
    let server = Server::start(Manners::Good);
    let ran = good(&[
        "--target",
        &server.target("a"),
        "--mix",
        "get=1",
        "--sizes",
        "1k",
        "--keys",
        "20000",
        "--popularity",
        "uniform",
        "--no-prefill",
        "--on-miss",
        "fill",
    ]);
    let row = &ran.rows()[0];
    let misses = row["misses"].as_u64().unwrap();
    assert!(misses > 0);
    assert_eq!(row["fills"].as_u64(), Some(misses));
    assert_eq!(row["set"]["count"].as_u64(), Some(misses));
    assert!(ran.stdout().contains("hit ratio"));
    bad(
        &["--target", &server.target("a"), "--no-prefill"],
        &["--no-prefill", "--on-miss"],
    );
}

#[test]
fn a_trace_gives_keys_sizes_and_operations() {
    let mut trace = tempfile::NamedTempFile::new().unwrap();
    trace
        .write_all(b"0,SET,a,700\n1,GET,a,700\n2,GET,b,3000\n3,GET,a,700\n")
        .unwrap();
    let popularity = format!("trace:{}", trace.path().display());
    let server = Server::start(Manners::Good);
    let target = server.target("a");
    let ran = good(&[
        "--target",
        &target,
        "--popularity",
        &popularity,
        "--mix",
        "trace",
        "--size-mix",
        "trace",
    ]);
    let row = &ran.rows()[0];
    let (gets, sets) = (row["get"]["count"].as_u64(), row["set"]["count"].as_u64());
    // three reads for a write, but for where rounds begin and end
    assert!(
        gets.unwrap().abs_diff(3 * sets.unwrap()) <= 12,
        "{gets:?} {sets:?}"
    );
    bad(
        &["--target", &target, "--mix", "trace"],
        &["--mix trace needs --popularity trace:FILE"],
    );
    trace.write_all(b"4,DEL,a,1\n").unwrap();
    bad(
        &["--target", &target, "--popularity", &popularity],
        &["line 5", "expected GET or SET"],
    );
}

/// The server takes 10 ms for each request, so one client gets at most 100 a second answered;
/// 400 a second are asked for. A closed loop would tell of 10 ms.
#[test]
fn an_open_loop_counts_from_when_requests_were_due() {
    let server = Server::start(Manners::Slow);
    for arrivals in ["constant", "poisson"] {
        let ran = good(&[
            "--target",
            &server.target("a"),
            "--ops",
            "get",
            "--sizes",
            "100",
            "--rounds",
            "1",
            "--seconds",
            "0.5",
            "--rate",
            "400",
            "--arrivals",
            arrivals,
        ]);
        let row = &ran.rows()[0];
        let behind = &row["open_loop"];
        assert_eq!(behind["arrivals"], arrivals);
        assert!(behind["late_share"].as_f64().unwrap() > 0.5, "{behind}");
        // they are given up after 2 s, when at most 200 of some 200 were answered
        assert!(row["p50_us"].as_f64().unwrap() > 100e3, "{row}");
        assert!(ran.stdout().contains("sent more than 1 ms late"));
    }
    bad(
        &[
            "--target",
            &server.target("a"),
            "--rate",
            "10",
            "--pipeline",
            "2",
        ],
        &["--pipeline stays 1"],
    );
}

#[test]
fn nobody_there() {
    // bound, but nobody listens any more
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let target = format!("gone=127.0.0.1:{port}");
    let address = format!("gone (127.0.0.1:{port})");
    let ran = bad(
        &["--target", &target],
        &[
            &address,
            "expected a server that speaks RESP",
            "cannot connect",
        ],
    );
    assert!(ran.rows().is_empty());
    assert!(
        ran.json["ended_early"]
            .as_str()
            .unwrap()
            .contains("cannot connect")
    );
}

#[test]
fn no_resp_server() {
    let server = Server::start(Manners::Http);
    bad(
        &["--target", &server.target("web")],
        &[
            "web (127.0.0.1:",
            "no RESP server",
            "expected a reply that begins with",
            "HTTP/1.1 400",
        ],
    );
    let resp = Server::start(Manners::Good);
    let target = resp.target("m").replace("m=", "m=memcached://");
    bad(
        &["--target", &target],
        &["m (127.0.0.1:", "expected memcached"],
    );
}

#[test]
fn rows_before_a_connection_breaks_are_kept() {
    let server = Server::start(Manners::ClosesWithin(5_000));
    let ran = bad(
        &[
            "--target",
            &server.target("a"),
            "--sizes",
            "1k,5k",
            "--ops",
            "set,get",
            "--verify",
            "none",
        ],
        &[
            "a (127.0.0.1:",
            "GET 5k",
            "the server closed the connection",
            "bytes of a reply came",
            "were expected",
        ],
    );
    let done: Vec<_> = ran
        .rows()
        .iter()
        .map(|row| (&row["op"], &row["size"]))
        .collect();
    assert_eq!(done.len(), 3, "{done:?}");
    assert!(
        ran.json["ended_early"]
            .as_str()
            .unwrap()
            .contains("closed the connection")
    );
    assert!(ran.stdout().contains("5k"), "{}", ran.stdout());
}

#[test]
fn rows_before_a_value_that_does_not_fit_are_kept() {
    for manners in [Manners::Refuses(10_000), Manners::RefusesAndCloses(10_000)] {
        let server = Server::start(manners);
        let ran = bad(
            &[
                "--target",
                &server.target("a"),
                "--sizes",
                "1k,8m",
                "--ops",
                "set",
            ],
            &["a (127.0.0.1:", "SET 8m", "too large for this pool"],
        );
        assert_eq!(ran.rows().len(), 1);
        assert_eq!(ran.rows()[0]["size"], "1k");
    }
}

#[test]
fn wrong_bytes_are_found() {
    let server = Server::start(Manners::Flips);
    bad(
        &[
            "--target",
            &server.target("a"),
            "--ops",
            "get",
            "--sizes",
            "1k",
        ],
        &["a (127.0.0.1:", "WRONG BYTES"],
    );
}

#[test]
fn wrong_options_are_refused_before_anything_is_asked() {
    for (options, word) in [
        (&["--target", "a"][..], "want NAME=HOST:PORT"),
        (&["--target", "a=127.0.0.1:x"], "is no port"),
        (&["--clients", "0"], "--clients 0: want 1 to"),
        (&["--rounds", "0"], "--rounds 0"),
        (&["--keys", "99999999999"], "--keys"),
        (&["--seconds=-1"], "--seconds"),
        (&["--seconds=nan"], "--seconds"),
        (&["--warm-up=-1"], "--warm-up"),
        (&["--rate", "0"], "--rate 0"),
        (&["--sizes", "1x"], "unknown unit"),
        (&["--size-mix", "1k=x"], "want 1k=70,1m=30"),
        (&["--size-mix", "3g=1"], "are the most here"),
        (&["--size-mix", "5g=1"], "are the most here"),
        (&["--sizes", "5g"], "are the most here"),
        (&["--mix", "get=0"], "all shares are 0"),
        (
            &["--popularity", "zipf:x"],
            "want turn, uniform, zipf:EXPONENT",
        ),
        (&["--popularity", "trace:/nowhere"], "cannot read /nowhere"),
        (&["--pid", "b=1"], "no --target has this name"),
        (&["--pid", "a=99999999"], "no such process"),
        (&["--mix", "get=1", "--ops", "get"], "cannot be used with"),
        (
            &["--size-mix", "1k", "--sizes", "1k"],
            "cannot be used with",
        ),
    ] {
        let server = Server::start(Manners::Good);
        let target = server.target("a");
        let options = match options[0] {
            "--target" => options.to_vec(),
            _ => [&["--target", &target], options].concat(),
        };
        let ran = load(&options);
        let stderr = ran.stderr();
        assert!(!ran.output.status.success(), "{options:?}");
        assert!(stderr.contains(word), "{options:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn rounds_before_an_interruption_are_kept() {
    let server = Server::start(Manners::Good);
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.json");
    let mut child = Command::new(PROGRAM)
        .args(["load", "--target", &server.target("a"), "--sizes", "1k"])
        .args(["--ops", "set", "--rounds", "100000", "--seconds", "0.01"])
        .arg("--json")
        .arg(&json)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // a round is over when its keys have been read again
    while server.gets() < 3_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let code = child.wait().unwrap().code();
    let json: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(
        (code, json["ended_early"].as_str()),
        (Some(1), Some("interrupted"))
    );
    assert!(!json["rows"][0]["rounds"].as_array().unwrap().is_empty());
}

/// As `| head` would: the reader goes before anything is printed.
#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let server = Server::start(Manners::Good);
    let target = server.target("a");
    let json = tempfile::tempdir().unwrap();
    let kept: PathBuf = json.path().join("kept.json");
    let kept_name = kept.to_str().unwrap();
    let loads = [
        "load",
        "--target",
        &target,
        "--sizes",
        "1k",
        "--rounds",
        "1",
        "--seconds",
        "0.05",
    ];
    let runs: [&[&str]; 5] = [
        &[&loads[..], &["--json", kept_name]].concat(),
        &["--help"],
        &["cost", "--quick"],
        &["replay", "--quick"],
        &[
            "availability",
            "--quick",
            "--nodes",
            "20",
            "--day",
            "one-node",
            "--seeds",
            "1",
        ],
    ];
    for arguments in runs {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
    // what goes into a file still does
    let kept: Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
    assert_eq!(kept["rows"].as_array().unwrap().len(), 2);
}
