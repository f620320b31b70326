//! `scatterhoard doctor`: what is well, and each thing that is not.

use std::process::Output;

use serde_json::{Value, json};

use crate::{
    aws::{Aws, Refused},
    platform::Platform,
    server::{Server, free_address, run},
};

const NODES: usize = 6;

/// The findings of a doctor with these arguments, and whether it is content.
fn doctor(arguments: &[&str]) -> (bool, Vec<Value>) {
    let words = [
        "doctor",
        "--json",
        "--nodes",
        "6",
        "--data-parity",
        "2+2",
        "--node-memory-mb",
        "128",
        "--function-timeout-s",
        "60",
    ];
    let output = run(&[&words[..], arguments].concat());
    let seen = shown(&output);
    let report: Value = serde_json::from_slice(&output.stdout).expect(&seen);
    let ok = report["ok"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(if ok { 0 } else { 1 }), "{seen}");
    (ok, report["findings"].as_array().unwrap().clone())
}

fn shown(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    format!("{out}{err}")
}

/// The findings of this severity, as text.
fn of(findings: &[Value], severity: &str) -> Vec<String> {
    let those = findings.iter().filter(|f| f["severity"] == severity);
    those.map(ToString::to_string).collect()
}

#[track_caller]
fn one(findings: &[Value], severity: &str, words: &[&str]) {
    let found = of(findings, severity);
    let has = |text: &&String| words.iter().all(|w| text.contains(w));
    assert!(
        found.iter().any(|f| has(&f)),
        "{severity} {words:?} not in {findings:#?}"
    );
}

#[test]
fn a_pool_on_this_machine_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let (ok, findings) = doctor(&["--data-dir", folder.path().to_str().unwrap()]);
    assert!(ok, "{findings:#?}");
    assert_eq!(of(&findings, "warning"), Vec::<String>::new());
    one(&findings, "ok", &["links", "reaches 127.0.0.1:"]);
    one(&findings, "ok", &["data folder"]);
    one(&findings, "ok", &["all 6 functions may be invoked"]);
    // local-lambda only invokes
    one(&findings, "skipped", &["functions"]);
    one(&findings, "skipped", &["concurrency"]);
}

