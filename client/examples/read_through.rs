//! A cache in front of something slow, which many ask at once:
//! `cargo run -p scatterhoard-client --example read_through [URL]`.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use scatterhoard_client::{Client, Error, Keep, Options};

/// What takes its time.
async fn slow() -> io::Result<Bytes> {
    println!("loading");
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(Bytes::from(vec![1; 1_000_000]))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    let url = url.as_deref().unwrap_or("redis://127.0.0.1:6379");
    let client = Client::connect(Options::from_url(url)?).await?;
    client.delete("example:page").await?;

    let keep = Keep::fresh_for(Duration::from_secs(60))
        .then_stale_for(Duration::from_secs(600))
        .jitter(0.1);
    for round in ["without a value", "with one"] {
        let start = Instant::now();
        let all = (0..100).map(|_| client.get_or_insert_with("example:page", keep, slow));
        let good = join_all(all)
            .await
            .into_iter()
            .filter(Result::is_ok)
            .count();
        println!(
            "{round}: {good} answers after {} ms",
            start.elapsed().as_millis()
        );
    }
    client.delete("example:page").await?;
    Ok(())
}
