//! Which sandboxes of a function have been met, and which of them must be
//! taken for lost. Pure.
//!
//! The platform chooses which idle instance an invoke reaches and may start a
//! new one. So an instance that did not answer is only *absent*, until `K`
//! invokes in a row have met another although it was not kept busy: invokes
//! beside the instance that serves, in rounds. If it answers before that, it is
//! back, with everything it holds. Where there are no such rounds, any invoke
//! counts that met another.

use scatterhoard_wire::InstanceId;

/// What meeting an instance means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The first one of this node.
    First,
    /// The one of the last time.
    Same,
    /// One that was not known.
    Stranger,
    /// One that had been absent: its chunks with live write ids count again.
    Back,
}

/// A standby, a young one that takes its place, and one too many.
const MAX_OTHERS: usize = 3;

/// Stands for whatever instances a predecessor may have had.
const UNKNOWN: InstanceId = InstanceId(0);

#[derive(Clone, Copy, Debug)]
struct Other {
    id: InstanceId,
    /// Invokes in a row that could have met it and did not.
    missed: u32,
    /// The current one was given what this one had.
    is_merged: bool,
}

/// The instances of one node.
#[derive(Clone, Debug)]
pub struct Instances {
    current: Option<InstanceId>,
    others: Vec<Other>,
    lost_after: u32,
    has_rounds: bool,
    lost: u64,
}

impl Instances {
    /// None met so far; an absent one is lost after `lost_after` invokes that
    /// met another: of rounds, or of any kind if there are none.
    pub fn new(lost_after: u32, has_rounds: bool) -> Self {
        Self {
            current: None,
            others: Vec::new(),
            lost_after: lost_after.max(1),
            has_rounds,
            lost: 0,
        }
    }

    /// A predecessor had instances: until as many invokes have met others as
    /// lose an absent one, there may be one that was not met.
    pub fn assume_unknown(&mut self) {
        self.leave_behind(UNKNOWN);
    }

    /// The one that answered last.
    pub fn current(&self) -> Option<InstanceId> {
        self.current
    }

