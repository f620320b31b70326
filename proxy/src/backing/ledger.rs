//! What the backing store still lacks, and what it has in vain. Pure.
//!
//! A write is uploaded at most once at a time. One that is named no longer is not
//! uploaded any more if it only waits, and is deleted otherwise: after its upload
//! is over, since nobody knows what a broken upload leaves behind.
//!
//! Deletions are bounded. Those that are too many are forgotten, and found again
//! by the next stock-taking, like those that a crash took.

use std::collections::{BTreeMap, BTreeSet};

use scatterhoard_node::random::HashMap;
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
    /// By when they were doomed.
    doomed: BTreeMap<WriteId, u64>,
    /// The same by age.
    ages: BTreeMap<u64, WriteId>,
    /// Counts what is doomed.
    age: u64,
    /// Under deletion.
    deleting: BTreeSet<WriteId>,
    /// Deletions that were carried out.
    gone: u64,
    /// Something was forgotten.
    is_incomplete: bool,
}

impl<J> Default for Ledger<J> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            running: HashMap::default(),
            doomed: BTreeMap::new(),
            ages: BTreeMap::new(),
            age: 0,
            deleting: BTreeSet::new(),
            gone: 0,
            is_incomplete: false,
        }
    }
}

/// What can be uploaded next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<J, T> {
    /// This one, now.
    Begun(WriteId, J),
    /// One at this time.
    Later(T),
    /// None, until one is added or something under way ends.
    Nothing,
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
        // one that was given up, and is tried again by its writer, may be there
        let given_up = self
            .running
            .get_mut(&write_id)
            .map(|doomed| *doomed = false);
        let tried = self.spare(write_id) || given_up.is_some() || self.deleting.contains(&write_id);
        self.waiting.insert(write_id, Waiting { job, tried });
    }

    /// The oldest that is `due` by now and has nothing else under way: under
    /// upload until [`Self::end`] or [`Self::again`].
    pub(super) fn begin_next<T: Ord + Copy>(
        &mut self,
        now: &T,
        due: impl Fn(&J) -> T,
    ) -> Next<J, T> {
        let (mut found, mut later) = (None, None);
        for (write_id, waiting) in &self.waiting {
            if self.running.contains_key(write_id) || self.deleting.contains(write_id) {
                // who ends that says so
                continue;
            }
            let at = due(&waiting.job);
            if at <= *now {
                found = Some(*write_id);
                break;
            }
            later = Some(later.map_or(at, |other: T| other.min(at)));
            if !waiting.tried {
                // younger ones are due later still
                break;
            }
        }
        let begun = found.and_then(|id| Some((id, self.waiting.remove(&id)?.job)));
        if let Some((write_id, job)) = begun {
            self.running.insert(write_id, false);
            return Next::Begun(write_id, job);
        }
        later.map_or(Next::Nothing, Next::Later)
    }

    /// Whether any upload waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// An upload now; false if it is under way, waits, or is under deletion.
    pub(super) fn begin(&mut self, write_id: WriteId) -> bool {
        let is_new = !self.waiting.contains_key(&write_id)
            && !self.running.contains_key(&write_id)
            && !self.deleting.contains(&write_id);
        if is_new {
            self.spare(write_id);
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
                self.waiting.entry(write_id).or_insert(waiting);
            }
            _ => self.doom(write_id),
        }
    }

    /// Nothing names it any more.
    pub(super) fn forget(&mut self, write_id: WriteId) -> Forgotten {
        let waiting = self.waiting.remove(&write_id);
        if let Some(doomed) = self.running.get_mut(&write_id) {
            *doomed = true;
        } else if waiting.as_ref().is_none_or(|waiting| waiting.tried) {
            self.doom(write_id);
        }
        match waiting {
            Some(_) => Forgotten::Skipped,
            None => Forgotten::Doomed,
        }
    }

    fn doom(&mut self, write_id: WriteId) {
        self.spare(write_id);
        if self.doomed.len() < MOST_DOOMED {
            self.age += 1;
            self.doomed.insert(write_id, self.age);
            self.ages.insert(self.age, write_id);
        } else {
            self.is_incomplete = true;
        }
    }

    /// Not to be deleted after all; whether it was to be.
    fn spare(&mut self, write_id: WriteId) -> bool {
        let age = self.doomed.remove(&write_id);
        age.is_some_and(|age| self.ages.remove(&age).is_some())
    }

    /// What was doomed up to now, for [`Self::take_doomed`]; none if nothing is.
    pub(super) fn doomed(&self) -> Option<u64> {
        (!self.doomed.is_empty()).then_some(self.age)
    }

    /// At most `most` of those doomed `until` then, the oldest first: under deletion
    /// until [`Self::deleted`].
    pub(super) fn take_doomed(&mut self, until: u64, most: usize) -> Vec<WriteId> {
        let ages = self.ages.range(..=until);
        let taken: Vec<WriteId> = ages.map(|(_, id)| *id).take(most).collect();
        taken.iter().for_each(|id| {
            self.spare(*id);
        });
        self.deleting.extend(&taken);
        taken
    }

    /// Of those under deletion these are gone; the `others` are to be deleted again.
    pub(super) fn deleted(&mut self, gone: &[WriteId], others: &[WriteId]) {
        for id in gone {
            self.gone += u64::from(self.deleting.remove(id));
        }
        for id in others {
            // not if it is wanted after all: its upload is a new one
            if self.deleting.remove(id) && !self.waiting.contains_key(id) {
                self.doom(*id);
            }
        }
    }

    /// How many deletions were carried out so far.
    pub(super) fn gone(&self) -> u64 {
        self.gone
    }

    /// An upload of what is stored already, but damaged; false if it is under way,
    /// waits, or is to be deleted anyhow.
    pub(super) fn mend(&mut self, write_id: WriteId, job: J) -> bool {
        let is_idle = !self.waiting.contains_key(&write_id)
            && !self.running.contains_key(&write_id)
            && !self.deleting.contains(&write_id)
            && !self.doomed.contains_key(&write_id);
        if is_idle {
            // deleted if it is forgotten meanwhile: something is there
            let waiting = Waiting { job, tried: true };
            self.waiting.insert(write_id, waiting);
        }
        is_idle
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
        self.doomed.len() + self.deleting.len()
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
        deleting: Vec<WriteId>,
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
            if let Next::Begun(id, ()) = self.ledger.begin_next(&0, |()| 0) {
                self.running.push(id);
            }
        }

        /// Begins to delete, or ends it.
        fn delete(&mut self, fails: bool) {
            if self.deleting.is_empty() {
                self.deleting = self.ledger.take_doomed(u64::MAX, 3);
                return;
            }
            let ids = std::mem::take(&mut self.deleting);
            let gone = &ids[..ids.len() / if fails { 2 } else { 1 }];
            gone.iter().for_each(|id| {
                self.stored.remove(id);
            });
            self.ledger.deleted(gone, &ids);
        }

        /// A writer that had given up tries the same write again.
        fn retry(&mut self, id: WriteId, later: bool) {
            if self.named.contains(&id) {
                return;
            }
            if later {
                self.ledger.wait(id, ());
            } else if self.ledger.begin(id) {
                self.running.push(id);
            } else {
                return;
            }
            self.named.insert(id);
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
                6 if self.last > 0 => {
                    let id = id(1 + which as u64 % self.last);
                    self.retry(id, which.is_multiple_of(2));
                }
                7 => {
                    if let Some(id) = one(&self.named) {
                        self.ledger.mend(id, ());
                    }
                }
                _ => {}
            }
            let busy = || self.running.iter().chain(&self.deleting);
            let unique: BTreeSet<_> = busy().collect();
            assert_eq!(unique.len(), busy().count(), "twice at once");
        }
    }

    proptest! {
        #[test]
        fn in_the_end_what_is_named_is_stored_and_nothing_else(
            steps in vec((0u8..8, any::<usize>()), 0..200)
        ) {
            let mut world = World::default();
            steps.into_iter().for_each(|(what, which)| world.step(what, which));
            while world.ledger.uploads() + world.ledger.deletions() > 0 {
                world.delete(false);
                world.begin_next();
                if !world.running.is_empty() {
                    world.finish(0, true, false);
                }
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
        assert_eq!(ledger.begin_next(&6, |job| *job), Next::Later(7));
        assert_eq!(ledger.begin_next(&7, |job| *job), Next::Begun(id(1), 7));
        assert!(!ledger.begin(id(1)));
        ledger.end(id(1));
        assert!(ledger.begin(id(1)));
    }

    #[test]
    fn one_that_is_busy_or_put_off_keeps_nobody_waiting() {
        let mut ledger = Ledger::default();
        ledger.forget(id(1));
        assert_eq!(ledger.take_doomed(u64::MAX, 1), [id(1)]);
        ledger.wait(id(1), 0);
        assert_eq!(ledger.begin_next(&9, |due| *due), Next::Nothing);
        ledger.wait(id(2), 0);
        assert_eq!(ledger.begin_next(&9, |due| *due), Next::Begun(id(2), 0));
        ledger.again(id(2), 20);
        ledger.wait(id(3), 9);
        assert_eq!(ledger.begin_next(&8, |due| *due), Next::Later(9));
        assert_eq!(ledger.begin_next(&9, |due| *due), Next::Begun(id(3), 9));
        assert_eq!(ledger.begin_next(&9, |due| *due), Next::Later(20));
    }

    #[test]
    fn what_was_deleted_of_a_batch_is_not_deleted_again() {
        let mut ledger = Ledger::<()>::default();
        (1..=3).for_each(|n| {
            ledger.forget(id(n));
        });
        let batch = ledger.take_doomed(u64::MAX, 9);
        ledger.deleted(&[id(1), id(3)], &batch);
        assert_eq!((ledger.gone(), ledger.deletions()), (2, 1));
        assert_eq!(ledger.take_doomed(u64::MAX, 9), [id(2)]);
    }

    #[test]
    fn a_mended_one_that_is_forgotten_is_deleted() {
        let mut ledger = Ledger::default();
        assert!(ledger.mend(id(1), 0) && !ledger.mend(id(1), 0));
        assert_eq!(ledger.forget(id(1)), Forgotten::Skipped);
        assert!(!ledger.mend(id(1), 0), "it is to be deleted");
        assert_eq!(ledger.take_doomed(u64::MAX, 9), [id(1)]);
        assert!(!ledger.mend(id(1), 0), "it is under deletion");
    }

    #[test]
    fn what_was_doomed_since_waits_and_what_failed_comes_last() {
        let mut ledger = Ledger::<()>::default();
        assert_eq!(ledger.doomed(), None);
        ledger.forget(id(2));
        let until = ledger.doomed().unwrap();
        ledger.forget(id(1));
        assert_eq!(ledger.take_doomed(until, 9), [id(2)]);
        ledger.deleted(&[], &[id(2)]);
        assert!(ledger.take_doomed(until, 9).is_empty());
        assert_eq!(ledger.take_doomed(u64::MAX, 9), [id(1), id(2)]);
    }
}
