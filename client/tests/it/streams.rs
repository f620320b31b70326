//! Values piece by piece: whole, broken off, gone on with.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use scatterhoard_client::{
    Client, Condition, Error, ErrorCode, Expiry, Options, Resume, SetOptions, Ttl, ValueStream,
};
use tokio::io::AsyncReadExt;

use crate::servers::{Fake, Peer, each};

fn value(len: usize) -> Bytes {
    (0..len).map(|n| (n % 251 + n / 70_001) as u8).collect()
}

async fn collect(stream: ValueStream) -> Result<Bytes, Error> {
    let pieces: Vec<Bytes> = stream.try_collect().await?;
    Ok(pieces.concat().into())
}

#[tokio::test]
async fn what_is_put_in_pieces_is_got_in_pieces() {
    each(async |client| {
        let plain = SetOptions::new();
        for len in [0, 1, 1000, 16_384, 16_385, 100_000, 20_000_000] {
            let value = value(len);
            let pieces: Vec<_> = value.chunks(77_777).map(Bytes::copy_from_slice).collect();
            let put = client.put_stream("k", len as u64, stream::iter(pieces), plain);
            assert!(put.await.unwrap().stored);
            assert!(client.get("k").await.unwrap().unwrap() == value, "{len}");
            client.delete("k").await.unwrap();
            // a longer reader: the rest of it stays
            let reader = value.chain(&b"rest"[..]);
            let mut reader = reader;
            client
                .put_reader("k", len as u64, &mut reader, plain)
                .await
                .unwrap();
            let mut rest = vec![];
            reader.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"rest");

            let stream = client.get_stream("k").await.unwrap().unwrap();
            assert_eq!((stream.len(), stream.rest()), (len as u64, len as u64));
            assert!(collect(stream).await.unwrap() == value, "{len}");
            let mut stream = client.get_stream("k").await.unwrap().unwrap();
            let mut read = vec![0; len];
            stream.read_exact(&mut read).await.unwrap();
            assert!(read == value && stream.rest() == 0, "{len}");
            assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
            // first a bit of it one way, then the other
            let mut stream = client.get_stream("k").await.unwrap().unwrap();
            let mut begin = vec![0; len.min(70)];
            stream.read_exact(&mut begin).await.unwrap();
            begin.extend_from_slice(&collect(stream).await.unwrap());
            assert!(begin == value, "{len}");
        }
        assert!(client.get_stream("none").await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn options_and_errors_hold_for_streams() {
    each(async |client| {
        let body = value(100_000);
        let put = |options| client.put_reader("k", 100_000, &body[..], options);
        let absent = SetOptions::new().condition(Condition::IfAbsent);
        let minute = Expiry::In(Duration::from_secs(60));
        assert!(put(absent.expiry(minute)).await.unwrap().stored);
        assert!(!put(absent).await.unwrap().stored);
        assert!(matches!(client.ttl("k").await.unwrap(), Ttl::In(_)));
        let list = scatterhoard_client::Command::new("HSET")
            .arg("h")
            .arg("f")
            .arg("v");
        client.command(list).await.unwrap();
        let error = client.get_stream("h").await.unwrap_err();
        assert_eq!(error.code(), Some(&ErrorCode::WrongType));
        assert!(client.get_stream("k").await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_source_that_is_not_as_announced_stores_nothing() {
    each(async |client| {
        client.set("k", "old").await.unwrap();
        let (plain, piece) = (SetOptions::new(), Bytes::from(vec![1; 100_000]));
        let twice = || stream::iter([piece.clone(), piece.clone()]);
        let failing = || stream::iter([Ok(piece.clone()), Err(io::Error::other("gone"))]);
        for error in [
            client
                .put_stream("k", 200_001, twice(), plain)
                .await
                .unwrap_err(),
            client
                .put_stream("k", 199_999, twice(), plain)
                .await
                .unwrap_err(),
            client
                .put_reader("k", 10, &b"short"[..], plain)
                .await
                .unwrap_err(),
            client
                .put_try_stream("k", 200_000, failing(), plain)
                .await
                .unwrap_err(),
        ] {
            assert!(matches!(error, Error::Source(_)), "{error}");
            assert!(!error.is_retryable() && !error.may_have_happened());
        }
        // given up in the middle
        let hung = twice().chain(stream::pending());
        let put = client.put_stream("k", 300_000, hung, plain);
        assert!(
            tokio::time::timeout(Duration::from_millis(50), put)
                .await
                .is_err()
        );
        assert_eq!(client.get("k").await.unwrap().unwrap(), "old");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_takes_no_more_may_say_why() {
    let fake = Fake::start(async |_, mut peer: Peer| {
        // shakes hands, and reads on until the body begins
        peer.welcome_to_body().await;
        peer.say("-OOM no memory left\r\n").await;
    })
    .await;
    let client = Client::new(options(&fake));
    let endless = stream::repeat(Bytes::from(vec![1; 1 << 16]));
    let put = client.put_stream("k", 1 << 40, endless, SetOptions::new());
    let error = put.await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::Oom), "{error}");
}

#[tokio::test]
async fn streams_that_are_dropped_disturb_nobody() {
    each(async |client| {
        let body = value(3_000_000);
        client.set("k", body.clone()).await.unwrap();
        for n in 0..40 {
            let mut stream = client.get_stream("k").await.unwrap().unwrap();
            let mut some = vec![0; n * 10_000];
            stream.read_exact(&mut some).await.unwrap();
            drop(stream);
            assert!(client.get("k").await.unwrap().unwrap() == body);
        }
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_is_not_sent_more() {
    const LEN: u64 = 200 << 20;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let fake = Fake::start(move |_, mut peer: Peer| {
        let sent = Arc::clone(&counter);
        async move {
            peer.welcome().await;
            peer.say(format!("${LEN}\r\n")).await;
            while sent.load(SeqCst) < LEN {
                peer.say(vec![7; 1 << 16]).await;
                sent.fetch_add(1 << 16, SeqCst);
            }
            peer.say("\r\n").await;
            while peer.request().await.is_some() {}
        }
    })
    .await;
    let client = Client::new(fake.options());
    let mut stream = client.get_stream("k").await.unwrap().unwrap();
    let mut some = vec![0; 1 << 20];
    stream.read_exact(&mut some).await.unwrap();
    let mut before = u64::MAX;
    while before != sent.load(SeqCst) {
        before = sent.load(SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // the rest is in the buffers of both sockets
    assert!(before < LEN / 4, "{before}");
    let mut len = some.len() as u64;
    while let Some(piece) = stream.next().await {
        let piece = piece.unwrap();
        assert!(piece.len() <= 1 << 17);
        len += piece.len() as u64;
    }
    assert_eq!(len, LEN);
}

/// A server whose connections break after `part` bytes of a value, which is the
/// second one from the connection `changes` on.
async fn breaking(values: [Bytes; 2], part: usize, changes: usize) -> (Fake, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let fake = Fake::start(move |number, mut peer: Peer| {
        let value = values[usize::from(number >= changes)].clone();
        let asked = Arc::clone(&counter);
        async move {
            let Some(words) = peer.welcome().await else {
                return;
            };
            asked.fetch_add(1, SeqCst);
            let from = match &words[..] {
                [get, _] if get == "GET" => 0,
                [range, _, from, to] if range == "GETRANGE" && to == "-1" => from.parse().unwrap(),
                other => panic!("{other:?}"),
            };
            let rest = value.slice(value.len().min(from)..);
            peer.say(format!("${}\r\n", rest.len())).await;
            peer.say(&rest[..rest.len().min(part)]).await;
            if rest.len() <= part {
                peer.say("\r\n").await;
                while peer.request().await.is_some() {}
            }
        }
    })
    .await;
    (fake, asked)
}

fn options(fake: &Fake) -> Options {
    fake.options().retries(0)
}

const ON: Resume = Resume::IfUnchanging { attempts: 2 };

#[tokio::test]
async fn a_stream_ends_where_it_breaks_off() {
    let whole = value(200_000);
    let (fake, _) = breaking([whole.clone(), whole.clone()], 50_000, 0).await;
    let mut stream = Client::new(options(&fake))
        .get_stream("k")
        .await
        .unwrap()
        .unwrap();
    let mut read = vec![];
    let error = stream.read_to_end(&mut read).await.unwrap_err();
    assert!(read == whole[..50_000], "{}", read.len());
    let error = error.downcast::<Error>().unwrap();
    assert!(
        matches!(error, Error::Broken { .. }) && error.is_retryable(),
        "{error}"
    );
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0, "and is over");
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke_off() {
    let whole = value(200_000);
    let (fake, asked) = breaking([whole.clone(), whole.clone()], 30_000, 0).await;
    let client = Client::new(options(&fake));
    let stream = client.get_stream_with("k", ON).await.unwrap().unwrap();
    assert!(collect(stream).await.unwrap() == whole);
    assert_eq!(asked.load(SeqCst), 7);
    let client = Client::new(options(&fake));
    let mut stream = client.get_stream_with("k", ON).await.unwrap().unwrap();
    let mut read = vec![];
    stream.read_to_end(&mut read).await.unwrap();
    assert!(read == whole);
}

#[tokio::test]
async fn it_does_not_go_on_with_another_value() {
    let first = value(200_000);
    let mut other = first.to_vec();
    other[99_990] ^= 1;
    let others = [
        Bytes::from(other),
        first.slice(..150_000),
        first.slice(..10),
        Bytes::new(),
    ];
    for other in others {
        let (fake, _) = breaking([first.clone(), other.clone()], 100_000, 1).await;
        let stream = Client::new(options(&fake))
            .get_stream_with("k", ON)
            .await
            .unwrap()
            .unwrap();
        let error = collect(stream).await.unwrap_err();
        assert!(
            matches!(error, Error::Changed(100_000)),
            "{}: {error}",
            other.len()
        );
    }
}

#[tokio::test]
async fn it_does_not_try_for_ever() {
    let whole = value(200_000);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let fake = Fake::start(move |number, mut peer: Peer| {
        let (asked, whole) = (Arc::clone(&counter), whole.clone());
        async move {
            peer.welcome().await;
            asked.fetch_add(1, SeqCst);
            if number == 0 {
                peer.say("$200000\r\n").await;
                peer.say(&whole[..50_000]).await;
            }
        }
    })
    .await;
    let stream = Client::new(options(&fake))
        .get_stream_with("k", ON)
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(collect(stream).await, Err(Error::Broken { .. })));
    assert_eq!(asked.load(SeqCst), 3);
}

#[tokio::test]
async fn a_stream_that_stalls_is_given_up() {
    let fake = Fake::start(async |_, mut peer: Peer| {
        peer.welcome().await;
        peer.say("$200000\r\nbegin").await;
        while peer.request().await.is_some() {}
    })
    .await;
    let client = Client::new(options(&fake).request_timeout(Duration::from_millis(100)));
    let stream = client.get_stream("k").await.unwrap().unwrap();
    let error = collect(stream).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
}
