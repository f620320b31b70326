//! The Invoke API, for SDK clients:
//! `POST /2015-03-31/functions/{name or ARN}/invocations`.

use crate::answer::{MAX_EVENT_BYTES, MAX_REQUEST_BYTES, Outcome, Refusal};
use crate::control_api;
use crate::events;
use crate::http::{Admitted, BodyError, Hangup, Reply, empty, json, read_body};
use crate::instance::arn;
use crate::platform::{Invoked, Platform};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::de::IgnoredAny;
use std::sync::Arc;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

/// Answers one request to the platform's port.
pub(crate) async fn handle(
    platform: Arc<Platform>,
    request: Request<Incoming>,
) -> Result<Reply, Hangup> {
    let path = request.uri().path();
    if path.starts_with("/_local/") {
        return control_api::handle(platform, request).await;
    }
    let name = path
        .strip_prefix("/2015-03-31/functions/")
        .and_then(|p| p.strip_suffix("/invocations"));
    let Some(name) = name.filter(|_| request.method() == Method::POST) else {
        let body = r#"{"message":"local-lambda knows Invoke and /_local/ only"}"#;
        let mut reply = json(StatusCode::NOT_FOUND, body);
        reply.headers_mut().insert(
            ERROR_TYPE,
            HeaderValue::from_static("UnknownOperationException"),
        );
        return Ok(reply);
    };
    let name = decode(name);
    match invoke(&platform, &name, request).await {
        Ok(reply) => Ok(reply),
        Err(Refusal::Hangup) => Err(Hangup),
        Err(refusal) => Ok(refused(&refusal)),
    }
}

async fn invoke(
    platform: &Arc<Platform>,
    name: &str,
    request: Request<Incoming>,
) -> Result<Reply, Refusal> {
    let qualifier = request
        .uri()
        .query()
        .and_then(|q| q.split('&').find_map(|p| p.strip_prefix("Qualifier=")));
    let function = function_name(name, qualifier.map(decode).as_deref())
        .ok_or_else(|| Refusal::NoSuchFunction(arn(&platform.settings.region, name)))?;
    let kind = kind(request.headers())?;
    if kind == Kind::Event {
        return events::accept(
            platform,
            function,
            payload(platform, request, MAX_EVENT_BYTES).await?,
        );
    }
    let payload = payload(platform, request, MAX_REQUEST_BYTES).await?;
    if kind == Kind::DryRun {
        return if platform.world.lock().fleet.has_function(&function) {
            Ok(empty(StatusCode::NO_CONTENT))
        } else {
            Err(Refusal::NoSuchFunction(arn(
                &platform.settings.region,
                &function,
            )))
        };
    }
    let invoked = platform.invoke(&function, payload).await?;
    if invoked.lost {
        return Err(Refusal::Hangup);
    }
    Ok(answered(invoked))
}

/// Reads and checks the payload; none is the same as `{}`.
async fn payload(
    platform: &Platform,
    request: Request<Incoming>,
    limit: usize,
) -> Result<Admitted, Refusal> {
    let admitted = read_body(request.into_body(), limit, &platform.request_budget).await;
    let mut payload = admitted.map_err(|e| match e {
        BodyError::TooLarge(bytes) => Refusal::TooLarge { bytes, limit },
        BodyError::Broken => Refusal::Hangup,
    })?;
    if payload.bytes.is_empty() {
        payload.bytes = Bytes::from_static(b"{}");
    }
    serde_json::from_slice::<IgnoredAny>(&payload.bytes)
        .map_err(|e| Refusal::BadJson(e.to_string()))?;
    Ok(payload)
}

fn kind(headers: &HeaderMap) -> Result<Kind, Refusal> {
    match headers
        .get("x-amz-invocation-type")
        .map(HeaderValue::as_bytes)
    {
        None | Some(b"RequestResponse") => Ok(Kind::RequestResponse),
        Some(b"Event") => Ok(Kind::Event),
        Some(b"DryRun") => Ok(Kind::DryRun),
        Some(_) => Err(Refusal::BadRequest(
            "InvocationType is RequestResponse, Event or DryRun".to_owned(),
        )),
    }
}

fn answered(invoked: Invoked) -> Reply {
    let (bytes, failed) = match invoked.outcome {
        Outcome::Response(body) => (body.bytes, false),
        Outcome::FunctionError(body) => (body.bytes, true),
        Outcome::Failed(failure) => (failure.payload(&invoked.request_id), true),
    };
    let mut reply = json(StatusCode::OK, bytes);
    let headers = reply.headers_mut();
    headers.insert(EXECUTED_VERSION, HeaderValue::from_static("$LATEST"));
    if let Ok(id) = HeaderValue::try_from(invoked.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if failed {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    reply
}

fn refused(refusal: &Refusal) -> Reply {
    let (status, kind, body) = refusal.parts();
    let mut reply = json(status, body.to_string());
    reply
        .headers_mut()
        .insert(ERROR_TYPE, HeaderValue::from_static(kind));
    reply
}

/// The plain name in `name`, `account:function:name` or a full ARN, each
/// perhaps with `:$LATEST`. There are no other versions and no aliases.
fn function_name(name: &str, qualifier: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = name.split(':').collect();
    let (plain, version) = match parts.as_slice() {
        [plain] => (plain, None),
        [plain, version] => (plain, Some(version)),
        [.., "function", plain] => (plain, None),
        [.., "function", plain, version] => (plain, Some(version)),
        _ => return None,
    };
    let latest =
        version.is_none_or(|v| *v == "$LATEST") && qualifier.is_none_or(|q| q == "$LATEST");
    latest.then(|| (*plain).to_owned())
}

/// Undoes percent-encoding; what is no UTF-8 then matches no function.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns() {
        let plain = |name: &str, qualifier| function_name(&decode(name), qualifier);
        let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Anode-1";
        for name in [
            "node-1",
            "node-1:$LATEST",
            "000000000000:function:node-1",
            arn,
        ] {
            assert_eq!(plain(name, None).as_deref(), Some("node-1"), "{name}");
        }
        assert_eq!(
            plain(&format!("{arn}%3A%24LATEST"), Some("$LATEST")).as_deref(),
            Some("node-1")
        );
        assert_eq!(plain("node-1", Some("7")), None);
        assert_eq!(plain("node-1:prod", None), None);
        assert_eq!(plain("a:b:c", None), None);
    }

    #[test]
    fn decodes_only_what_is_encoded() {
        assert_eq!(decode("a%3Ab%"), "a:b%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("%C3%A9"), "é");
    }
}
