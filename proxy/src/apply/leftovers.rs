//! What requests take and must give back.

use super::{Context, WHOLES_KIB};

impl Context {
    /// What somebody has still, by name: nothing, as soon as nobody is connected.
    pub fn leftovers(&self) -> Vec<&'static str> {
        let wholes = self.wholes.available_permits() < WHOLES_KIB as usize;
        let there = [
            ("a monitor", self.monitors.any()),
            ("connections", !self.clients.is_empty()),
            ("room for queues", !self.queues.are_empty()),
            ("room for replies", !self.replies.are_empty()),
            ("room for whole values", wholes),
            ("a turn for LCS", self.tables.available_permits() == 0),
        ];
        let mine = there
            .into_iter()
            .filter_map(|(what, is)| is.then_some(what));
        mine.chain(self.store.leftovers()).collect()
    }
}
