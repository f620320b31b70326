//! The node's end of a link: waiting for bytes, for room, or for the time.
//!
//! In a process of its own a node has nothing else to do while it serves, so over plain
//! TCP it waits in the very call that reads. Through a reactor the same costs a turn of the
//! reactor, of the scheduler and of its timers for every few hundred KB
//! (docs/performance.md).

use std::{io, io::IoSlice, net, pin::Pin, time::Duration};

use bytes::BufMut;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg},
};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use crate::conduit::{Reader, Writer};

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// So many bytes were read.
    Read(usize),
    /// The socket takes more.
    Writable,
    /// Neither so far: the time has come, or may have.
    Late,
}

/// One end of a link.
pub(crate) enum End {
    /// TLS, or one task of several, which must not keep the others waiting.
    Beside {
        reader: Reader,
        writer: Writer,
        /// Ends when something is due, or before: it is set anew when it has ended, not
        /// by every wait.
        timer: Pin<Box<Sleep>>,
    },
    /// Plain TCP, and nobody else on this thread has anything to do.
    Alone(Alone),
}

/// A read's own time-out comes so much late, and an eighth: it counts the kernel's ticks.
/// Measured at 250 a second: 7 ms after 1 ms, 91 ms after 2.5 s.
const COARSE: Duration = Duration::from_millis(8);

/// A socket whose reads block.
pub(crate) struct Alone {
    socket: net::TcpStream,
    /// How long a read blocks at most.
    patience: Duration,
}

impl End {
    /// Of a conduit, in a task that has others beside it.
    pub(crate) fn beside((reader, writer): (Reader, Writer)) -> Self {
        Self::Beside {
            reader,
            writer,
            timer: Box::pin(sleep_until(Instant::now())),
        }
    }

    /// Of a socket as it is; the thread is blocked while it waits. `usual` is how long it
    /// mostly will: for half of it a read needs no other clock, if that is long enough for
    /// the one it has.
    pub(crate) fn alone(stream: TcpStream, usual: Duration) -> io::Result<Self> {
        let socket = stream.into_std()?;
        socket.set_nonblocking(false)?;
        let patience = (usual / 2).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(patience))?;
        Ok(Self::Alone(Alone { socket, patience }))
    }

    /// Waits until something can be read, if it may be read `into` something, or written,
    /// or `until`. A short read says that no more is there, so nobody asks again. May be
    /// dropped at any time without losing a byte.
    pub(crate) async fn wait(
        &mut self,
        into: Option<&mut impl BufMut>,
        writing: bool,
        until: Instant,
    ) -> io::Result<Event> {
        let (reader, writer, timer) = match self {
            Self::Alone(alone) => return alone.wait(into, writing, until),
            Self::Beside {
                reader,
                writer,
                timer,
            } => (reader, writer, timer),
        };
        if timer.is_elapsed() || until < timer.deadline() {
            timer.as_mut().reset(until);
        }
        let read = async {
            match into {
                Some(into) => reader.read_buf(into).await,
                None => std::future::pending().await,
            }
        };
        let n = tokio::select! {
            biased;
            read = read => read?,
            ready = writer.writable(), if writing => return ready.map(|()| Event::Writable),
            () = timer => return Ok(Event::Late),
        };
        read_some(n)
    }

    /// Takes as much as there is room for; `WouldBlock` when there is none. With nothing
    /// to write it sends on what was taken before.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Beside { writer, .. } => writer.try_write_vectored(slices),
            Self::Alone(alone) => alone.try_write_vectored(slices),
        }
    }

    /// Whether the socket refused something that was taken: wait until it is writable,
    /// then write again, be it nothing.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Beside { writer, .. } => writer.has_unsent(),
            Self::Alone(_) => false,
        }
    }

    /// Tells the peer that nothing more comes, if the socket takes it at once.
    pub(crate) fn close(&self) {
        match self {
            Self::Beside { writer, .. } => writer.close(),
            // dropping it says so
            Self::Alone(_) => {}
        }
    }
}

impl Alone {
    fn wait(
        &self,
        mut into: Option<&mut impl BufMut>,
        writing: bool,
        until: Instant,
    ) -> io::Result<Event> {
        debug_assert!(into.is_some() || writing, "nothing to wait for");
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let read = match &mut into {
                // what has come counts, also if the process was stopped meanwhile
                Some(into) if left.is_zero() => match self.read(*into, RecvFlags::DONTWAIT) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Event::Late),
                    other => other,
                },
                None if left.is_zero() => return Ok(Event::Late),
                Some(into) if !writing && left >= self.patience + self.patience / 8 + COARSE => {
                    self.read(*into, RecvFlags::empty())
                }
                into => {
                    let ready = self.poll(into.is_some(), writing, left)?;
                    match into {
                        // an end or an error is something to read, too
                        Some(into) if ready.intersects(!PollFlags::OUT) => {
                            self.read(*into, RecvFlags::DONTWAIT)
                        }
                        _ if ready.is_empty() => continue,
                        _ => return Ok(Event::Writable),
                    }
                }
            };
            match read {
                // its patience was at an end, or the process had been stopped
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                other => return other.and_then(read_some),
            }
        }
    }

    /// What of it is possible, within so long.
    fn poll(&self, reading: bool, writing: bool, within: Duration) -> io::Result<PollFlags> {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, reading);
        wanted.set(PollFlags::OUT, writing);
        let mut descriptors = [PollFd::new(&self.socket, wanted)];
        let within = Timespec::try_from(within).map_err(io::Error::other)?;
        match poll(&mut descriptors, Some(&within)) {
            Ok(_) => Ok(descriptors[0].revents()),
            Err(rustix::io::Errno::INTR) => Ok(PollFlags::empty()),
            Err(error) => Err(error.into()),
        }
    }

    #[allow(unsafe_code, reason = "reading into memory that was never written")]
    fn read(&self, into: &mut impl BufMut, flags: RecvFlags) -> io::Result<usize> {
        // SAFETY: `recv` reads nothing of it and writes nothing uninitialised
        let room = unsafe { into.chunk_mut().as_uninit_slice_mut() };
        let ((read, _), _) = recv(&self.socket, room, flags)?;
        let n = read.len();
        // SAFETY: the first `n` bytes of the chunk were written just now
        unsafe { into.advance_mut(n) };
        Ok(n)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut nothing = SendAncillaryBuffer::default();
        Ok(sendmsg(&self.socket, slices, &mut nothing, flags)?)
    }
}

