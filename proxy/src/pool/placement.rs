//! Which nodes get the chunks of a new object. Pure.

use rand::{Rng, seq::SliceRandom};
use scatterhoard_wire::NodeId;

/// A node as placement sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Bytes that it can take.
    pub free_bytes: u64,
    /// Whether invoking it is expected to work.
    pub reachable: bool,
}

/// Why no placement was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Fewer reachable nodes than a write needs at the least.
    #[error("{reachable} of {need} nodes are reachable")]
    TooFewNodes {
        /// Nodes that can be reached.
        reachable: usize,
        /// Nodes that an acknowledgement needs.
        need: usize,
    },
    /// Enough nodes, but too few with room: evict, then try again.
    #[error("too few nodes with room for {bytes} bytes")]
    NoRoom {
        /// Bytes that every chosen node must take.
        bytes: u64,
    },
}

/// Picks `want` different reachable nodes with room for `bytes`, for each chunk
/// the one with more free bytes of two drawn at random. With fewer reachable
/// nodes than that, as many as there are, but at least `need`.
pub fn place(
    candidates: &[Candidate],
    want: usize,
    need: usize,
    bytes: u64,
    rng: &mut impl Rng,
) -> Result<Vec<NodeId>, PlacementError> {
    let reachable = candidates.iter().filter(|c| c.reachable).count();
    if reachable < need {
        return Err(PlacementError::TooFewNodes { reachable, need });
    }
    let mut rest: Vec<Candidate> = candidates
        .iter()
        .filter(|c| c.reachable && c.free_bytes >= bytes)
        .copied()
        .collect();
    let want = want.min(reachable);
    if rest.len() < want {
        return Err(PlacementError::NoRoom { bytes });
    }
    let mut chosen = Vec::with_capacity(want);
    for _ in 0..want {
        let a = rng.random_range(0..rest.len());
        let b = rng.random_range(0..rest.len());
        let better = if rest[b].free_bytes > rest[a].free_bytes {
            b
        } else {
            a
        };
        chosen.push(rest.swap_remove(better).node);
    }
    // the emptiest node must not always get chunk 0, which is read most
    chosen.shuffle(rng);
    Ok(chosen)
}

/// The nodes that eviction has to free, and how much on each: those `want`
/// nodes that lack the least.
pub fn shortfall(candidates: &[Candidate], want: usize, bytes: u64) -> Vec<(NodeId, u64)> {
    let mut reachable: Vec<&Candidate> = candidates.iter().filter(|c| c.reachable).collect();
    reachable.sort_by_key(|c| std::cmp::Reverse(c.free_bytes));
    reachable
        .iter()
        .take(want)
        .filter(|c| c.free_bytes < bytes)
        .map(|c| (c.node, bytes - c.free_bytes))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::{collection::vec, prelude::*};
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    fn pool(free: &[(u64, bool)]) -> Vec<Candidate> {
        let node = |(i, &(free_bytes, reachable)): (usize, &(u64, bool))| Candidate {
            node: NodeId(i as u16),
            free_bytes,
            reachable,
        };
        free.iter().enumerate().map(node).collect()
    }

    proptest! {
        #[test]
        fn nodes_are_distinct_reachable_and_have_room(
            free in vec((0u64..100, any::<bool>()), 0..30), want in 1usize..14, bytes in 1u64..100,
            seed: u64
        ) {
            let pool = pool(&free);
            let need = want.div_ceil(2);
            let mut rng = SmallRng::seed_from_u64(seed);
            let reachable = free.iter().filter(|(_, r)| *r).count();
            let fitting = free.iter().filter(|(f, r)| *r && *f >= bytes).count();
            match place(&pool, want, need, bytes, &mut rng) {
                Ok(chosen) => {
                    prop_assert_eq!(chosen.len(), want.min(reachable));
                    let distinct: HashSet<_> = chosen.iter().collect();
                    prop_assert_eq!(distinct.len(), chosen.len());
                    for node in chosen {
                        let c = pool[usize::from(node.0)];
                        prop_assert!(c.reachable && c.free_bytes >= bytes);
                    }
                }
                Err(PlacementError::TooFewNodes { .. }) => prop_assert!(reachable < need),
                Err(PlacementError::NoRoom { .. }) => {
                    prop_assert!(fitting < want.min(reachable));
                    prop_assert!(!shortfall(&pool, want, bytes).is_empty());
                }
            }
        }
    }

    #[test]
    fn load_spreads_evenly() {
        let mut pool = pool(&[(10_000, true); 40]);
        let mut rng = SmallRng::seed_from_u64(1);
        for _ in 0..800 {
            for node in place(&pool, 12, 11, 10, &mut rng).unwrap() {
                pool[usize::from(node.0)].free_bytes -= 10;
            }
        }
        let free: Vec<u64> = pool.iter().map(|c| c.free_bytes).collect();
        let (low, high) = (free.iter().min().unwrap(), free.iter().max().unwrap());
        assert!(high - low < 300, "{low} to {high}");
    }
}
