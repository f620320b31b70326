//! Counters from scatterhoard's admin port.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The value of a counter; 0 as long as it was never counted up.
pub(crate) async fn counter(address: &str, name: &str) -> Result<u64> {
    let mut socket = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to the admin port {address}"))?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    ensure!(
        answer.starts_with("HTTP/1.1 200"),
        "GET /metrics: {}",
        answer.lines().next().unwrap_or_default()
    );
    Ok(find(&answer, name))
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
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE a counter\r\na_total 1\r\na 23\r\n";
        assert_eq!(find(text, "a"), 23);
        assert_eq!(find(text, "a_tot"), 0);
        assert_eq!(find(text, "a_total"), 1);
    }
}
