//! Why the node fails, and until when.

use tokio::time::Instant;

use super::{Inner, Node};
use crate::pool::{
    lifecycle::{Event, Outcome, Phase},
    outage::Trouble,
    platform::InvokeFailure,
};

impl Node {
    /// Why it fails, if it does: from when it is given up for a while until it is heard of
    /// again.
    pub fn trouble(&self) -> Option<Trouble> {
        self.inner.lock().trouble
    }

    /// Whether its link broke, or an instance answers that was not known, and nothing is known
    /// since: it may take as long as a start, and hold nothing.
    pub fn is_in_doubt(&self) -> bool {
        self.inner.lock().doubt.is_in_doubt()
    }

    /// Whether somebody who wants its link would have it invoked now.
    pub(in crate::pool) fn would_invoke(&self, now: Instant) -> bool {
        self.inner.lock().life.would_invoke(now)
    }

    /// When something of it was heard, or it failed, last.
    pub(in crate::pool) fn last_contact(&self) -> Instant {
        self.inner.lock().life.last_contact()
    }
}

impl Inner {
    /// What the step that was just taken says of what it holds; before the link goes.
    pub(super) fn note_doubt(&mut self, event: Event) {
        let (Event::LinkLost(id) | Event::Returned(id, Outcome::Failed)) = event else {
            return;
        };
        if self.is_linked(id) {
            self.doubt.link_lost();
        }
    }

    /// What the step that was just taken says of it.
    pub(super) fn note_trouble(&mut self, event: Event, before: Phase) {
        let after = self.life.phase();
        if after == before {
            return;
        }
        let is_given_up = matches!(after, Phase::Unreachable { .. });
        match event {
            Event::Hello(_) => self.trouble = None,
            Event::Tick if is_given_up => {
                self.last_failure = Some(InvokeFailure::Silent);
                self.trouble = Some(Trouble::Silent);
            }
            // it was to dial, and has not
            Event::Returned(_, Outcome::Ok) if is_given_up => self.trouble = Some(Trouble::Link),
            Event::Returned(..) if is_given_up => {
                self.trouble = self.last_failure.as_ref().map(Trouble::of);
            }
            // it runs; whether it can dial a ping does not say
            Event::Returned(_, Outcome::Ok) if self.trouble != Some(Trouble::Link) => {
                self.trouble = None;
            }
            _ => {}
        }
    }
}
