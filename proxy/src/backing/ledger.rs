//! What the backing store still lacks, and what it has in vain. Pure.
//!
//! A write is uploaded at most once at a time. One that is named no longer is not
//! uploaded any more if it only waits, and is deleted otherwise: after its upload
//! is over, since nobody knows what a broken upload leaves behind.
//!
//! Deletions are bounded. Those that are too many are forgotten, and found again
//! by the next stock-taking, like those that a crash took.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use scatterhoard_wire::WriteId;

/// Objects that wait to be deleted.
const MOST_DOOMED: usize = 1 << 16;

struct Waiting<J> {
    job: J,
    /// It was begun before.
    tried: bool,
}

/// The book. `J` is what an upload needs.
pub(super) struct Ledger<J> {
    waiting: BTreeMap<WriteId, Waiting<J>>,
    /// Under upload, and whether to be deleted then.
    running: HashMap<WriteId, bool>,
    doomed: BTreeSet<WriteId>,
    /// Something was forgotten.
    is_incomplete: bool,
}

impl<J> Default for Ledger<J> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            running: HashMap::new(),
            doomed: BTreeSet::new(),
            is_incomplete: false,
        }
    }
}

/// What became of a write that is named no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forgotten {
    /// It waited, and will not be uploaded any more.
    Skipped,
    /// It is to be deleted, perhaps after its upload.
    Doomed,
}

impl<J> Ledger<J> {
    /// An upload for later.
    pub(super) fn wait(&mut self, write_id: WriteId, job: J) {
        let waiting = Waiting { job, tried: false };
        self.waiting.insert(write_id, waiting);
    }

    /// The oldest that waits, if it is `ready`: under upload until
    /// [`Self::end`] or [`Self::again`].
    pub(super) fn begin_next(&mut self, ready: impl Fn(&J) -> bool) -> Option<(WriteId, J)> {
        let first = self.waiting.first_entry()?;
        if !ready(&first.get().job) {
            return None;
        }
        let (write_id, waiting) = first.remove_entry();
        self.running.insert(write_id, false);
        Some((write_id, waiting.job))
    }

    /// The oldest that waits.
    pub(super) fn first(&self) -> Option<&J> {
        self.waiting.first_key_value().map(|(_, w)| &w.job)
    }

    /// An upload now; false if it is under way, or waits.
    pub(super) fn begin(&mut self, write_id: WriteId) -> bool {
        let is_new = !self.waiting.contains_key(&write_id) && !self.running.contains_key(&write_id);
        if is_new {
            self.running.insert(write_id, false);
        }
        is_new
    }

    /// The upload is over, however it went.
    pub(super) fn end(&mut self, write_id: WriteId) {
        if self.running.remove(&write_id) == Some(true) {
            self.doom(write_id);
        }
    }

    /// The upload failed, and waits again unless it is named no longer.
    pub(super) fn again(&mut self, write_id: WriteId, job: J) {
        match self.running.remove(&write_id) {
            Some(false) => {
                let waiting = Waiting { job, tried: true };
                self.waiting.insert(write_id, waiting);
            }
            _ => self.doom(write_id),
        }
    }

    /// Nothing names it any more.
    pub(super) fn forget(&mut self, write_id: WriteId) -> Forgotten {
        if let Some(doomed) = self.running.get_mut(&write_id) {
            *doomed = true;
            return Forgotten::Doomed;
        }
        let waiting = self.waiting.remove(&write_id);
        if waiting.as_ref().is_none_or(|waiting| waiting.tried) {
            self.doom(write_id);
        }
        match waiting {
            Some(_) => Forgotten::Skipped,
            None => Forgotten::Doomed,
        }
    }

    fn doom(&mut self, write_id: WriteId) {
        if self.doomed.len() < MOST_DOOMED {
            self.doomed.insert(write_id);
        } else {
            self.is_incomplete = true;
        }
    }

    /// At most `most` to be deleted now; [`Self::forget`] takes back those that
    /// could not be.
    pub(super) fn take_doomed(&mut self, most: usize) -> Vec<WriteId> {
        let taken: Vec<WriteId> = self.doomed.iter().copied().take(most).collect();
        taken.iter().for_each(|id| {
            self.doomed.remove(id);
        });
        taken
    }

