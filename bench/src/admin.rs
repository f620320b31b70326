//! HTTP in small: counters from scatterhoard's admin port, orders to local-lambda.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The value of a counter; 0 as long as it was never counted up.
pub(crate) async fn counter(address: &str, name: &str) -> Result<u64> {
    let answer = request(address, "GET", "/metrics", "").await?;
    Ok(find(&answer, name))
}

/// Sends a request with a JSON body, or none; the body of the answer, which must be a good one.
pub(crate) async fn request(address: &str, method: &str, path: &str, body: &str) -> Result<String> {
    let mut socket = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to http://{address}"))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    ensure!(
        answer.starts_with("HTTP/1.1 2"),
        "{method} {path}: {}",
        answer.lines().next().unwrap_or_default()
    );
    let (_, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    Ok(body.to_owned())
}

/// Prometheus writes `NAME VALUE`, a line each.
fn find(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = "# TYPE a counter\r\na_total 1\r\na 23\r\n";
        assert_eq!(find(text, "a"), 23);
        assert_eq!(find(text, "a_tot"), 0);
        assert_eq!(find(text, "a_total"), 1);
    }
}
