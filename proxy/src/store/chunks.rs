//! The chunks of an object that is read: what was asked of each, and what came.
//! Pure, but for the calls that it holds.

use std::{collections::VecDeque, ops::Range, time::Duration};

use tokio::time::Instant;

use crate::pool::link::Call;

/// Cells in one request to a node.
pub(super) const WINDOW_CELLS: u32 = 3;
/// Of a slow node more are asked for when so many are still to come: they
/// travel while the request does. Otherwise that is only more to do.
const LOW_CELLS: u32 = 4;
/// A node whose first cell takes longer is far away, or has a slow link.
const SLOW: Duration = Duration::from_millis(4);

/// Why a chunk is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Its node does not have it, or what it has is damaged.
    Missing,
    /// Its node does not answer.
    Unreachable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not asked: not needed so far, or too slow to be waited for.
    Spare,
    /// Read, as far as there is memory.
    Asked,
    /// Given up.
    Failed(Failure),
}

/// Generations fit a tag beside the chunk's index; they may come round.
const MAX_GENERATION: u32 = 0xff_ffff;

/// One chunk.
pub(super) struct Chunk {
    index: usize,
    pub(super) state: State,
    /// First stripe that has not come.
    pub(super) next: u32,
    /// One behind the last stripe that is wanted of it.
    pub(super) until: u32,
    /// Its node has said that it holds all of it.
    pub(super) confirmed: bool,
    /// What its node has is not what was sent.
    pub(super) damaged: bool,
    /// How many rounds of its node had ended when that was asked.
    pub(super) rounds_then: u64,
    /// Requests in a row that came to nothing.
    pub(super) interruptions: u32,
    /// When its node was asked, until the first cell of the request comes.
    since: Option<Instant>,
    /// Whether its requests overlap.
    pub(super) slow: bool,
    /// One behind the last stripe that was asked for.
    asked: u32,
    /// A request is on its way to the link.
    opening: bool,
    /// What is under way, by the stripe behind its last. A call is held for what
    /// its dropping does: it cancels what has not come.
    calls: VecDeque<(u32, Call)>,
    /// Answers to requests of an earlier generation are of no interest.
    generation: u32,
}

/// The chunk that an answer with this tag is from.
pub(super) fn index_of(tag: u32) -> usize {
    (tag & 0xff) as usize
}

impl Chunk {
    pub(super) fn new(index: usize, state: State, stripes: Range<u32>) -> Self {
        Self {
            index,
            state,
            next: stripes.start,
            until: stripes.end,
            confirmed: false,
            damaged: false,
            rounds_then: 0,
            interruptions: 0,
            since: None,
            slow: false,
            asked: stripes.start,
            opening: false,
            calls: VecDeque::new(),
            generation: 0,
        }
    }

    /// Tells answers to its present requests from others.
    pub(super) fn tag(&self) -> u32 {
        // fewer than 256 chunks
        (self.generation << 8) | (self.index as u32 & 0xff)
    }

    /// Whether it is waited for.
    pub(super) fn is_asked(&self) -> bool {
        self.state == State::Asked
    }

    /// Whether it was given up.
    pub(super) fn is_failed(&self) -> bool {
        matches!(self.state, State::Failed(_))
    }

    /// What to ask for now: stripes from `due` on and before `horizon`.
    pub(super) fn ask(&mut self, due: u32, horizon: u32) -> Option<Range<u32>> {
        if !self.is_asked() || self.opening {
            return None;
        }
        if self.asked <= due && self.calls.is_empty() {
            (self.next, self.asked) = (self.next.max(due), due.max(self.asked));
        }
        let horizon = horizon.min(self.until);
        let low = if self.slow { LOW_CELLS } else { 0 };
        if self.asked >= horizon || self.asked - self.next > low {
            return None;
        }
        let window = self.asked..horizon.min(self.asked + WINDOW_CELLS);
        if self.asked == self.next {
            // nothing else is on its way that could be taken for the answer
            self.since = Some(Instant::now());
        }
        self.asked = window.end;
        self.opening = true;
        Some(window)
    }

    /// The request that ends before `end` was sent.
    pub(super) fn opened(&mut self, end: u32, call: Call) {
        self.opening = false;
        // its cells may have been quicker than this
        if end > self.next {
            self.calls.push_back((end, call));
        }
    }

    /// The cell of `stripe` has come; how long it took, if it is the first of a
    /// request.
    pub(super) fn came(&mut self, stripe: u32, now: Instant) -> Option<Duration> {
        self.next = stripe + 1;
        self.confirmed = true;
        self.interruptions = 0;
        while self.calls.front().is_some_and(|(end, _)| *end <= self.next) {
            self.calls.pop_front();
        }
        let took = now.saturating_duration_since(self.since.take()?);
        self.slow = took > SLOW;
        Some(took)
    }

    /// What comes next does not say how long its node takes.
    pub(super) fn forget_time(&mut self) {
        self.since = None;
    }

    /// Gives up what is under way; from `next` on it may be asked again.
    pub(super) fn reset(&mut self, next: u32) {
        self.calls.clear();
        self.opening = false;
        self.since = None;
        (self.next, self.asked) = (next, next);
        self.generation = (self.generation + 1) & MAX_GENERATION;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_a_slow_node_overlap() {
        let (mut chunk, begun) = (Chunk::new(3, State::Asked, 0..20), Instant::now());
        assert_eq!(chunk.ask(0, 1), Some(0..1));
        // the first is on its way to the link
        assert_eq!(chunk.ask(0, 8), None);
        chunk.opening = false;
        assert_eq!(chunk.ask(0, 8), None);
        assert!(chunk.came(0, begun + Duration::from_secs(1)).is_some());
        assert_eq!(chunk.ask(1, 8), Some(1..4));
        chunk.opening = false;
        assert_eq!(chunk.ask(1, 8), Some(4..7));
        chunk.opening = false;
        assert_eq!(chunk.ask(1, 8), None);
    }

    #[test]
    fn a_quick_node_is_asked_when_all_has_come() {
        let mut chunk = Chunk::new(3, State::Asked, 0..20);
        assert_eq!(chunk.ask(0, 4), Some(0..3));
        chunk.opening = false;
        let soon = Instant::now();
        chunk.came(0, soon);
        chunk.came(1, soon);
        assert_eq!(chunk.ask(2, 6), None);
        chunk.came(2, soon);
        assert_eq!(chunk.ask(3, 7), Some(3..6));
    }

    #[test]
    fn what_was_under_way_is_of_no_interest_after_a_reset() {
        let mut chunk = Chunk::new(3, State::Asked, 0..20);
        let _ = chunk.ask(0, 3);
        let tag = chunk.tag();
        chunk.reset(1);
        assert!(chunk.tag() != tag && index_of(chunk.tag()) == 3);
        assert_eq!(chunk.ask(1, 3), Some(1..3));
    }

    #[test]
    fn stripes_done_without_it_are_skipped() {
        let mut chunk = Chunk::new(0, State::Asked, 0..20);
        assert_eq!(chunk.ask(5, 7), Some(5..7));
        assert_eq!(chunk.next, 5);
    }
}