#[test]
fn a_platform_that_is_well_is_looked_at_from_end_to_end() {
    let aws = Aws::start(NODES);
    let (ok, findings) = doctor(&["--lambda-endpoint", &aws.url(), "--link-tls", "on"]);
    assert!(ok, "{findings:#?}");
    for check in [
        "credentials",
        "clock",
        "invoke",
        "functions",
        "concurrency",
        "node",
        "links",
    ] {
        one(&findings, "ok", &[&format!("\"check\":\"{check}\"")]);
    }
    // for people
    let url = aws.url();
    let output = run(&["doctor", "--nodes", "12", "--lambda-endpoint", &url]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for words in [
        "WARNING  memory",
        "(and 11 more functions)",
        "to do: set --node-memory-mb 128",
        "0 errors, 3 warnings",
    ] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn functions_that_are_not_as_they_should_be() {
    let aws = Aws::start(NODES);
    let denied = Refused::new(403, "AccessDeniedException", "not authorized");
    let missing = Refused::new(404, "ResourceNotFoundException", "Function not found: n");
    {
        let mut state = aws.state();
        state.invokes.insert("-001".into(), denied);
        state.invokes.insert("-004".into(), missing.clone());
        state.invokes.insert("-005".into(), missing);
        let functions = [
            ("-000", json!({"MemorySize": 256})),
            ("-002", json!({"Runtime": "python3.14", "Timeout": 3})),
            (
                "-003",
                json!({"State": "Failed", "StateReason": "no interface", "StateReasonCode": "EniLimitExceeded"}),
            ),
            ("-005", json!({"Environment": {"Variables": {}}})),
        ];
        let functions = functions.map(|(end, over)| (end.to_owned(), over));
        state.functions.extend(functions);
        state.concurrency = 7;
        state.reserved = Some(1);
    }
    let (ok, findings) = doctor(&["--lambda-endpoint", &aws.url()]);
    assert!(!ok);
    one(&findings, "error", &["-001", "may not invoke"]);
    one(&findings, "error", &["-004", "no such function", "1 more"]);
    one(&findings, "warning", &["-000", "256 MB"]);
    one(&findings, "error", &["-002", "python3.14"]);
    one(&findings, "warning", &["-002", "3 s"]);
    one(&findings, "error", &["-003", "no interface", "L-9FEE3D26"]);
    one(&findings, "warning", &["-005", "MIMALLOC_PURGE_DELAY"]);
    one(&findings, "warning", &["allows 7", "use up to 12"]);
    one(&findings, "warning", &["reserved concurrency of 1"]);
    // the others get through all the same
    one(&findings, "ok", &["links"]);
}

#[test]
fn a_quota_of_10_is_too_small_for_10_and_2() {
    let aws = Aws::start(12);
    aws.state().concurrency = 10;
    let wide = ["--lambda-endpoint", &aws.url(), "--nodes", "12"];
    let output = run(&[&["doctor", "--json"], &wide[..]].concat());
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("needs 11 nodes at once"), "{text}");
}

#[test]
fn credentials_and_clocks() {
    let aws = Aws::start(NODES);
    aws.refuse_all(Some(Refused::expired()));
    let (ok, findings) = doctor(&["--lambda-endpoint", &aws.url()]);
    assert!(!ok);
    one(&findings, "error", &["credentials", "have expired"]);
    assert_eq!(of(&findings, "error").len(), 1, "{findings:#?}");
    let message = "Signature expired: 20261122T120000Z is now earlier than 20261122T121500Z";
    let skewed = Refused::new(403, "InvalidSignatureException", message);
    aws.refuse_all(Some(skewed));
    aws.state().ahead_s = 900;
    let (_, findings) = doctor(&["--lambda-endpoint", &aws.url()]);
    one(&findings, "error", &["credentials", "clock is too far off"]);
    one(&findings, "error", &["\"clock\"", "behind the platform's"]);
    // it is still believed, but not for long
    aws.refuse_all(None);
    aws.state().ahead_s = -100;
    let (ok, findings) = doctor(&["--lambda-endpoint", &aws.url()]);
    assert!(ok);
    one(&findings, "warning", &["clock", "ahead of the platform's"]);
}

#[test]
fn an_endpoint_that_is_not_there() {
    let url = format!("http://{}", free_address());
    let (ok, findings) = doctor(&["--lambda-endpoint", &url]);
    assert!(!ok);
    one(&findings, "error", &["nobody answers", "--lambda-endpoint"]);
}

#[test]
fn questions_that_are_not_allowed_are_no_error() {
    let aws = Aws::start(NODES);
    let denied = Refused::new(403, "AccessDeniedException", "not authorized");
    aws.state().questions = Some(denied);
    let (ok, findings) = doctor(&["--lambda-endpoint", &aws.url()]);
    assert!(ok, "{findings:#?}");
    one(&findings, "warning", &["lambda:GetFunctionConfiguration"]);
    one(&findings, "warning", &["lambda:GetAccountSettings"]);
    one(&findings, "ok", &["links"]);
}

#[test]
fn a_link_port_that_functions_do_not_reach() {
    let platform = Platform::start(NODES);
    let closed = free_address().to_string();
    let url = platform.url();
    let (ok, findings) = doctor(&["--lambda-endpoint", &url, "--link-advertise", &closed]);
    assert!(!ok);
    one(&findings, "error", &["links", "cannot connect to", &closed]);
    one(&findings, "error", &["security group"]);
    one(
        &findings,
        "ok",
        &["\"node\"", "this release or the next to it"],
    );
}

#[test]
fn beside_a_proxy_it_disturbs_nothing() {
    let platform = Platform::start(NODES);
    let folder = tempfile::tempdir().unwrap();
    let (url, links) = (platform.url(), free_address().to_string());
    let settings = [
        "--lambda-endpoint",
        &url,
        "--data-dir",
        folder.path().to_str().unwrap(),
        "--link-listen",
        &links,
    ];
    let small = ["--nodes", "6", "--data-parity", "2+2"];
    let server = Server::start(&[&settings[..], &small].concat());
    let mut redis = server.client();
    let value = vec![7_u8; 300_000];
    let () = redis::Commands::set(&mut redis, "k", &value).unwrap();
    let (ok, findings) = doctor(&settings);
    assert!(ok, "{findings:#?}");
    one(&findings, "warning", &["data folder", "in use"]);
    one(&findings, "warning", &["links", "if a proxy runs here"]);
    // and where it can try, on a port of its own
    let own = ["--lambda-endpoint", &url];
    let (ok, findings) = doctor(&own);
    assert!(ok, "{findings:#?}");
    one(&findings, "ok", &["links", "reaches"]);
    let read: Option<Vec<u8>> = redis::Commands::get(&mut redis, "k").unwrap();
    assert_eq!(read, Some(value));
    server.stop();
}