    /// All that are not lost, the current one first; one of a predecessor's that was not
    /// met stands for all of them.
    pub fn known(&self) -> impl Iterator<Item = InstanceId> + '_ {
        let others = self.others.iter().map(|other| other.id);
        self.current.into_iter().chain(others)
    }

    /// Others that are not lost, and may hold what the current one does not.
    pub fn absent(&self) -> usize {
        self.absent_but(None)
    }

    /// The same, without one that was looked at.
    pub fn absent_but(&self, looked_at: Option<InstanceId>) -> usize {
        let absent = |o: &&Other| !o.is_merged && Some(o.id) != looked_at;
        self.others.iter().filter(absent).count()
    }

    /// The current one was given all that this one had.
    pub fn merged(&mut self, id: InstanceId) {
        let merged = self.others.iter_mut().filter(|o| o.id == id);
        merged.for_each(|o| o.is_merged = true);
    }

    /// This one has ended, as it was told to: it will not be back, and was not lost.
    pub fn forget(&mut self, id: InstanceId) {
        self.take(id);
    }

    /// Whether there are others than the current one, so far as is known.
    pub fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// How many have been given up so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// An instance answered an invocation while no other was under way.
    pub fn meet(&mut self, id: InstanceId) -> Meeting {
        if self.current == Some(id) {
            if !self.has_rounds {
                self.miss();
            }
            return Meeting::Same;
        }
        let was_known = self.take(id);
        self.others.iter_mut().for_each(|o| o.is_merged = false);
        let previous = self.current.replace(id);
        previous.into_iter().for_each(|p| self.leave_behind(p));
        if !self.has_rounds {
            self.miss();
        }
        match previous {
            None => Meeting::First,
            Some(_) if was_known => Meeting::Back,
            Some(_) => Meeting::Stranger,
        }
    }

    /// An instance answered an invocation beside the current one. `all_idle`:
    /// no other invocation of the function was under way, so any other instance
    /// could have been chosen.
    pub fn meet_beside(&mut self, id: InstanceId, all_idle: bool) -> Meeting {
        if self.current == Some(id) {
            return Meeting::Same;
        }
        let was_known = self.take(id);
        if all_idle {
            self.miss();
        }
        self.leave_behind(id);
        if was_known {
            Meeting::Back
        } else {
            Meeting::Stranger
        }
    }

    fn take(&mut self, id: InstanceId) -> bool {
        let before = self.others.len();
        self.others.retain(|o| o.id != id);
        self.others.len() < before
    }

    fn leave_behind(&mut self, id: InstanceId) {
        if self.others.len() == MAX_OTHERS {
            self.others.remove(0);
            self.lost += 1;
        }
        self.others.push(Other {
            id,
            missed: 0,
            is_merged: false,
        });
    }

    fn miss(&mut self) {
        let lost_after = self.lost_after;
        let before = self.others.len();
        self.others.iter_mut().for_each(|o| o.missed += 1);
        self.others.retain(|o| o.missed < lost_after);
        self.lost += (before - self.others.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InstanceId = InstanceId(1);
    const B: InstanceId = InstanceId(2);
    const C: InstanceId = InstanceId(3);

    #[test]
    fn without_rounds_k_invokes_without_it_lose_an_instance() {
        let mut met = Instances::new(3, false);
        assert_eq!(met.meet(A), Meeting::First);
        assert_eq!(met.meet(A), Meeting::Same);
        assert_eq!(met.meet(B), Meeting::Stranger);
        assert_eq!(met.meet(A), Meeting::Back);
        assert_eq!(met.meet(B), Meeting::Back);
        assert_eq!((met.meet(B), met.absent()), (Meeting::Same, 1));
        assert_eq!((met.meet(B), met.absent()), (Meeting::Same, 0));
        assert_eq!(met.lost(), 1, "the third invoke without it");
        assert_eq!(met.meet(A), Meeting::Stranger);
    }

    #[test]
    fn what_was_merely_not_chosen_is_never_lost() {
        let mut met = Instances::new(3, true);
        met.meet(A);
        assert_eq!(met.meet_beside(B, true), Meeting::Stranger);
        assert_eq!((met.absent(), met.absent_but(Some(B))), (1, 0));
        met.merged(B);
        assert_eq!(met.absent(), 0);
        for _ in 0..100 {
            assert_eq!(met.meet(A), Meeting::Same);
        }
        assert_eq!(met.meet(B), Meeting::Back);
        assert_eq!(met.absent(), 1, "A may hold what came after the round");
        assert_eq!(met.meet_beside(A, true), Meeting::Back);
        met.merged(A);
        assert_eq!((met.absent(), met.lost()), (0, 0));
    }

    #[test]
    fn rounds_that_do_not_reach_it_lose_it() {
        let mut met = Instances::new(3, true);
        met.meet(A);
        met.meet_beside(B, true);
        assert_eq!(met.meet(B), Meeting::Back);
        for left in [1, 1, 0] {
            for _ in 0..10 {
                met.meet_beside(C, false);
            }
            met.meet_beside(C, true);
            assert_eq!(met.absent_but(Some(C)), left, "A");
        }
        assert_eq!(met.lost(), 1);
    }

    #[test]
    fn one_that_has_retired_is_not_looked_for() {
        let mut met = Instances::new(3, true);
        met.meet(A);
        met.meet_beside(B, true);
        met.merged(B);
        // B takes the place of A, and A goes
        assert_eq!((met.meet(B), met.absent()), (Meeting::Back, 1));
        met.forget(A);
        assert_eq!((met.absent(), met.has_others(), met.lost()), (0, false, 0));
        assert_eq!(met.meet_beside(C, true), Meeting::Stranger);
    }

    #[test]
    fn after_a_restart_there_may_be_others() {
        let mut met = Instances::new(2, true);
        met.assume_unknown();
        assert_eq!((met.meet(A), met.absent()), (Meeting::First, 1));
        met.meet_beside(B, true);
        assert_eq!(met.known().collect::<Vec<_>>(), [A, UNKNOWN, B]);
        met.meet_beside(B, true);
        assert_eq!(met.absent_but(Some(B)), 0);
        assert_eq!(met.known().collect::<Vec<_>>(), [A, B]);
    }

    #[test]
    fn few_are_remembered() {
        let mut met = Instances::new(3, true);
        for id in 1..=10 {
            met.meet(InstanceId(id));
        }
        assert_eq!((met.absent(), met.lost()), (MAX_OTHERS, 6));
    }
}
