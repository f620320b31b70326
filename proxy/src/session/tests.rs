//! How sessions share a worker.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{io::AsyncReadExt, sync::mpsc, task::yield_now};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    assembly,
    config::{Config, Options},
    pool::platform::Platform,
    store::Ack,
};

/// A session of a proxy without nodes, which acknowledges from memory, and the client's
/// end of its connection.
fn session() -> (Session, tokio::io::DuplexStream) {
    let options = Options {
        ack: Some(Ack::Proxy),
        ..Options::default()
    };
    let config = Config::from_options(options).unwrap();
    let (invokes, _) = mpsc::channel(1);
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let pool = assembly::pool(&config, Platform::local(invokes), here, None, None).unwrap();
    let epoch = scatterhoard_wire::Epoch(1);
    let (store, chores) = assembly::store(&config, &pool, epoch, None, None).unwrap();
    // what takes values to nodes is there, and does nothing
    std::mem::forget(chores);
    let context = Arc::new(Context::new(store, config));
    let (near, far) = tokio::io::duplex(1 << 20);
    let arrival = Arrival {
        peer: here,
        local: here,
        descriptor: -1,
        end: CancellationToken::new(),
    };
    (Session::new(far.into(), arrival, None, context), near)
}

/// A client sends so many of these at once; how many turns another task of the same
/// worker gets until all are answered.
async fn turns_beside(request: &[u8], reply: &[u8], times: usize) -> usize {
    let (session, mut client) = session();
    client.write_all(&request.repeat(times)).await.unwrap();
    client.shutdown().await.unwrap();
    let sessions = TaskTracker::new();
    let served = sessions.spawn(session.run(CancellationToken::new()));
    let mut turns = 0;
    while !served.is_finished() {
        yield_now().await;
        turns += 1;
    }
    served.await.unwrap().unwrap();
    let mut replies = Vec::new();
    client.read_to_end(&mut replies).await.unwrap();
    assert!(replies == reply.repeat(times), "{times} replies");
    turns
}

#[tokio::test]
async fn a_pipeline_lets_others_of_its_worker_pass() {
    const TIMES: usize = 8000;
    // 128 at a time, and 64 more of those that are carried out in the read buffer
    for (request, reply, at_once) in [
        (&b"PING\r\n"[..], &b"+PONG\r\n"[..], 128),
        (b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n", b"$-1\r\n", 128),
        (
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
            b"+OK\r\n",
            192,
        ),
    ] {
        let turns = turns_beside(request, reply, TIMES).await;
        assert!(turns >= TIMES / at_once, "{turns} turns");
    }
}
