//! Invoking functions: the AWS SDK, whether the platform is Lambda itself or
//! local-lambda. This is the only way in which anything is ever invoked.
//!
//! What the platform refuses is told apart by `errors`; while nothing can work,
//! the `gate` (by `breaker`) keeps invokes from going out. `describe` asks how
//! functions are set up.

mod code;
pub mod describe;
pub mod errors;
mod gate;
mod sdk;

use std::{sync::Arc, time::Duration};

use aws_sdk_lambda::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    operation::invoke::InvokeError,
    primitives::Blob,
    types::InvocationType,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use scatterhoard_wire::{
    NoCommon,
    invoke::{self, Invocation, Report},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{lifecycle::Outcome, outage::Trouble};
use errors::{Cause, Retry};
use gate::Gate;

/// A function runs at most 900 s; a little more, so that its own time-out is
/// what we hear of.
const LONGEST_INVOCATION: Duration = Duration::from_secs(910);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why an invoke gave no report.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvokeFailure {
    /// The platform did not run the function.
    #[error("{cause} ({text})")]
    Refused {
        /// Why.
        cause: Cause,
        /// In the platform's words.
        text: String,
    },
    /// It was not asked: it refuses everything at present.
    #[error("{0}; no invoke is sent until it works again")]
    Held(Cause),
    /// The function failed: killed, timed out, out of memory, or crashed.
    #[error("function failed: {0}")]
    Function(String),
    /// It is a node, of a release too far from this one.
    #[error("the node speaks versions {} of the wire, this proxy {}", .0.theirs, .0.ours)]
    Version(NoCommon),
    /// The function answered something else than a node's report.
    #[error("not a node's report: {0}")]
    Report(String),
    /// The function ran, without a link to the proxy.
    #[error("{0}")]
    Link(&'static str),
    /// Nothing was heard of it in time.
    #[error("no answer")]
    Silent,
}

impl InvokeFailure {
    /// The platform did not run the function.
    pub fn refused(cause: Cause, text: impl Into<String>) -> Self {
        Self::Refused {
            cause,
            text: text.into(),
        }
    }

    /// Label for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { cause, .. } => cause.name(),
            Self::Held(_) => "held",
            Self::Function(_) => "function",
            Self::Version(_) => "version",
            Self::Report(_) => "report",
            Self::Link(_) => "link",
            Self::Silent => "silent",
        }
    }

    /// Why the platform did not run the function, if it did not.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Refused { cause, .. } | Self::Held(cause) => Some(*cause),
            Self::Function(_)
            | Self::Version(_)
            | Self::Report(_)
            | Self::Link(_)
            | Self::Silent => None,
        }
    }

    /// What to do about it, where that is certain.
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Self::Version(_) => Some(Trouble::of(self).fix()),
            _ => self.cause().map(Cause::fix),
        }
    }

    /// What is wrong, and what to do about it.
    pub fn advice(&self) -> String {
        match self.fix() {
            Some(fix) => format!("{self}; {fix}"),
            None => self.to_string(),
        }
    }

    /// What it is to the node's life.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused { cause, .. } => match cause.retry() {
                Retry::Soon => Outcome::Failed,
                Retry::After { first, most } => Outcome::Refused { first, most },
            },
            // somebody has to update something
            Self::Version(_) => {
                let (first, most) = errors::STAYS_FOR;
                Outcome::Refused { first, most }
            }
            Self::Held(_) | Self::Function(_) | Self::Report(_) | Self::Link(_) | Self::Silent => {
                Outcome::Failed
            }
        }
    }
}

/// Where functions live.
#[derive(Clone, Debug)]
pub struct Platform(Way);

#[derive(Clone, Debug)]
enum Way {
    Sdk(Arc<Remote>),
    Local(mpsc::Sender<Invoke>),
}

