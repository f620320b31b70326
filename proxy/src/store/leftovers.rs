//! What requests take and must give back.

use std::sync::atomic::Ordering;

use super::Store;

impl Store {
    /// What somebody has still, by name: nothing, as soon as no request is under way.
    pub fn leftovers(&self) -> impl Iterator<Item = &'static str> {
        let there = [
            ("admitted bytes", !self.memory.is_unused()),
            ("pins", self.index().has_pins()),
            (
                "bytes for queued values",
                self.early.load(Ordering::SeqCst) > 0,
            ),
            ("writes under way", !self.under_way.lock().is_empty()),
            (
                "turns to edit",
                self.edits.available_permits() < super::edit::EDITS_AT_ONCE,
            ),
            ("a closed gate", self.gate.is_closing()),
        ];
        there
            .into_iter()
            .filter_map(|(what, is)| is.then_some(what))
    }
}
