//! Which keys the proxy evicts: a connection that listens to its notifications. A message
//! of our own that comes back on it says that all earlier ones are here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::judge::Evictions;
use crate::client::Connection;

const EVICTED: &[u8] = b"__keyevent@0__:evicted";
const SYNC: &[u8] = b"replay:sync";
const PATIENCE: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 << 10;
/// No message is longer: names of channels and keys.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// What was heard, and who waits to hear something.
#[derive(Default)]
pub(super) struct Heard {
    evictions: Mutex<Evictions>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    next: AtomicU64,
}

/// Nothing panics while it has one: what is inside is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key's name, which says its number.
pub(super) fn name(key: u32) -> Vec<u8> {
    format!("replay:{key}").into_bytes()
}

fn number(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name.strip_prefix(b"replay:")?)
        .ok()?
        .parse()
        .ok()
}

impl Heard {
    /// Waits until all that was published before now is heard.
    pub(super) async fn sync(&self, connection: &mut Connection) -> Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        connection.push(&[b"PUBLISH", SYNC, id.to_string().as_bytes()])?;
        connection.exchange(1).await?;
        let heard = timeout(PATIENCE, receiver).await;
        lock(&self.waiting).remove(&id);
        heard.context("notifications of evictions do not come")??;
        Ok(())
    }

    pub(super) fn is_evicted(&self, key: u32) -> bool {
        lock(&self.evictions).has(key)
    }

    pub(super) fn forget(&self, key: u32) {
        lock(&self.evictions).forget(key);
    }

    fn hear(&self, message: &[Vec<u8>]) {
        let [kind, channel, what] = message else {
            return;
        };
        if kind != b"message" {
            return;
        }
        if channel == EVICTED {
            number(what)
                .into_iter()
                .for_each(|key| lock(&self.evictions).evicted(key));
        } else {
            let id = std::str::from_utf8(what)
                .ok()
                .and_then(|id| id.parse().ok());
            let waiting = id.and_then(|id: u64| lock(&self.waiting).remove(&id));
            // who gave up needs no answer
            if let Some(waiting) = waiting {
                let _ = waiting.send(());
            }
        }
    }
}

/// The listening connection.
pub(super) struct Listener {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Listener {
    pub(super) async fn open(address: &str) -> Result<Self> {
        let mut socket = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        let mut command = b"*3\r\n$9\r\nSUBSCRIBE\r\n".to_vec();
        for channel in [EVICTED, SYNC] {
            command.extend(format!("${}\r\n", channel.len()).bytes());
            command.extend(channel.iter().chain(b"\r\n"));
        }
        socket.write_all(&command).await?;
        let mut listener = Self {
            socket,
            unread: Vec::new(),
        };
        for _ in [EVICTED, SYNC] {
            let answer = timeout(PATIENCE, listener.message()).await;
            let answer = answer.context("no answer to SUBSCRIBE")??;
            ensure!(answer[0] == b"subscribe", "SUBSCRIBE: unexpected answer");
        }
        Ok(listener)
    }

    /// Listens until the connection ends, which is an error.
    pub(super) async fn listen(mut self, heard: &Heard) -> Result<()> {
        loop {
            let message = self.message().await?;
            heard.hear(&message);
        }
    }

    async fn message(&mut self) -> Result<Vec<Vec<u8>>> {
        loop {
            if let Some((message, used)) = parse(&self.unread)? {
                self.unread.drain(..used);
                return Ok(message);
            }
            ensure!(
                self.unread.len() <= MAX_MESSAGE_BYTES,
                "a notification of more than {MAX_MESSAGE_BYTES} bytes"
            );
            self.unread.reserve(READ_BYTES);
            let read = self.socket.read_buf(&mut self.unread).await?;
            ensure!(read > 0, "the connection that listens to evictions ended");
        }
    }
}

/// A message, an array of strings and numbers, and its length; none if there is more of it
/// to come.
fn parse(bytes: &[u8]) -> Result<Option<(Vec<Vec<u8>>, usize)>> {
    let mut at = 0;
    let Some(count) = header(bytes, &mut at, b'*')? else {
        return Ok(None);
    };
    let mut parts = Vec::new();
    for _ in 0..count {
        if bytes.get(at) == Some(&b':') {
            let Some(number) = header(bytes, &mut at, b':')? else {
                return Ok(None);
            };
            parts.push(number.to_string().into_bytes());
            continue;
        }
        let Some(len) = header(bytes, &mut at, b'$')? else {
            return Ok(None);
        };
        let Some(part) = bytes.get(at..at + len) else {
            return Ok(None);
        };
        parts.push(part.to_vec());
        at += len + 2;
    }
    Ok((at <= bytes.len() && !parts.is_empty()).then_some((parts, at)))
}

/// The number of a line that begins with `kind`.
fn header(bytes: &[u8], at: &mut usize, kind: u8) -> Result<Option<usize>> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let line = &rest[..end];
    let number = line
        .strip_prefix(&[kind])
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok())
        .filter(|n| *n <= MAX_MESSAGE_BYTES);
    let Some(number) = number else {
        bail!(
            "not a notification: {:?}",
            String::from_utf8_lossy(&line[..line.len().min(80)])
        );
    };
    *at += end + 2;
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_parsed_however_they_come() {
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
        let message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n";
        let both = [&subscribed[..], &message[..]].concat();
        for end in 0..subscribed.len() {
            assert_eq!(parse(&both[..end]).unwrap(), None, "{end}");
        }
        let (parts, used) = parse(&both).unwrap().unwrap();
        assert_eq!((parts[2].as_slice(), used), (&b"1"[..], subscribed.len()));
        let (parts, used) = parse(&both[used..]).unwrap().unwrap();
        assert_eq!((parts[2].as_slice(), used), (&b""[..], message.len()));
        assert!(parse(b"-ERR no\r\n").is_err() && parse(b"*1\r\n$99999999999\r\n").is_err());
    }

    #[test]
    fn an_eviction_is_known_by_its_key_until_it_is_written() {
        let heard = Heard::default();
        let message = |channel: &[u8], what: &[u8]| {
            heard.hear(&[b"message".to_vec(), channel.to_vec(), what.to_vec()]);
        };
        message(EVICTED, &name(17));
        message(EVICTED, b"another's");
        message(SYNC, b"nonsense");
        assert!(heard.is_evicted(17) && !heard.is_evicted(1));
        heard.forget(17);
        assert!(!heard.is_evicted(17));
    }
}
