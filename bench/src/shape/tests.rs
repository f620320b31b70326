use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::Relay;
use super::line::{Line, Link};
use super::ring::Ring;

const LINK: Link = Link {
    bytes_per_s: 75e6,
    one_way: Duration::from_micros(2_500),
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A greedy sender through a bounded queue, with wake-ups late by up to `late_us`: how long
/// `total` bytes take, and the most that was under way.
fn transfer(total: usize, late_us: u64, seed: u64) -> (Duration, usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let begun = Instant::now();
    let mut now = begun;
    let mut line = Line::new(LINK, begun);
    let (mut sent, mut received, mut most) = (0, 0, 0);
    while received < total {
        let room = LINK.capacity() - (sent - received);
        let arrives = room.min(total - sent);
        if arrives > 0 {
            line.arrived(now, arrives);
            sent += arrives;
        }
        most = most.max(sent - received);
        let at = line.next_at().expect("bytes are on the way");
        now = now.max(at) + Duration::from_micros(rng.random_range(0..=late_us));
        let due = line.due(now);
        assert!(due > 0 && due <= sent - received);
        // A receiver may take less than it could.
        let taken = rng.random_range(due.div_ceil(2)..=due);
        line.left(taken);
        received += taken;
        let earliest = begun + LINK.one_way + Duration::from_secs_f64(received as f64 / 75e6);
        assert!(
            now + Duration::from_micros(1) >= earliest,
            "faster than the line"
        );
    }
    assert_eq!(line.next_at(), None);
    (now - begun, most)
}

#[test]
fn a_busy_line_carries_its_rate_however_late_the_wake_ups() {
    for (late_us, seed) in [(0, 1), (1_000, 2), (2_000, 3)] {
        let total = 75_000_000;
        let (took, most) = transfer(total, late_us, seed);
        let ideal = Duration::from_secs(1) + LINK.one_way;
        let error = took.as_secs_f64() / ideal.as_secs_f64() - 1.0;
        assert!(error.abs() < 0.02, "{late_us} us late: off by {error}");
        assert!(most <= LINK.capacity());
    }
}

#[test]
fn a_small_message_takes_the_delay_and_its_own_time() {
    let begun = Instant::now();
    let mut line = Line::new(LINK, begun);
    line.arrived(begun, 75);
    let at = begun + LINK.one_way + Duration::from_micros(1);
    assert_eq!(line.next_at(), Some(at));
    assert_eq!(line.due(at - Duration::from_micros(2)), 0);
    assert_eq!(line.due(at), 75);
    line.left(75);
    assert_eq!(line.due(at + ms(1_000)), 0);
}

#[test]
fn messages_travel_at_the_same_time() {
    let begun = Instant::now();
    let mut line = Line::new(LINK, begun);
    line.arrived(begun, 75);
    line.arrived(begun + ms(2), 75);
    let first = begun + LINK.one_way + ms(1);
    assert_eq!(line.due(first), 75);
    assert_eq!(line.due(first + ms(2)), 150);
}

#[test]
fn an_idle_line_saves_nothing_up() {
    let begun = Instant::now();
    let mut line = Line::new(LINK, begun);
    let later = begun + ms(10_000);
    line.arrived(later, 750_000);
    // 10 ms for the whole, so half of it 5 ms after the delay.
    assert_eq!(line.due(later + LINK.one_way + ms(5)), 375_000);
}

#[test]
fn leaving_early_does_not_free_the_line() {
    let begun = Instant::now();
    let link = Link {
        one_way: Duration::ZERO,
        ..LINK
    };
    let mut line = Line::new(link, begun);
    line.arrived(begun, 75_000);
    // Half a millisecond before the last byte is through, somebody takes them all.
    line.left(75_000);
    line.arrived(begun + Duration::from_micros(500), 75_000);
    let at = begun + ms(2);
    assert!(line.due(at - Duration::from_micros(100)) < 75_000);
    assert_eq!(line.due(at), 75_000);
}

#[test]
fn bytes_wait_until_the_line_opens() {
    let begun = Instant::now();
    let mut line = Line::new(LINK, begun + ms(5));
    line.arrived(begun, 75);
    let at = begun + ms(5) + LINK.one_way + Duration::from_micros(1);
    assert_eq!(line.next_at(), Some(at));
}

#[test]
fn a_ring_is_a_queue() {
    let mut rng = SmallRng::seed_from_u64(4);
    let (mut ring, mut model) = (Ring::new(10), VecDeque::new());
    for _ in 0..1_000 {
        assert_eq!(ring.is_full(), model.len() == 10);
        let room = ring.room();
        let filled = rng.random_range(0..=room.len());
        rng.fill_bytes(&mut room[..filled]);
        model.extend(&room[..filled]);
        ring.filled(filled);

        let taken = rng.random_range(0..=model.len());
        let bytes = ring.front(taken).map(|part| part.to_vec()).concat();
        assert_eq!(bytes, model.drain(..taken).collect::<Vec<u8>>());
        ring.consumed(taken);
    }
}

/// Sends everything back, and closes after the other side has.
async fn echo(listener: TcpListener) -> Result<()> {
    let (mut socket, _) = listener.accept().await?;
    let (mut reader, mut writer) = socket.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await?;
    Ok(())
}

#[tokio::test]
async fn contents_and_order_stay_and_ends_go_through() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let link = Link {
        bytes_per_s: 400e6,
        one_way: ms(1),
    };
    let relay = Relay::start(listener.local_addr()?, link)?;
    let mut bytes = vec![0; 3_000_001];
    SmallRng::seed_from_u64(5).fill_bytes(&mut bytes);

    let mut socket = TcpStream::connect(relay.address()).await?;
    let (mut reader, mut writer) = socket.split();
    let send = async {
        // Pieces of all sizes, small ones among them.
        for piece in bytes.chunk_by(|byte, _| *byte > 0) {
            writer.write_all(piece).await?;
        }
        writer.shutdown().await?;
        anyhow::Ok(())
    };
    let receive = async {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await?;
        anyhow::Ok(back)
    };
    let (echoed, sent, back) = tokio::join!(echo(listener), send, receive);
    echoed.context("echo")?;
    sent.context("send")?;
    assert!(back.context("receive")? == bytes, "other bytes came back");
    Ok(())
}

#[tokio::test]
async fn the_end_of_an_idle_connection_goes_through() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let relay = Relay::start(listener.local_addr()?, LINK)?;
    let near = TcpStream::connect(relay.address()).await?;
    let (mut far, _) = listener.accept().await?;
    drop(near);
    let end = tokio::time::timeout(ms(10_000), far.read(&mut [0; 8])).await?;
    assert_eq!(end?, 0);
    Ok(())
}

#[tokio::test]
async fn a_dropped_relay_ends_its_connections() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let relay = Relay::start(listener.local_addr()?, LINK)?;
    let mut near = TcpStream::connect(relay.address()).await?;
    let (mut far, _) = listener.accept().await?;
    drop(relay);
    // An end or a reset, whichever: no more bytes, and no waiting.
    assert_eq!(near.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(far.read(&mut [0; 8]).await.unwrap_or(0), 0);
    Ok(())
}
