//! How reading goes on after the connection broke; pure.

use bytes::{Bytes, BytesMut};

use crate::Error;

/// So many of the bytes delivered last are read again, and compared.
const OVERLAP: usize = 64;

/// What a stream does when its connection breaks.
///
/// Redis's protocol has no versions of values: whether the key still has the
/// value whose first part was delivered cannot be known. What is left is read by
/// one GETRANGE from 64 bytes in front of the break to the end, and it must have
/// the length that is missing, and begin with the bytes that were delivered last:
/// otherwise the stream ends with [`Error::Changed`]. **A value of the same
/// length that has the same bytes there and others elsewhere is not noticed.** So
/// this is for keys whose value never changes, such as those that name a content
/// or a version; nothing but that makes a resumed read one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// It ends with the error. What was delivered is part of one value.
    #[default]
    Never,
    /// It goes on where it broke off, at most so often in a row without a byte
    /// of progress. The caller vouches that the key's value never changes.
    IfUnchanging {
        /// How often.
        attempts: u32,
    },
}

/// What has been delivered.
#[derive(Debug)]
pub(crate) struct Progress {
    len: u64,
    delivered: u64,
    /// The end of it.
    last: BytesMut,
    resume: Resume,
    /// Since there was progress.
    failures: u32,
}

impl Progress {
    pub(crate) fn new(len: u64, resume: Resume) -> Self {
        Self {
            len,
            delivered: 0,
            last: BytesMut::new(),
            resume,
            failures: 0,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn rest(&self) -> u64 {
        self.len - self.delivered
    }

    /// These are delivered.
    pub(crate) fn deliver(&mut self, bytes: &[u8]) {
        self.delivered += bytes.len() as u64;
        self.failures = 0;
        if self.resume == Resume::Never {
            return;
        }
        let new = bytes
            .get(bytes.len().saturating_sub(OVERLAP)..)
            .unwrap_or(bytes);
        let kept = self.last.len().min(OVERLAP - new.len());
        let old = self.last.split_off(self.last.len() - kept);
        self.last.clear();
        self.last.extend_from_slice(&old);
        self.last.extend_from_slice(new);
    }

    /// After this error: from which offset to read on, if there is any going on.
    pub(crate) fn fail(&mut self, error: &Error) -> Option<u64> {
        let Resume::IfUnchanging { attempts } = self.resume else {
            return None;
        };
        if !error.is_retryable() || matches!(error, Error::Changed(_)) || self.failures >= attempts
        {
            return None;
        }
        self.failures += 1;
        Some(self.delivered - self.last.len() as u64)
    }

    /// How often in a row it went wrong.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// What the rest must begin with.
    pub(crate) fn begin(&self) -> Begin {
        let last = Bytes::copy_from_slice(&self.last);
        let (rest, delivered) = (self.rest(), self.delivered);
        Begin {
            last,
            rest,
            delivered,
        }
    }
}

/// How the rest of a value begins.
#[derive(Debug)]
pub(crate) struct Begin {
    last: Bytes,
    rest: u64,
    delivered: u64,
}

impl Begin {
    /// How many bytes are compared.
    pub(crate) fn overlap(&self) -> usize {
        self.last.len()
    }

    /// Whether a reply of `len` bytes that begins with `begin` goes on from here.
    pub(crate) fn check(&self, len: u64, begin: &[u8]) -> Result<(), Error> {
        match len == self.rest + self.last.len() as u64 && begin == self.last {
            true => Ok(()),
            false => Err(Error::Changed(self.delivered)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ON: Resume = Resume::IfUnchanging { attempts: 2 };

    #[test]
    fn without_being_asked_it_ends() {
        let mut progress = Progress::new(100, Resume::Never);
        progress.deliver(b"abc");
        assert_eq!(progress.fail(&Error::ended(true)), None);
    }

    #[test]
    fn attempts_count_from_the_last_progress() {
        let mut progress = Progress::new(100, ON);
        for _ in 0..5 {
            progress.deliver(b"abc");
            assert!(progress.fail(&Error::ended(true)).is_some());
            assert!(progress.fail(&Error::ended(true)).is_some());
        }
        assert_eq!(progress.fail(&Error::ended(true)), None);
        progress.deliver(b"abc");
        let lasting = progress.fail(&Error::Closed);
        assert_eq!(lasting, None, "nothing that passes");
    }

    #[test]
    fn another_value_is_not_taken_for_the_rest() {
        let mut progress = Progress::new(10, ON);
        progress.deliver(b"abcdef");
        assert_eq!(progress.fail(&Error::ended(true)), Some(0));
        assert!(progress.begin().check(10, b"abcdef").is_ok());
        assert!(matches!(
            progress.begin().check(9, b"abcdef"),
            Err(Error::Changed(6))
        ));
        assert!(matches!(
            progress.begin().check(10, b"abcdeX"),
            Err(Error::Changed(6))
        ));
        assert!(matches!(
            progress.begin().check(0, b""),
            Err(Error::Changed(6))
        ));
    }

    proptest! {
        #[test]
        fn it_goes_on_where_it_broke_off(
            pieces in proptest::collection::vec(1_usize..100, 0..20),
            more in 0_u64..1000,
        ) {
            let all: Vec<u8> = (0..pieces.iter().sum()).map(|n: usize| (n % 251) as u8).collect();
            let mut progress = Progress::new(all.len() as u64 + more, ON);
            let mut at = 0;
            for piece in pieces {
                progress.deliver(&all[at..at + piece]);
                at += piece;
            }
            let from = usize::try_from(progress.fail(&Error::ended(true)).unwrap()).unwrap();
            prop_assert_eq!(&progress.begin().last[..], &all[from..]);
            prop_assert_eq!(progress.begin().overlap(), all.len().min(OVERLAP));
            prop_assert!(progress.begin().check(more + progress.begin().overlap() as u64, &all[from..]).is_ok());
        }
    }
}
