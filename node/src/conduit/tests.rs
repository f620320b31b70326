//! Both ends over real sockets, some of them with buffers of a few KB, some
//! through a relay that cuts, spoils or breaks off what passes.

use std::time::Duration;

use bytes::BytesMut;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rcgen::{CertificateParams, KeyPair};
use scatterhoard_wire::Fingerprint;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};

use super::*;

type Halves = (Reader, Writer);

/// Certificate and key.
pub(super) fn certificate() -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([String::from("test")]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().to_vec(), key.serialize_der())
}

fn acceptor() -> Acceptor {
    let (certificate, key) = certificate();
    Acceptor::new(certificate, key).unwrap()
}

/// Two ends of a connection, perhaps with buffers of this many bytes.
pub(super) async fn pair(buffers: Option<usize>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    for stream in [&near, &far] {
        crate::socket::tune(stream).unwrap();
        if let Some(bytes) = buffers {
            SockRef::from(stream).set_send_buffer_size(bytes).unwrap();
            // less than a loopback packet makes TCP itself wait
            let packets = bytes.max(70_000);
            SockRef::from(stream).set_recv_buffer_size(packets).unwrap();
        }
    }
    (near, far)
}

/// Nothing here takes long, and what hangs must fail.
pub(super) async fn with_limit<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap()
}

async fn shake(dialer: &Dialer, acceptor: &Acceptor, pair: (TcpStream, TcpStream)) -> [Halves; 2] {
    let ip = pair.0.peer_addr().unwrap().ip();
    let node = async {
        let node = dialer.connect(pair.0, ip).await?;
        // a node's hello would take the end of the handshake along
        node.1.try_write_vectored(&[])?;
        io::Result::Ok(node)
    };
    let both = async { tokio::try_join!(node, acceptor.accept(pair.1)) };
    let (node, proxy) = with_limit(both).await.unwrap();
    // or whoever comes to write would leave it to another
    assert!(!node.1.has_unsent() && !proxy.1.has_unsent());
    [node, proxy]
}

async fn tls(pair: (TcpStream, TcpStream)) -> [Halves; 2] {
    let acceptor = acceptor();
    let dialer = Dialer::new(acceptor.fingerprint()).unwrap();
    shake(&dialer, &acceptor, pair).await
}

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SmallRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// Writes as a link does: several slices at a time, and the rest when it can.
async fn send(writer: &Writer, bytes: &[u8], seed: u64) {
    let (mut rng, mut at) = (SmallRng::seed_from_u64(seed), 0);
    while at < bytes.len() || writer.has_unsent() {
        let mut rest = &bytes[at..];
        let slices: Vec<IoSlice<'_>> = (0..rng.random_range(1..8))
            .map(|_| {
                let longest = [40, 5_000, 300_000][rng.random_range(0..3)];
                let (slice, behind) = rest.split_at(rng.random_range(0..longest).min(rest.len()));
                rest = behind;
                IoSlice::new(slice)
            })
            .collect();
        match writer.try_write_vectored(&slices) {
            Ok(n) => at += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => writer.writable().await.unwrap(),
            Err(e) => panic!("{e}"),
        }
    }
}

/// Reads into buffers of all sizes, and gives up waiting again and again.
async fn receive(reader: &mut Reader, len: usize, seed: u64) -> Vec<u8> {
    let (mut rng, mut got) = (SmallRng::seed_from_u64(seed), Vec::new());
    while got.len() < len {
        let room = [1, 100, 16_384, 262_144][rng.random_range(0..4)];
        let mut buffer = BytesMut::with_capacity(room);
        let mut limited = (&mut buffer).limit(room);
        let patience = Duration::from_micros(rng.random_range(0..300));
        match timeout(patience, reader.read_buf(&mut limited)).await {
            Ok(read) => assert_ne!(read.unwrap(), 0, "ended after {} bytes", got.len()),
            Err(_) => assert!(buffer.is_empty(), "bytes of a read that was given up"),
        }
        got.extend_from_slice(&buffer);
    }
    got
}

async fn both_ways([node, proxy]: [Halves; 2], len: usize) {
    let ((mut node_reader, node_writer), (mut proxy_reader, proxy_writer)) = (node, proxy);
    let [up, down] = [1, 2].map(|seed| random(seed, len));
    let (at_proxy, at_node, (), ()) = with_limit(async {
        tokio::join!(
            receive(&mut proxy_reader, len, 3),
            receive(&mut node_reader, len, 4),
            send(&node_writer, &up, 5),
            send(&proxy_writer, &down, 6),
        )
    })
    .await;
    assert!(at_proxy == up && at_node == down);
}

