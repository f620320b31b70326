//! A minimal RESP2 client whose cost is small and the same for every target.
//!
//! Replies are read straight into one buffer that is grown and touched before the
//! clock starts; bodies are borrowed from it. Nothing is allocated per operation.

use std::io::{IoSlice, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::reply::{Parsed, Reply, Slot, parse};

/// Room for a reply's header line and final line break.
const REPLY_OVERHEAD: usize = 64;

/// Until the first body has begun, reads stop here: one large read returns late, and would
/// report the time of its last byte as that of the first.
const FIRST_READ_LEN: usize = 16 << 10;

/// How long one batch took, from before the first byte was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Until the first byte of the first body; a reply without body counts as a whole.
    pub(crate) first_byte: Duration,
    /// Until the last byte of the last reply.
    pub(crate) done: Duration,
}

pub(crate) struct Connection {
    socket: TcpStream,
    commands: Vec<u8>,
    replies: Vec<u8>,
    slots: Vec<Slot>,
}

impl Connection {
    /// Connects, with a touched buffer for batches of `batch` replies of `body_len` bytes.
    pub(crate) async fn open(address: &str, batch: usize, body_len: usize) -> Result<Self> {
        let socket = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        // A non-zero fill, so that the pages exist before the clock starts.
        let replies = vec![1; batch * (body_len + REPLY_OVERHEAD)];
        Ok(Self {
            socket,
            commands: Vec::new(),
            replies,
            slots: Vec::with_capacity(batch),
        })
    }

    /// Adds a command to the next batch; arguments are copied (meant for small ones).
    pub(crate) fn push(&mut self, arguments: &[&[u8]]) -> Result<()> {
        write!(self.commands, "*{}\r\n", arguments.len())?;
        for argument in arguments {
            write!(self.commands, "${}\r\n", argument.len())?;
            self.commands.extend_from_slice(argument);
            self.commands.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Sends the pushed commands in one write and reads `count` replies.
    pub(crate) async fn exchange(&mut self, count: usize) -> Result<Timing> {
        let started = Instant::now();
        self.socket.write_all(&self.commands).await?;
        self.commands.clear();
        self.read_replies(count, started).await
    }

    /// Sends the pushed commands; what comes back must be exactly `parts`, one behind the
    /// other. It is compared as it comes, in a buffer that does not grow.
    pub(crate) async fn exchange_for(&mut self, parts: [&[u8]; 3]) -> Result<()> {
        self.socket.write_all(&self.commands).await?;
        self.commands.clear();
        for mut expected in parts {
            while !expected.is_empty() {
                let limit = self.replies.len().min(expected.len());
                let read = self.socket.read(&mut self.replies[..limit]).await?;
                if read == 0 {
                    bail!("the server closed the connection within a reply");
                }
                if self.replies[..read] != expected[..read] {
                    let begin = String::from_utf8_lossy(&self.replies[..read.min(80)]);
                    bail!("WRONG BYTES came back, or an error: {begin:?}");
                }
                expected = &expected[read..];
            }
        }
        Ok(())
    }

    /// One SET whose body goes from the caller's memory to the socket uncopied.
    pub(crate) async fn set(&mut self, key: &[u8], body: &[u8]) -> Result<Timing> {
        self.commands.clear();
        write!(self.commands, "*3\r\n$3\r\nSET\r\n${}\r\n", key.len())?;
        self.commands.extend_from_slice(key);
        write!(self.commands, "\r\n${}\r\n", body.len())?;
        let started = Instant::now();
        let mut parts = [
            IoSlice::new(&self.commands),
            IoSlice::new(body),
            IoSlice::new(b"\r\n"),
        ];
        let mut left = &mut parts[..];
        while !left.is_empty() {
            let written = self.socket.write_vectored(left).await?;
            if written == 0 {
                bail!("the server closed the connection during a SET");
            }
            IoSlice::advance_slices(&mut left, written);
        }
        self.commands.clear();
        self.read_replies(1, started).await
    }

    /// The `index`th reply of the last batch.
    pub(crate) fn reply(&self, index: usize) -> Option<Reply<'_>> {
        Some(self.slots.get(index)?.reply(&self.replies))
    }

    async fn read_replies(&mut self, count: usize, started: Instant) -> Result<Timing> {
        self.slots.clear();
        let (mut filled, mut begin, mut first_byte) = (0, 0, None);
        while self.slots.len() < count {
            let needed = match parse(&self.replies[..filled], begin)? {
                Parsed::Whole { slot, end } => {
                    first_byte.get_or_insert_with(|| started.elapsed());
                    self.slots.push(slot);
                    begin = end;
                    continue;
                }
                Parsed::Partial { end, body_begun } => {
                    if body_begun {
                        first_byte.get_or_insert_with(|| started.elapsed());
                    }
                    end
                }
            };
            if self.replies.len() < needed {
                self.replies.resize(needed + REPLY_OVERHEAD, 1);
            }
            let limit = match first_byte {
                None => self.replies.len().min(filled + FIRST_READ_LEN),
                Some(_) => self.replies.len(),
            };
            let read = self.socket.read(&mut self.replies[filled..limit]).await?;
            if read == 0 {
                bail!("the server closed the connection within a reply");
            }
            filled += read;
        }
        let done = started.elapsed();
        Ok(Timing {
            first_byte: first_byte.unwrap_or(done),
            done,
        })
    }
}
