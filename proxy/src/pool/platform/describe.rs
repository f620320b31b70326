//! How functions and the account are set up, as the platform says. Read only; nothing
//! here is needed to serve.

use std::{sync::Arc, time::Duration};

use aws_sdk_lambda::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
    operation::invoke::InvokeError,
    primitives::{DateTime, DateTimeFormat},
    types::InvocationType,
};
use parking_lot::Mutex;

use super::{InvokeFailure, Platform, Remote, Way, errors::Cause, sdk};
use crate::clock;

/// These calls are answered at once, or not at all.
const LIMIT: Duration = Duration::from_secs(10);

/// Why there is no description.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unknown {
    /// The endpoint does not know the question: it only runs functions.
    #[error("this endpoint only invokes")]
    Unsupported,
    /// It could not be asked.
    #[error("{cause} ({text})")]
    Failed {
        /// Why.
        cause: Cause,
        /// In the platform's words.
        text: String,
    },
}

/// A function as it is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// `provided.al2023`; none for one that is an image.
    pub runtime: Option<String>,
    /// In MB.
    pub memory_mb: u32,
    /// In seconds.
    pub timeout_s: u32,
    /// `Active`, `Pending`, `Inactive`, `Failed`; where it is not said: active.
    pub state: Option<String>,
    /// Why it is not active.
    pub state_reason: Option<String>,
    /// `Successful`, `InProgress`, `Failed`.
    pub last_update: Option<String>,
    /// The code of why it is not active, or its last update has failed: `EniLimitExceeded`.
    pub reason_code: Option<String>,
    /// `x86_64` or `arm64`.
    pub architecture: Option<String>,
    /// `MIMALLOC_PURGE_DELAY` in its environment. No other variable is looked at.
    pub purge_delay: Option<String>,
    /// Whether its environment could be read by Lambda.
    pub environment_error: Option<String>,
    /// The VPC that it is in.
    pub vpc: Option<String>,
    /// Whether SnapStart is on.
    pub snap_start: bool,
    /// Of its zip.
    pub code_sha256: String,
    /// When it was changed last, by any change.
    pub last_modified: String,
}

/// Concurrent executions of the account in the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Allowed.
    pub concurrency: u32,
    /// Of them not reserved for any function.
    pub unreserved: u32,
}

fn failed(failure: sdk::Failure) -> Unknown {
    let sdk::Failure { cause, text } = failure;
    match cause {
        Cause::NotLambda => Unknown::Unsupported,
        _ => Unknown::Failed { cause, text },
    }
}

async fn within<T>(call: impl Future<Output = Result<T, sdk::Failure>>) -> Result<T, Unknown> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(Unknown::Failed {
            cause: Cause::Unreachable,
            text: format!("no answer in {} s", LIMIT.as_secs()),
        }),
    }
}

impl Platform {
    fn remote(&self) -> Result<&Arc<Remote>, Unknown> {
        match &self.0 {
            Way::Sdk(remote) => Ok(remote),
            Way::Local(_) => Err(Unknown::Unsupported),
        }
    }

