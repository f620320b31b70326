//! `scatterhoard probe` against a platform that takes idle instances.

use std::time::Duration;

use local_lambda::FunctionConfig;
use scatterhoard_proxy::profile::Profile;

use crate::{
    platform::Platform,
    server::{PROGRAM, Server, run},
};

#[test]
fn a_platform_is_measured_and_a_proxy_goes_by_it() {
    let platform = Platform::start(6);
    for i in 0..2 {
        // between the silences of 2 and 5 s
        let mut function = FunctionConfig::new(format!("scatterhoard-node-{i:03}"), PROGRAM);
        function.args = vec!["node".into()];
        function.timeout = Duration::from_secs(60);
        function.idle_timeout = Some(Duration::from_millis(3_500));
        platform.handle().put_function(function).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.json");
    let (url, path) = (platform.url(), file.to_str().unwrap());
    let small = [
        "--nodes",
        "6",
        "--data-parity",
        "2+2",
        "--node-memory-mb",
        "128",
        "--lambda-endpoint",
        &url,
    ];
    let mut words = vec![
        "probe",
        "--functions",
        "2",
        "--minutes",
        "0.5",
        "--output",
        path,
    ];
    words.extend(small);
    let output = run(&words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let profile = Profile::read(&file).unwrap();
    assert_eq!((profile.functions, profile.memory_mb), (2, 128));
    assert_eq!(profile.platform, url);
    let (warm, cold) = (profile.warm_invoke_ms, profile.cold_invoke_ms);
    // 21 pings of each, one of them the first; and one beside an open link
    assert_eq!(warm.unwrap().samples, 40, "{profile:#?}");
    assert!((2..=4).contains(&cold.unwrap().samples), "{profile:#?}");
    assert_eq!(profile.wake_ms.unwrap().samples, 10);
    assert_eq!(profile.get_ms.unwrap().samples, 100);
    assert_eq!(profile.put_mb_s.unwrap().samples, 8);
    assert_eq!(profile.get_mb_s.unwrap().samples, 8);
    let gap = |gap_s| profile.gaps.iter().find(|gap| gap.gap_s == gap_s).copied();
    assert!(gap(2).is_some_and(|gap| gap.kept > 0), "{profile:#?}");
    assert!(
        gap(5).is_some_and(|gap| gap.lost > 0 && gap.kept == 0),
        "{profile:#?}"
    );
    assert_eq!(profile.shortest_loss_s(), Some(5));
    let server = Server::start(&[&small[..], &["--platform-profile", path]].concat());
    assert_eq!(server.metric("scatterhoard_warm_interval_seconds"), 2.0);
    server.stop();
    // what is set goes before it
    let set = ["--platform-profile", path, "--warm-interval-s", "30"];
    let server = Server::start(&[&small[..], &set].concat());
    assert_eq!(server.metric("scatterhoard_warm_interval_seconds"), 30.0);
    server.stop();
}

#[test]
fn a_platform_that_cannot_be_measured_is_named() {
    let platform = Platform::start(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.json");
    let (url, path) = (platform.url(), file.to_str().unwrap());
    let words = ["probe", "--lambda-endpoint", &url, "--output", path];
    let output = run(&words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("no such function"), "{error}");
    assert!(!file.exists());
    for minutes in ["0", "-1", "NaN", "1e9"] {
        let output = run(&["probe", &format!("--minutes={minutes}")]);
        assert_eq!(output.status.code(), Some(2));
    }
    let none = ["--platform-profile", path];
    let output = run(&[&["serve"], &none[..]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("platform_profile: "), "{error}");
}
