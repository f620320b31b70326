//! Faults on demand, as the SDK sees them.

use crate::support::{Invoked, function, payload, world};
use aws_sdk_lambda::types::ThrottleReason as SdkReason;
use local_lambda::{Down, FaultKind, FaultRule, Faults, Settings, ThrottleReason, When};
use serde_json::json;
use std::time::{Duration, Instant};

fn rules(list: impl IntoIterator<Item = (When, FaultKind)>) -> Faults {
    let rule = |(when, fault)| FaultRule {
        function: Some("f".into()),
        when,
        fault,
    };
    Faults {
        rules: list.into_iter().map(rule).collect(),
        ..Faults::default()
    }
}

fn is_connection_error(invoked: Invoked) -> bool {
    let error = invoked.unwrap_err();
    error.raw_response().is_none() && error.as_service_error().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn throttle_fail_hang_up_and_lose() {
    let w = world(Settings::default(), [function("f")]).await;
    w.echo("f").await;
    let reason = ThrottleReason::CallerRateLimitExceeded;
    w.handle.set_faults(rules([
        (When::Next(1), FaultKind::Throttle { reason }),
        (When::Next(1), FaultKind::Fail),
        (When::Next(1), FaultKind::CloseConnection),
        (When::Next(1), FaultKind::LoseResponse),
    ]));
    let echo = || w.invoke("f", json!({"do": "echo"}));
    match echo().await.unwrap_err().into_service_error() {
        aws_sdk_lambda::operation::invoke::InvokeError::TooManyRequestsException(e) => {
            assert_eq!(e.reason(), Some(&SdkReason::CallerRateLimitExceeded));
        }
        other => panic!("{other:?}"),
    }
    let failed = echo().await.unwrap_err();
    assert_eq!(failed.raw_response().unwrap().status().as_u16(), 500);
    assert!(failed.into_service_error().is_service_exception());
    assert!(is_connection_error(echo().await));
    assert!(is_connection_error(echo().await));
    // of the four only the last one reached the function
    assert_eq!(payload(&echo().await.unwrap())["count"], 3);
    assert_eq!(w.handle.faults().rules[0].when, When::Next(0));
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn down_and_up_again() {
    let w = world(Settings::default(), [function("f")]).await;
    let down = |how| Faults {
        down: Some(how),
        ..Faults::default()
    };
    w.handle.set_faults(down(Down::ServiceException));
    let error = w
        .invoke("f", json!({}))
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_service_exception());
    w.handle.set_faults(down(Down::CloseConnection));
    assert!(is_connection_error(w.invoke("f", json!({})).await));
    w.handle.set_faults(Faults::default());
    w.echo("f").await;
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fractions_and_delays() {
    let w = world(Settings::default(), [function("f")]).await;
    w.handle.set_faults(Faults {
        seed: Some(5),
        ..rules([(When::Fraction(0.5), FaultKind::Fail)])
    });
    let mut failed = 0;
    for _ in 0..60 {
        failed += u32::from(w.invoke("f", json!({"do": "echo"})).await.is_err());
    }
    assert!((10..50).contains(&failed), "{failed}");

    let delay = Duration::from_millis(300);
    let slow = |start: Instant| start.elapsed() >= delay;
    w.handle
        .set_faults(rules([(When::Next(1), FaultKind::Delay { delay })]));
    let start = Instant::now();
    w.echo("f").await;
    assert!(slow(start));

    w.handle.set_faults(Faults {
        warm_invoke_delay: delay,
        ..Faults::default()
    });
    let before = w.handle.ledger().total;
    let start = Instant::now();
    w.echo("f").await;
    assert!(slow(start));
    let billed = w.handle.ledger().total.billed_ms - before.billed_ms;
    assert!(
        billed < 300,
        "a delay outside of the function is not billed: {billed}"
    );

    w.handle.set_faults(Faults {
        cold_start_delay: delay,
        ..Faults::default()
    });
    w.handle.reclaim(&local_lambda::Reclaim::all());
    let start = Instant::now();
    w.echo("f").await;
    assert!(slow(start));
    w.stop().await;
}
