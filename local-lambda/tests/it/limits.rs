//! Throttling, sizes, and the errors that the SDK decodes into its own types.

use crate::support::{function, function_error, payload, until, world};
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType, ThrottleReason};
use local_lambda::{
    Error, FunctionConfig, InstanceState, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Settings,
};
use serde_json::json;

fn reason(error: InvokeError) -> ThrottleReason {
    match error {
        InvokeError::TooManyRequestsException(e) => e.reason().unwrap().clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_is_limited_with_its_reason() {
    let settings = Settings {
        account_concurrency: 2,
        ..Settings::default()
    };
    let reserved = FunctionConfig {
        reserved_concurrency: Some(1),
        ..function("reserved")
    };
    let w = world(settings, [reserved, function("free")]).await;
    let busy = [w.sleeping("reserved", 1500), w.sleeping("free", 1500)];
    until("both busy", || {
        w.handle
            .instances()
            .iter()
            .filter(|i| i.state == InstanceState::Busy)
            .count()
            == 2
    })
    .await;
    for (name, expected) in [
        (
            "reserved",
            ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
        ),
        ("free", ThrottleReason::ConcurrentInvocationLimitExceeded),
    ] {
        let error = w.invoke(name, json!({"do": "echo"})).await.unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), 429);
        assert_eq!(reason(error.into_service_error()), expected);
        assert_eq!(w.handle.ledger().functions[name].throttles, 1);
    }
    for one in busy {
        one.await.unwrap().unwrap();
    }
    w.echo("reserved").await;
    w.echo("free").await;
    let more = FunctionConfig {
        reserved_concurrency: Some(2),
        ..function("more")
    };
    assert!(matches!(
        w.handle.put_function(more),
        Err(Error::ReservedConcurrency { available: 1, .. })
    ));
    let none = FunctionConfig {
        reserved_concurrency: Some(0),
        ..function("none")
    };
    w.handle.put_function(none).unwrap();
    let error = w
        .invoke("none", json!({}))
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(
        reason(error),
        ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded
    );
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn six_megabytes_go_in_and_out_and_no_more() {
    let w = world(
        Settings::default(),
        [FunctionConfig {
            memory_mb: 1024,
            ..function("f")
        }],
    )
    .await;
    // {"do":"echo","value":"xxx"} of exactly the limit
    let frame = json!({"do": "echo", "value": ""}).to_string().len();
    let order = |bytes: usize| json!({"do": "echo", "value": "x".repeat(bytes - frame)});
    assert_eq!(order(1000).to_string().len(), 1000);
    let whole = MAX_REQUEST_BYTES - 200;
    let output = w.invoke("f", order(whole)).await.unwrap();
    assert_eq!(
        payload(&output)["value"].as_str().unwrap().len(),
        whole - frame
    );

    // the limit itself is taken; the answer, with its own frame, is as large as that
    w.invoke("f", order(MAX_REQUEST_BYTES)).await.unwrap();
    let error = w
        .invoke("f", order(MAX_REQUEST_BYTES + 1))
        .await
        .unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 413);
    assert!(error.into_service_error().is_request_too_large_exception());

    let output = w
        .invoke(
            "f",
            json!({"do": "return", "bytes": MAX_RESPONSE_BYTES - 2}),
        )
        .await
        .unwrap();
    assert_eq!(output.payload().unwrap().as_ref().len(), MAX_RESPONSE_BYTES);
    let large = json!({"do": "return", "bytes": MAX_RESPONSE_BYTES - 1});
    let (kind, message) = function_error(w.invoke("f", large).await);
    assert_eq!(kind, "Function.ResponseSizeTooLarge");
    assert!(message.contains("6291556 bytes"));
    // and the instance lives on
    w.echo("f").await;
    assert_eq!(w.handle.instances().len(), 1);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_types_of_the_sdk() {
    let w = world(Settings::default(), [function("f")]).await;
    for name in [
        "g",
        "f:7",
        "arn:aws:lambda:us-east-1:000000000000:function:g",
    ] {
        let error = w.invoke(name, json!({})).await.unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), 404);
        assert!(error.into_service_error().is_resource_not_found_exception());
    }
    let bad = w
        .client
        .invoke()
        .function_name("f")
        .payload(Blob::new("{nonsense"))
        .send()
        .await;
    let bad = bad.unwrap_err();
    assert_eq!(bad.raw_response().unwrap().status().as_u16(), 400);
    assert!(
        bad.into_service_error()
            .is_invalid_request_content_exception()
    );

    let large = Blob::new(json!("x".repeat(1 << 20)).to_string());
    let event = w
        .client
        .invoke()
        .function_name("f")
        .invocation_type(InvocationType::Event);
    let error = event
        .payload(large)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_request_too_large_exception());
    assert!(w.handle.instances().is_empty());
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_limited_when_asked_for() {
    let settings = Settings {
        rate_limit: true,
        ..Settings::default()
    };
    let limited = FunctionConfig {
        reserved_concurrency: Some(1),
        ..function("f")
    };
    let w = world(settings, [limited]).await;
    w.echo("f").await;
    // far more than ten within a second, whatever the machine is busy with
    let mut reasons = Vec::new();
    for _ in 0..300 {
        if let Err(e) = w.invoke("f", json!({"do": "echo"})).await {
            reasons.push(reason(e.into_service_error()));
        }
    }
    assert!(reasons.contains(&ThrottleReason::ReservedFunctionInvocationRateLimitExceeded));
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_limited_by_taking_the_longest_idle() {
    let settings = Settings {
        max_instances: 2,
        ..Settings::default()
    };
    let w = world(settings, [function("a"), function("b"), function("c")]).await;
    let a = w.echo("a").await;
    let b = w.echo("b").await;
    w.echo("c").await;
    until("a was taken", || crate::support::state(a).is_none()).await;
    assert_eq!(w.handle.instances().len(), 2);
    assert_eq!(w.echo("b").await, b);
    w.stop().await;
}