    /// How a function is set up (`lambda:GetFunctionConfiguration`).
    pub async fn describe(&self, function: &str) -> Result<Function, Unknown> {
        let call = self.remote()?.client.get_function_configuration();
        let output = within(async {
            let sent = call.function_name(function).send().await;
            sent.map_err(|e| sdk::Failure::of(&e, None))
        })
        .await?;
        let number = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let environment = output.environment();
        let variables = environment.and_then(|e| e.variables());
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let on = |snap: &aws_sdk_lambda::types::SnapStartResponse| {
            snap.apply_on().is_some_and(|when| when.as_str() != "None")
        };
        Ok(Function {
            runtime: owned(output.runtime().map(|r| r.as_str())),
            memory_mb: number(output.memory_size()),
            timeout_s: number(output.timeout()),
            state: owned(output.state().map(|s| s.as_str())),
            state_reason: owned(output.state_reason()),
            last_update: owned(output.last_update_status().map(|s| s.as_str())),
            reason_code: owned(
                output
                    .state_reason_code()
                    .map(|code| code.as_str())
                    .or_else(|| output.last_update_status_reason_code().map(|c| c.as_str())),
            ),
            architecture: owned(output.architectures().first().map(|a| a.as_str())),
            purge_delay: variables.and_then(|v| v.get("MIMALLOC_PURGE_DELAY").cloned()),
            environment_error: environment
                .and_then(|e| e.error())
                .map(|e| e.message().unwrap_or("no reason given").to_owned()),
            vpc: owned(output.vpc_config().and_then(|v| v.vpc_id())).filter(|id| !id.is_empty()),
            snap_start: output.snap_start().is_some_and(on),
            code_sha256: owned(output.code_sha256()).unwrap_or_default(),
            last_modified: owned(output.last_modified()).unwrap_or_default(),
        })
    }

    /// Concurrent executions that are reserved for a function, if any are
    /// (`lambda:GetFunctionConcurrency`).
    pub async fn reserved(&self, function: &str) -> Result<Option<u32>, Unknown> {
        let call = self.remote()?.client.get_function_concurrency();
        let output = within(async {
            let sent = call.function_name(function).send().await;
            sent.map_err(|e| sdk::Failure::of(&e, None))
        })
        .await?;
        let reserved = output.reserved_concurrent_executions();
        Ok(reserved.and_then(|n| u32::try_from(n).ok()))
    }

    /// What the account allows (`lambda:GetAccountSettings`).
    pub async fn account(&self) -> Result<Account, Unknown> {
        let call = self.remote()?.client.get_account_settings();
        let output = within(async {
            let sent = call.send().await;
            sent.map_err(|e| sdk::Failure::of(&e, None))
        })
        .await?;
        let limit = output.account_limit().ok_or(Unknown::Unsupported)?;
        let concurrency = u32::try_from(limit.concurrent_executions()).unwrap_or(0);
        let unreserved = limit.unreserved_concurrent_executions();
        Ok(Account {
            concurrency,
            unreserved: unreserved
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(concurrency),
        })
    }

    /// Whether a function could be invoked, without running it, and by how many
    /// seconds the platform's clock is ahead of ours, if it says.
    pub async fn dry_run(&self, function: &str) -> (Result<(), InvokeFailure>, Option<i64>) {
        let refused = |cause, text| InvokeFailure::Refused { cause, text };
        let remote = match self.remote() {
            Ok(remote) => remote,
            Err(_) => return (Ok(()), None),
        };
        let dated = Dated::default();
        let call = remote.client.invoke().function_name(function);
        let call = call.invocation_type(InvocationType::DryRun);
        let sent = within(async {
            let sent = call.customize().interceptor(dated.clone()).send().await;
            sent.map_err(|error| {
                let reason = match error.as_service_error() {
                    Some(InvokeError::TooManyRequestsException(e)) => e.reason().map(AsRef::as_ref),
                    _ => None,
                };
                sdk::Failure::of(&error, reason)
            })
        });
        let result = match sent.await {
            Ok(_) => Ok(()),
            Err(Unknown::Failed { cause, text }) => Err(refused(cause, text)),
            Err(Unknown::Unsupported) => {
                Err(refused(Cause::NotLambda, "it knows no invokes".into()))
            }
        };
        let ahead = *dated.0.lock();
        (result, ahead)
    }
}

/// Notes the date of an answer against our clock.
#[derive(Clone, Debug, Default)]
struct Dated(Arc<Mutex<Option<i64>>>);

impl Intercept for Dated {
    fn name(&self) -> &'static str {
        "Dated"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(date) = date.and_then(|d| DateTime::from_str(d, DateTimeFormat::HttpDate).ok())
            && let Ok(ours) = i64::try_from(clock::since_1970().as_secs())
        {
            *self.0.lock() = Some(date.secs() - ours);
        }
        Ok(())
    }
}
