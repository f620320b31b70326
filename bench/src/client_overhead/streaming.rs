//! A large value in and out, by a process that does nothing else.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use scatterhoard_client::{Client, Options, SetOptions};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{Args, LIMIT, MOST_RSS_MB};
use crate::goals::Figure;
use crate::procfs;
use crate::target::Target;

const KEY: &str = "client-overhead:stream";
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of a prime length, so that no piece of another length looks like its neighbours.
const PATTERN_BYTES: usize = 65_521;

/// It does not outlive whoever waits for it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What that process tells.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Streamed {
    base_mb: f64,
    peak_mb: f64,
    put_gb_per_s: f64,
    get_gb_per_s: f64,
}

/// Starts it for one server.
pub(super) async fn measure(target: &Target, args: &Args) -> Result<Vec<Figure>> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["client", "--only-stream", &target.address])
        .args(["--stream-size", &args.stream_size.bytes.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut process = Killed(command.spawn()?);
    let status = loop {
        match process.0.try_wait()? {
            Some(status) => break status,
            None => sleep(LOOK_EVERY).await,
        }
    };
    ensure!(status.success(), "{status}");
    let mut said = String::new();
    let mut out = process.0.stdout.take().context("no output")?;
    out.read_to_string(&mut said)?;
    let streamed: Streamed = serde_json::from_str(&said)?;
    let name = |what| format!("{} through {}, {what}", args.stream_size, target.name);
    let most = (!args.quick).then_some(MOST_RSS_MB);
    let peak = name("peak RSS of the streaming process");
    Ok(vec![
        Figure::new(peak, streamed.peak_mb, "MB", most),
        Figure::new(name("its RSS before"), streamed.base_mb, "MB", None),
        Figure::new(name("in"), streamed.put_gb_per_s, "GB/s", None),
        Figure::new(name("out"), streamed.get_gb_per_s, "GB/s", None),
    ])
}

/// Is it.
pub(super) fn only(address: &str, bytes: u64) -> Result<()> {
    let runtime = crate::client_runtime(1)?;
    let streamed = runtime.block_on(stream_both_ways(address, bytes))?;
    println!("{}", serde_json::to_string(&streamed)?);
    Ok(())
}

async fn stream_both_ways(address: &str, bytes: u64) -> Result<Streamed> {
    let memory = |read: fn(u32) -> Option<u64>| {
        let kib = read(std::process::id()).context("no memory in /proc")?;
        anyhow::Ok(kib as f64 * 1024.0 / 1e6)
    };
    let rate = |begun: Instant| bytes as f64 / 1e9 / begun.elapsed().as_secs_f64();
    let base_mb = memory(procfs::rss_kib)?;
    let options = Options::from_url(&format!("redis://{address}"))?.request_timeout(LIMIT);
    let client = Client::connect(options).await?;
    let pattern: Bytes = (0..PATTERN_BYTES).map(|n| (n % 251) as u8).collect();
    let begun = Instant::now();
    let source = stream::iter(pieces(&pattern, bytes));
    client
        .put_stream(KEY, bytes, source, SetOptions::new())
        .await?;
    let put_gb_per_s = rate(begun);
    let begun = Instant::now();
    let value = client.get_stream(KEY).await?;
    let mut value = value.context("what was stored is not there")?;
    let mut at = 0;
    while let Some(piece) = value.next().await {
        let piece = piece?;
        ensure!(is_of(&pattern, at, &piece), "WRONG BYTES from {at} on");
        at += piece.len() as u64;
    }
    ensure!(at == bytes, "{at} of {bytes} bytes came back");
    let get_gb_per_s = rate(begun);
    client.delete(KEY).await?;
    Ok(Streamed {
        base_mb,
        peak_mb: memory(procfs::peak_rss_kib)?,
        put_gb_per_s,
        get_gb_per_s,
    })
}

/// The pattern again and again, `bytes` altogether.
fn pieces(pattern: &Bytes, bytes: u64) -> impl Iterator<Item = Bytes> {
    let len = pattern.len() as u64;
    let (whole, rest) = (bytes / len, (bytes % len) as usize);
    let whole = (0..whole).map(|_| pattern.clone());
    whole.chain((rest > 0).then(|| pattern.slice(..rest)))
}

/// Whether these bytes are those from `at` on.
fn is_of(pattern: &[u8], at: u64, mut found: &[u8]) -> bool {
    let mut from = (at % pattern.len() as u64) as usize;
    while !found.is_empty() {
        let len = found.len().min(pattern.len() - from);
        if found[..len] != pattern[from..from + len] {
            return false;
        }
        found = &found[len..];
        from = 0;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_byte_is_found_wherever_it_is() {
        let pattern: Bytes = (0..100).collect();
        let mut all: Vec<u8> = pieces(&pattern, 1234).flatten().collect();
        assert_eq!(all.len(), 1234);
        for at in [0, 1, 99, 100, 777, 1233] {
            assert!(is_of(&pattern, at as u64, &all[at..]));
            all[at] ^= 1;
            assert!(!is_of(&pattern, 0, &all));
            all[at] ^= 1;
        }
        assert!(!is_of(&pattern, 1, &all));
        assert_eq!(pieces(&pattern, 200).count(), 2);
    }
}
