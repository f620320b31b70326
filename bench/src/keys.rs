//! The keys of a cell, what each may hold, and passes over all of them outside of the clock.

use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use scatterhoard_judge::bodies::Bodies;

use crate::client::Connection;
use crate::reply::Reply;
use crate::target::Target;

mod versions;

use versions::Versions;

/// How much of an end is compared by [`Verify::Ends`].
const END_LEN: usize = 64;
/// From this many keys on, passes over them send several requests at once: what a thousand
/// keys hold is written one by one, so that values lie as they would without a benchmark.
const MANY_KEYS: usize = 1_001;
/// Requests and bytes that are sent at once then.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Verify {
    /// Every body is compared in full.
    Full,
    /// Length and both ends of every body, and each key in full after the round.
    Ends,
    /// Lengths only.
    None,
}

/// How long the bodies of keys are.
#[derive(Clone, Debug)]
pub(crate) enum Lengths {
    All(usize),
    /// Of each key.
    Each(Vec<u32>),
}

/// The keys of one cell on one target, and which contents each may hold now.
pub(crate) struct Keys {
    pub(crate) names: Vec<Vec<u8>>,
    lengths: Lengths,
    versions: Versions,
    bodies: Arc<Bodies>,
}

impl Keys {
    /// `count` keys; their names begin with `bench:PREFIX:`. With [`Lengths::Each`], there is
    /// one for every key.
    pub(crate) fn new(prefix: &str, count: usize, lengths: Lengths, bodies: Arc<Bodies>) -> Self {
        Self {
            names: (0..count)
                .map(|key| format!("bench:{prefix}:{key}").into())
                .collect(),
            lengths,
            versions: Versions::new(count),
            bodies,
        }
    }

    pub(crate) fn lengths(&self) -> &Lengths {
        &self.lengths
    }

    pub(crate) fn len(&self, key: usize) -> usize {
        match &self.lengths {
            Lengths::All(len) => *len,
            Lengths::Each(lens) => lens[key] as usize,
        }
    }

    /// Of the longest body.
    pub(crate) fn longest(&self) -> usize {
        match &self.lengths {
            Lengths::All(len) => *len,
            Lengths::Each(lens) => lens.iter().max().map_or(0, |len| *len as usize),
        }
    }

    /// The newest contents of a key.
    pub(crate) fn body(&self, key: usize) -> &[u8] {
        self.body_of(key, self.versions.newest(key))
    }

    /// Contents of one version.
    pub(crate) fn body_of(&self, key: usize, version: u32) -> &[u8] {
        self.bodies.body(key, version, self.len(key))
    }

    /// Contents that this key did not have before, and their version: to be told to
    /// [`Keys::written`] when the SET was acknowledged. Several may be on their way.
    pub(crate) fn next_body(&self, key: usize) -> (u32, &[u8]) {
        let version = self.versions.begin(key);
        (version, self.body_of(key, version))
    }

    pub(crate) fn written(&self, key: usize, version: u32) {
        self.versions.end(key, version);
    }

    /// The oldest version that a GET sent now may find.
    pub(crate) fn oldest(&self, key: usize) -> u32 {
        self.versions.oldest(key)
    }

    /// Judges the reply to a GET; `oldest` is what [`Keys::oldest`] said when it was sent.
    /// False if the key is not there.
    pub(crate) fn check(
        &self,
        key: usize,
        oldest: u32,
        reply: Option<Reply<'_>>,
        verify: Verify,
    ) -> Result<bool> {
        let name = || String::from_utf8_lossy(&self.names[key]);
        let body = match reply {
            Some(Reply::Bulk(body)) => body,
            Some(Reply::Nil) => return Ok(false),
            Some(Reply::Error(text)) => bail!("GET {}: {}", name(), String::from_utf8_lossy(text)),
            other => bail!("GET {}: no value, but {other:?}", name()),
        };
        ensure!(
            body.len() == self.len(key),
            "GET {}: {} bytes came back, {} were stored",
            name(),
            body.len(),
            self.len(key)
        );
        let may_be = oldest..=self.versions.newest(key);
        ensure!(
            self.is_one_of(key, may_be, body, verify),
            "GET {}: WRONG BYTES came back",
            name()
        );
        Ok(true)
    }

    fn is_one_of(&self, key: usize, versions: RangeInclusive<u32>, body: &[u8], v: Verify) -> bool {
        let end = END_LEN.min(body.len());
        let tail = body.len() - end;
        let matches = |version| {
            let expected = self.body_of(key, version);
            match v {
                Verify::Full => body == expected,
                Verify::Ends => body[..end] == expected[..end] && body[tail..] == expected[tail..],
                Verify::None => true,
            }
        };
        versions.into_iter().any(matches)
    }

    /// Runs of keys that are sent at once.
    fn batches(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let most = if self.names.len() < MANY_KEYS {
            1
        } else {
            BATCH
        };
        let mut next = 0;
        std::iter::from_fn(move || {
            let begin = next;
            let mut bytes = 0;
            while next < self.names.len() && next - begin < most {
                bytes += self.len(next);
                if next > begin && bytes > BATCH_BYTES {
                    break;
                }
                next += 1;
            }
            (begin < next).then_some(begin..next)
        })
    }
}

pub(crate) fn check_stored(reply: Option<Reply<'_>>) -> Result<()> {
    match reply {
        Some(Reply::Line(b"OK" | b"STORED")) => Ok(()),
        Some(Reply::Error(text)) => bail!("SET: {}", String::from_utf8_lossy(text)),
        other => bail!("SET: unexpected reply {other:?}"),
    }
}

