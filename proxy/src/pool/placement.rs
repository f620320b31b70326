//! Which nodes get the chunks of a new object. Pure.
//!
//! Bytes decide. Among nodes that have nearly the same room ages do: instances that
//! were started at about the same time may be taken at about the same time, so an
//! object takes no more than its share of them.

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
    /// When the instance that serves was started, in milliseconds since 1970; 0:
    /// unknown.
    pub birth_unix_ms: u64,
}

/// Instances that were started in the same span of so many milliseconds are of an
/// age: a tenth of the 2 hours that busy instances live (FAST 2020).
pub const OF_AN_AGE_MS: u64 = 720_000;
/// Ages that are told apart; older ones share numbers with younger ones.
const AGES: usize = 32;
/// Nodes have nearly the same room if it differs by this share of it, or by so many
/// chunks, which chance alone may bring about.
const NEARLY: u64 = 64;
const NEARLY_CHUNKS: u64 = 4;

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
/// the one with more free bytes of two drawn at random. If of those of its age there
/// are enough in the placement, another one takes its place that has nearly as much
/// room, if there is one. With fewer reachable
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
    let mut ages = Ages::new(&rest, want);
    let mut chosen = Vec::with_capacity(want);
    for _ in 0..want {
        let a = rng.random_range(0..rest.len());
        let b = rng.random_range(0..rest.len());
        let better = if rest[b].free_bytes > rest[a].free_bytes {
            b
        } else {
            a
        };
        let better = if ages.has_enough_of(&rest[better]) {
            let from = rng.random_range(0..rest.len());
            ages.instead_of(better, &rest, from, bytes)
        } else {
            better
        };
        ages.take(&rest[better]);
        chosen.push(rest.swap_remove(better).node);
    }
    // the emptiest node must not always get chunk 0, which is read most
    chosen.shuffle(rng);
    Ok(chosen)
}

/// How many nodes of each age a placement may have, and has.
struct Ages {
    most: [usize; AGES],
    taken: [usize; AGES],
}

impl Ages {
    /// Each age has the share of the placement that it has of the candidates.
    fn new(candidates: &[Candidate], want: usize) -> Self {
        let mut most = [0; AGES];
        for age in candidates.iter().filter_map(age) {
            most[age] += 1;
        }
        let share = |count: usize| (count * want).div_ceil(candidates.len().max(1));
        Self {
            most: most.map(share),
            taken: [0; AGES],
        }
    }

    fn has_enough_of(&self, candidate: &Candidate) -> bool {
        age(candidate).is_some_and(|age| self.taken[age] >= self.most[age])
    }

    /// The first one behind `from` that has nearly as much room as this one, and of
    /// whose age there are not enough; this one if there is none.
    fn instead_of(&self, this: usize, rest: &[Candidate], from: usize, bytes: u64) -> usize {
        let room = rest[this].free_bytes;
        let nearly = room.saturating_sub((room / NEARLY).max(NEARLY_CHUNKS * bytes));
        let mut all = (from..rest.len()).chain(0..from);
        let will_do = |i: &usize| rest[*i].free_bytes >= nearly && !self.has_enough_of(&rest[*i]);
        all.find(will_do).unwrap_or(this)
    }

    fn take(&mut self, candidate: &Candidate) {
        if let Some(age) = age(candidate) {
            self.taken[age] += 1;
        }
    }
}

/// The number of its age, if that is known.
fn age(candidate: &Candidate) -> Option<usize> {
    let span = candidate.birth_unix_ms / OF_AN_AGE_MS;
    (candidate.birth_unix_ms > 0).then_some((span % AGES as u64) as usize)
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
mod tests;
