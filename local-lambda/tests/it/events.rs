//! Asynchronous invocations.

use crate::support::{World, function, until, world};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use local_lambda::{EventSettings, FaultKind, FaultRule, Faults, Settings, ThrottleReason, When};
use serde_json::{Value, json};
use std::time::Duration;

fn settings(queue_events: usize) -> Settings {
    let events = EventSettings {
        queue_events,
        retry_delays: vec![Duration::from_millis(20); 2],
        throttle_backoff: Duration::from_millis(10),
        ..EventSettings::default()
    };
    Settings {
        events,
        ..Settings::default()
    }
}

async fn event(w: &World, order: Value) -> crate::support::Invoked {
    let event = w
        .client
        .invoke()
        .function_name("f")
        .invocation_type(InvocationType::Event);
    event.payload(Blob::new(order.to_string())).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn run_later_and_twice_more_after_errors() {
    let w = world(settings(100), [function("f")]).await;
    assert_eq!(
        event(&w, json!({"do": "echo"}))
            .await
            .unwrap()
            .status_code(),
        202
    );
    until("it ran", || w.handle.ledger().total.requests == 1).await;
    assert_eq!(
        event(&w, json!({"do": "fail"}))
            .await
            .unwrap()
            .status_code(),
        202
    );
    until("three attempts", || w.handle.ledger().total.errors == 3).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(w.handle.ledger().total.requests, 4);
    // throttling is outlasted
    let fault = FaultKind::Throttle {
        reason: ThrottleReason::default(),
    };
    let rule = FaultRule {
        function: None,
        when: When::Next(3),
        fault,
    };
    w.handle.set_faults(Faults {
        rules: vec![rule],
        ..Faults::default()
    });
    event(&w, json!({"do": "echo"})).await.unwrap();
    until("it ran after all", || w.handle.ledger().total.requests == 5).await;
    assert_eq!(w.handle.ledger().total.throttles, 3);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_bounded() {
    let w = world(settings(2), [function("f")]).await;
    let long = json!({"do": "sleep", "ms": 60_000});
    event(&w, long.clone()).await.unwrap();
    event(&w, long.clone()).await.unwrap();
    let error = event(&w, long).await.unwrap_err().into_service_error();
    assert!(error.is_too_many_requests_exception());
    w.stop().await;
}
