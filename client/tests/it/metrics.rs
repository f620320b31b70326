//! What hooks are told.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use scatterhoard_client::{
    Client, Command, Condition, Error, Keep, Options, SetOptions,
    metrics::{Connection, Loader, Metrics, Outcome, Request},
};

use crate::servers::{Fake, Peer, Server};

/// Writes down all that it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn count(&self, wanted: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| *line == wanted).count()
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Metrics for Notes {
    fn request(&self, request: &Request<'_>) {
        let outcome = match request.outcome {
            Outcome::Failed(error) => format!("{:?}", error.code()),
            outcome => format!("{outcome:?}"),
        };
        assert!(request.elapsed < Duration::from_secs(60));
        let (sent, received) = (request.sent_bytes, request.received_bytes);
        let (command, attempts) = (request.command, request.attempts);
        self.add(format!("{command} {outcome} {attempts}x {sent}>{received}"));
    }

    fn retry(&self, command: &str, error: &Error) {
        self.add(format!("retry {command} {}", error.may_have_happened()));
    }

    fn redirect(&self, command: &str, error: &Error) {
        self.add(format!("redirect {command} {:?}", error.code().is_some()));
    }

    fn connection(&self, connection: &Connection<'_>) {
        assert!(connection.address.starts_with("127.0.0.1:"));
        let (again, error) = (connection.is_again, connection.error.is_some());
        self.add(format!("connection again={again} failed={error}"));
    }

    fn joined(&self) {
        self.add("joined".into());
    }

    fn loader(&self, loader: &Loader<'_>) {
        self.add(format!("loader failed={}", loader.error.is_some()));
    }
}

fn noted(options: Options) -> (Client, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    (Client::new(options.metrics(notes.clone())), notes)
}

const NEW: &str = "connection again=false failed=false";

#[tokio::test]
async fn requests_by_outcome_with_bytes() {
    let server = Server::redis(&[]);
    let (client, notes) = noted(server.options());
    client.set("key", "value").await.unwrap();
    assert_eq!(notes.take(), [NEW, "SET Done 1x 11>0"]);
    client.get_small("key").await.unwrap();
    client.get_small("none").await.unwrap();
    let absent = SetOptions::new().condition(Condition::IfAbsent);
    client.set_with("key", "x", absent).await.unwrap();
    client.get_many(["key", "none", "key"]).await.unwrap();
    client.incr("key", 1).await.unwrap_err();
    let lower = Command::new("strlen").arg("key");
    client.command(lower).await.unwrap();
    let wanted = [
        "GET Done 1x 6>5",
        "GET Missing 1x 7>0",
        "SET Missing 1x 9>0",
        NEW,
        "MGET Done 1x 14>10",
        "INCRBY Some(Err) 1x 10>0",
        "STRLEN Done 1x 9>0",
    ];
    assert_eq!(notes.take(), wanted);
    let slow = client.command(Command::new("BLPOP").arg("none").arg("0"));
    let slow = tokio::time::timeout(Duration::from_millis(200), slow).await;
    assert!(slow.is_err());
    assert_eq!(notes.take(), ["BLPOP GivenUp 1x 10>0"]);
    // that connection was in the middle of a reply
    client.get("key").await.unwrap();
    let again = "connection again=true failed=false";
    assert_eq!(notes.take(), [again, "GET Done 1x 6>5"]);
}

#[tokio::test]
async fn streams_count_when_they_end() {
    let server = Server::redis(&[]);
    let (client, notes) = noted(server.options());
    let pieces = || stream::iter([vec![1; 60_000], vec![2; 40_000]].map(Bytes::from));
    let put = client.put_stream("k", 100_000, pieces(), SetOptions::new());
    put.await.unwrap();
    assert_eq!(notes.take(), [NEW, "SET Done 1x 100001>0"]);
    let value = client.get_stream("k").await.unwrap().unwrap();
    assert_eq!(notes.take(), [""; 0], "it has not ended");
    let _: Vec<Bytes> = value.try_collect().await.unwrap();
    assert_eq!(notes.take(), ["GET Done 1x 1>100000"]);
    assert!(client.get_stream("none").await.unwrap().is_none());
    assert_eq!(notes.take(), ["GET Missing 1x 4>0"]);
    let mut value = client.get_stream("k").await.unwrap().unwrap();
    let first = value.next().await.unwrap().unwrap().len();
    drop(value);
    assert_eq!(notes.take(), [format!("GET GivenUp 1x 1>{first}")]);
    let put = client.put_stream("k", 200_000, pieces(), SetOptions::new());
    put.await.unwrap_err();
    let wanted = ["connection again=true failed=false", "SET None 1x 100001>0"];
    assert_eq!(notes.take(), wanted);
}

