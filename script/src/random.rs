//! `math.random` as in Redis: a 48-bit linear congruential generator (drand48)
//! that gives the same numbers everywhere after the same seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
/// Where the generator stands before anything was drawn from it.
pub(crate) const FIRST: u64 = 0x1234_ABCD_330E;

fn step(state: u64) -> u64 {
    state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & MASK
}

/// Draws from a sequence that all scripts share, until the script seeds its own:
/// that one ends with the run.
#[derive(Debug)]
pub(crate) struct Random {
    shared: Arc<AtomicU64>,
    own: Option<u64>,
}

impl Random {
    pub(crate) fn new(shared: Arc<AtomicU64>) -> Self {
        Self { shared, own: None }
    }

    /// `math.randomseed`
    pub(crate) fn seed(&mut self, seed: i32) {
        let seed = u64::from(u32::from_ne_bytes(seed.to_ne_bytes()));
        self.own = Some((seed << 16) | 0x330E);
    }

    /// The next run draws from the shared sequence again.
    pub(crate) fn forget_seed(&mut self) {
        self.own = None;
    }

    /// From 0 to less than 1.
    pub(crate) fn next(&mut self) -> f64 {
        let state = match &mut self.own {
            Some(own) => {
                *own = step(*own);
                *own
            }
            None => {
                let before = self
                    .shared
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(step(at)));
                step(before.unwrap_or(FIRST))
            }
        };
        // 31 bits, of which the largest value counts as 0
        let drawn = u32::try_from(state >> 17).unwrap_or_default();
        f64::from(drawn % 0x7FFF_FFFF) / f64::from(0x7FFF_FFFF)
    }
}
