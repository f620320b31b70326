//! The network between nodes and the proxy: pipes that are slow, lose packets for a
//! while, break, or go silent without a word.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use rand::Rng;
use scatterhoard_node::{
    conduit::{Outlet, Reader, Writer},
    random,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// What is under way in one direction at most, in bytes.
const WINDOW_BYTES: usize = 64 << 10;

/// How bytes travel.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Least time to the other end.
    pub latency: Duration,
    /// Up to so much more, by chance.
    pub jitter: Duration,
    /// Share of the writes whose packet is lost and sent again.
    pub loss: f64,
}

/// How long TCP takes to send again what was lost.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A connection, as the network sees it.
#[derive(Clone)]
pub struct Connection {
    ways: [Arc<Way>; 2],
}

/// The halves of one end.
pub type Halves = (Reader, Writer);

impl Connection {
    /// A connection and its two ends.
    pub fn new(weather: Weather) -> (Self, Halves, Halves) {
        let ways = [(); 2].map(|()| Arc::new(Way::new(weather)));
        let halves = |from: &Arc<Way>, to: &Arc<Way>| {
            let reader = PipeReader {
                way: from.clone(),
                due: None,
            };
            let writer = PipeWriter { way: to.clone() };
            (
                Reader::Local(Box::new(reader)),
                Writer::Local(Box::new(writer)),
            )
        };
        let (one, other) = (halves(&ways[0], &ways[1]), halves(&ways[1], &ways[0]));
        (Self { ways }, one, other)
    }

    /// From now on nothing arrives any more, in either direction, and nobody is told.
    pub fn cut(&self) {
        self.ways.iter().for_each(|way| way.lock().is_cut = true);
    }

    /// Both ends are told that the connection is broken.
    pub fn reset(&self) {
        for way in &self.ways {
            let mut pipe = way.lock();
            pipe.is_reset = true;
            pipe.queue.clear();
            pipe.wake();
        }
    }

    /// What is under way, and what follows, is late by so much.
    pub fn delay(&self, by: Duration) {
        for way in &self.ways {
            let mut pipe = way.lock();
            pipe.not_before = Instant::now() + by;
            for (at, _) in &mut pipe.queue {
                *at += by;
            }
        }
    }
}

/// One direction.
struct Way {
    weather: Weather,
    pipe: Mutex<Pipe>,
}

struct Pipe {
    queue: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    not_before: Instant,
    is_closed: bool,
    is_cut: bool,
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl Way {
    fn new(weather: Weather) -> Self {
        Self {
            weather,
            pipe: Mutex::new(Pipe {
                queue: VecDeque::new(),
                bytes: 0,
                not_before: Instant::now(),
                is_closed: false,
                is_cut: false,
                is_reset: false,
                reader: None,
                writer: None,
            }),
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Pipe> {
        self.pipe.lock()
    }

    /// When what is sent now arrives, apart from what was sent before.
    fn arrival(&self) -> Instant {
        let (weather, mut rng) = (self.weather, random::rng());
        let mut takes = weather.latency + weather.jitter.mul_f64(rng.random());
        while rng.random_bool(weather.loss) {
            takes += RETRANSMISSION;
        }
        Instant::now() + takes
    }
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

struct PipeReader {
    way: Arc<Way>,
    due: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for PipeReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let due = {
            let mut pipe = this.way.lock();
            if pipe.is_reset {
                return Poll::Ready(Err(broken()));
            }
            pipe.reader = Some(cx.waker().clone());
            if pipe.is_cut {
                return Poll::Pending;
            }
            let now = Instant::now();
            let mut taken = 0;
            while let Some((at, bytes)) = pipe.queue.front_mut() {
                if *at > now || into.remaining() == 0 {
                    break;
                }
                let n = bytes.len().min(into.remaining());
                into.put_slice(&bytes[..n]);
                bytes.advance(n);
                taken += n;
                if bytes.is_empty() {
                    pipe.queue.pop_front();
                }
            }
            if taken > 0 {
                pipe.bytes -= taken;
                pipe.writer.take().into_iter().for_each(Waker::wake);
                return Poll::Ready(Ok(()));
            }
            match pipe.queue.front() {
                Some((at, _)) => *at,
                None if pipe.is_closed => return Poll::Ready(Ok(())),
                None => return Poll::Pending,
            }
        };
        let sleep = this.due.get_or_insert_with(|| Box::pin(sleep_until(due)));
        sleep.as_mut().reset(due);
        match sleep.as_mut().poll(cx) {
            // the clock's ticks are coarser than arrivals
            Poll::Ready(()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

struct PipeWriter {
    way: Arc<Way>,
}

impl Outlet for PipeWriter {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let arrival = self.way.arrival();
        let mut pipe = self.way.lock();
        if pipe.is_reset {
            return Err(broken());
        }
        let wanted: usize = slices.iter().map(|s| s.len()).sum();
        if wanted == 0 {
            return Ok(0);
        }
        let room = WINDOW_BYTES.saturating_sub(pipe.bytes).min(wanted);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut all = Vec::with_capacity(room);
        for slice in slices {
            let n = slice.len().min(room - all.len());
            all.extend_from_slice(&slice[..n]);
        }
        // in order, like TCP
        let last = pipe.queue.back().map_or(pipe.not_before, |(at, _)| *at);
        let at = arrival.max(last).max(pipe.not_before);
        pipe.queue.push_back((at, all.into()));
        pipe.bytes += room;
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Ok(room)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.way.lock();
        if pipe.is_reset || pipe.bytes < WINDOW_BYTES {
            return Poll::Ready(Ok(()));
        }
        pipe.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        let mut pipe = self.way.lock();
        pipe.is_closed = true;
        pipe.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut pipe = self.way.lock();
        // whoever writes on hears of it
        if !pipe.is_cut && !pipe.is_closed {
            pipe.is_reset = true;
            pipe.wake();
        }
    }
}