/// Writes every key once.
pub(crate) async fn populate(target: &Target, keys: &Keys) -> Result<()> {
    let mut connection = Connection::to(target, BATCH, 0).await?;
    for batch in keys.batches() {
        let (first, count) = (batch.start, batch.len());
        if count == 1 {
            connection.set(&keys.names[first], keys.body(first)).await?;
        } else {
            for key in batch {
                connection.push_set(&keys.names[key], keys.body(key))?;
            }
            connection.exchange(count).await?;
        }
        for index in 0..count {
            check_stored(connection.reply(index)).with_context(|| {
                let key = first + index;
                let name = String::from_utf8_lossy(&keys.names[key]);
                format!("{name}, {} bytes", keys.len(key))
            })?;
        }
    }
    Ok(())
}

/// Reads every key once and compares it in full; what is missing may be, or not.
pub(crate) async fn verify_all(target: &Target, keys: &Keys, may_miss: bool) -> Result<()> {
    let mut connection = Connection::to(target, 1, keys.longest()).await?;
    for batch in keys.batches() {
        let (first, count) = (batch.start, batch.len());
        for key in batch {
            connection.push_get(&keys.names[key])?;
        }
        connection.exchange(count).await?;
        for index in 0..count {
            let key = first + index;
            let reply = connection.reply(index);
            let is_there = keys.check(key, keys.oldest(key), reply, Verify::Full)?;
            ensure!(is_there || may_miss, "{}", missing(keys, key));
        }
    }
    Ok(())
}

pub(crate) fn missing(keys: &Keys, key: usize) -> String {
    let name = String::from_utf8_lossy(&keys.names[key]);
    format!(
        "GET {name}: it was stored, but there is no value: expected {} bytes. If the server \
         evicts, fewer --keys or smaller sizes fit it, or --on-miss count or fill allows it",
        keys.len(key)
    )
}

/// Deletes every key, so that the next cell finds room.
pub(crate) async fn clean(target: &Target, keys: &Keys) -> Result<()> {
    let mut connection = Connection::to(target, BATCH, 0).await?;
    for batch in keys.batches() {
        let count = batch.len();
        for key in batch {
            connection.push_delete(&keys.names[key])?;
        }
        connection.exchange(count).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new("t", 3, Lengths::All(1_000), Arc::new(Bodies::new(1_000, 7)))
    }

    fn check(keys: &Keys, key: usize, body: &[u8], verify: Verify) -> Result<bool> {
        keys.check(key, keys.oldest(key), Some(Reply::Bulk(body)), verify)
    }

    #[test]
    fn a_flipped_middle_byte_is_seen_by_full_and_a_flipped_end_by_both() -> Result<()> {
        let keys = keys();
        let mut body = keys.body(1).to_vec();
        assert!(check(&keys, 1, &body, Verify::Full)?);
        body[500] ^= 1;
        assert!(check(&keys, 1, &body, Verify::Full).is_err());
        assert!(check(&keys, 1, &body, Verify::Ends)?);
        body[999] ^= 1;
        assert!(check(&keys, 1, &body, Verify::Ends).is_err());
        Ok(())
    }

    #[test]
    fn a_stale_body_and_a_short_body_are_refused_and_nil_is_a_miss() -> Result<()> {
        let keys = keys();
        let stale = keys.body(0).to_vec();
        let (version, _) = keys.next_body(0);
        keys.written(0, version);
        assert!(check(&keys, 0, &stale, Verify::Ends).is_err());
        let short = keys.body(0)[..999].to_vec();
        assert!(check(&keys, 0, &short, Verify::None).is_err());
        assert!(!keys.check(0, 0, Some(Reply::Nil), Verify::None)?);
        Ok(())
    }

    #[test]
    fn while_a_write_is_on_its_way_both_contents_are_right() -> Result<()> {
        let keys = keys();
        let before = keys.body(0).to_vec();
        let oldest = keys.oldest(0);
        let (version, after) = keys.next_body(0);
        assert!(check(&keys, 0, &before, Verify::Full)? && check(&keys, 0, after, Verify::Full)?);
        keys.written(0, version);
        // a GET that was sent before the acknowledgement may have been overtaken
        let overtaken = Some(Reply::Bulk(&before[..]));
        assert!(keys.check(0, oldest, overtaken, Verify::Full)?);
        assert!(check(&keys, 0, &before, Verify::Full).is_err());
        Ok(())
    }

    #[test]
    fn batches_cover_every_key_once_and_are_bounded() {
        let bodies = Arc::new(Bodies::new(BATCH_BYTES, 7));
        let lens: Vec<u32> = (0..2_000)
            .map(|key| {
                if key % 100 == 0 {
                    BATCH_BYTES as u32
                } else {
                    10
                }
            })
            .collect();
        let keys = Keys::new("t", lens.len(), Lengths::Each(lens), bodies);
        let mut next = 0;
        for batch in keys.batches() {
            assert_eq!(batch.start, next);
            assert!(!batch.is_empty() && batch.len() <= BATCH);
            let bytes: usize = batch.clone().map(|key| keys.len(key)).sum();
            assert!(batch.len() == 1 || bytes <= BATCH_BYTES);
            next = batch.end;
        }
        assert_eq!((next, keys.longest()), (2_000, BATCH_BYTES));
    }
}