#[tokio::test]
async fn much_goes_both_ways_at_once() {
    let (near, far) = pair(None).await;
    both_ways([plain(near), plain(far)], 20_000_000).await;
    both_ways(tls(pair(None).await).await, 20_000_000).await;
    both_ways(tls(pair(Some(4096)).await).await, 3_000_000).await;
}

#[tokio::test]
async fn what_is_decrypted_waits_for_no_socket() {
    let [(mut node, _writer), (_, proxy)] = tls(pair(None).await).await;
    let sent = random(1, 16_000);
    with_limit(proxy.write_all(&sent)).await.unwrap();
    let mut got = Vec::new();
    // one record: the socket has nothing more after the first of these
    for _ in 0..16 {
        let mut buffer = BytesMut::with_capacity(1000);
        let n = with_limit(node.read_buf(&mut (&mut buffer).limit(1000))).await;
        assert_eq!(n.unwrap(), 1000);
        got.extend_from_slice(&buffer);
    }
    assert!(got == sent);
}

#[tokio::test]
async fn what_the_socket_did_not_take_is_known_and_sent_later() {
    let [(mut node, _writer), (_, proxy)] = tls(pair(Some(4096)).await).await;
    let (block, mut taken) = (random(1, 100_000), Vec::new());
    // nobody reads: sooner or later it takes no more
    let refusal = loop {
        match proxy.try_write_vectored(&[IoSlice::new(&block)]) {
            Ok(n) => taken.extend_from_slice(&block[..n]),
            Err(e) => break e,
        }
        assert!(taken.len() < 10_000_000);
    };
    assert_eq!(refusal.kind(), io::ErrorKind::WouldBlock);
    assert!(proxy.has_unsent());
    let nothing = proxy.try_write_vectored(&[]);
    assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let (got, sent) = with_limit(async {
        tokio::join!(receive(&mut node, taken.len(), 2), proxy.write_all(&[]))
    })
    .await;
    sent.unwrap();
    assert!(got == taken && !proxy.has_unsent());
}

