//! Every method, at both servers.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use scatterhoard_client::{Command, Condition, Error, ErrorCode, Expiry, Reply, SetOptions, Ttl};

use crate::servers::{Server, each};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn values_come_back_whatever_their_size() {
    each(async |client| {
        assert_eq!(client.get("none").await.unwrap(), None);
        for len in [0, 1, 1000, 16_384, 16_385, 65_536, 200_000, 5_000_000] {
            let value: Bytes = (0..len).map(|n: u32| (n % 251) as u8).collect();
            client.set(b"k", value.clone()).await.unwrap();
            assert!(
                client.get("k").await.unwrap() == Some(value.clone()),
                "{len}"
            );
            assert!(
                client.get_small("k").await.unwrap() == Some(value.clone()),
                "{len}"
            );
            let pair = client.get_many(["k", "none", "k"]).await.unwrap();
            assert!(pair == [Some(value.clone()), None, Some(value)], "{len}");
        }
        let key = b"\0\r\n\xff";
        client.set(key, &b"\r\n+OK\r\n"[..]).await.unwrap();
        assert_eq!(client.get(key).await.unwrap().unwrap(), &b"\r\n+OK\r\n"[..]);
    })
    .await;
}

#[tokio::test]
async fn ranges() {
    each(async |client| {
        let value: Bytes = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        client.set("k", value.clone()).await.unwrap();
        for range in [
            0..10,
            5..5,
            299_990..400_000,
            300_000..300_001,
            10..200_000,
            0..300_000,
        ] {
            let wanted =
                value.slice((range.start as usize).min(300_000)..(range.end as usize).min(300_000));
            assert!(
                client.get_range("k", range.clone()).await.unwrap() == wanted,
                "{range:?}"
            );
        }
        assert_eq!(client.get_range("none", 0..10).await.unwrap(), "");
        assert!(matches!(
            client.get_range("k", 0..u64::MAX).await,
            Err(Error::Usage(_))
        ));
    })
    .await;
}

#[tokio::test]
async fn conditions_and_expiries() {
    each(async |client| {
        let set = |value: &'static str, options| client.set_with("k", value, options);
        let options = SetOptions::new();
        let (absent, present) = (Condition::IfAbsent, Condition::IfPresent);
        assert!(!set("a", options.condition(present)).await.unwrap().stored);
        assert!(set("a", options.condition(absent)).await.unwrap().stored);
        assert!(!set("b", options.condition(absent)).await.unwrap().stored);
        let both = options.condition(absent).return_previous();
        let outcome = set("b", both).await.unwrap();
        assert!(!outcome.stored && outcome.previous.unwrap() == "a");
        assert_eq!(client.ttl("k").await.unwrap(), Ttl::Forever);

        let previous = options.return_previous().expiry(Expiry::In(MINUTE));
        assert_eq!(set("c", previous).await.unwrap().previous.unwrap(), "a");
        let is_set = |ttl| matches!(ttl, Ttl::In(time) if time < 2 * MINUTE && !time.is_zero());
        assert!(is_set(client.ttl("k").await.unwrap()));
        set("d", options.expiry(Expiry::Keep)).await.unwrap();
        assert!(is_set(client.ttl("k").await.unwrap()));
        set("e", options).await.unwrap();
        assert_eq!(client.ttl("k").await.unwrap(), Ttl::Forever);
        let soon = SystemTime::now() + MINUTE;
        set("f", options.expiry(Expiry::At(soon))).await.unwrap();
        assert!(is_set(client.ttl("k").await.unwrap()));

        assert!(client.persist("k").await.unwrap());
        assert!(!client.persist("k").await.unwrap());
        assert!(client.expire("k", MINUTE).await.unwrap());
        assert!(!client.expire("none", MINUTE).await.unwrap());
        assert!(client.expire("k", Duration::ZERO).await.is_err());
        assert_eq!(client.ttl("none").await.unwrap(), Ttl::Missing);
        client.expire("k", Duration::from_millis(1)).await.unwrap();
        while client.exists("k").await.unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn several_keys_and_the_rest() {
    each(async |client| {
        let large = Bytes::from(vec![7; 100_000]);
        let pairs = [("a", Bytes::from_static(b"1")), ("b", large.clone())];
        client.set_many(pairs).await.unwrap();
        client.set_many([("", ""); 0]).await.unwrap();
        assert_eq!(client.get_many(["b"]).await.unwrap(), [Some(large)]);
        assert_eq!(client.get_many([""; 0]).await.unwrap(), []);
        assert!(client.delete("a").await.unwrap());
        assert!(!client.delete("a").await.unwrap());
        assert_eq!(client.delete_many(["a", "b"]).await.unwrap(), 1);
        assert_eq!(client.delete_many([""; 0]).await.unwrap(), 0);
        assert!(!client.exists("b").await.unwrap());
        assert_eq!(client.append("s", "abc").await.unwrap(), 3);
        assert_eq!(client.append("s", "de").await.unwrap(), 5);
        assert_eq!(client.incr("n", 5).await.unwrap(), 5);
        assert_eq!(client.incr("n", -7).await.unwrap(), -2);
        let reply = client
            .command(Command::new("STRLEN").arg("s"))
            .await
            .unwrap();
        assert_eq!(reply, Reply::Integer(5));
        client
            .command(Command::new("HSET").arg("h").arg("f").arg("v"))
            .await
            .unwrap();
        let map = client
            .command(Command::new("HGETALL").arg("h").own_connection())
            .await
            .unwrap();
        let bulk = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
        assert_eq!(map, Reply::Map(vec![(bulk("f"), bulk("v"))]));
    })
    .await;
}

#[tokio::test]
async fn errors_say_what_they_are() {
    each(async |client| {
        client
            .command(Command::new("HSET").arg("h").arg("f").arg("v"))
            .await
            .unwrap();
        for error in [
            client.get("h").await.unwrap_err(),
            client.get_small("h").await.unwrap_err(),
            client.append("h", "x").await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Some(&ErrorCode::WrongType));
            assert!(!error.is_retryable() && !error.may_have_happened());
        }
        client.set("s", "x").await.unwrap();
        assert_eq!(
            client.incr("s", 1).await.unwrap_err().code(),
            Some(&ErrorCode::Err)
        );
        let unknown = client.command(Command::new("NONSENSE")).await.unwrap_err();
        assert_eq!(unknown.code(), Some(&ErrorCode::Err));
        for name in ["MULTI", "SUBSCRIBE", "SELECT", "QUIT"] {
            let error = client
                .command(Command::new(name).arg("x"))
                .await
                .unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{name}");
        }
        client.ping().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_value_larger_than_what_is_reserved_at_once() {
    let server = Server::redis(&[]);
    let client = server.client().await;
    let value: Bytes = (0..150_000_003_u32).map(|n| (n >> 8) as u8).collect();
    client.set("k", value.clone()).await.unwrap();
    assert!(client.get("k").await.unwrap().unwrap() == value);
}
