//! The function endpoint is not there, goes, and comes back.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::{Duration, Instant},
};

use local_lambda::{FaultKind, FaultRule, Faults, ThrottleReason, When};
use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    platform::Platform,
    server::{Server, free_address, run, until},
};

/// Only tells a hang.
const SOON: Duration = Duration::from_secs(60);

fn start_fails(url: &str) -> String {
    let output = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--lambda-endpoint",
        url,
    ]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ready"));
    let last = text.lines().last().unwrap_or_default().to_owned();
    assert!(last.contains(url), "{last}");
    last
}

#[test]
fn an_unreachable_endpoint_is_named_at_start() {
    let error = start_fails(&format!("http://{}", free_address()));
    assert!(error.contains("--lambda-endpoint"), "{error}");
}

#[test]
fn an_endpoint_without_the_functions_is_named_at_start() {
    let platform = Platform::start(0);
    let error = start_fails(&platform.url());
    assert!(error.contains("scatterhoard-node-000"), "{error}");
}

#[test]
fn an_endpoint_that_is_no_lambda_is_named_at_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // one connection for each of the 14 nodes
            for stream in listener.incoming().take(14) {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
            }
        });
        start_fails(&url);
    });
}

#[test]
fn an_endpoint_that_goes_and_comes_back() {
    const NODES: usize = 6;
    let platform = Platform::start(NODES);
    let (address, url) = (platform.address(), platform.url());
    let server = Server::start(&[
        "--lambda-endpoint",
        &url,
        "--nodes",
        "6",
        "--data-parity",
        "2+2",
        "--node-timeout-ms",
        "2000",
    ]);
    let (mut redis, value) = (server.client(), Random::new(1).bytes(700_000));
    let () = redis.set("before", &value).unwrap();
    drop(platform);
    for turn in 0..6 {
        let started = Instant::now();
        let error = redis
            .set::<_, _, ()>("during", &value)
            .expect_err("nothing can store it");
        assert_eq!(error.code(), Some("UNAVAILABLE"), "{error}");
        match redis.get::<_, Option<Vec<u8>>>("before") {
            Ok(read) => assert_same("before", Some(&read.unwrap_or(value.clone())), &value),
            Err(error) => assert_eq!(error.code(), Some("UNAVAILABLE"), "{error}"),
        }
        assert!(
            started.elapsed() < SOON,
            "turn {turn}: {:?}",
            started.elapsed()
        );
        assert_eq!(
            redis::cmd("PING").query::<String>(&mut redis).unwrap(),
            "PONG"
        );
        assert_eq!(redis.exists::<_, u8>("nothing").unwrap(), 0);
        assert_eq!(redis.get::<_, Option<Vec<u8>>>("during").unwrap(), None);
    }
    let _platform = Platform::start_at(address, NODES);
    until("stored again", SOON, || {
        redis.set::<_, _, ()>("after", &value).is_ok()
    });
    let read: Option<Vec<u8>> = redis.get("after").unwrap();
    assert_same("after", read.as_deref(), &value);
    // the instances that had it are gone
    until("a miss", SOON, || {
        matches!(redis.get::<_, Option<Vec<u8>>>("before"), Ok(None))
    });
    server.stop();
}

#[test]
fn invokes_that_fail_now_and_then_lose_nothing() {
    let platform = Platform::start(8);
    let server = Server::start(&[
        "--lambda-endpoint",
        &platform.url(),
        "--nodes",
        "8",
        "--data-parity",
        "4+2",
        "--node-timeout-ms",
        "2000",
    ]);
    let kinds = [
        FaultKind::Throttle {
            reason: ThrottleReason::default(),
        },
        FaultKind::Fail,
        FaultKind::CloseConnection,
        FaultKind::LoseResponse,
    ];
    let rule = |fault| FaultRule {
        function: None,
        when: When::Fraction(0.04),
        fault,
    };
    platform.handle().set_faults(Faults {
        seed: Some(1),
        rules: kinds.map(rule).into(),
        ..Faults::default()
    });
    let (mut redis, mut random) = (server.client(), Random::new(11));
    let (mut stored, mut refused) = (Vec::new(), 0);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let size = random.size(20);
        let (key, value) = (format!("key:{}", stored.len()), random.bytes(size));
        match redis.set::<_, _, ()>(&key, &value) {
            Ok(()) => stored.push((key, value)),
            Err(error) => {
                assert_eq!(error.code(), Some("UNAVAILABLE"), "{error}");
                refused += 1;
            }
        }
        if stored.is_empty() {
            continue;
        }
        let (key, value) = &stored[random.below(stored.len())];
        match redis.get::<_, Option<Vec<u8>>>(key) {
            Ok(read) => assert_same(key, read.as_deref(), value),
            Err(error) => assert_eq!(error.code(), Some("UNAVAILABLE"), "{error}"),
        }
    }
    assert!(
        stored.len() > refused,
        "{} stored, {refused} refused",
        stored.len()
    );
    platform.handle().set_faults(Faults::default());
    for (key, value) in &stored {
        // nodes that failed are not tried at once
        until("it can be read", SOON, || {
            match redis.get::<_, Option<Vec<u8>>>(key) {
                Ok(read) => {
                    assert_same(key, read.as_deref(), value);
                    true
                }
                Err(error) => {
                    assert_eq!(error.code(), Some("UNAVAILABLE"), "{error}");
                    false
                }
            }
        });
    }
}
