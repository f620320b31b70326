//! The platform refuses, as AWS does: each time the cause is named, with what to do, the
//! account is not hammered, and what was stored is there afterwards.

use std::time::Duration;

use redis::Commands;
use serde_json::json;

use crate::{
    aws::{Aws, Refused},
    contents::{Random, assert_same},
    server::{Server, program, run_to_its_end, until},
};

/// Only to tell a hang: machines may be busy.
const SOON: Duration = Duration::from_secs(120);

const SMALL: [&str; 10] = [
    "--nodes",
    "6",
    "--data-parity",
    "2+2",
    "--node-timeout-ms",
    "2000",
    "--function-timeout-s",
    "60",
    "--node-memory-mb",
    "128",
];

pub(crate) fn arguments<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--lambda-endpoint", url], &SMALL[..], more].concat()
}

/// What the program says when it does not start.
fn start_fails(url: &str, environment: &[(&str, &str)]) -> String {
    let mut words = vec!["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    words.extend(arguments(url, &[]));
    let mut command = program(&words);
    for name in [
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    let output = run_to_its_end(command);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_start_that_fails_names_the_cause_and_the_fix() {
    let aws = Aws::start(0);
    let denied = |owner: &str| {
        let message = format!(
            "User: arn:aws:sts::111111111111:assumed-role/proxy/i-0 is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:us-east-1:{owner}:function:scatterhoard-node-000 because no policy allows it"
        );
        Refused::new(403, "AccessDeniedException", &message)
    };
    let signed = |message| Refused::new(403, "InvalidSignatureException", message);
    let cases = [
        (Refused::expired(), "credentials have expired", "renew them"),
        (
            denied("111111111111"),
            "may not invoke",
            "lambda:InvokeFunction",
        ),
        (denied("222222222222"), "another account", "add-permission"),
        (
            signed("Signature expired: 20261122T120000Z is now earlier than 20261122T121500Z"),
            "clock",
            "set the clock",
        ),
        (
            signed("Credential should be scoped to a valid region."),
            "another region",
            "AWS_REGION",
        ),
        (
            Refused::new(404, "ResourceNotFoundException", "Function not found: n"),
            "no such function",
            "--function-prefix",
        ),
        (
            Refused::new(502, "ResourceNotReadyException", "Pending"),
            "being created or updated",
            "wait",
        ),
        (
            Refused::new(502, "ENILimitReachedException", "no interfaces"),
            "network interface",
            "Service Quotas",
        ),
        (
            Refused::new(502, "KMSDisabledException", "key disabled"),
            "key of the function's environment",
            "KMS key is enabled",
        ),
        (
            Refused::throttled("ReservedFunctionConcurrentInvocationLimitExceeded"),
            "reserved concurrency",
            "at least 3",
        ),
        (
            Refused::throttled("ConcurrentInvocationLimitExceeded"),
            "account's concurrent executions",
            "L-B99A9384",
        ),
    ];
    for (refused, cause, fix) in cases {
        let shown = format!("{refused:?}");
        aws.refuse_all(Some(refused));
        let error = start_fails(&aws.url(), &[]);
        assert!(
            error.contains(cause) && error.contains(fix),
            "{shown}: {error}"
        );
    }
}

#[test]
fn what_is_missing_of_a_sign_in_is_named() {
    let aws = Aws::start(0);
    let (url, home) = (aws.url(), tempfile::tempdir().unwrap());
    let nobody = [
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("HOME", home.path().to_str().unwrap()),
    ];
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
    ];
    let region = [("AWS_REGION", "us-east-1")];
    let error = start_fails("aws", &[&nobody[..], &region].concat());
    assert!(error.contains("no AWS credentials were found"), "{error}");
    assert!(error.contains("instance profile"), "{error}");
    let error = start_fails("aws", &[&nobody[..], &keys].concat());
    assert!(error.contains("no AWS region is set"), "{error}");
    assert_eq!(aws.state().invoked, 0);
    // with both it gets as far as the functions
    aws.refuse_invokes(Some(Refused::new(404, "ResourceNotFoundException", "")));
    let error = start_fails("aws", &[&nobody[..], &keys, &region].concat());
    assert!(error.contains("no such function"), "{error}");
    assert!(aws.state().invoked >= 6);
}

#[test]
fn a_new_accounts_quota_is_checked_at_the_start() {
    let aws = Aws::start(12);
    aws.state().concurrency = 10;
    let url = aws.url();
    let wide = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--lambda-endpoint",
        &url,
        "--nodes",
        "12",
    ];
    let output = run_to_its_end(program(&wide));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("allows 10 concurrent executions; a large value needs 11"),
        "{error}"
    );
    assert!(
        error.contains("L-B99A9384") && error.contains("4+2"),
        "{error}"
    );
    // enough of them have concurrency of their own
    aws.state().reserved = Some(2);
    let reserved = [
        "--lambda-endpoint",
        &url,
        "--nodes",
        "12",
        "--function-timeout-s",
        "60",
    ];
    Server::start(&reserved).stop();
    aws.state().reserved = None;
    let server = Server::start(&arguments(&url, &[]));
    assert!(
        server.log().contains("use up to 12: some invokes"),
        "{}",
        server.log()
    );
    server.stop();
}