    /// Whether something was forgotten since the last call.
    pub(super) fn take_incomplete(&mut self) -> bool {
        std::mem::take(&mut self.is_incomplete)
    }

    /// Uploads that wait or are under way.
    pub(super) fn uploads(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Objects to be deleted.
    pub(super) fn deletions(&self) -> usize {
        self.doomed.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use scatterhoard_wire::Epoch;

    use super::*;

    fn id(counter: u64) -> WriteId {
        WriteId {
            epoch: Epoch(1),
            counter,
        }
    }

    /// A store, the names, and uploads under way.
    #[derive(Default)]
    struct World {
        ledger: Ledger<()>,
        stored: BTreeSet<WriteId>,
        named: BTreeSet<WriteId>,
        running: Vec<WriteId>,
        last: u64,
    }

    impl World {
        fn finish(&mut self, at: usize, is_stored: bool, fails: bool) {
            let id = self.running.remove(at);
            // a failed one may have got there all the same
            if is_stored || !fails {
                self.stored.insert(id);
            }
            if fails {
                self.ledger.again(id, ());
            } else {
                self.ledger.end(id);
            }
        }

        fn begin_next(&mut self) {
            let next = self.ledger.begin_next(|()| true);
            self.running.extend(next.map(|(id, ())| id));
        }

        fn delete(&mut self, fails: bool) {
            for id in self.ledger.take_doomed(3) {
                if fails {
                    self.ledger.forget(id);
                } else {
                    self.stored.remove(&id);
                }
            }
        }

        fn step(&mut self, what: u8, which: usize) {
            let one = |set: &BTreeSet<WriteId>| set.iter().nth(which % set.len().max(1)).copied();
            match what {
                0 => {
                    self.last += 1;
                    self.named.insert(id(self.last));
                    self.ledger.wait(id(self.last), ());
                }
                1 => {
                    if let Some(id) = one(&self.named) {
                        self.named.remove(&id);
                        self.ledger.forget(id);
                    }
                }
                2 => self.begin_next(),
                3 | 4 if !self.running.is_empty() => {
                    let at = which % self.running.len();
                    self.finish(at, which.is_multiple_of(2), what == 4);
                }
                5 => self.delete(which.is_multiple_of(3)),
                _ => {}
            }
            let unique: BTreeSet<_> = self.running.iter().collect();
            assert_eq!(unique.len(), self.running.len(), "twice at once");
        }
    }

    proptest! {
        #[test]
        fn in_the_end_what_is_named_is_stored_and_nothing_else(
            steps in vec((0u8..6, any::<usize>()), 0..200)
        ) {
            let mut world = World::default();
            steps.into_iter().for_each(|(what, which)| world.step(what, which));
            loop {
                while !world.running.is_empty() {
                    world.finish(0, true, false);
                }
                world.begin_next();
                if world.running.is_empty() {
                    break;
                }
            }
            while world.ledger.deletions() > 0 {
                world.delete(false);
            }
            prop_assert_eq!(&world.stored, &world.named);
            prop_assert_eq!(world.ledger.uploads(), 0);
            prop_assert!(!world.ledger.take_incomplete());
        }
    }

    #[test]
    fn too_many_deletions_are_left_to_stock_taking() {
        let mut ledger = Ledger::<()>::default();
        for counter in 0..=MOST_DOOMED as u64 {
            ledger.forget(id(counter));
        }
        assert_eq!(ledger.deletions(), MOST_DOOMED);
        assert!(ledger.take_incomplete() && !ledger.take_incomplete());
    }

    #[test]
    fn an_upload_that_waits_is_not_begun_beside() {
        let mut ledger = Ledger::default();
        ledger.wait(id(1), 7);
        assert!(!ledger.begin(id(1)));
        assert!(ledger.begin_next(|job| *job > 7).is_none());
        assert_eq!(ledger.begin_next(|job| *job == 7), Some((id(1), 7)));
        assert!(!ledger.begin(id(1)));
        ledger.end(id(1));
        assert!(ledger.begin(id(1)));
    }
}
