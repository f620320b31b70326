//! Parts of a large value, and a read that goes on after a break:
//! `cargo run -p scatterhoard-client --example range [URL]`.

use futures_util::TryStreamExt;
use scatterhoard_client::{Client, Error, Options, Resume};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    let url = url.as_deref().unwrap_or("redis://127.0.0.1:6379");
    let client = Client::connect(Options::from_url(url)?).await?;

    // the key names the content: its value never changes
    let key = "example:video:v1";
    let video: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    client.set(key, video).await?;

    let part = client.get_range(key, 1_000_000..1_000_010).await?;
    println!("ten bytes: {part:?}");
    let end = client.get_range(key, 4_999_990..6_000_000).await?;
    println!("the last {} bytes", end.len());

    let resume = Resume::IfUnchanging { attempts: 3 };
    if let Some(mut value) = client.get_stream_with(key, resume).await? {
        let (mut pieces, mut bytes) = (0, 0);
        while let Some(piece) = value.try_next().await? {
            (pieces, bytes) = (pieces + 1, bytes + piece.len());
        }
        println!("{bytes} bytes in {pieces} pieces");
    }
    client.delete(key).await?;
    Ok(())
}
