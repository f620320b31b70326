//! Reading through: one loader, whatever happens to it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use scatterhoard_client::{Client, Command, Error, ErrorCode, Keep, Options, Ttl};
use tokio::sync::Notify;

use crate::servers::{Fake, Peer, Server, each};

const MINUTE: Duration = Duration::from_secs(60);

fn keep() -> Keep {
    Keep::fresh_for(MINUTE)
}

/// What must not be called.
async fn nothing() -> io::Result<Bytes> {
    panic!("loaded although it is there")
}

#[tokio::test]
async fn one_loads_and_all_get_it() {
    each(async |client| {
        for len in [5, 1_000_000] {
            let key = format!("k{len}");
            let (loads, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
            let all = (0..100).map(|_| {
                let (client, loads, go) = (client.clone(), Arc::clone(&loads), Arc::clone(&go));
                let load = move || async move {
                    loads.fetch_add(1, SeqCst);
                    go.notified().await;
                    io::Result::Ok(Bytes::from(vec![b'x'; len]))
                };
                let key = &key;
                async move { client.get_or_insert_with(key, keep(), load).await }
            });
            let (values, ()) = futures_util::join!(join_all(all), async {
                while loads.load(SeqCst) == 0 {
                    tokio::task::yield_now().await;
                }
                // give the others the time to join; later ones find it in the cache
                tokio::time::sleep(Duration::from_millis(100)).await;
                go.notify_one();
            });
            assert_eq!(loads.load(SeqCst), 1);
            for value in values {
                assert!(value.unwrap() == vec![b'x'; len]);
            }
            let again = client.get_or_insert_with(&key, keep(), nothing).await;
            assert_eq!(again.unwrap().len(), len);
            assert!(matches!(client.ttl(&key).await.unwrap(), Ttl::In(time) if time <= MINUTE));
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_stale_is_returned_and_loaded_anew() {
    each(async |client| {
        let keep = keep().then_stale_for(2 * MINUTE);
        let old = async || io::Result::Ok(Bytes::from_static(b"old"));
        client.get_or_insert_with("k", keep, old).await.unwrap();
        let fresh = client.get_or_insert_with("k", keep, nothing).await.unwrap();
        assert_eq!(fresh, "old");
        // as if a minute and a half had gone by
        client.expire("k", 3 * MINUTE / 2).await.unwrap();
        let loads = Arc::new(AtomicUsize::new(0));
        let go = Arc::new(Notify::new());
        for _ in 0..10 {
            let (loads, go) = (Arc::clone(&loads), Arc::clone(&go));
            let load = move || async move {
                loads.fetch_add(1, SeqCst);
                go.notified().await;
                io::Result::Ok(Bytes::from_static(b"new"))
            };
            let stale = client.get_or_insert_with("k", keep, load).await.unwrap();
            assert_eq!(stale, "old");
        }
        go.notify_one();
        while client.get("k").await.unwrap().unwrap() != "new" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(loads.load(SeqCst), 1);
        let fresh = client.get_or_insert_with("k", keep, nothing).await.unwrap();
        assert_eq!(fresh, "new");
    })
    .await;
}

#[tokio::test]
async fn loaders_that_fail_or_panic_spoil_nothing() {
    let server = Server::redis(&[]);
    let client = server.client().await;
    for round in 0..3 {
        let fail = async || Err::<Bytes, _>(io::Error::other("no luck"));
        let error = client
            .get_or_insert_with("k", keep(), fail)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Loader(_)), "{round}: {error}");
        assert!(error.to_string().contains("no luck"));
        let panic = async || -> io::Result<Bytes> { panic!("in the future") };
        let error = client
            .get_or_insert_with("k", keep(), panic)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::LoaderPanicked), "{round}: {error}");
        let early = || -> std::future::Ready<io::Result<Bytes>> { panic!("before the future") };
        let error = client
            .get_or_insert_with("k", keep(), early)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::LoaderPanicked), "{round}: {error}");
    }
    assert!(!client.exists("k").await.unwrap());
    let load = async || io::Result::Ok(Bytes::from_static(b"v"));
    assert_eq!(
        client.get_or_insert_with("k", keep(), load).await.unwrap(),
        "v"
    );
}

/// A cache whose first answer is late: it says that there is nothing when another
/// caller has stored something already.
#[tokio::test]
async fn who_looked_before_it_was_stored_looks_again() {
    let (stored, late) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (has, go) = (Arc::clone(&stored), Arc::clone(&late));
    let fake = Fake::start(move |number, mut peer: Peer| {
        let (has, go) = (Arc::clone(&has), Arc::clone(&go));
        async move {
            let mut next = peer.welcome().await;
            if number == 0 {
                peer.request().await;
                go.notified().await;
                peer.say(":-2\r\n$-1\r\n").await;
                next = peer.request().await;
            }
            while let Some(words) = next {
                match (words[0].as_str(), has.load(SeqCst)) {
                    ("SET", _) => {
                        has.store(true, SeqCst);
                        peer.say("+OK\r\n").await;
                    }
                    ("PTTL", true) => peer.say(":60000\r\n").await,
                    ("PTTL", false) => peer.say(":-2\r\n").await,
                    (_, true) => peer.say("$1\r\nv\r\n").await,
                    (_, false) => peer.say("$-1\r\n").await,
                }
                next = peer.request().await;
            }
        }
    })
    .await;
    let client = Client::new(fake.options());
    let first = client.get_or_insert_with("k", keep(), nothing);
    tokio::pin!(first);
    let limit = Duration::from_millis(300);
    assert!(tokio::time::timeout(limit, first.as_mut()).await.is_err());
    let load = async || io::Result::Ok(Bytes::from_static(b"v"));
    assert_eq!(
        client.get_or_insert_with("k", keep(), load).await.unwrap(),
        "v"
    );
    assert!(stored.load(SeqCst));
    late.notify_one();
    assert_eq!(first.await.unwrap(), "v");
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_take_the_loader_along() {
    let server = Server::redis(&[]);
    let client = server.client().await;
    let go = Arc::new(Notify::new());
    let waiting = Arc::clone(&go);
    let load = move || async move {
        waiting.notified().await;
        io::Result::Ok(Bytes::from_static(b"v"))
    };
    let first = client.get_or_insert_with("k", keep(), load);
    let limit = Duration::from_millis(300);
    assert!(tokio::time::timeout(limit, first).await.is_err());
    let second = client.get_or_insert_with("k", keep(), nothing);
    let (value, ()) = futures_util::join!(second, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        go.notify_one();
    });
    assert_eq!(value.unwrap(), "v");
}

#[tokio::test]
async fn without_a_cache_there_is_the_loader() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let client = Client::new(Options::new("127.0.0.1", port).retries(0));
    let load = async || io::Result::Ok(Bytes::from_static(b"v"));
    assert_eq!(
        client.get_or_insert_with("k", keep(), load).await.unwrap(),
        "v"
    );
}

#[tokio::test]
async fn errors_that_do_not_pass_are_not_hidden() {
    let server = Server::redis(&[]);
    let client = server.client().await;
    client
        .command(Command::new("HSET").arg("k").arg("f").arg("v"))
        .await
        .unwrap();
    let error = client
        .get_or_insert_with("k", keep(), nothing)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::WrongType));
}
