//! No process outlives its platform.

use crate::control::serve;
use crate::support::{client, function, invoke, is_dead, pid, state, until, world};
use local_lambda::{InstanceState, Settings};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_platform_takes_its_frozen_and_busy_processes_along() {
    let mut served = serve(4);
    let sdk = client(&served.endpoint);
    let mut pids = Vec::new();
    for name in ["n-000", "n-001", "n-002"] {
        pids.push(pid(&invoke(&sdk, name, json!({"do": "echo"}))
            .await
            .unwrap()));
    }
    until("frozen", || pids.iter().all(|p| state(*p) == Some('T'))).await;
    pids.push(pid(&invoke(&sdk, "n-003", json!({"do": "echo"}))
        .await
        .unwrap()));
    let busy =
        tokio::spawn(
            async move { invoke(&sdk, "n-003", json!({"do": "sleep", "ms": 60_000})).await },
        );
    until("busy", || state(pids[3]) == Some('S')).await;
    served.child.kill().unwrap();
    served.child.wait().unwrap();
    until("all dead", || pids.iter().all(|p| is_dead(*p))).await;
    assert!(busy.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_platform_takes_them_along() {
    let w = world(Settings::default(), [function("f"), function("g")]).await;
    let idle = w.echo("f").await;
    let busy = w.sleeping("g", 60_000);
    until("busy", || {
        w.instances_of("g")
            .iter()
            .any(|i| i.state == InstanceState::Busy)
    })
    .await;
    let working = w.instances_of("g")[0].pid.unwrap();
    drop(w.lambda);
    until("both dead", || {
        state(idle).is_none() && state(working).is_none()
    })
    .await;
    drop(busy);
}

#[test]
fn the_end_of_the_runtime_takes_them_along() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (pid, kept) = runtime.block_on(async {
        let w = world(Settings::default(), [function("f")]).await;
        (w.echo("f").await, w)
    });
    drop(runtime);
    // sooner than the platform is dropped, which then leaves no zombie either
    until_blocking("dead", || is_dead(pid));
    drop(kept);
    assert_eq!(state(pid), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_while_instances_start_leaves_nothing() {
    let w = world(
        Settings::default(),
        (0..8).map(|n| function(&format!("f{n}"))),
    )
    .await;
    let calls: Vec<_> = (0..8)
        .map(|n| w.sleeping(&format!("f{n}"), 60_000))
        .collect();
    until("some have begun", || !w.handle.instances().is_empty()).await;
    let handle = w.handle.clone();
    w.stop().await;
    assert!(handle.instances().is_empty());
    for call in calls {
        // a function error, a service error or a closed connection; not a success
        assert!(
            call.await
                .unwrap()
                .map_or(true, |output| output.function_error().is_some())
        );
    }
}

fn until_blocking(what: &str, is_so: impl Fn() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(until(what, is_so));
}
