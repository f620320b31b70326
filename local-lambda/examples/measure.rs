//! How long invokes take through the SDK, and what idle instances cost:
//! `cargo run -p local-lambda --example measure -- 400` (build the example
//! `test_function` beside it first). Add `--release` for figures to publish.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_lambda::primitives::Blob;
use local_lambda::{FunctionConfig, LocalLambda, Settings};
use std::time::{Duration, Instant};

#[tokio::main]
async fn main() {
    let count = std::env::args()
        .nth(1)
        .map_or(400, |n| n.parse::<usize>().unwrap());
    let program = std::env::current_exe()
        .unwrap()
        .with_file_name("test_function");
    let lambda = LocalLambda::start(Settings::default()).await.unwrap();
    for n in 0..count {
        lambda
            .handle()
            .put_function(FunctionConfig::new(format!("f{n}"), &program))
            .unwrap();
    }
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "measure"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(lambda.endpoint_url())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let client = Client::from_conf(config);

    let mut cold = Vec::new();
    for n in 0..count {
        cold.push(invoke(&client, &format!("f{n}")).await);
    }
    show("cold", cold);
    let mut warm = Vec::new();
    for n in 0..2000 {
        warm.push(invoke(&client, &format!("f{}", n % count)).await);
    }
    show("warm, each function in turn", warm);
    let mut warm = Vec::new();
    for _ in 0..2000 {
        warm.push(invoke(&client, "f0").await);
    }
    show("warm, one function", warm);
    let (cpu, start) = (cpu_ticks(), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let used = (cpu_ticks() - cpu) as f64 / 100.0 / start.elapsed().as_secs_f64();
    println!(
        "{} idle instances: {:.2} % of a core",
        lambda.handle().instances().len(),
        used * 100.0
    );
    lambda.shutdown(Duration::from_secs(10)).await;
}

async fn invoke(client: &Client, function: &str) -> Duration {
    let start = Instant::now();
    let payload = Blob::new(r#"{"do":"echo"}"#);
    let output = client
        .invoke()
        .function_name(function)
        .payload(payload)
        .send()
        .await
        .unwrap();
    assert_eq!(output.function_error(), None);
    start.elapsed()
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |p: f64| times[((times.len() - 1) as f64 * p) as usize].as_secs_f64() * 1e3;
    println!(
        "{what}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Hundredths of a second of CPU that this process has used.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
