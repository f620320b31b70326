//! A file into the cache and out again, in little memory:
//! `cargo run -p scatterhoard-client --example file FROM TO [URL]`.

use std::{error::Error, path::Path};

use scatterhoard_client::{Client, Options, SetOptions};
use tokio::fs::File;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (from, to, url) = match &arguments[..] {
        [from, to] => (from, to, "redis://127.0.0.1:6379"),
        [from, to, url] => (from, to, url.as_str()),
        _ => return Err("usage: file FROM TO [URL]".into()),
    };
    let client = Client::connect(Options::from_url(url)?).await?;
    let name = Path::new(from).file_name().ok_or("FROM is not a file")?;
    let key = format!("example:file:{}", name.display());

    let file = File::open(from).await?;
    let len = file.metadata().await?.len();
    client
        .put_reader(&key, len, file, SetOptions::new())
        .await?;
    println!("{len} bytes are under {key}");

    let mut value = client.get_stream(&key).await?.ok_or("it is gone already")?;
    let mut file = File::create(to).await?;
    let copied = tokio::io::copy(&mut value, &mut file).await?;
    file.sync_all().await?;
    println!("{copied} bytes are in {to}");
    client.delete(&key).await?;
    Ok(())
}
