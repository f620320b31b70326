//! The bytes of one node: what it said it holds, and what is promised to it.
//! Pure. A write reserves before it sends, so a node is never asked to hold
//! more than its budget.

use scatterhoard_wire::message::Held;

/// Bytes of one node's current instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    held: Option<Held>,
    reserved_bytes: u64,
    /// What was released since another instance took over, as long as nobody knows
    /// which of the two has it.
    kept_bytes: Option<u64>,
}

impl Account {
    /// The node said what it holds. Deleted chunks count until it says so.
    pub fn report(&mut self, held: Held) {
        self.held = Some(held);
    }

    /// Bytes that a new chunk may take. None before the first contact, since
    /// the budget is the instance's to say.
    pub fn free_bytes(&self) -> u64 {
        let Some(held) = self.held else { return 0 };
        held.budget_bytes
            .saturating_sub(held.bytes)
            .saturating_sub(self.reserved_bytes)
    }

    /// Bytes that are set aside.
    pub fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// Sets bytes aside for a chunk that is about to be sent.
    pub fn reserve(&mut self, bytes: u64) -> bool {
        let fits = bytes <= self.free_bytes();
        if fits {
            self.reserved_bytes += bytes;
        }
        fits
    }

    /// The chunk was stored (and is part of what the node holds) or given up.
    pub fn release(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.reserved_bytes);
        match &mut self.kept_bytes {
            Some(kept) => *kept += bytes,
            None => self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes),
        }
    }

    /// Another instance takes the place of the one that served, and is given what
    /// only that one has. So much of its room is set aside for that, before others
    /// take it: at most all there is. What is under way may yet be stored on the
    /// former one, so no room is given back until [`Self::succeeded`].
    pub fn succeed(&mut self, held: Held) -> u64 {
        let before = self.held.map_or(0, |held| held.bytes);
        self.held = Some(held);
        self.kept_bytes.get_or_insert(0);
        let lacks = before.saturating_sub(held.bytes);
        let room = lacks.min(self.free_bytes());
        self.reserved_bytes += room;
        room
    }

    /// Sets bytes aside for chunks that count as the node's already, though they are
    /// yet to be brought to this instance: whether or not there is room, nobody else
    /// gets any until there is.
    pub fn owe(&mut self, bytes: u64) {
        self.reserved_bytes += bytes;
    }

    /// What the successor lacks is known, and owed, or will not be brought.
    pub fn succeeded(&mut self) {
        let kept = self.kept_bytes.take().unwrap_or(0);
        self.release(kept);
    }

    /// What the node holds; `None` before the first contact.
    pub fn held(&self) -> Option<Held> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_never_exceed_the_budget() {
        let mut account = Account::default();
        assert!(!account.reserve(1), "budget unknown");
        account.report(Held {
            bytes: 60,
            budget_bytes: 100,
            chunks: 1,
        });
        assert!(account.reserve(30) && !account.reserve(11) && account.reserve(10));
        account.release(30);
        account.report(Held {
            bytes: 90,
            budget_bytes: 100,
            chunks: 2,
        });
        assert_eq!(account.free_bytes(), 0);
        account.release(10);
        assert_eq!(account.free_bytes(), 10);
    }

    #[test]
    fn a_successor_keeps_room_for_what_it_lacks() {
        let held = |bytes| Held {
            bytes,
            budget_bytes: 100,
            chunks: 1,
        };
        for (before, after, promised, room) in [
            (90, 60, 0, 30),
            (90, 60, 5, 30),
            (90, 95, 0, 0),
            // what is promised to others comes first
            (90, 60, 10, 30),
            (70, 20, 30, 50),
        ] {
            let mut account = Account::default();
            account.report(held(before));
            assert!(account.reserve(promised));
            assert_eq!(account.succeed(held(after)), room);
            assert_eq!(account.free_bytes(), 100 - after - promised - room);
        }
        let mut account = Account::default();
        account.report(held(90));
        let smaller = Held {
            budget_bytes: 80,
            ..held(70)
        };
        assert_eq!((account.succeed(smaller), account.free_bytes()), (10, 0));
        // what it is to be given takes the room that is made for it
        account.owe(25);
        account.succeeded();
        account.report(Held {
            budget_bytes: 80,
            ..held(50)
        });
        assert_eq!(account.free_bytes(), 0);
        account.release(10);
        assert_eq!(account.free_bytes(), 5);
    }

    #[test]
    fn what_the_former_instance_stored_last_has_room_on_its_successor() {
        let held = |bytes| Held {
            bytes,
            budget_bytes: 100,
            chunks: 1,
        };
        let mut account = Account::default();
        account.report(held(60));
        // a chunk is on its way when the two change places
        assert!(account.reserve(30));
        let room = account.succeed(held(50));
        assert_eq!((room, account.free_bytes()), (10, 10));
        // the former one has stored it: its successor lacks it, and has said nothing
        account.release(30);
        assert_eq!(account.free_bytes(), 10);
        account.owe(30);
        account.succeeded();
        assert_eq!(account.free_bytes(), 10);
        // brought, bit by bit
        account.report(held(80));
        account.release(30);
        account.report(held(90));
        account.release(10);
        assert_eq!(account.free_bytes(), 10);
    }
}