#[tokio::test]
async fn a_close_is_heard_behind_what_was_sent() {
    for notify in [true, false] {
        let [(mut node, _writer), (_, proxy)] = tls(pair(None).await).await;
        with_limit(proxy.write_all(b"last words")).await.unwrap();
        if notify {
            proxy.close();
        }
        drop(proxy);
        let mut buffer = BytesMut::new();
        while with_limit(node.read_buf(&mut buffer)).await.unwrap() > 0 {}
        assert_eq!(&buffer[..], b"last words");
        // and the end stays the end
        assert_eq!(with_limit(node.read_buf(&mut buffer)).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn the_next_handshake_goes_by_the_ticket() {
    let acceptor = acceptor();
    let dialer = Dialer::new(acceptor.fingerprint()).unwrap();
    for round in 0..4 {
        let [(mut node, writer), (_, proxy)] = shake(&dialer, &acceptor, pair(None).await).await;
        let Writer::Tls(tls) = &writer else {
            panic!("plain text");
        };
        assert_eq!(tls.is_resumed(), round > 0);
        // the ticket comes with the first bytes
        with_limit(proxy.write_all(b"welcome")).await.unwrap();
        let mut buffer = BytesMut::new();
        with_limit(node.read_buf(&mut buffer)).await.unwrap();
    }
    // a proxy that started anew has another certificate, and knows no ticket
    let other = self::acceptor();
    let (near, far) = pair(None).await;
    let ip = far.local_addr().unwrap().ip();
    let (dialled, accepted) =
        with_limit(async { tokio::join!(dialer.connect(near, ip), other.accept(far)) }).await;
    assert!(dialled.is_err() && accepted.is_err());
}

#[tokio::test]
async fn another_certificate_is_refused_at_both_ends() {
    let other = acceptor().fingerprint();
    let acceptor = acceptor();
    let mut almost = acceptor.fingerprint();
    almost.0[31] ^= 1;
    for wrong in [other, almost, Fingerprint([0; 32])] {
        let (near, far) = pair(None).await;
        let dialer = Dialer::new(wrong).unwrap();
        let ip = far.local_addr().unwrap().ip();
        let (dialled, accepted) =
            with_limit(async { tokio::join!(dialer.connect(near, ip), acceptor.accept(far)) })
                .await;
        let error = dialled.err().unwrap().to_string();
        assert!(error.starts_with("TLS handshake: "), "{error}");
        assert!(accepted.is_err());
    }
}

#[tokio::test]
async fn plain_text_and_garbage_are_refused_by_both() {
    let acceptor = acceptor();
    let dialer = Dialer::new(acceptor.fingerprint()).unwrap();
    let said = [
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        random(9, 100_000),
        vec![0; 5_000],
        // begins like a handshake, of more bytes than there may be
        [&b"\x16\x03\x01\xff\xff"[..], &random(8, 100_000)].concat(),
        [
            &b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"[..],
            &random(8, 100_000),
        ]
        .concat(),
    ];
    for (i, bytes) in said.iter().enumerate() {
        for dialling in [true, false] {
            let (near, mut far) = pair(None).await;
            let ip = far.local_addr().unwrap().ip();
            let refused = async {
                let halves = if dialling {
                    dialer.connect(near, ip).await
                } else {
                    acceptor.accept(near).await
                };
                halves.err().unwrap().to_string()
            };
            let talk = async {
                let _ = far.write_all(bytes).await;
                let _ = far.read_to_end(&mut Vec::new()).await;
            };
            let (error, ()) = with_limit(async { tokio::join!(refused, talk) }).await;
            assert!(error.starts_with("TLS handshake: "), "{i} {error}");
        }
    }
    let (near, far) = pair(None).await;
    drop(far);
    assert!(with_limit(acceptor.accept(near)).await.is_err());
    // whoever says nothing is waited for, which is why callers have a limit
    let (near, _far) = pair(None).await;
    let waiting = timeout(Duration::from_millis(50), acceptor.accept(near)).await;
    assert!(waiting.is_err());
}

/// A connection whose bytes towards the proxy pass through `spoil`, which is told
/// how many came before; the relay ends with the set.
async fn relayed(
    mut spoil: impl FnMut(usize, &mut [u8]) + Send + 'static,
) -> ([Halves; 2], JoinSet<()>) {
    let ((near, left), (right, far)) = (pair(None).await, pair(None).await);
    let (mut from_node, mut to_node) = left.into_split();
    let (mut from_proxy, mut to_proxy) = right.into_split();
    let mut relay = JoinSet::new();
    relay.spawn(async move {
        let (mut total, mut buffer) = (0, vec![0; 16 << 10]);
        while let Ok(n @ 1..) = from_node.read(&mut buffer).await {
            spoil(total, &mut buffer[..n]);
            // so that records come in pieces
            for piece in buffer[..n].chunks(if total < 50_000 { 11 } else { 5_000 }) {
                if to_proxy.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            total += n;
        }
    });
    relay.spawn(async move {
        let _ = tokio::io::copy(&mut from_proxy, &mut to_node).await;
    });
    (tls((near, far)).await, relay)
}

#[tokio::test]
async fn records_may_come_in_pieces() {
    let (halves, _relay) = relayed(|_, _| {}).await;
    both_ways(halves, 500_000).await;
}

#[tokio::test]
async fn a_bit_that_flips_ends_the_link_behind_what_was_good() {
    const AT: usize = 300_000;
    let spoil = |before: usize, bytes: &mut [u8]| {
        if let Some(byte) = AT.checked_sub(before).and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1;
        }
    };
    let ([(mut node_reader, node), (mut proxy, _writer)], _relay) = relayed(spoil).await;
    let sent = random(1, 400_000);
    let receive = async {
        let mut got = BytesMut::new();
        loop {
            match proxy.read_buf(&mut got).await {
                Ok(n) => assert!(n > 0),
                Err(e) => return (got, e),
            }
        }
    };
    let ((got, error), _) =
        with_limit(async { tokio::join!(receive, node.write_all(&sent)) }).await;
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    // all whole records before the bad one, and nothing of it
    assert!(got.len() > AT - 40_000 && got.len() < AT && got[..] == sent[..got.len()]);
    // an alert tells the other end
    let told = with_limit(node_reader.read_buf(&mut BytesMut::new())).await;
    assert_eq!(told.unwrap_err().kind(), io::ErrorKind::InvalidData);
}
