//! Spans of requests, and what happens within them.

use std::{
    io,
    sync::{Arc, Once},
};

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use parking_lot::Mutex;
use scatterhoard_client::{Client, Resume, SetOptions};
use tracing_subscriber::fmt::format::FmtSpan;

use crate::servers::{Fake, Peer, each};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What is logged by this thread until the guard is dropped.
    fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        // or else a place that another thread comes by first, which has no subscriber, may
        // be taken for one that interests nobody
        static EVERYWHERE: Once = Once::new();
        EVERYWHERE.call_once(|| {
            let everything = tracing_subscriber::registry();
            tracing::subscriber::set_global_default(everything).unwrap();
        });
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// How many lines have all of these words.
    fn count(&self, words: &[&str]) -> usize {
        let text = String::from_utf8(self.0.lock().clone()).unwrap();
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(has_all).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const NEW: &str = ": scatterhoard_client::client: new";
const CLOSE: &str = ": scatterhoard_client::client: close";

#[tokio::test]
async fn requests_and_streams_have_a_span_each() {
    each(async |client| {
        let (log, _guard) = Log::begin();
        client.set("small", "value").await.unwrap();
        let words = ["request{command=SET lane=Shared}", CLOSE];
        assert_eq!(log.count(&words), 1);
        let value = Bytes::from(vec![7; 300_000]);
        let source = stream::iter([value.clone()]);
        let put = client.put_stream("large", 300_000, source, SetOptions::new());
        assert!(put.await.unwrap().stored);
        assert_eq!(log.count(&["request{command=SET lane=Own}", CLOSE]), 1);
        let read = client.get_stream("large").await.unwrap().unwrap();
        let get = "request{command=GET lane=Own}";
        // as long as there is something to be read
        assert_eq!((log.count(&[get, NEW]), log.count(&[get, CLOSE])), (1, 0));
        let pieces: Vec<Bytes> = read.try_collect().await.unwrap();
        assert!(pieces.concat() == value);
        assert_eq!(log.count(&[get, CLOSE]), 1);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_goes_on_says_so_within_its_span() {
    let fake = Fake::start(async |number, mut peer: Peer| {
        peer.welcome().await;
        if number == 0 {
            peer.say("$200000\r\n").await;
            peer.say(vec![7; 50_000]).await;
        } else {
            // from the 64th of the last bytes that were delivered
            peer.say("$150064\r\n").await;
            peer.say(vec![7; 150_064]).await;
            peer.say("\r\n").await;
            while peer.request().await.is_some() {}
        }
    })
    .await;
    let (log, _guard) = Log::begin();
    let client = Client::new(fake.options().retries(0));
    let on = Resume::IfUnchanging { attempts: 1 };
    let stream = client.get_stream_with("k", on).await;
    let pieces: Vec<Bytes> = stream.unwrap().unwrap().try_collect().await.unwrap();
    assert!(pieces.concat() == vec![7; 200_000]);
    let words = ["request{command=GET lane=Own}", "reading on", "from="];
    assert_eq!(log.count(&words), 1);
}
