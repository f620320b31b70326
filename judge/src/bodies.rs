//! Object contents that can be checked without being stored twice.
//!
//! All bodies are windows into one block of random bytes. The window's place
//! depends on key and generation, so a stale or swapped body never compares equal.

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// Distance between neighbouring windows. Odd, so that windows never line up with
/// cells, pages or cache lines of whoever stores them.
const STEP: usize = 61;
/// Number of different windows.
const WINDOWS: usize = 16_381;

/// Contents for any key and generation.
pub struct Bodies {
    block: Vec<u8>,
}

impl Bodies {
    /// Bodies of at most `largest` bytes; the same seed gives the same contents.
    pub fn new(largest: usize, seed: u64) -> Self {
        let mut block = vec![0; largest + STEP * WINDOWS];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut block);
        Self { block }
    }

    /// The `len` bytes of this generation of the key; panics beyond the largest.
    pub fn body(&self, key: usize, generation: u32, len: usize) -> &[u8] {
        // Coprime steps: no two keys below WINDOWS, and no two successive
        // generations of one key, share a window.
        let window = (key + generation as usize * 7_919) % WINDOWS;
        let start = window * STEP;
        &self.block[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_generations_differ() {
        let bodies = Bodies::new(1_000, 1);
        let first = bodies.body(3, 0, 1_000);
        assert_ne!(first, bodies.body(4, 0, 1_000));
        assert_ne!(first, bodies.body(3, 1, 1_000));
        assert_eq!(first, Bodies::new(1_000, 1).body(3, 0, 1_000));
    }

    #[test]
    fn the_last_window_fits() {
        assert_eq!(Bodies::new(10, 1).body(WINDOWS - 1, 0, 10).len(), 10);
    }
}
