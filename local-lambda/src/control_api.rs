//! The control API, JSON under `/_local/` on the same port. Not part of
//! Lambda: for operators and tests.

use crate::Error;
use crate::faults::Faults;
use crate::function::FunctionConfig;
use crate::http::{BodyError, Hangup, Reply, empty, json, read_body};
use crate::invoke_api::decode;
use crate::platform::Platform;
use crate::reclaim::{Reclaim, ReclaimPolicy};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::sync::Arc;

/// Orders are small.
const MAX_ORDER_BYTES: usize = 1 << 20;

/// Why an order was not carried out.
struct Refused(StatusCode, String);

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        let status = match error {
            Error::UnknownFunction(_) => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        };
        Refused(status, error.to_string())
    }
}

pub(crate) async fn handle(
    platform: Arc<Platform>,
    request: Request<Incoming>,
) -> Result<Reply, Hangup> {
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
    if !names_this_machine(host) {
        let body = r#"{"message":"ask by address or as localhost"}"#;
        return Ok(json(StatusCode::FORBIDDEN, body));
    }
    match route(&platform, request).await {
        Ok(reply) => Ok(reply),
        Err(Refused(status, message)) => Ok(json(
            status,
            serde_json::json!({"message": message}).to_string(),
        )),
    }
}

async fn route(platform: &Platform, request: Request<Incoming>) -> Result<Reply, Refused> {
    let path = decode(request.uri().path());
    let steps: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
    let method = request.method().clone();
    match (&method, steps.as_slice()) {
        (&Method::GET, ["instances"]) => Ok(shown(&platform.instances())),
        (&Method::GET, ["functions"]) => {
            let configs: Vec<FunctionConfig> =
                platform.world.lock().fleet.configs().cloned().collect();
            Ok(shown(&configs))
        }
        (&Method::GET, ["ledger"]) => {
            let ledger = platform
                .world
                .lock()
                .books
                .ledger(&platform.settings.prices);
            Ok(shown(&ledger))
        }
        (&Method::GET, ["faults"]) => {
            let faults = platform.world.lock().faults.clone();
            Ok(shown(&faults))
        }
        (&Method::GET, ["reclaim-policy"]) => {
            let policy = platform.reclaim_policy.borrow().clone();
            Ok(shown(&policy))
        }
        (&Method::PUT, ["functions", name]) => {
            let config: FunctionConfig = order(platform, request).await?;
            if config.name != *name {
                return Err(Refused(
                    StatusCode::BAD_REQUEST,
                    "the name in the path is another".to_owned(),
                ));
            }
            platform.put(config)?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (&Method::DELETE, ["functions", name]) => {
            platform.remove(name)?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (&Method::PUT, ["faults"]) => {
            let faults: Faults = order(platform, request).await?;
            platform.world.lock().set_faults(faults);
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (&Method::PUT, ["reclaim-policy"]) => {
            let policy: ReclaimPolicy = order(platform, request).await?;
            platform.reclaim_policy.send_replace(policy);
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (&Method::POST, ["reclaim"]) => {
            let order: Reclaim = order(platform, request).await?;
            Ok(shown(&platform.reclaim(&order)))
        }
        _ => Err(Refused(
            StatusCode::NOT_FOUND,
            format!("nothing at {method} {path}; see the README"),
        )),
    }
}

/// Whether the request was addressed to an IP address or `localhost`. Any other
/// name may be a web page's, pointed here to get around its browser's rules.
fn names_this_machine(host: Option<&[u8]>) -> bool {
    let Some(host) = host.and_then(|h| std::str::from_utf8(h).ok()) else {
        return true;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || address.parse::<IpAddr>().is_ok()
}

fn shown<T: Serialize>(what: &T) -> Reply {
    match serde_json::to_vec(what) {
        Ok(body) => json(StatusCode::OK, body),
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// The JSON of an order. Its content type must say so: a web page cannot send
/// that to another origin without being asked, so none can start programs here.
async fn order<T: DeserializeOwned>(
    platform: &Platform,
    request: Request<Incoming>,
) -> Result<T, Refused> {
    let bad = |message: String| Refused(StatusCode::BAD_REQUEST, message);
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    if !kind.is_some_and(|k| k.starts_with(b"application/json")) {
        return Err(Refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send application/json".to_owned(),
        ));
    }
    let body = read_body(
        request.into_body(),
        MAX_ORDER_BYTES,
        &platform.request_budget,
    )
    .await;
    let body = body.map_err(|e| match e {
        BodyError::TooLarge(_) => Refused(StatusCode::PAYLOAD_TOO_LARGE, "too large".to_owned()),
        BodyError::Broken => bad("broken off".to_owned()),
    })?;
    serde_json::from_slice(&body.bytes).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_this_machine() {
        for good in [
            "127.0.0.1:9001",
            "127.0.0.1",
            "[::1]:80",
            "localhost:1",
            "localhost",
        ] {
            assert!(names_this_machine(Some(good.as_bytes())), "{good}");
        }
        for bad in ["evil.example:9001", "localhost.evil.example", ""] {
            assert!(!names_this_machine(Some(bad.as_bytes())), "{bad}");
        }
        assert!(names_this_machine(None));
    }
}
