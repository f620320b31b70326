//! Values in and out: `cargo run -p scatterhoard-client --example basic [URL]`.

use std::time::Duration;

use scatterhoard_client::{Client, Condition, Error, Expiry, Options, SetOptions};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    let url = url.as_deref().unwrap_or("redis://127.0.0.1:6379");
    let client = Client::connect(Options::from_url(url)?).await?;

    client.set("example:greeting", "hello").await?;
    println!("{:?}", client.get("example:greeting").await?);

    let once = SetOptions::new()
        .condition(Condition::IfAbsent)
        .expiry(Expiry::In(Duration::from_secs(60)));
    let set = client.set_with("example:lock", "mine", once).await?;
    println!(
        "stored: {}, {:?}",
        set.stored,
        client.ttl("example:lock").await?
    );

    // 10 MB, over a connection of its own
    client.set("example:large", vec![7; 10_000_000]).await?;
    println!(
        "{:?} bytes",
        client.get("example:large").await?.map(|value| value.len())
    );

    match client.incr("example:greeting", 1).await {
        Err(error) if error.is_retryable() => println!("try again: {error}"),
        Err(error) => println!("no use to try again: {error}"),
        Ok(number) => println!("{number}"),
    }
    let keys = ["example:greeting", "example:lock", "example:large"];
    println!("{} deleted", client.delete_many(keys).await?);
    client.close(Duration::from_secs(5)).await;
    Ok(())
}
