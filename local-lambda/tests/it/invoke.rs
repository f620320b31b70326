//! Cold and warm, one and many, and what the process gets to see.

use crate::support::{function, payload, pid, program, state, until, world};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use local_lambda::{FunctionConfig, InstanceState, Routing, Settings};
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn sequential_invokes_stay_on_one_frozen_instance() {
    let w = world(Settings::default(), [function("f")]).await;
    let first = w.echo("f").await;
    for n in 2..=200 {
        let output = w
            .invoke("f", json!({"do": "echo", "value": n}))
            .await
            .unwrap();
        let body = payload(&output);
        assert_eq!(
            (pid(&output), &body["count"], &body["value"]),
            (first, &json!(n), &json!(n))
        );
        assert_eq!(output.executed_version(), Some("$LATEST"));
    }
    let instances = w.handle.instances();
    assert_eq!(instances.len(), 1);
    let only = &instances[0];
    assert_eq!(
        (only.pid, only.state, only.invocations),
        (Some(first), InstanceState::Idle, 200)
    );
    assert!(only.frozen && only.rss_bytes > 100_000 && only.idle.unwrap() <= only.age);
    until("frozen", || state(first) == Some('T')).await;
    let bill = w.handle.ledger().total;
    assert_eq!((bill.requests, bill.cold_starts, bill.errors), (200, 1, 0));
    assert!(bill.billed_ms >= 200);
    let expected = bill.billed_ms as f64 / 1000.0 * 128.0 / 1024.0;
    assert!((bill.gb_s - expected).abs() < 1e-9);
    assert!((bill.usd - (expected * 1.66667e-5 + 200.0 * 2e-7)).abs() < 1e-12);
    w.stop().await;
    until("dead", || state(first).is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrent_invoke_starts_another() {
    let w = world(Settings::default(), [function("f")]).await;
    let busy = w.sleeping("f", 1500);
    until("busy", || {
        w.instances_of("f")
            .iter()
            .any(|i| i.state == InstanceState::Busy)
    })
    .await;
    let second = w.echo("f").await;
    let first = pid(&busy.await.unwrap().unwrap());
    assert_ne!(first, second);
    assert_eq!(w.handle.instances().len(), 2);
    // most recently used: the first one finished last
    assert_eq!(w.echo("f").await, first);
    assert_eq!(w.echo("f").await, first);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_policies() {
    let named = |name, routing| FunctionConfig {
        routing,
        ..function(name)
    };
    let w = world(
        Settings::default(),
        [
            named("least", Routing::LeastRecent),
            named("random", Routing::Random(3)),
        ],
    )
    .await;
    for name in ["least", "random"] {
        let both = [w.sleeping(name, 1000), w.sleeping(name, 1000)];
        for one in both {
            one.await.unwrap().unwrap();
        }
        assert_eq!(w.instances_of(name).len(), 2);
    }
    let (a, b) = (w.echo("least").await, w.echo("least").await);
    assert_ne!(a, b);
    assert_eq!((w.echo("least").await, w.echo("least").await), (a, b));
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        seen.insert(w.echo("random").await);
    }
    assert_eq!(seen.len(), 2);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_sees_what_lambda_shows() {
    let mut config = function("f");
    config.env.insert("MINE".into(), "yes".into());
    config
        .env
        .insert("AWS_REGION".into(), "not mine to set".into());
    config.memory_mb = 256;
    let w = world(
        Settings {
            region: "eu-west-1".into(),
            ..Settings::default()
        },
        [config],
    )
    .await;
    let arn = "arn:aws:lambda:eu-west-1:000000000000:function:f";
    for name in [
        "f",
        arn,
        "000000000000:function:f",
        &format!("{arn}:$LATEST"),
    ] {
        let body = payload(&w.invoke(name, json!({"do": "describe"})).await.unwrap());
        let env = &body["env"];
        let folder = program().parent().unwrap().to_str().unwrap().to_owned();
        for (key, value) in [
            ("AWS_LAMBDA_FUNCTION_NAME", "f"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("LAMBDA_TASK_ROOT", &folder),
            ("MINE", "yes"),
        ] {
            assert_eq!(env[key], value, "{key}");
        }
        assert!(env["AWS_ACCESS_KEY_ID"].is_string() && env["CARGO_MANIFEST_DIR"].is_null());
        assert_eq!(body["arn"], arn);
        let now = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_millis() as u64;
        let left = body["deadline_ms"].as_u64().unwrap().saturating_sub(now);
        assert!((20_000..=30_000).contains(&left), "{left}");
        assert_eq!(body["request_id"].as_str().unwrap().len(), 36);
        assert!(body["trace"].as_str().unwrap().starts_with("Root=1-"));
    }
    assert_eq!(w.handle.instances().len(), 1);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_run_and_no_payload() {
    let w = world(Settings::default(), [function("f")]).await;
    let dry = w
        .client
        .invoke()
        .function_name("f")
        .invocation_type(InvocationType::DryRun)
        .send()
        .await;
    assert_eq!(dry.unwrap().status_code(), 204);
    assert!(w.handle.instances().is_empty());
    // `{}` reaches the function, which then lacks its order
    let none = w.client.invoke().function_name("f").send().await.unwrap();
    assert_eq!(none.function_error(), Some("Unhandled"));
    let blank = w
        .client
        .invoke()
        .function_name("f")
        .payload(Blob::new(""))
        .send()
        .await
        .unwrap();
    assert!(
        payload(&blank)["errorMessage"]
            .as_str()
            .unwrap()
            .contains("do")
    );
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_means_new_instances() {
    let w = world(Settings::default(), [function("f")]).await;
    let first = w.echo("f").await;
    w.handle.put_function(function("f")).unwrap();
    assert_eq!(
        w.echo("f").await,
        first,
        "the same configuration changes nothing"
    );

    w.handle
        .put_function(FunctionConfig {
            memory_mb: 256,
            ..function("f")
        })
        .unwrap();
    assert!(w.handle.instances().is_empty());
    until("the idle one is killed", || state(first).is_none()).await;

    let busy = w.sleeping("f", 1000);
    until("busy", || {
        w.instances_of("f")
            .iter()
            .any(|i| i.state == InstanceState::Busy)
    })
    .await;
    w.handle
        .put_function(FunctionConfig {
            memory_mb: 512,
            ..function("f")
        })
        .unwrap();
    let second = pid(&busy.await.unwrap().unwrap());
    until("the busy one finished first", || state(second).is_none()).await;
    let third = w.echo("f").await;
    assert!(third != second && w.handle.instances().len() == 1);

    w.handle.remove_function("f").unwrap();
    until("removed", || state(third).is_none()).await;
    let gone = w
        .invoke("f", json!({"do": "echo"}))
        .await
        .unwrap_err()
        .into_service_error();
    assert!(gone.is_resource_not_found_exception());
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_goes_to_a_file_for_each_function() {
    let folder = tempfile::tempdir().unwrap();
    let output = local_lambda::Output::Directory(folder.path().join("logs"));
    let w = world(
        Settings {
            output,
            ..Settings::default()
        },
        [function("f")],
    )
    .await;
    w.invoke("f", json!({"do": "panic"})).await.unwrap();
    w.stop().await;
    let log = std::fs::read_to_string(folder.path().join("logs/f.log")).unwrap();
    assert!(log.contains("as told"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_does_not_come_back_is_frozen_where_it_stands() {
    let mut slow = function("f");
    slow.env.insert("INIT".into(), "dawdle".into());
    let w = world(Settings::default(), [slow]).await;
    let first = w.echo("f").await;
    // it would have asked by now, were it not frozen
    until("frozen", || state(first) == Some('T')).await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    for n in 2..=4 {
        let output = w.invoke("f", json!({"do": "echo"})).await.unwrap();
        assert_eq!(
            (pid(&output), &payload(&output)["count"]),
            (first, &json!(n))
        );
    }
    assert_eq!(w.handle.instances().len(), 1);
    w.stop().await;
}
