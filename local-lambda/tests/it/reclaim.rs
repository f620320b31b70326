//! Taking instances away: by order, by age, by script, by chance.

use crate::support::{World, function, state, until, world};
use local_lambda::{FunctionConfig, Reclaim, ReclaimPolicy, ReclaimProcess, Scheduled, Settings};
use std::path::Path;
use std::time::Duration;

async fn pool(settings: Settings, n: usize) -> (World, Vec<u32>) {
    let names: Vec<String> = (0..n).map(|i| format!("n{i}")).collect();
    let w = world(settings, names.iter().map(|name| function(name))).await;
    let mut pids = Vec::new();
    for name in &names {
        pids.push(w.echo(name).await);
    }
    (w, pids)
}

#[tokio::test(flavor = "multi_thread")]
async fn by_id_by_function_and_by_lot() {
    let (w, pids) = pool(Settings::default(), 6).await;
    let list = w.handle.instances();
    assert_eq!(
        w.handle.reclaim(&Reclaim::instance(list[0].id)),
        [list[0].id]
    );
    assert_eq!(w.handle.reclaim(&Reclaim::function("n1")), [list[1].id]);
    assert!(w.handle.reclaim(&Reclaim::function("n1")).is_empty());
    until("frozen ones die too", || {
        state(pids[0]).is_none() && state(pids[1]).is_none()
    })
    .await;
    let some = w.handle.reclaim(&Reclaim::random(2, 7));
    assert_eq!((some.len(), w.handle.instances().len()), (2, 2));
    assert_eq!(w.handle.reclaim(&Reclaim::all()).len(), 2);
    until("all gone", || pids.iter().all(|p| state(*p).is_none())).await;
    // and life goes on
    assert!(!pids.contains(&w.echo("n0").await));
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_idle_time_and_by_age() {
    let short = Some(Duration::from_millis(1200));
    let idle = FunctionConfig {
        idle_timeout: short,
        ..function("idle")
    };
    let old = FunctionConfig {
        max_age: short,
        ..function("old")
    };
    let w = world(Settings::default(), [idle, old, function("kept")]).await;
    w.echo("kept").await;
    // an idle time-out starts anew with each invocation
    let pid = w.echo("idle").await;
    let old = w.echo("old").await;
    let sleeping = w.sleeping("idle", 1800);
    assert_eq!(crate::support::pid(&sleeping.await.unwrap().unwrap()), pid);
    until("both gone", || {
        w.handle.instances().len() == 1 && state(pid).is_none()
    })
    .await;
    assert!(state(old).is_none());
    // busy beyond its age: it finishes, then goes
    let busy = w.sleeping("old", 1800);
    let pid = crate::support::pid(&busy.await.unwrap().unwrap());
    until("gone after its work", || state(pid).is_none()).await;
    // a time-out set later counts for instances that are idle already
    w.handle
        .put_function(FunctionConfig {
            idle_timeout: short,
            ..function("kept")
        })
        .unwrap();
    until("kept no longer", || w.handle.instances().is_empty()).await;
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_script() {
    let (w, _) = pool(Settings::default(), 5).await;
    let at = |ms, function: Option<&str>, count| Scheduled {
        after: Duration::from_millis(ms),
        function: function.map(str::to_owned),
        count,
    };
    w.handle.set_reclaim_policy(ReclaimPolicy {
        schedule: vec![at(400, None, Some(2)), at(10, Some("n3"), None)],
        ..ReclaimPolicy::default()
    });
    until("n3 first", || w.instances_of("n3").is_empty()).await;
    until("then two more", || w.handle.instances().len() == 2).await;
    w.handle.set_reclaim_policy(ReclaimPolicy::default());
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_chance_from_a_file_of_observed_rates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/reclaims-sample.json");
    let process = ReclaimProcess::from_file(&path, "bad-day", 0.5).unwrap();
    let process = ReclaimProcess {
        minute: Duration::from_millis(20),
        ..process
    };
    let (w, pids) = pool(Settings::default(), 5).await;
    w.handle.set_reclaim_policy(ReclaimPolicy {
        process: Some(process),
        seed: Some(1),
        ..ReclaimPolicy::default()
    });
    until("all gone", || w.handle.instances().is_empty()).await;
    until("dead", || pids.iter().all(|p| state(*p).is_none())).await;
    w.stop().await;
}
