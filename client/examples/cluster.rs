//! Keys on several servers that share hash slots, given any one of them:
//! `cargo run -p scatterhoard-client --example cluster [URL]`. Works as well with a
//! server that is alone.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use scatterhoard_client::{
    Client, Error, Options, SetOptions,
    metrics::{Connection, Metrics},
};

/// Counts redirects, and tells which servers it is connected to.
#[derive(Default)]
struct Counters {
    redirects: AtomicU64,
}

impl Metrics for Counters {
    fn redirect(&self, _: &str, _: &Error) {
        self.redirects.fetch_add(1, Relaxed);
    }

    fn connection(&self, connection: &Connection<'_>) {
        println!("connected to {}", connection.address);
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    let url = url.as_deref().unwrap_or("redis://127.0.0.1:6379");
    let counters = Arc::new(Counters::default());
    let options = Options::from_url(url)?.metrics(counters.clone());
    let client = Client::connect(options).await?;

    // each goes to whoever has its slot; what shares a tag is together
    let keys: Vec<String> = (0..30).map(|n| format!("example:{n}")).collect();
    client
        .set_many(keys.iter().map(|key| (key, key.clone())))
        .await?;
    let found = client.get_many(&keys).await?;
    println!("{} of 30 found", found.iter().flatten().count());
    let cart = ["example:{ada}:cart", "example:{ada}:name"];
    client.set_many(cart.map(|key| (key, "together"))).await?;

    // streams go there, too
    let body = vec![7; 3_000_000];
    let len = body.len() as u64;
    client
        .put_reader("example:stream", len, &body[..], SetOptions::new())
        .await?;
    println!(
        "{:?} bytes",
        client.get("example:stream").await?.map(|v| v.len())
    );

    let all = keys.iter().map(String::as_str).chain(cart);
    let deleted = client.delete_many(all.chain(["example:stream"])).await?;
    println!(
        "{deleted} deleted, {} redirects",
        counters.redirects.load(Relaxed)
    );
    Ok(())
}
