//! A minimal client for RESP2, and for memcached's text protocol, whose cost is small and the same for every target.
//!
//! Replies are read straight into one buffer that is grown and touched before the
//! clock starts; bodies are borrowed from it. Nothing is allocated per operation.

use std::io::{IoSlice, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::reply::{Parsed, Reply, Slot};
use crate::target::{Protocol, Target};
use crate::{memcached, reply};

/// Room for a reply's header line and final line break.
const REPLY_OVERHEAD: usize = 64;

/// Until the first body has begun, reads stop here: one large read returns late, and would
/// report the time of its last byte as that of the first.
const FIRST_READ_LEN: usize = 16 << 10;

/// For a connection to be accepted.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// For what a server may have said before it closed a connection.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

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
    protocol: Protocol,
}

impl Connection {
    /// As [`Connection::open`], in what the target speaks.
    pub(crate) async fn to(target: &Target, batch: usize, body_len: usize) -> Result<Self> {
        let mut connection = Self::open(&target.address, batch, body_len).await?;
        connection.protocol = target.protocol;
        let Some(login) = &target.login else {
            return Ok(connection);
        };
        let (user, password) = (login.user.as_deref(), login.password.as_bytes());
        match user {
            Some(user) => connection.push(&[b"AUTH", user.as_bytes(), password])?,
            None => connection.push(&[b"AUTH", password])?,
        }
        connection.exchange(1).await?;
        match connection.reply(0) {
            Some(Reply::Error(text)) => bail!("AUTH: {}", String::from_utf8_lossy(text)),
            _ => Ok(connection),
        }
    }

    /// Connects to a server that speaks RESP, with a touched buffer for batches of `batch`
    /// replies of `body_len` bytes.
    pub(crate) async fn open(address: &str, batch: usize, body_len: usize) -> Result<Self> {
        let socket = timeout(CONNECT_LIMIT, TcpStream::connect(address))
            .await
            .map_err(|_| anyhow::anyhow!("no answer within {CONNECT_LIMIT:?}"))
            .and_then(|connected| Ok(connected?))
            .with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        // A non-zero fill, so that the pages exist before the clock starts.
        let replies = vec![1; batch * (body_len + REPLY_OVERHEAD)];
        Ok(Self {
            socket,
            commands: Vec::new(),
            replies,
            slots: Vec::with_capacity(batch),
            protocol: Protocol::Resp,
        })
    }

    /// Adds a GET to the next batch.
    pub(crate) fn push_get(&mut self, key: &[u8]) -> Result<()> {
        self.push_for_key([b"GET", b"get"], key)
    }

    /// Adds a DEL to the next batch.
    pub(crate) fn push_delete(&mut self, key: &[u8]) -> Result<()> {
        self.push_for_key([b"DEL", b"delete"], key)
    }

    fn push_for_key(&mut self, names: [&[u8]; 2], key: &[u8]) -> Result<()> {
        match self.protocol {
            Protocol::Resp => return self.push(&[names[0], key]),
            Protocol::Memcached => {
                self.commands.extend_from_slice(names[1]);
                self.commands.push(b' ');
                self.commands.extend_from_slice(key);
                self.commands.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// Adds a SET to the next batch; the body is copied (meant for small ones).
    pub(crate) fn push_set(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        self.push_set_header(key, body.len())?;
        self.commands.extend_from_slice(body);
        self.commands.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn push_set_header(&mut self, key: &[u8], body_len: usize) -> Result<()> {
        let commands = &mut self.commands;
        match self.protocol {
            Protocol::Resp => {
                write!(commands, "*3\r\n$3\r\nSET\r\n${}\r\n", key.len())?;
                commands.extend_from_slice(key);
                write!(commands, "\r\n${body_len}\r\n")?;
            }
            Protocol::Memcached => {
                commands.extend_from_slice(b"set ");
                commands.extend_from_slice(key);
                write!(commands, " 0 0 {body_len}\r\n")?;
            }
        }
        Ok(())
    }

    /// Asks whether somebody is there who speaks the protocol.
    pub(crate) async fn greet(&mut self) -> Result<()> {
        match self.protocol {
            Protocol::Resp => self.push(&[b"PING"])?,
            Protocol::Memcached => self.commands.extend_from_slice(b"version\r\n"),
        }
        self.exchange(1).await?;
        match self.reply(0) {
            Some(Reply::Line(_)) => Ok(()),
            Some(Reply::Error(text)) => {
                bail!("it refuses: {}", String::from_utf8_lossy(text))
            }
            other => bail!("an unexpected reply: {other:?}"),
        }
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
        let written = self.socket.write_all(&self.commands).await;
        self.commands.clear();
        match written {
            Ok(()) => self.read_replies(count, started).await,
            Err(error) => Err(self.last_words(error.into()).await),
        }
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
        self.push_set_header(key, body.len())?;
        let started = Instant::now();
        let mut parts = [
            IoSlice::new(&self.commands),
            IoSlice::new(body),
            IoSlice::new(b"\r\n"),
        ];
        let mut left = &mut parts[..];
        while !left.is_empty() {
            match self.socket.write_vectored(left).await {
                Ok(written) if written > 0 => IoSlice::advance_slices(&mut left, written),
                Ok(_) => bail!("the server closed the connection during a SET"),
                Err(error) => return Err(self.last_words(error.into()).await),
            }
        }
        self.commands.clear();
        self.read_replies(1, started).await
    }

    /// The `index`th reply of the last batch.
    pub(crate) fn reply(&self, index: usize) -> Option<Reply<'_>> {
        Some(self.slots.get(index)?.reply(&self.replies))
    }

    /// Why a server that closed the connection within a request did so, if it said it.
    async fn last_words(&mut self, error: Error) -> Error {
        let said = timeout(LAST_WORDS_LIMIT, self.read_replies(1, Instant::now())).await;
        let closed = "the server closed the connection within a request";
        match (said, self.reply(0)) {
            (Ok(Ok(_)), Some(Reply::Error(text))) => {
                anyhow::anyhow!("{}: {closed}", String::from_utf8_lossy(text))
            }
            _ => error.context(closed),
        }
    }

    async fn read_replies(&mut self, count: usize, started: Instant) -> Result<Timing> {
        self.slots.clear();
        let (mut filled, mut begin, mut first_byte) = (0, 0, None);
        while self.slots.len() < count {
            let parse = match self.protocol {
                Protocol::Resp => reply::parse,
                Protocol::Memcached => memcached::parse,
            };
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
            let read = self.socket.read(&mut self.replies[filled..limit]).await;
            match read {
                Ok(read) if read > 0 => filled += read,
                Ok(_) => bail!(
                    "the server closed the connection: {} bytes of a reply came, at least {} \
                     were expected",
                    filled - begin,
                    needed - begin
                ),
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!(
                            "the connection broke after {} bytes of a reply, at least {} were \
                             expected",
                            filled - begin,
                            needed - begin
                        )
                    });
                }
            }
        }
        let done = started.elapsed();
        Ok(Timing {
            first_byte: first_byte.unwrap_or(done),
            done,
        })
    }
}
