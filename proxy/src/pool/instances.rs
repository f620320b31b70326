//! Which sandboxes of a function have been met, and which of them must be
//! taken for lost. Pure.
//!
//! The platform chooses which idle instance an invoke reaches and may start a
//! new one. So an instance that did not answer is only *absent* until `K`
//! invokes in a row have met another; if it answers before that, it is back,
//! with everything it holds.

use scatterhoard_wire::InstanceId;

/// What meeting an instance means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The first one of this node.
    First,
    /// The one of the last time.
    Same,
    /// Another than the last time: that one is absent now.
    Stranger {
        /// How many absent instances had to be given up on this occasion.
        lost: u32,
    },
    /// One that had been absent: its chunks with live write ids count again.
    Back,
}

/// A standby comes with the backup round; a third may be a young one.
const MAX_ABSENT: usize = 3;

/// The instances of one node.
#[derive(Clone, Debug)]
pub struct Instances {
    current: Option<InstanceId>,
    absent: Vec<(InstanceId, u32)>,
    lost_after: u32,
}

impl Instances {
    /// None met so far; an absent one is lost after `lost_after` invokes that
    /// met another.
    pub fn new(lost_after: u32) -> Self {
        Self {
            current: None,
            absent: Vec::new(),
            lost_after: lost_after.max(1),
        }
    }

    /// The one that answered last.
    pub fn current(&self) -> Option<InstanceId> {
        self.current
    }

    /// How many are absent, but not yet lost.
    pub fn absent(&self) -> usize {
        self.absent.len()
    }

    /// An instance answered an invocation.
    pub fn meet(&mut self, id: InstanceId) -> Meeting {
        let known = self.absent.len();
        self.absent.retain(|(absent, _)| *absent != id);
        let was_absent = self.absent.len() < known;
        let previous = self.current.replace(id);
        match previous {
            Some(previous) if previous != id => self.absent.push((previous, 0)),
            _ => {}
        }
        let before = self.absent.len();
        self.absent.iter_mut().for_each(|(_, missed)| *missed += 1);
        self.absent.retain(|(_, missed)| *missed < self.lost_after);
        while self.absent.len() > MAX_ABSENT {
            self.absent.remove(0);
        }
        let lost = u32::try_from(before - self.absent.len()).unwrap_or(u32::MAX);
        match previous {
            None => Meeting::First,
            Some(previous) if previous == id => Meeting::Same,
            Some(_) if was_absent => Meeting::Back,
            Some(_) => Meeting::Stranger { lost },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_lost_only_after_k_invokes_without_it() {
        let (a, b) = (InstanceId(1), InstanceId(2));
        let mut met = Instances::new(3);
        assert_eq!(met.meet(a), Meeting::First);
        assert_eq!(met.meet(a), Meeting::Same);
        assert_eq!(met.meet(b), Meeting::Stranger { lost: 0 });
        assert_eq!(met.meet(a), Meeting::Back);
        assert_eq!(met.meet(b), Meeting::Back);
        assert_eq!((met.meet(b), met.absent()), (Meeting::Same, 1));
        assert_eq!(
            (met.meet(b), met.absent()),
            (Meeting::Same, 0),
            "third miss: lost"
        );
        assert_eq!(met.meet(a), Meeting::Stranger { lost: 0 });
    }
}
