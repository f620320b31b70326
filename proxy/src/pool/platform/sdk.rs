//! From the SDK's errors to causes.

use aws_sdk_lambda::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::errors::{Cause, Refusal};

/// Longer texts, as of pages that are no Lambda's, are cut.
const TEXT_CHARS: usize = 400;

/// A call of the API that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) text: String,
}

impl Failure {
    /// `reason` is that of a throttle.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>, reason: Option<&str>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map_or(0, |r| r.status().as_u16());
        let Some(service) = error.as_service_error() else {
            let text = with_sources(error);
            let cause = match error {
                SdkError::ResponseError(_) => Cause::NotLambda,
                _ => Cause::of_silence(&text),
            };
            return Self {
                cause,
                text: cut(&text),
            };
        };
        let cause = Cause::of(Refusal {
            code: service.code().unwrap_or_default(),
            reason: reason.unwrap_or_default(),
            message: service.message().unwrap_or_default(),
            status,
        });
        let mut words = vec![service.code().unwrap_or("no error code").to_owned()];
        words.extend(reason.map(str::to_owned));
        words.extend(service.message().map(str::to_owned));
        if service.code().is_none() && status > 0 {
            words.push(format!("HTTP {status}"));
        }
        Self {
            cause,
            text: cut(&words.join(": ")),
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// One line of it, not too long.
fn cut(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(TEXT_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
