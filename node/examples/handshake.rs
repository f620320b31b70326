//! What a handshake of a link costs on the loopback, both ends on one thread:
//! `cargo run --release -p scatterhoard-node --example handshake [rounds]`.
//!
//! From the dial to the welcome, as one invocation does it: plain, with a new
//! dialler each time (a new process), and with the same one (a ticket). Rounds
//! take turns.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rcgen::{CertificateParams, KeyPair};
use scatterhoard_node::{
    conduit::{Acceptor, Dialer, Reader, Writer, plain},
    socket,
};
use tokio::net::{TcpListener, TcpStream};

/// About as long as a hello.
const HELLO: [u8; 100] = [7; 100];

async fn exchange(
    dialer: Option<&Dialer>,
    acceptor: Option<&Acceptor>,
    listener: &TcpListener,
) -> Duration {
    let address = listener.local_addr().unwrap();
    let started = Instant::now();
    let node = async {
        let stream = TcpStream::connect(address).await.unwrap();
        socket::tune(&stream).unwrap();
        let (reader, writer) = match dialer {
            Some(dialer) => dialer.connect(stream, address.ip()).await.unwrap(),
            None => plain(stream),
        };
        writer.write_all(&HELLO).await.unwrap();
        answered((reader, writer)).await
    };
    let proxy = async {
        let (stream, _) = listener.accept().await.unwrap();
        socket::tune(&stream).unwrap();
        let (reader, writer) = match acceptor {
            Some(acceptor) => acceptor.accept(stream).await.unwrap(),
            None => plain(stream),
        };
        let halves = answered((reader, writer)).await;
        halves.1.write_all(&HELLO).await.unwrap();
        halves
    };
    let _open = tokio::join!(node, proxy);
    started.elapsed()
}

async fn answered((mut reader, writer): (Reader, Writer)) -> (Reader, Writer) {
    let mut bytes = BytesMut::with_capacity(4096);
    while bytes.len() < HELLO.len() {
        assert!(reader.read_buf(&mut bytes).await.unwrap() > 0);
    }
    (reader, writer)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rounds = std::env::args()
        .nth(1)
        .map_or(500, |n| n.parse::<usize>().unwrap());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([String::from("handshake")]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    let acceptor = Acceptor::new(certificate, key.serialize_der()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kept = Dialer::new(acceptor.fingerprint()).unwrap();
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..rounds {
        let new = Dialer::new(acceptor.fingerprint()).unwrap();
        times[0].push(exchange(None, None, &listener).await);
        times[1].push(exchange(Some(&new), Some(&acceptor), &listener).await);
        times[2].push(exchange(Some(&kept), Some(&acceptor), &listener).await);
    }
    for (name, mut times) in ["plain", "full handshake", "by ticket"]
        .into_iter()
        .zip(times)
    {
        times.sort_unstable();
        println!(
            "{name:15} p50 {:?}  p99 {:?}",
            times[rounds / 2],
            times[rounds * 99 / 100]
        );
    }
}
