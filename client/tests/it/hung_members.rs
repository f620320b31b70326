//! Members of a cluster that are gone, or say nothing any more, when the map is wanted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use scatterhoard_client::{Client, Error};

use crate::servers::{Fake, Peer, all_at, free_address, member};

/// A member that says nothing at CLUSTER SLOTS unless `map` has something to say.
async fn silent(map: impl Fn() -> Option<String> + Send + Sync + 'static) -> Fake {
    let map = Arc::new(map);
    Fake::start(move |_, mut peer: Peer| {
        let map = Arc::clone(&map);
        async move {
            while let Some(words) = peer.request().await {
                match words[0].as_str() {
                    "HELLO" => {
                        let hello = "%2\r\n+proto\r\n:3\r\n+mode\r\n+cluster\r\n";
                        peer.say(hello).await;
                    }
                    "CLIENT" => peer.say("-ERR unknown subcommand\r\n").await,
                    "PING" => peer.say("+PONG\r\n").await,
                    "CLUSTER" => match map() {
                        Some(map) => peer.say(map).await,
                        None => std::future::pending().await,
                    },
                    _ => peer.say("$1\r\nv\r\n").await,
                }
            }
        }
    })
    .await
}

/// CLUSTER SLOTS of ten members; slot 12182 is of the eighth.
fn tenths(ports: &[u16]) -> String {
    let range = |(place, port): (usize, &u16)| {
        let (first, last) = (place * 1638, place * 1638 + 1637);
        format!("*3\r\n:{first}\r\n:{last}\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n")
    };
    let ranges: String = ports.iter().enumerate().map(range).collect();
    format!("*{}\r\n{ranges}", ports.len())
}

#[tokio::test]
async fn members_that_hang_are_waited_for_once_by_all() {
    const LIMIT: Duration = Duration::from_secs(4);
    let maps = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&maps);
    let seed = silent(move || {
        counter.fetch_add(1, SeqCst);
        None
    })
    .await;
    let options = seed.options().request_timeout(LIMIT).retries(0);
    let client = Client::connect(options).await.unwrap();
    // all of them find that there is no map, before any of them waits
    let all = (0..8).map(|n| client.get(format!("k{n}")));
    let all = tokio::time::timeout(Duration::from_secs(60), join_all(all));
    for value in all.await.unwrap() {
        // who is known is asked for the value, although he does not tell the map
        assert_eq!(value.unwrap().unwrap(), "v");
    }
    assert_eq!(maps.load(SeqCst), 1);
}

#[tokio::test]
async fn the_one_of_ten_members_that_is_left_tells_the_map() {
    let me = Arc::new(AtomicUsize::new(0));
    let mine = Arc::clone(&me);
    let home = member(Arc::new(move |words: &[String]| match words[0].as_str() {
        "CLUSTER" => all_at(mine.load(SeqCst).try_into().unwrap()),
        _ => "$1\r\nv\r\n".into(),
    }))
    .await;
    let port = home.address.port();
    me.store(port.into(), SeqCst);
    let gone = (0..9).map(|_| free_address().port());
    let ports: Vec<u16> = gone.chain([port]).collect();
    let seed = member(Arc::new(move |words: &[String]| match words[0].as_str() {
        "CLUSTER" => tenths(&ports),
        _ => "+PONG\r\n".into(),
    }))
    .await;
    let client = Client::connect(seed.options().retries(1)).await.unwrap();
    let error = client.get("foo").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    drop(seed);
    // the map may be asked for again
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(client.get("foo").await.unwrap().unwrap(), "v");
}

#[tokio::test]
async fn who_takes_over_for_a_member_that_is_gone_is_found() {
    let gone = free_address().port();
    let calls = Arc::new(AtomicUsize::new(0));
    let (counter, me) = (Arc::clone(&calls), Arc::new(AtomicUsize::new(0)));
    let mine = Arc::clone(&me);
    let seed = member(Arc::new(move |words: &[String]| match words[0].as_str() {
        "CLUSTER" if counter.fetch_add(1, SeqCst) == 0 => all_at(gone),
        "CLUSTER" => all_at(mine.load(SeqCst).try_into().unwrap()),
        _ => "$1\r\nv\r\n".into(),
    }))
    .await;
    me.store(seed.address.port().into(), SeqCst);
    let client = Client::new(seed.options().retries(1));
    let error = client.get("k").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(error.to_string().contains(&gone.to_string()));
    // the map may be asked for again
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(client.get("k").await.unwrap().unwrap(), "v");
    assert_eq!(calls.load(SeqCst), 2);
    assert!(client.close(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn members_that_hang_keep_nobody_from_telling_the_map() {
    const LIMIT: Duration = Duration::from_secs(8);
    let me = Arc::new(AtomicUsize::new(0));
    let mine = Arc::clone(&me);
    let home = silent(move || Some(all_at(mine.load(SeqCst).try_into().unwrap()))).await;
    me.store(home.address.port().into(), SeqCst);
    let hanging = join_all((0..8).map(|_| silent(|| None))).await;
    let mut ports: Vec<u16> = hanging.iter().map(|fake| fake.address.port()).collect();
    // who has the key is gone, so that the map is asked for again
    ports.insert(7, free_address().port());
    ports.push(home.address.port());
    let maps = AtomicUsize::new(0);
    let seed = silent(move || (maps.fetch_add(1, SeqCst) == 0).then(|| tenths(&ports))).await;
    let options = seed.options().request_timeout(LIMIT).retries(1);
    let client = Client::connect(options).await.unwrap();
    let error = client.get("foo").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    // the map may be asked for again: of the seed and eight more, who hang, of one who is gone,
    // and of one who tells it
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(client.get("foo").await.unwrap().unwrap(), "v");
}
