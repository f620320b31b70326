//! Whether a node can be counted on for what it held. Pure.

use super::instances::Meeting;

/// Its link broke, or an instance answers that was not known, and nothing is known since: it
/// may take as long as a start, and hold nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    is_in_doubt: bool,
}

impl Doubt {
    /// The link that was used is gone, and nobody said goodbye.
    pub(super) fn link_lost(&mut self) {
        self.is_in_doubt = true;
    }

    /// An instance answers.
    pub(super) fn met(&mut self, meeting: Meeting) {
        match meeting {
            Meeting::Stranger => self.is_in_doubt = true,
            // it has what it had
            Meeting::Same => self.is_in_doubt = false,
            // one that has most of it, or is all there ever was: as before
            Meeting::Back | Meeting::First => {}
        }
    }

    /// A cell came. `is_linked`: one that came before its link broke may be looked at later.
    pub(super) fn cell_came(&mut self, is_linked: bool) {
        self.is_in_doubt &= !is_linked;
    }

    /// A round has found out what it has: what it lacks it says at once.
    pub(super) fn round_done(&mut self) {
        self.is_in_doubt = false;
    }

    /// Whether it is.
    pub(super) fn is_in_doubt(self) -> bool {
        self.is_in_doubt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_until_something_is_known() {
        let lost = || {
            let mut doubt = Doubt::default();
            assert!(!doubt.is_in_doubt());
            doubt.link_lost();
            assert!(doubt.is_in_doubt());
            doubt
        };
        // a link broke, not its instance: reads need not bring it to a cell first
        let mut same = lost();
        same.met(Meeting::Same);
        assert!(!same.is_in_doubt());
        let mut read = lost();
        read.cell_came(false);
        assert!(read.is_in_doubt(), "from before");
        read.met(Meeting::Back);
        assert!(read.is_in_doubt());
        read.cell_came(true);
        assert!(!read.is_in_doubt());
        let mut stranger = Doubt::default();
        stranger.met(Meeting::First);
        assert!(!stranger.is_in_doubt());
        stranger.met(Meeting::Stranger);
        assert!(stranger.is_in_doubt());
        stranger.round_done();
        assert!(!stranger.is_in_doubt());
    }
}
