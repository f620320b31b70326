//! Whether a miss can be due to the faults so far. Pure.
//!
//! An object has its chunks on different functions, so it has lost at most as many as
//! functions were harmed since it was written, repairs included: a chunk lies where it was
//! written, or on the function that it was repaired to, and is lost with that one only.
//! It bears the loss of p, or of one if it was written (or moved, when what shares a segment
//! is tidied up) while nodes were away: d + 1 chunks are enough then.

use std::collections::BTreeSet;
use std::time::Duration;

/// How long a node may stay away after its fault is over: invoked again, started again.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(10);
/// Chunks that a write does without at most, if it is written at all.
const LEAST_SPARE: usize = 1;

/// A stretch of time in which a fault kept nodes away.
#[derive(Debug)]
struct Away {
    from: Duration,
    to: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Losses {
    parity: usize,
    harmed: Vec<(Duration, String)>,
    away: Vec<Away>,
}

impl Losses {
    pub(super) fn new(parity: usize) -> Self {
        Self {
            parity,
            harmed: Vec::new(),
            away: Vec::new(),
        }
    }

    /// A function loses the instance that has its chunks, or may do so.
    pub(super) fn harm(&mut self, function: &str, now: Duration) {
        self.harmed.push((now, function.to_owned()));
    }

    /// From now on nodes may be away.
    pub(super) fn begin(&mut self, now: Duration) {
        self.away.push(Away {
            from: now,
            to: None,
        });
    }

    /// They come back now.
    pub(super) fn end(&mut self, now: Duration) {
        if let Some(away) = self.away.last_mut() {
            away.to = Some(now + COMES_BACK_WITHIN);
        }
    }

    /// Whether a value whose write began then can be lost by now.
    pub(super) fn explain(&self, written: Duration) -> bool {
        let within = |away: &Away| away.from <= written && away.to.is_none_or(|to| written <= to);
        let spare = if self.away.iter().any(within) {
            LEAST_SPARE.min(self.parity)
        } else {
            self.parity
        };
        let moved = self.away.iter().map(|away| away.from);
        self.harmed_since(written) > spare
            || moved
                .filter(|from| *from >= written)
                .any(|from| self.harmed_after(from) > LEAST_SPARE.min(self.parity))
    }

    fn harmed_since(&self, from: Duration) -> usize {
        self.distinct(|at| at >= from)
    }

    /// Not by the fault that began then.
    fn harmed_after(&self, from: Duration) -> usize {
        self.distinct(|at| at > from)
    }

    fn distinct(&self, is_meant: impl Fn(Duration) -> bool) -> usize {
        let meant = self.harmed.iter().filter(|(at, _)| is_meant(*at));
        meant
            .map(|(_, function)| function)
            .collect::<BTreeSet<_>>()
            .len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strike(losses: &mut Losses, at: u64, functions: &[&str]) {
        let at = Duration::from_secs(at);
        losses.begin(at);
        for function in functions {
            losses.harm(function, at);
        }
        losses.end(at);
    }

    #[test]
    fn more_than_p_functions_explain_a_miss_however_often_they_were_harmed() {
        let mut losses = Losses::new(2);
        let written = Duration::from_secs(5);
        strike(&mut losses, 1, &["a", "b", "c", "d"]);
        assert!(!losses.explain(Duration::from_secs(20)), "before it");
        strike(&mut losses, 30, &["a", "b"]);
        assert!(!losses.explain(Duration::from_secs(20)));
        strike(&mut losses, 50, &["a"]);
        assert!(!losses.explain(Duration::from_secs(20)), "two in all");
        strike(&mut losses, 60, &["c"]);
        assert!(losses.explain(Duration::from_secs(20)));
        assert!(losses.explain(written));
    }

    #[test]
    fn what_was_written_while_nodes_were_away_bears_one_loss() {
        let mut losses = Losses::new(2);
        losses.begin(Duration::from_secs(10));
        let written = Duration::from_secs(11);
        strike(&mut losses, 12, &["a"]);
        assert!(!losses.explain(written));
        strike(&mut losses, 13, &["b"]);
        assert!(losses.explain(written));
    }
}
