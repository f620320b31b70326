//! Invoking functions: the AWS SDK, whether the platform is Lambda itself or
//! local-lambda. This is the only way in which anything is ever invoked.

use std::time::Duration;

use aws_sdk_lambda::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    operation::invoke::InvokeError,
    primitives::Blob,
    types::InvocationType,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use scatterhoard_wire::invoke::{Invocation, Report};
use tokio::sync::{mpsc, oneshot};

/// A function runs at most 900 s; a little more, so that its own time-out is
/// what we hear of.
const LONGEST_INVOCATION: Duration = Duration::from_secs(910);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why an invoke gave no report.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvokeFailure {
    /// Too many invokes or instances: try again later.
    #[error("throttled by the platform: {0}")]
    Throttled(String),
    /// No such function, or no right to call it: configuration.
    #[error("function cannot be invoked: {0}")]
    Refused(String),
    /// The function failed: killed, timed out, out of memory, or crashed.
    #[error("function failed: {0}")]
    Function(String),
    /// The platform failed.
    #[error("platform error: {0}")]
    Service(String),
    /// Nobody answers at the endpoint.
    #[error("function endpoint is not reachable: {0}")]
    Endpoint(String),
    /// The function answered something else than a node's report.
    #[error("not a node's report: {0}")]
    Report(String),
}

impl InvokeFailure {
    /// Label for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Throttled(_) => "throttled",
            Self::Refused(_) => "refused",
            Self::Function(_) => "function",
            Self::Service(_) => "service",
            Self::Endpoint(_) => "endpoint",
            Self::Report(_) => "report",
        }
    }
}

/// Where functions live.
#[derive(Clone, Debug)]
pub struct Platform(pub(super) Way);

#[derive(Clone, Debug)]
pub(super) enum Way {
    Sdk(Client),
    Local(mpsc::Sender<Invoke>),
}

/// One invoke of a platform that is within this process: a simulated one.
#[derive(Debug)]
pub struct Invoke {
    /// Which function.
    pub function: String,
    /// With what.
    pub invocation: Invocation,
    /// Where the answer goes. Dropping it is a platform that does not answer.
    pub answer: oneshot::Sender<Result<Report, InvokeFailure>>,
}

impl Platform {
    /// A platform at `endpoint` (local-lambda, or any emulator), or AWS itself
    /// with the usual credential chain (environment, profile, instance role).
    pub async fn connect(endpoint: Option<&str>) -> Self {
        let http = Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_timeout(LONGEST_INVOCATION)
            .build();
        let config = match endpoint {
            // No profile, no metadata service: an emulator wants any key at all.
            Some(url) => aws_sdk_lambda::Config::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .endpoint_url(url)
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("local", "local", None, None, "local")),
            None => {
                let shared = aws_config::defaults(BehaviorVersion::v2026_01_12())
                    .http_client(http.clone())
                    .load()
                    .await;
                aws_sdk_lambda::config::Builder::from(&shared)
            }
        };
        // A retried invoke starts extra instances: the lifecycle retries.
        let config = config
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self(Way::Sdk(Client::from_conf(config)))
    }

    /// A platform within this process, which takes its invokes from a queue.
    pub fn local(invokes: mpsc::Sender<Invoke>) -> Self {
        Self(Way::Local(invokes))
    }

    /// Invokes `function` and waits until it returns.
    pub async fn invoke(
        &self,
        function: &str,
        invocation: &Invocation,
    ) -> Result<Report, InvokeFailure> {
        match &self.0 {
            Way::Sdk(client) => invoke_by_sdk(client, function, invocation).await,
            Way::Local(invokes) => invoke_locally(invokes, function, invocation).await,
        }
    }
}

async fn invoke_locally(
    invokes: &mpsc::Sender<Invoke>,
    function: &str,
    invocation: &Invocation,
) -> Result<Report, InvokeFailure> {
    let gone = || InvokeFailure::Endpoint("the platform is gone".into());
    let (answer, answered) = oneshot::channel();
    let invoke = Invoke {
        function: function.to_owned(),
        invocation: invocation.clone(),
        answer,
    };
    invokes.send(invoke).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

async fn invoke_by_sdk(
    client: &Client,
    function: &str,
    invocation: &Invocation,
) -> Result<Report, InvokeFailure> {
    let payload =
        serde_json::to_vec(invocation).map_err(|e| InvokeFailure::Report(e.to_string()))?;
    let output = client
        .invoke()
        .function_name(function)
        .invocation_type(InvocationType::RequestResponse)
        .payload(Blob::new(payload))
        .send()
        .await
        .map_err(|e| classify(&e))?;
    let answer = output.payload().map(Blob::as_ref).unwrap_or_default();
    if output.function_error().is_some() {
        return Err(InvokeFailure::Function(
            String::from_utf8_lossy(answer).into_owned(),
        ));
    }
    Report::from_json(answer).map_err(|e| InvokeFailure::Report(e.to_string()))
}

fn classify(error: &SdkError<InvokeError>) -> InvokeFailure {
    let Some(service) = error.as_service_error() else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        return InvokeFailure::Endpoint(text);
    };
    let text = format!(
        "{} {}",
        service.code().unwrap_or("unknown error"),
        service.message().unwrap_or_default()
    );
    match service {
        InvokeError::TooManyRequestsException(_) => InvokeFailure::Throttled(text),
        InvokeError::ResourceNotFoundException(_)
        | InvokeError::InvalidParameterValueException(_)
        | InvokeError::RequestTooLargeException(_) => InvokeFailure::Refused(text),
        _ if service.code() == Some("AccessDeniedException") => InvokeFailure::Refused(text),
        _ => InvokeFailure::Service(text),
    }
}
