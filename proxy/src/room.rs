//! Room in memory that all clients share, of which none may have too much.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Taken from what is left at least, so that many small things cost little.
const STEP: u64 = 64 << 10;

/// What all clients share.
#[derive(Clone, Debug)]
pub struct Rooms {
    left: Arc<Semaphore>,
    bytes: usize,
    share: u64,
}

/// What one of them has of it, until dropped.
#[derive(Debug)]
pub struct Room {
    rooms: Rooms,
    permit: Option<OwnedSemaphorePermit>,
    /// Held, and in use.
    held: u64,
    used: u64,
}

impl Rooms {
    /// So many bytes, of which each may have so many.
    pub fn new(bytes: usize, share: u64) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Self {
            left: Arc::new(Semaphore::new(bytes)),
            bytes,
            share,
        }
    }

    /// Whether nobody has anything of it.
    pub fn are_empty(&self) -> bool {
        self.left.available_permits() == self.bytes
    }

    /// Nothing of it yet.
    pub fn none(&self) -> Room {
        Room {
            rooms: self.clone(),
            permit: None,
            held: 0,
            used: 0,
        }
    }
}

impl Room {
    /// Bytes taken.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Takes so many bytes more; false, and nothing taken, if they are not there.
    #[must_use]
    pub fn take(&mut self, bytes: u64) -> bool {
        let used = self.used.saturating_add(bytes);
        if used > self.rooms.share {
            return false;
        }
        if used > self.held && !self.hold(used - self.held) {
            return false;
        }
        self.used = used;
        true
    }

    fn hold(&mut self, least: u64) -> bool {
        let take = |bytes: u64| {
            let bytes = u32::try_from(bytes).ok()?;
            self.rooms.left.clone().try_acquire_many_owned(bytes).ok()
        };
        let step = STEP.min(self.rooms.share - self.held);
        let more = take(least.max(step)).or_else(|| take(least));
        let Some(more) = more else {
            return false;
        };
        self.held += more.num_permits() as u64;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_a_share_or_than_is_left() {
        let rooms = Rooms::new(200 << 10, 150 << 10);
        let (mut one, mut other) = (rooms.none(), rooms.none());
        assert!(one.take(1) && one.take(100 << 10));
        assert!(!one.take(50 << 10), "more than a share");
        assert!(one.take(49 << 10));
        assert!(!other.take(100 << 10), "more than is left");
        assert!(other.take(40 << 10));
        drop(one);
        assert!(other.take(100 << 10));
        assert!(!rooms.are_empty());
        drop(other);
        assert!(rooms.are_empty());
    }
}