#[derive(Debug)]
struct Remote {
    client: Client,
    gate: Gate,
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
        Self(Way::Sdk(Arc::new(Remote {
            client: Client::from_conf(config),
            gate: Gate::new(),
        })))
    }

    /// A platform within this process, which takes its invokes from a queue.
    pub fn local(invokes: mpsc::Sender<Invoke>) -> Self {
        Self(Way::Local(invokes))
    }

    /// Invokes `function` and waits until it returns, unless invokes are held back.
    pub async fn invoke(
        &self,
        function: &str,
        invocation: &Invocation,
    ) -> Result<Report, InvokeFailure> {
        if let Way::Sdk(remote) = &self.0 {
            remote.gate.admit().map_err(InvokeFailure::Held)?;
        }
        self.invoke_anyway(function, invocation).await
    }

    /// The same even if they are: for what is asked of every function once.
    pub async fn invoke_anyway(
        &self,
        function: &str,
        invocation: &Invocation,
    ) -> Result<Report, InvokeFailure> {
        match &self.0 {
            Way::Sdk(remote) => remote.invoke(function, invocation).await,
            Way::Local(invokes) => invoke_locally(invokes, function, invocation).await,
        }
    }

    /// A function that was invoked has dialled: the platform works.
    pub fn works(&self) {
        if let Way::Sdk(remote) = &self.0 {
            remote.gate.works();
        }
    }

    /// Why invokes are held back at present, if they are.
    pub fn holds(&self) -> Option<Cause> {
        match &self.0 {
            Way::Sdk(remote) => remote.gate.holds(),
            Way::Local(_) => None,
        }
    }
}

impl Remote {
    async fn invoke(
        &self,
        function: &str,
        invocation: &Invocation,
    ) -> Result<Report, InvokeFailure> {
        let sent = Instant::now();
        let result = invoke_by_sdk(&self.client, function, invocation).await;
        match &result {
            Err(InvokeFailure::Refused { cause, text }) => {
                self.gate.failed(*cause, sent, text, function);
            }
            _ => self.gate.works(),
        }
        result
    }
}

async fn invoke_locally(
    invokes: &mpsc::Sender<Invoke>,
    function: &str,
    invocation: &Invocation,
) -> Result<Report, InvokeFailure> {
    let gone = || InvokeFailure::refused(Cause::Unreachable, "the platform is gone");
    let (answer, answered) = oneshot::channel();
    let invoke = Invoke {
        function: function.to_owned(),
        invocation: invocation.clone(),
        answer,
    };
    invokes.send(invoke).await.map_err(|_| gone())?;
    let report = answered.await.map_err(|_| gone())??;
    let agreed = invocation.speaks.agree(report.speaks);
    agreed.map_err(InvokeFailure::Version)?;
    Ok(report)
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
        .map_err(|error| {
            let reason = match error.as_service_error() {
                Some(InvokeError::TooManyRequestsException(e)) => e.reason().map(AsRef::as_ref),
                _ => None,
            };
            let sdk::Failure { cause, text } = sdk::Failure::of(&error, reason);
            InvokeFailure::Refused { cause, text }
        })?;
    let answer = output.payload().map(Blob::as_ref).unwrap_or_default();
    if output.function_error().is_some() {
        return Err(InvokeFailure::Function(
            String::from_utf8_lossy(answer).into_owned(),
        ));
    }
    Report::from_json(answer, invocation.speaks).map_err(|error| match error {
        invoke::InvokeError::NoCommon(error) => InvokeFailure::Version(error),
        error => InvokeFailure::Report(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use scatterhoard_wire::Versions;

    use super::*;

    #[test]
    fn releases_too_far_apart_say_what_to_update_and_wait_for_it() {
        let [old, new] = [(3, 4), (6, 7)].map(|(a, b)| Versions::new(a, b).unwrap());
        for (ours, theirs, fix) in [
            (old, new, "; update this proxy, or give them"),
            (new, old, "; update their code: `scatterhoard pool update`"),
        ] {
            let failure = InvokeFailure::Version(ours.agree(theirs).unwrap_err());
            let text = format!("the node speaks versions {theirs} of the wire, this proxy {ours}");
            assert_eq!(failure.to_string(), text);
            let advice = failure.advice();
            assert!(advice.starts_with(&format!("{text}{fix}")), "{advice}");
            let (first, most) = (Duration::from_secs(1), Duration::from_secs(60));
            assert_eq!(failure.outcome(), Outcome::Refused { first, most });
        }
    }
}
