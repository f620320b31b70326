//! Releases that differ in what they speak: a proxy and nodes that are neighbours work
//! together, whichever is the later one; others say which of them has to be updated.

use std::time::Duration;

use redis::Commands;
use scatterhoard_proxy::{
    config::{Config, Options},
    engine::Engine,
    local_pool::Program,
};
use scatterhoard_wire::{SPOKEN, Versions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    contents::{Random, assert_same},
    fakes::{Fakes, Manner},
    platform::Platform,
    server::{PROGRAM, Server, run, until},
};

const NODES: usize = 8;
const SOON: Duration = Duration::from_secs(60);

fn server(fakes: &Fakes) -> Server {
    let (url, nodes) = (fakes.url(), NODES.to_string());
    Server::start(&[
        "--lambda-endpoint",
        &url,
        "--nodes",
        &nodes,
        "--data-parity",
        "4+2",
        "--node-timeout-ms",
        "1000",
        // a change of manners shows in the next invocation
        "--linger-max-ms",
        "10",
    ])
}

#[track_caller]
fn works(server: &Server, key: &str, seed: u64) {
    let (mut redis, value) = (server.client(), Random::new(seed).bytes(1_500_000));
    let () = redis.set(key, &value).unwrap();
    let read: Option<Vec<u8>> = redis.get(key).unwrap();
    assert_same(key, read.as_deref(), &value);
}

#[test]
fn nodes_of_the_next_release_serve_a_proxy_of_this_one() {
    let fakes = Fakes::start(NODES);
    fakes.misbehave(&std::array::from_fn::<_, NODES, _>(|i| i), Manner::Later);
    let server = server(&fakes);
    works(&server, "a", 1);
    // and when some have been updated, and others have not
    fakes.misbehave(&[0, 3, 5], Manner::Later);
    works(&server, "b", 2);
    fakes.misbehave(&[], Manner::Good);
    for (key, seed) in [("a", 1), ("b", 2)] {
        let read: Option<Vec<u8>> = server.client().get(key).unwrap();
        assert_same(key, read.as_deref(), &Random::new(seed).bytes(1_500_000));
    }
    assert_eq!(server.metric("scatterhoard_links_lost_total"), 0.0);
}

#[test]
fn a_node_too_far_away_is_named_and_left_alone_while_others_serve() {
    for (manner, words) in [
        (
            Manner::FarLater,
            ["the node speaks versions 6 to 7 of the wire, this proxy 5; update this proxy"],
        ),
        (
            Manner::FarEarlier,
            ["the node speaks versions 3 to 4 of the wire, this proxy 5; update their code"],
        ),
    ] {
        let fakes = Fakes::start(NODES);
        let server = server(&fakes);
        works(&server, "before", 1);
        fakes.misbehave(&[2, 6], manner);
        let before = fakes.invoked(2);
        for round in 0..40 {
            works(&server, &format!("key:{round}"), round);
        }
        let read: Option<Vec<u8>> = server.client().get("before").unwrap();
        let value = Random::new(1).bytes(1_500_000);
        assert_same("before", read.as_deref(), &value);
        let log = server.log();
        assert!(words.iter().all(|w| log.contains(w)), "{manner:?}: {log}");
        let labels = ["scatterhoard_invocations_total{", "outcome=\"version\""];
        let metrics = server.admin("GET", "/metrics");
        let is_counted = |line: &str| labels.iter().all(|label| line.contains(label));
        assert!(metrics.lines().any(is_counted), "{metrics}");
        // after 1, 1, 2, 4 s and so on
        let invokes = fakes.invoked(2) - before;
        assert!((1..12).contains(&invokes), "{invokes} invokes");
        // once it is updated it is used again
        fakes.misbehave(&[], Manner::Good);
        until("all answer", SOON, || {
            works(&server, "after", 3);
            server.metric("scatterhoard_nodes_failing") == 0.0
        });
    }
}

#[test]
fn a_pool_that_is_too_old_says_what_to_update() {
    let fakes = Fakes::start(NODES);
    let server = server(&fakes);
    works(&server, "before", 1);
    fakes.misbehave(&[0, 1, 2, 4, 5, 7], Manner::FarEarlier);
    let outage = "their code is of a release too old for this proxy; to do: update their code: `scatterhoard pool update`";
    until("the outage is named", SOON, || {
        let _ = server.client().get::<_, Option<Vec<u8>>>("before");
        server.log().contains(outage)
    });
    assert!(server.metric("scatterhoard_outage") > 0.0);
    fakes.misbehave(&[], Manner::Good);
    until("all is as before", SOON, || {
        let read: redis::RedisResult<Option<Vec<u8>>> = server.client().get("before");
        read.is_ok_and(|read| read == Some(Random::new(1).bytes(1_500_000)))
    });
}

#[test]
fn the_doctor_says_who_is_to_be_updated() {
    let fakes = Fakes::start(NODES);
    let nodes: [usize; NODES] = std::array::from_fn(|i| i);
    for (manner, fix) in [
        (Manner::FarLater, "update this proxy"),
        (Manner::FarEarlier, "scatterhoard pool update"),
    ] {
        fakes.misbehave(&nodes, manner);
        let url = fakes.url();
        let words = ["doctor", "--nodes", "8", "--data-parity", "4+2"];
        let output = run(&[&words[..], &["--lambda-endpoint", &url]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let words = ["the node speaks versions", "of the wire, this proxy 5", fix];
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
    }
}

/// The next release's proxy, so far as can be: it speaks one version more, and offers it.
#[test]
fn nodes_of_this_release_serve_a_proxy_of_the_next() {
    let platform = Platform::start(6);
    let options = Options {
        nodes: Some(6),
        data_parity: Some("3+1".into()),
        lambda_endpoint: Some(platform.url()),
        ..Options::default()
    };
    let mut config = Config::from_options(options).unwrap();
    let newest = SPOKEN.newest().0;
    config.speaks = Versions::new(newest, newest + 1).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let links = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let program = Program::at(PROGRAM.into());
        let engine = Engine::start(config, links, &program).await.unwrap();
        let mut client = engine.entrance().connect().unwrap();
        let value = Random::new(8).bytes(700_000);
        let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len());
        for part in [
            set.as_bytes(),
            &value,
            b"\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        ] {
            client.write_all(part).await.unwrap();
        }
        let head = format!("+OK\r\n${}\r\n", value.len());
        let mut answer = vec![0; head.len() + value.len()];
        let read = client.read_exact(&mut answer);
        tokio::time::timeout(SOON, read).await.unwrap().unwrap();
        assert!(answer.starts_with(head.as_bytes()));
        assert_same("k", Some(&answer[head.len()..]), &value);
        let pool = engine.context().store.pool();
        let links: Vec<_> = pool.nodes().filter_map(|n| n.open_link()).collect();
        assert!(!links.is_empty());
        assert!(links.iter().all(|l| l.version() == SPOKEN.newest()));
        drop(client);
        assert!(engine.end().await);
    });
}