#[test]
fn an_account_that_refuses_is_not_hammered() {
    let aws = Aws::start(6);
    let server = Server::start(&arguments(&aws.url(), &[]));
    let (mut redis, value) = (server.client(), Random::new(3).bytes(300_000));
    let () = redis.set("before", &value).unwrap();
    aws.refuse_all(Some(Refused::expired()));
    until("no invokes", SOON, || {
        let error = redis.set::<_, _, ()>("during", &value).err();
        assert!(
            error.iter().all(|e| e.code() == Some("UNAVAILABLE")),
            "{error:?}"
        );
        // nodes that are awake may take it: none wakes any more, so that does not return
        error.is_some() && server.metric("scatterhoard_breaker_open") > 0.0
    });
    let before = aws.state().invoked;
    for _ in 0..300 {
        let error = redis.set::<_, _, ()>("during", &value).unwrap_err();
        assert_eq!(error.code(), Some("UNAVAILABLE"), "{error}");
    }
    let probes = aws.state().invoked - before;
    // pauses of 0.5, 1, 2, 4 and then 5 s; 6 nodes alone would try again at each
    let opened_for = server.metric("scatterhoard_breaker_probes_total");
    assert!(probes <= 40, "{probes} invokes, {opened_for} probes");
    until("held", SOON, || {
        let _ = redis.set::<_, _, ()>("during", &value);
        server.metric("scatterhoard_invokes_held_total") > 0.0
    });
    let log = server.log();
    assert!(
        log.contains("the AWS credentials have expired; to do: renew them"),
        "{log}"
    );
    aws.refuse_all(None);
    until("stored again", SOON, || {
        redis.set::<_, _, ()>("after", &value).is_ok()
    });
    until("closed", SOON, || {
        server.metric("scatterhoard_breaker_open") == 0.0
    });
    for key in ["before", "after"] {
        let mut read: Option<Vec<u8>> = None;
        // a node that was refused lately is tried again after its pause
        until("read again", SOON, || match redis.get(key) {
            Ok(value) => {
                read = value;
                true
            }
            Err(error) => {
                assert_eq!(error.code(), Some("UNAVAILABLE"), "{error}");
                false
            }
        });
        assert_same(key, read.as_deref(), &value);
    }
    server.stop();
}

