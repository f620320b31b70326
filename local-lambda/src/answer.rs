//! What an invoke is answered: the function's outcome, or the service's
//! refusal. The words and codes are Lambda's, because the SDK decodes them.

use crate::http::Admitted;
use bytes::Bytes;
use hyper::StatusCode;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Largest payload of a synchronous request: 6 MiB.
pub const MAX_REQUEST_BYTES: usize = 6 << 20;
/// Largest payload of an asynchronous request: 1 MiB (256 KiB before October 2025).
pub const MAX_EVENT_BYTES: usize = 1 << 20;
/// Largest response: 6 MB and 100 bytes, as Lambda's own error message says.
pub const MAX_RESPONSE_BYTES: usize = 6_291_556;

/// Why Lambda throttled; the `Reason` of TooManyRequestsException.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThrottleReason {
    /// The account's concurrency, less what is reserved, is used up.
    #[default]
    ConcurrentInvocationLimitExceeded,
    /// The function's reserved concurrency is used up.
    ReservedFunctionConcurrentInvocationLimitExceeded,
    /// The caller sends too many requests, or the event queue is full.
    CallerRateLimitExceeded,
    /// More than ten invocations a second for each unit of concurrency.
    FunctionInvocationRateLimitExceeded,
    /// The same for a function with reserved concurrency.
    ReservedFunctionInvocationRateLimitExceeded,
}

/// The service did not run the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoSuchFunction(String),
    Throttled(ThrottleReason),
    TooLarge {
        bytes: usize,
        limit: usize,
    },
    BadJson(String),
    BadRequest(String),
    Service(&'static str),
    /// Close the connection without an answer.
    Hangup,
}

impl Refusal {
    /// Status, the SDK's error type and the JSON body.
    pub(crate) fn parts(&self) -> (StatusCode, &'static str, serde_json::Value) {
        let user = |message: String| serde_json::json!({"Type": "User", "message": message});
        match self {
            Refusal::NoSuchFunction(arn) => (
                StatusCode::NOT_FOUND,
                "ResourceNotFoundException",
                user(format!("Function not found: {arn}")),
            ),
            Refusal::Throttled(reason) => (
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequestsException",
                serde_json::json!({"Reason": reason, "Type": "User", "message": "Rate Exceeded."}),
            ),
            Refusal::TooLarge { bytes, limit } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestTooLargeException",
                user(format!(
                    "{bytes} byte payload is too large for the invocation type (limit {limit} bytes)"
                )),
            ),
            Refusal::BadJson(why) => (
                StatusCode::BAD_REQUEST,
                "InvalidRequestContentException",
                user(format!("Could not parse request body into json: {why}")),
            ),
            Refusal::BadRequest(why) => (
                StatusCode::BAD_REQUEST,
                "InvalidParameterValueException",
                user(why.clone()),
            ),
            Refusal::Service(why) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "ServiceException",
                serde_json::json!({"Type": "Service", "Message": why, "message": why}),
            ),
            Refusal::Hangup => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceException",
                user(String::new()),
            ),
        }
    }
}

/// How an invocation ended that reached an instance.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The function's response.
    Response(Admitted),
    /// The function's own error, in its own JSON.
    FunctionError(Admitted),
    /// The platform ended it.
    Failed(Failure),
}

/// Why the platform ended an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    TimedOut(Duration),
    Exited(ExitStatus),
    OutOfMemory(ExitStatus),
    CannotStart(String),
    ResponseTooLarge,
}

impl Failure {
    /// The JSON that Lambda gives the caller.
    pub(crate) fn payload(&self, request_id: &str) -> Bytes {
        let (kind, text) = match self {
            Failure::TimedOut(after) => (
                "Sandbox.Timedout",
                format!(
                    "RequestId: {request_id} Error: Task timed out after {:.2} seconds",
                    after.as_secs_f64()
                ),
            ),
            Failure::Exited(status) => (
                "Runtime.ExitError",
                format!("RequestId: {request_id} Error: {}", describe(*status)),
            ),
            Failure::OutOfMemory(status) => (
                "Runtime.OutOfMemory",
                format!("RequestId: {request_id} Error: {}", describe(*status)),
            ),
            Failure::CannotStart(why) => (
                "Runtime.InvalidEntrypoint",
                format!("RequestId: {request_id} Error: {why}"),
            ),
            Failure::ResponseTooLarge => (
                "Function.ResponseSizeTooLarge",
                format!(
                    "Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
                ),
            ),
        };
        serde_json::json!({"errorType": kind, "errorMessage": text})
            .to_string()
            .into()
    }
}

/// As the Go runtime behind Lambda words it.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
        (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
        (None, signal) => {
            let core = if status.core_dumped() {
                " (core dumped)"
            } else {
                ""
            };
            format!(
                "Runtime exited with error: signal: {}{core}",
                signal_name(signal.unwrap_or(0))
            )
        }
    }
}

fn signal_name(number: i32) -> String {
    let named = [
        (Signal::KILL, "killed"),
        (Signal::ABORT, "aborted"),
        (Signal::SEGV, "segmentation fault"),
        (Signal::TERM, "terminated"),
        (Signal::BUS, "bus error"),
        (Signal::ILL, "illegal instruction"),
        (Signal::FPE, "floating point exception"),
        (Signal::TRAP, "trace/breakpoint trap"),
        (Signal::INT, "interrupt"),
        (Signal::HUP, "hangup"),
        (Signal::PIPE, "broken pipe"),
    ];
    let name = named.iter().find(|(signal, _)| signal.as_raw() == number);
    name.map_or_else(
        || format!("signal {number}"),
        |(_, name)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_read_as_on_lambda() {
        let text = |f: Failure| String::from_utf8(f.payload("r").to_vec()).unwrap();
        let exit = |raw| ExitStatus::from_raw(raw);
        assert!(
            text(Failure::Exited(exit(3 << 8)))
                .contains("Runtime exited with error: exit status 3")
        );
        assert!(
            text(Failure::Exited(exit(0))).contains("Runtime exited without providing a reason")
        );
        assert!(text(Failure::Exited(exit(6 | 0x80))).contains("signal: aborted (core dumped)"));
        assert!(text(Failure::OutOfMemory(exit(9))).contains("signal: killed"));
        let timeout = text(Failure::TimedOut(Duration::from_millis(1500)));
        assert!(
            timeout.contains("RequestId: r Error: Task timed out after 1.50 seconds"),
            "{timeout}"
        );
        assert!(timeout.contains("Sandbox.Timedout"));
    }

    #[test]
    fn a_throttle_carries_its_reason() {
        let refusal =
            Refusal::Throttled(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);
        let (status, kind, body) = refusal.parts();
        assert_eq!((status.as_u16(), kind), (429, "TooManyRequestsException"));
        assert_eq!(
            body["Reason"],
            "ReservedFunctionConcurrentInvocationLimitExceeded"
        );
    }
}
