//! How invocations end that do not end well.

use crate::support::{World, function, function_error, is_dead, until, world};
use local_lambda::{FunctionConfig, InstanceState, MemoryEnforcement, Reclaim, Settings};
use serde_json::json;
use std::time::Duration;

async fn ends_with(w: &World, order: serde_json::Value, kind: &str, message: &str) {
    let (got_kind, got_message) = function_error(w.invoke("f", order).await);
    assert_eq!(got_kind, kind, "{got_message}");
    assert!(
        got_message.contains(message),
        "{got_message:?} has no {message:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_deaths_are_reported_as_lambda_does() {
    let w = world(Settings::default(), [function("f")]).await;
    let before = w.echo("f").await;
    let (_, message) = function_error(w.invoke("f", json!({"do": "fail"})).await);
    assert!(message.contains("as told"));
    let (_, message) = function_error(w.invoke("f", json!({"do": "panic"})).await);
    assert!(message.contains("as told"));
    assert_eq!(w.echo("f").await, before, "the runtime catches these");

    let exit = json!({"do": "exit", "code": 3});
    ends_with(
        &w,
        exit,
        "Runtime.ExitError",
        "Error: Runtime exited with error: exit status 3",
    )
    .await;
    assert!(w.handle.instances().is_empty());
    let exit = json!({"do": "exit", "code": 0});
    ends_with(
        &w,
        exit,
        "Runtime.ExitError",
        "Runtime exited without providing a reason",
    )
    .await;
    ends_with(
        &w,
        json!({"do": "abort"}),
        "Runtime.ExitError",
        "signal: aborted",
    )
    .await;
    assert_ne!(w.echo("f").await, before);
    assert_eq!(w.handle.ledger().total.errors, 5);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_kills() {
    let w = world(
        Settings::default(),
        [FunctionConfig {
            timeout: Duration::from_millis(1200),
            ..function("f")
        }],
    )
    .await;
    let pid = w.echo("f").await;
    let order = json!({"do": "sleep", "ms": 60_000});
    ends_with(
        &w,
        order,
        "Sandbox.Timedout",
        "Error: Task timed out after 1.20 seconds",
    )
    .await;
    assert!(is_dead(pid));
    assert!(w.handle.ledger().total.billed_ms >= 1200);
    assert_ne!(w.echo("f").await, pid);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn initialisation_may_fail_or_take_too_long() {
    let init = |how: &str| FunctionConfig {
        env: [("INIT".to_owned(), how.to_owned())].into(),
        ..function("f")
    };
    let settings = Settings {
        init_timeout: Duration::from_millis(700),
        ..Settings::default()
    };
    let w = world(settings, [init("sleep")]).await;
    ends_with(
        &w,
        json!({}),
        "Sandbox.Timedout",
        "Task timed out after 0.70 seconds",
    )
    .await;
    w.handle.put_function(init("exit")).unwrap();
    ends_with(&w, json!({}), "Runtime.ExitError", "exit status 7").await;
    w.handle
        .put_function(FunctionConfig::new("f", "/no/such/program"))
        .unwrap();
    ends_with(
        &w,
        json!({}),
        "Runtime.InvalidEntrypoint",
        "/no/such/program",
    )
    .await;
    assert!(w.handle.instances().is_empty());
    w.stop().await;
}

async fn memory_is_limited(enforcement: MemoryEnforcement) {
    let settings = Settings {
        memory_enforcement: enforcement,
        ..Settings::default()
    };
    let w = world(settings, [function("f")]).await;
    let pid = w.echo("f").await;
    w.invoke("f", json!({"do": "allocate", "mb": 40}))
        .await
        .unwrap();
    assert_eq!(w.echo("f").await, pid);
    let order = json!({"do": "allocate", "mb": 400});
    ends_with(
        &w,
        order,
        "Runtime.OutOfMemory",
        "Runtime exited with error: signal: killed",
    )
    .await;
    assert_ne!(w.echo("f").await, pid);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_limited_by_whatever_there_is() {
    memory_is_limited(MemoryEnforcement::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_limited_by_polling() {
    memory_is_limited(MemoryEnforcement::Rss).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_while_idle_is_a_lost_instance_and_no_error() {
    let w = world(Settings::default(), [function("f")]).await;
    let pid = w.echo("f").await;
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    until("noticed", || w.handle.instances().is_empty()).await;
    let next = w.echo("f").await;
    assert_ne!(next, pid);
    // after its answer, so a success; perhaps idle and frozen when it happens
    w.invoke("f", json!({"do": "exit-after", "ms": 1}))
        .await
        .unwrap();
    for _ in 0..20 {
        w.invoke("f", json!({"do": "echo"})).await.unwrap();
    }
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_instance_may_be_reclaimed() {
    let w = world(Settings::default(), [function("f")]).await;
    let busy = w.sleeping("f", 60_000);
    until("busy", || {
        w.instances_of("f")
            .iter()
            .any(|i| i.state == InstanceState::Busy)
    })
    .await;
    assert!(w.handle.reclaim(&Reclaim::all()).is_empty());
    assert_eq!(w.handle.reclaim(&Reclaim::all().and_busy()).len(), 1);
    let (kind, message) = function_error(busy.await.unwrap());
    assert_eq!(kind, "Runtime.ExitError");
    assert!(message.contains("signal: killed"));
    w.stop().await;
}
