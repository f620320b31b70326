//! A doubly linked list through the slots, from the longest unused to the most
//! recently used. All steps are constant-time.

use super::Slot;

const NONE: u32 = u32::MAX;

/// A slot's neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    older: u32,
    newer: u32,
    /// The count of uses at the last one, modulo 2^32.
    used: u32,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            older: NONE,
            newer: NONE,
            used: 0,
        }
    }
}

/// The ends of the list.
#[derive(Debug)]
pub(super) struct Recency {
    oldest: u32,
    newest: u32,
    uses: u32,
    /// Slots before this one have no value that could be dropped; none at all has one if
    /// there is none here.
    hot_from: u32,
}

impl Default for Recency {
    fn default() -> Self {
        Self {
            oldest: NONE,
            newest: NONE,
            uses: 0,
            hot_from: NONE,
        }
    }
}

type Slots = [Option<Slot>];

fn links(slots: &mut Slots, i: u32) -> Option<&mut Links> {
    slots.get_mut(i as usize)?.as_mut().map(|s| &mut s.links)
}

impl Recency {
    /// Appends a slot as the most recently used one.
    pub(super) fn push(&mut self, slots: &mut Slots, i: u32) {
        let older = self.newest;
        self.uses = self.uses.wrapping_add(1);
        let used = self.uses;
        if let Some(own) = links(slots, i) {
            *own = Links {
                older,
                newer: NONE,
                used,
            };
        }
        match links(slots, older) {
            Some(neighbour) => neighbour.newer = i,
            None => self.oldest = i,
        }
        self.newest = i;
    }

    /// Takes a slot out of the list.
    pub(super) fn unlink(&mut self, slots: &mut Slots, i: u32) {
        let Some(own) = links(slots, i).map(std::mem::take) else {
            return;
        };
        if self.hot_from == i {
            self.hot_from = own.newer;
        }
        match links(slots, own.older) {
            Some(neighbour) => neighbour.newer = own.newer,
            None => self.oldest = own.newer,
        }
        match links(slots, own.newer) {
            Some(neighbour) => neighbour.older = own.older,
            None => self.newest = own.older,
        }
    }

    /// Moves a slot to the recently used end.
    pub(super) fn touch(&mut self, slots: &mut Slots, i: u32) {
        if self.newest != i {
            self.unlink(slots, i);
            self.push(slots, i);
        }
    }

    /// How many uses of others ago a slot was last used.
    pub(super) fn idleness(&self, slot: &Slot) -> u32 {
        self.uses.wrapping_sub(slot.links.used)
    }

    /// Whether a slot is not among those that have no hot value. (One that was unused for
    /// 2^32 uses of others seems younger than it is; uses come first, though.)
    pub(super) fn may_be_hot(&mut self, slots: &Slots, i: u32) -> bool {
        let of = |i: u32| slots.get(i as usize).and_then(Option::as_ref);
        let (Some(slot), Some(first)) = (of(i), of(self.hot_from)) else {
            self.hot_from = i;
            return true;
        };
        self.idleness(slot) <= self.idleness(first)
    }

    /// Of the slots that may have a hot value the longest unused; from now on it has none.
    pub(super) fn next_to_cool(&mut self, slots: &Slots) -> Option<u32> {
        let i = self.hot_from;
        self.hot_from = slots.get(i as usize)?.as_ref()?.links.newer;
        Some(i)
    }

    /// Slots from the longest unused on.
    pub(super) fn oldest_first<'a>(&self, slots: &'a Slots) -> impl Iterator<Item = u32> + 'a {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let i = at;
            at = slots.get(i as usize)?.as_ref()?.links.newer;
            Some(i)
        })
    }
}
