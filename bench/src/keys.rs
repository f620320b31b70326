//! The keys of a cell, what each must hold, and passes over all of them outside of the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail, ensure};

use crate::client::Connection;
use crate::reply::Reply;
use crate::target::Target;
use crate::workload::Cell;
use scatterhoard_judge::bodies::Bodies;

/// How much of an end is compared by [`Verify::Ends`].
const END_LEN: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Verify {
    /// Every body is compared in full.
    Full,
    /// Length and both ends of every body, and each key in full after the round.
    Ends,
    /// Lengths only.
    None,
}

/// The keys of one cell on one target, and which contents each holds now.
pub(crate) struct Keys {
    pub(crate) names: Vec<Vec<u8>>,
    /// A key is written by one client only, and never while others read: relaxed suffices.
    generations: Vec<AtomicU32>,
    body_len: usize,
    bodies: Arc<Bodies>,
}

impl Keys {
    /// At least one key for each client, so that no key has two writers.
    pub(crate) fn new(cell: &Cell, count: usize, bodies: Arc<Bodies>) -> Self {
        Self::of_few(cell, count.max(cell.clients), bodies)
    }

    /// Keys that are fewer than the clients: nobody may change what they hold.
    pub(crate) fn of_few(cell: &Cell, count: usize, bodies: Arc<Bodies>) -> Self {
        Self {
            names: (0..count)
                .map(|key| format!("bench:{}:{key}", cell.size).into())
                .collect(),
            generations: (0..count).map(|_| AtomicU32::new(0)).collect(),
            body_len: cell.size.bytes,
            bodies,
        }
    }

    pub(crate) fn body(&self, key: usize) -> &[u8] {
        let generation = self.generations[key].load(Ordering::Relaxed);
        self.bodies.body(key, generation, self.body_len)
    }

    /// The contents that the next SET of this key writes; expected from now on.
    pub(crate) fn next_body(&self, key: usize) -> &[u8] {
        self.generations[key].fetch_add(1, Ordering::Relaxed);
        self.body(key)
    }

    pub(crate) fn check(&self, key: usize, reply: Option<Reply<'_>>, verify: Verify) -> Result<()> {
        let name = String::from_utf8_lossy(&self.names[key]);
        let body = match reply {
            Some(Reply::Bulk(body)) => body,
            Some(Reply::Error(text)) => bail!("GET {name}: {}", String::from_utf8_lossy(text)),
            other => bail!("GET {name}: no value, but {other:?}"),
        };
        let expected = self.body(key);
        ensure!(
            body.len() == expected.len(),
            "GET {name}: {} bytes came back",
            body.len()
        );
        let end = END_LEN.min(body.len());
        let tail = body.len() - end;
        let right = match verify {
            Verify::Full => body == expected,
            Verify::Ends => body[..end] == expected[..end] && body[tail..] == expected[tail..],
            Verify::None => true,
        };
        ensure!(right, "GET {name}: WRONG BYTES came back");
        Ok(())
    }
}

pub(crate) fn check_stored(reply: Option<Reply<'_>>) -> Result<()> {
    match reply {
        Some(Reply::Line(b"OK")) => Ok(()),
        Some(Reply::Error(text)) => bail!("SET: {}", String::from_utf8_lossy(text)),
        other => bail!("SET: unexpected reply {other:?}"),
    }
}

/// Writes every key once.
pub(crate) async fn populate(target: &Target, keys: &Keys) -> Result<()> {
    let mut connection = Connection::open(&target.address, 1, 0).await?;
    for (key, name) in keys.names.iter().enumerate() {
        connection.set(name, keys.body(key)).await?;
        check_stored(connection.reply(0))?;
    }
    Ok(())
}

/// Reads every key once and compares it in full.
pub(crate) async fn verify_all(target: &Target, keys: &Keys) -> Result<()> {
    let mut connection = Connection::open(&target.address, 1, keys.body_len).await?;
    for (key, name) in keys.names.iter().enumerate() {
        connection.push(&[b"GET", name])?;
        connection.exchange(1).await?;
        keys.check(key, connection.reply(0), Verify::Full)?;
    }
    Ok(())
}

/// Deletes every key, so that the next cell finds room.
pub(crate) async fn clean(target: &Target, keys: &Keys) -> Result<()> {
    let mut connection = Connection::open(&target.address, 1, 0).await?;
    for name in &keys.names {
        connection.push(&[b"DEL", name])?;
        connection.exchange(1).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Op;

    fn keys() -> Result<Keys> {
        let cell = Cell {
            op: Op::Get,
            size: "1k".parse()?,
            clients: 1,
            pipeline: 1,
        };
        Ok(Keys::new(&cell, 3, Arc::new(Bodies::new(1_000, 7))))
    }

    #[test]
    fn a_flipped_middle_byte_is_seen_by_full_and_a_flipped_end_by_both() -> Result<()> {
        let keys = keys()?;
        let mut body = keys.body(1).to_vec();
        assert!(
            keys.check(1, Some(Reply::Bulk(&body)), Verify::Full)
                .is_ok()
        );
        body[500] ^= 1;
        assert!(
            keys.check(1, Some(Reply::Bulk(&body)), Verify::Full)
                .is_err()
        );
        assert!(
            keys.check(1, Some(Reply::Bulk(&body)), Verify::Ends)
                .is_ok()
        );
        body[999] ^= 1;
        assert!(
            keys.check(1, Some(Reply::Bulk(&body)), Verify::Ends)
                .is_err()
        );
        Ok(())
    }

    #[test]
    fn a_stale_body_a_short_body_and_nil_are_refused() -> Result<()> {
        let keys = keys()?;
        let stale = keys.body(0).to_vec();
        keys.next_body(0);
        assert!(
            keys.check(0, Some(Reply::Bulk(&stale)), Verify::Ends)
                .is_err()
        );
        let short = keys.body(0)[..999].to_vec();
        assert!(
            keys.check(0, Some(Reply::Bulk(&short)), Verify::None)
                .is_err()
        );
        assert!(keys.check(0, Some(Reply::Nil), Verify::None).is_err());
        Ok(())
    }
}