#[test]
fn each_throttle_is_told_apart_and_passes() {
    let aws = Aws::start(6);
    let server = Server::start(&arguments(&aws.url(), &[]));
    let (mut redis, value) = (server.client(), Random::new(4).bytes(300_000));
    let causes = [
        (
            "ReservedFunctionConcurrentInvocationLimitExceeded",
            "function_concurrency",
        ),
        ("FunctionInvocationRateLimitExceeded", "function_rate"),
        ("CallerRateLimitExceeded", "caller_rate"),
        ("ConcurrentInvocationLimitExceeded", "account_concurrency"),
        ("ConcurrentSnapshotCreateLimitExceeded", "snapshot_rate"),
        ("SomethingNew", "throttled"),
    ];
    for (reason, cause) in causes {
        aws.refuse_invokes(Some(Refused::throttled(reason)));
        let series = format!("scatterhoard_invoke_refusals_total{{cause=\"{cause}\"}}");
        until(cause, SOON, || {
            let _ = redis.set::<_, _, ()>("during", &value);
            server.admin("GET", "/metrics").contains(&series)
        });
        aws.refuse_invokes(None);
        until("stored again", SOON, || {
            redis.set::<_, _, ()>(cause, &value).is_ok()
        });
    }
    for (_, cause) in causes {
        let read: Option<Vec<u8>> = redis.get(cause).unwrap();
        assert_same(cause, read.as_deref(), &value);
    }
    server.stop();
}

#[test]
fn one_function_that_may_not_be_invoked_does_not_hold_up_the_others() {
    let aws = Aws::start(6);
    let url = aws.url();
    let missing = Refused::new(404, "ResourceNotFoundException", "Function not found: n");
    aws.state().invokes.insert("-003".into(), missing);
    let server = Server::start(&arguments(&url, &[]));
    let (mut redis, value) = (server.client(), Random::new(5).bytes(300_000));
    for i in 0..50 {
        let () = redis.set(i, &value).unwrap();
        let read: Option<Vec<u8>> = redis.get(i).unwrap();
        assert_same("one of them", read.as_deref(), &value);
    }
    assert_eq!(server.metric("scatterhoard_breaker_opened_total"), 0.0);
    let log = server.log();
    assert!(log.contains("no such function"), "{log}");
    server.stop();
}

#[test]
fn functions_that_are_updated_under_load_are_noticed_and_lose_nothing() {
    let aws = Aws::start(6);
    let server = Server::start(&arguments(&aws.url(), &["--function-check-s", "1"]));
    let (mut redis, mut random) = (server.client(), Random::new(6));
    let values: Vec<Vec<u8>> = (0..40).map(|_| random.bytes(200_000)).collect();
    for (i, value) in values.iter().enumerate() {
        let () = redis.set(i, value).unwrap();
    }
    until("looked at", SOON, || {
        server.metric("scatterhoard_function_checks_total") > 0.0
    });
    // one of them, so that every value has enough chunks left
    let handle = aws.platform().handle();
    let program = crate::server::PROGRAM;
    let name = "scatterhoard-node-002";
    let mut function = local_lambda::FunctionConfig::new(name, program);
    function.args = vec!["node".into()];
    function.timeout = Duration::from_secs(61);
    handle.put_function(function).unwrap();
    aws.state().functions.insert(
        "-002".into(),
        json!({"CodeSha256": "b3RoZXI=", "LastModified": "2026-11-22T13:00:00.000+0000"}),
    );
    until("noticed", SOON, || {
        for (i, value) in values.iter().enumerate() {
            let read: Option<Vec<u8>> = redis.get(i).unwrap();
            assert_same(&i.to_string(), read.as_deref(), value);
        }
        server.metric("scatterhoard_function_changes_total") > 0.0
    });
    let metrics = server.admin("GET", "/metrics");
    assert!(
        metrics.contains("scatterhoard_function_changes_total{what=\"code\"} 1"),
        "{metrics}"
    );
    let log = server.log();
    assert!(log.contains("the function's code was updated"), "{log}");
    until("another instance", SOON, || {
        // an invocation that is under way goes on with the old code: let it end
        std::thread::sleep(Duration::from_secs(3));
        let () = redis.set("more", &values[0]).unwrap();
        server.metric("scatterhoard_instances_replaced_total") > 0.0
    });
    for (i, value) in values.iter().enumerate() {
        let read: Option<Vec<u8>> = redis.get(i).unwrap();
        assert_same(&i.to_string(), read.as_deref(), value);
    }
    server.stop();
}