#[tokio::test]
async fn retries_and_connections_anew() {
    let seen = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |_, mut peer: Peer| {
        let seen = Arc::clone(&seen);
        async move {
            let mut next = peer.welcome().await;
            while next.is_some() {
                if seen.fetch_add(1, SeqCst) % 3 < 2 {
                    return peer.say("$20\r\nabc").await;
                }
                peer.say("$1\r\nv\r\n").await;
                next = peer.request().await;
            }
        }
    })
    .await;
    let (client, notes) = noted(fake.options());
    client.get("k").await.unwrap();
    let again = "connection again=true failed=false";
    let wanted = [
        NEW,
        "retry GET true",
        again,
        "retry GET true",
        again,
        "GET Done 3x 4>1",
    ];
    assert_eq!(notes.take(), wanted);
    client.get_small("k").await.unwrap();
    assert_eq!(notes.take(), wanted);

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let (client, notes) = noted(Options::new("127.0.0.1", port).retries(1));
    client.get("k").await.unwrap_err();
    let failed = "connection again=false failed=true";
    let wanted = [failed, "retry GET false", failed, "GET None 0x 4>0"];
    assert_eq!(notes.take(), wanted);
}

#[tokio::test]
async fn redirects() {
    let home = Fake::start(async |_, peer: Peer| {
        peer.answer_as_member(|_| "$1\r\nv\r\n".into()).await;
    })
    .await;
    let moved = format!("-MOVED 1 {}\r\n", home.address);
    let seed = Fake::start(move |_, peer: Peer| {
        let moved = moved.clone();
        async move {
            let answer = |words: &[String]| match words[0].as_str() {
                "CLUSTER" => "-ERR not now\r\n".into(),
                _ => moved.clone(),
            };
            peer.answer_as_member(answer).await;
        }
    })
    .await;
    let (client, notes) = noted(seed.options());
    client.get("k").await.unwrap();
    let all = notes.take();
    assert_eq!(
        all.iter()
            .filter(|line| **line == "redirect GET true")
            .count(),
        1
    );
    assert_eq!(all.last().unwrap(), "GET Done 2x 4>1");
}

#[tokio::test]
async fn loaders_and_who_waits_for_them() {
    let server = Server::redis(&[]);
    let (client, notes) = noted(server.options());
    let keep = Keep::fresh_for(Duration::from_secs(60));
    let waiting = Arc::clone(&notes);
    let load = move || async move {
        while waiting.count("joined") < 4 {
            tokio::task::yield_now().await;
        }
        io::Result::Ok(Bytes::from_static(b"v"))
    };
    let all = (0..5).map(|_| client.get_or_insert_with("k", keep, load.clone()));
    for value in join_all(all).await {
        assert_eq!(value.unwrap(), "v");
    }
    assert_eq!(notes.count("joined"), 4);
    assert_eq!(notes.count("loader failed=false"), 1);
    assert_eq!(notes.count("GET Missing 1x 1>0"), 5);
    notes.take();
    client.get_or_insert_with("k", keep, load).await.unwrap();
    assert_eq!(notes.take(), ["GET Done 1x 1>1"]);
    let fail = async || Err::<Bytes, _>(io::Error::other("no"));
    client
        .get_or_insert_with("l", keep, fail)
        .await
        .unwrap_err();
    assert_eq!(notes.take(), ["GET Missing 1x 1>0", "loader failed=true"]);
}
