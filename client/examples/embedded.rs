//! The proxy within the program, and this program as its nodes:
//! `cargo run -p scatterhoard-client --features embedded --example embedded`.

use std::{error::Error, time::Duration};

use scatterhoard_client::{
    SetOptions,
    embedded::{self, Embedded, Nodes, Settings},
};

fn main() -> Result<(), Box<dyn Error>> {
    // first of all: as a node it does not return
    let program = embedded::this_program()?;
    tokio::runtime::Runtime::new()?.block_on(run(Nodes::Processes(program)))
}

async fn run(nodes: Nodes) -> Result<(), Box<dyn Error>> {
    let settings = Settings::new(nodes)
        .nodes(6)
        .node_memory_mb(128)
        .data_parity(4, 2);
    let cache = Embedded::start(settings).await?;
    let client = cache.client();

    let value: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 251) as u8).collect();
    client.set("example:large", value.clone()).await?;
    let found = client.get("example:large").await?.ok_or("it is gone")?;
    println!("{} bytes, the same: {}", found.len(), found == value);

    let len = value.len() as u64;
    client
        .put_reader("example:stream", len, &value[..], SetOptions::new())
        .await?;
    let mut stream = client.get_stream("example:stream").await?.ok_or("gone")?;
    let copied = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    println!("{copied} bytes as a stream");

    client.close(Duration::from_secs(5)).await;
    cache.shutdown().await?;
    println!("ended");
    Ok(())
}
