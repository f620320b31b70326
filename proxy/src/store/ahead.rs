//! Memory for the stripes of one read: the one that is due, and as many ahead
//! of it as there is memory to spare.

use std::collections::VecDeque;

use crate::admission::{Admission, Permit};

/// Stripes that a reader may have in memory, from the one that is due on.
pub(super) struct Ahead {
    granted: VecDeque<Permit>,
    /// The stripe that the first of them is for.
    from: u32,
    /// Whether memory is asked for at all.
    metered: bool,
}

impl Ahead {
    pub(super) fn new(first: u32) -> Self {
        Self {
            granted: VecDeque::new(),
            from: first,
            metered: true,
        }
    }

    /// The memory is accounted for elsewhere.
    pub(super) fn unmetered(&mut self) {
        self.metered = false;
    }

    /// Whether memory is asked for.
    pub(super) fn is_metered(&self) -> bool {
        self.metered
    }

    /// One behind the last stripe that may be in memory.
    pub(super) fn end(&self) -> u32 {
        // a handful
        self.from + self.granted.len() as u32
    }

    /// Gives back what stripes before `due` had, and waits for that stripe's.
    pub(super) async fn advance(&mut self, due: u32, memory: &Admission, bytes: u64) {
        while self.from < due && self.granted.pop_front().is_some() {
            self.from += 1;
        }
        self.from = due;
        if self.granted.is_empty() {
            let permit = match self.metered {
                true => memory.grant(bytes).await,
                false => Permit::default(),
            };
            self.granted.push_back(permit);
        }
    }

    /// One more stripe, if there is memory to spare; says whether there was.
    pub(super) fn extend(&mut self, memory: &Admission, bytes: u64) -> bool {
        let permit = match self.metered {
            true => memory.try_grant_spare(bytes),
            false => Some(Permit::default()),
        };
        let granted = permit.is_some();
        self.granted.extend(permit);
        granted
    }

    /// Nothing more is read.
    pub(super) fn finish(&mut self) {
        self.granted.clear();
    }
}
