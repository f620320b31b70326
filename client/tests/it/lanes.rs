//! Many at once, large ones beside small ones, and who gives up.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use scatterhoard_client::{Client, Command, Error};

use crate::servers::{Fake, Server, each};

#[tokio::test]
async fn requests_at_the_same_time_get_their_own_replies() {
    each(async |client| {
        let all = (0..500_u32).map(|n| {
            let client = client.clone();
            async move {
                let key = format!("k{n}");
                let value = Bytes::from(key.repeat(1 + n as usize * n as usize % 7_000));
                client.set(&key, value.clone()).await.unwrap();
                assert!(client.get(&key).await.unwrap().unwrap() == value);
                assert!(client.get_small(&key).await.unwrap().unwrap() == value);
            }
        });
        join_all(all).await;
    })
    .await;
}

#[tokio::test]
async fn who_gives_up_leaves_no_reply_to_others() {
    each(async |client| {
        for n in 0..200_u64 {
            let key = format!("k{n}");
            let value = Bytes::from(key.repeat(20_000));
            client.set(&key, value.clone()).await.unwrap();
            for micros in [0, 50, 200, 1000] {
                let limit = Duration::from_micros(micros + n * 7);
                let _ = tokio::time::timeout(limit, client.get_small(&key)).await;
                let _ = tokio::time::timeout(limit, client.get(&key)).await;
                let _ = tokio::time::timeout(limit, client.set(&key, value.clone())).await;
            }
            let other = format!("o{n}");
            client.set(&other, other.clone()).await.unwrap();
            assert_eq!(client.get_small(&other).await.unwrap().unwrap(), other);
            assert_eq!(client.get(&other).await.unwrap().unwrap(), other);
            client.delete_many([key, other]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_large_value_that_hangs_lets_small_ones_pass() {
    let fake = Fake::start(async |_, mut peer| {
        let mut next = peer.welcome().await;
        while let Some(words) = next {
            match words[1..].first().map_or("", |key| key) {
                // never finished
                "large" => peer.say("$100000\r\nbegin").await,
                key => peer.say(format!("+{key}\r\n")).await,
            }
            next = peer.request().await;
        }
    })
    .await;
    let client = Client::new(fake.options());
    let hung = client.get("large");
    tokio::pin!(hung);
    assert!(futures_util::poll!(hung.as_mut()).is_pending());
    for _ in 0..100 {
        assert!(futures_util::poll!(hung.as_mut()).is_pending());
        client.command(Command::new("ECHO").arg("x")).await.unwrap();
    }
}

/// How many the server has.
async fn clients(client: &Client) -> usize {
    let list = client
        .command(Command::new("CLIENT").arg("LIST"))
        .await
        .unwrap();
    format!("{list:?}").matches("name=").count()
}

#[tokio::test]
async fn connections_are_used_again_and_bounded() {
    let server = Server::redis(&[]);
    let client = Client::connect(server.options().connections(3))
        .await
        .unwrap();
    client.set("k", vec![1; 1_000_000]).await.unwrap();
    for result in join_all((0..50).map(|_| client.get("k"))).await {
        assert_eq!(result.unwrap().unwrap().len(), 1_000_000);
    }
    // those three, and the shared one
    assert_eq!(clients(&client).await, 4);
}

#[tokio::test]
async fn connections_that_the_server_has_closed_are_not_used() {
    let server = Server::redis(&[]);
    // no second attempts: it must be noticed before
    let client = Client::connect(server.options().retries(0)).await.unwrap();
    let other = server.client().await;
    for _ in 0..5 {
        client.set("k", vec![1; 100_000]).await.unwrap();
        let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
        let kill = kill
            .iter()
            .fold(Command::new("CLIENT"), |kill, word| kill.arg(*word));
        other.command(kill).await.unwrap();
        while clients(&other).await > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.get("k").await.unwrap();
        client.get_small("k").await.unwrap();
    }
}

#[tokio::test]
async fn closing_waits_for_what_is_under_way() {
    let server = Server::redis(&[]);
    let client = server.client().await;
    let sleep = Command::new("DEBUG").arg("SLEEP").arg("0.3");
    let slow = client.command(sleep);
    let pop = client.command(Command::new("BLPOP").arg("none").arg("0.5"));
    let (slow, pop, is_done) = futures_util::join!(slow, pop, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.close(Duration::from_secs(30)).await
    });
    slow.unwrap();
    pop.unwrap();
    assert!(is_done);
    assert!(matches!(client.ping().await, Err(Error::Closed)));
    assert!(matches!(client.get("k").await, Err(Error::Closed)));
    assert!(
        client.close(Duration::from_secs(30)).await,
        "twice is as good"
    );
}

#[tokio::test]
async fn closing_does_not_wait_for_ever() {
    let server = Server::redis(&[]);
    let client = server.client().await;
    let pop = client.command(Command::new("BLPOP").arg("none").arg("0"));
    tokio::pin!(pop);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), pop.as_mut())
            .await
            .is_err()
    );
    assert!(!client.close(Duration::from_millis(50)).await);
}
