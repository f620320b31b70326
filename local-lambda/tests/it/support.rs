//! A platform with one function, an SDK client, and ways to look at processes.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use local_lambda::{FunctionConfig, Handle, InstanceInfo, LocalLambda, Settings};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The example that the tests run; `cargo test` and `cargo nextest run` build it.
pub(crate) fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/test_function");
    assert!(
        path.exists(),
        "{} is missing; cargo build --example test_function",
        path.display()
    );
    path
}

pub(crate) fn function(name: &str) -> FunctionConfig {
    FunctionConfig {
        timeout: Duration::from_secs(30),
        ..FunctionConfig::new(name, program())
    }
}

pub(crate) struct World {
    pub(crate) lambda: LocalLambda,
    pub(crate) handle: Handle,
    pub(crate) client: Client,
}

pub(crate) async fn world(
    settings: Settings,
    functions: impl IntoIterator<Item = FunctionConfig>,
) -> World {
    let lambda = LocalLambda::start(settings).await.unwrap();
    let handle = lambda.handle();
    for function in functions {
        handle.put_function(function).unwrap();
    }
    let client = client(&lambda.endpoint_url());
    World {
        lambda,
        handle,
        client,
    }
}

pub(crate) fn client(endpoint: &str) -> Client {
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

pub(crate) type Invoked = Result<InvokeOutput, SdkError<InvokeError>>;

impl World {
    pub(crate) async fn invoke(&self, function: &str, order: Value) -> Invoked {
        invoke(&self.client, function, order).await
    }

    /// An echo that must succeed; says which process answered.
    pub(crate) async fn echo(&self, function: &str) -> u32 {
        pid(&self.invoke(function, json!({"do": "echo"})).await.unwrap())
    }

    /// An invocation that sleeps so long on an instance, in the background.
    pub(crate) fn sleeping(&self, function: &str, ms: u64) -> tokio::task::JoinHandle<Invoked> {
        let (client, function) = (self.client.clone(), function.to_owned());
        tokio::spawn(
            async move { invoke(&client, &function, json!({"do": "sleep", "ms": ms})).await },
        )
    }

    pub(crate) fn instances_of(&self, function: &str) -> Vec<InstanceInfo> {
        self.handle
            .instances()
            .into_iter()
            .filter(|i| i.function == function)
            .collect()
    }

    pub(crate) async fn stop(self) {
        self.lambda.shutdown(Duration::from_secs(10)).await;
    }
}

pub(crate) async fn invoke(client: &Client, function: &str, order: Value) -> Invoked {
    client
        .invoke()
        .function_name(function)
        .payload(Blob::new(order.to_string()))
        .send()
        .await
}

pub(crate) fn payload(output: &InvokeOutput) -> Value {
    serde_json::from_slice(output.payload().unwrap().as_ref()).unwrap()
}

pub(crate) fn pid(output: &InvokeOutput) -> u32 {
    assert_eq!(output.function_error(), None, "{:?}", payload(output));
    payload(output)["pid"].as_u64().unwrap() as u32
}

/// The error type and message of a function error.
pub(crate) fn function_error(invoked: Invoked) -> (String, String) {
    let output = invoked.unwrap();
    assert_eq!(
        (output.status_code(), output.function_error()),
        (200, Some("Unhandled"))
    );
    let body = payload(&output);
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    (text("errorType"), text("errorMessage"))
}

/// The state letter of a process; `None` when there is none.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}

pub(crate) fn is_dead(pid: u32) -> bool {
    matches!(state(pid), None | Some('Z'))
}

/// Waits until it is so; fails after 20 seconds.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not so within 20 s: {what}");
}
