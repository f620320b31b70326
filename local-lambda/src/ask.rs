//! One request to the control API of a running local-lambda.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

/// More than the list of all instances takes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Sends `body` as JSON to `path` at `endpoint` (`http://HOST:PORT`); reads JSON.
pub(crate) async fn json<B: Serialize, A: DeserializeOwned>(
    endpoint: &str,
    method: Method,
    path: &str,
    body: Option<&B>,
) -> Result<A> {
    let address = endpoint.trim_end_matches('/');
    let address = address
        .strip_prefix("http://")
        .context("the endpoint begins with http://")?;
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("nobody answers at {endpoint}"))?;
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
    let body = body
        .map(serde_json::to_vec)
        .transpose()?
        .unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let read = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await;
        let bytes = read.map_err(|e| anyhow::anyhow!(e))?.to_bytes();
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&bytes));
        }
        Ok(serde_json::from_slice(&bytes)?)
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => {
            ended?;
            bail!("the connection was closed")
        }
    }
}