fn read_some(n: usize) -> io::Result<Event> {
    match n {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => Ok(Event::Read(n)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        thread,
    };

    use bytes::BytesMut;
    use tokio::net::TcpListener;

    use super::*;

    const NOTHING: Option<&mut BytesMut> = None;

    /// The end of a link, and its peer.
    async fn pair(usual: Duration) -> (End, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        let far = far.unwrap().0.into_std().unwrap();
        far.set_nonblocking(false).unwrap();
        (End::alone(near.unwrap(), usual).unwrap(), far)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn it_waits_until_then_and_no_shorter() {
        // with and without a read that blocks for longer than is left
        for usual in [
            Duration::ZERO,
            Duration::from_millis(40),
            Duration::from_secs(3600),
        ] {
            let (mut end, _far) = pair(usual).await;
            let mut buffer = BytesMut::with_capacity(10);
            let until = Instant::now() + Duration::from_millis(30);
            let event = end.wait(Some(&mut buffer), false, until).await.unwrap();
            assert_eq!(event, Event::Late);
            assert!(Instant::now() >= until);
        }
    }

    #[tokio::test]
    async fn bytes_are_read_behind_those_that_are_there() {
        for usual in [Duration::ZERO, Duration::from_secs(1)] {
            let (mut end, mut far) = pair(usual).await;
            let mut buffer = BytesMut::with_capacity(64);
            buffer.extend_from_slice(b"there, ");
            let sender = thread::spawn(move || far.write_all(b"here").unwrap());
            let event = end.wait(Some(&mut buffer), false, soon()).await.unwrap();
            assert_eq!(event, Event::Read(4));
            assert_eq!(&buffer[..], b"there, here");
            sender.join().unwrap();
            // the peer has gone
            let event = end.wait(Some(&mut buffer), false, soon()).await;
            assert_eq!(event.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn what_came_before_the_time_was_over_is_not_late() {
        let (mut end, mut far) = pair(Duration::from_secs(1)).await;
        let mut buffer = BytesMut::with_capacity(64);
        far.write_all(b"x").unwrap();
        let past = Instant::now();
        let event = loop {
            match end.wait(Some(&mut buffer), false, past).await.unwrap() {
                Event::Late => tokio::task::yield_now().await,
                event => break event,
            }
        };
        assert_eq!(event, Event::Read(1));
        let event = end.wait(Some(&mut buffer), false, past).await.unwrap();
        assert_eq!(event, Event::Late);
    }

    #[tokio::test]
    async fn what_can_be_read_comes_before_what_can_be_written() {
        let (mut end, mut far) = pair(Duration::from_secs(1)).await;
        let mut buffer = BytesMut::with_capacity(64);
        let event = end.wait(Some(&mut buffer), true, soon()).await.unwrap();
        assert_eq!(event, Event::Writable);
        far.write_all(b"x").unwrap();
        let read = async {
            loop {
                match end.wait(Some(&mut buffer), true, soon()).await.unwrap() {
                    Event::Writable => tokio::task::yield_now().await,
                    event => return event,
                }
            }
        };
        assert_eq!(read.await, Event::Read(1));
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for() {
        let (mut end, mut far) = pair(Duration::from_secs(1)).await;
        let block = vec![7; 1 << 20];
        let mut sent = 0;
        // what is full may take more a moment later, for a while
        loop {
            match end.try_write_vectored(&[IoSlice::new(&block), IoSlice::new(&block)]) {
                Ok(n) => sent += n,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    let until = Instant::now() + Duration::from_millis(50);
                    if end.wait(NOTHING, true, until).await.unwrap() == Event::Late {
                        break;
                    }
                }
            }
        }
        let taker = thread::spawn(move || {
            let mut taken = vec![0; sent];
            far.read_exact(&mut taken).unwrap();
            far
        });
        assert_eq!(
            end.wait(NOTHING, true, soon()).await.unwrap(),
            Event::Writable
        );
        drop(taker.join().unwrap());
        // and that the peer has gone is told by the write
        loop {
            assert_eq!(
                end.wait(NOTHING, true, soon()).await.unwrap(),
                Event::Writable
            );
            if let Err(error) = end.try_write_vectored(&[IoSlice::new(&block)])
                && error.kind() != io::ErrorKind::WouldBlock
            {
                break;
            }
        }
    }
}
