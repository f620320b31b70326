//! Which nodes belong to the pool, and who may come and go. Pure.
//!
//! ```text
//!         Drain                 Emptied
//! Active --------> Draining ------------> Gone
//!   ^  ^           | ^ |                   |
//!   |  +- Cancel ---+ | | GivenUp           |
//!   |            Drain| v                   |
//!   +---- Join --- Unreached                |
//!   +---------------- Join -----------------+
//! ```
//! A node's number is its name in the index and in the journal, so it stays what it
//! is: a node that has gone keeps its number, and may join again under it.

use scatterhoard_wire::NodeId;

/// Whether a node belongs to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It takes chunks and is kept warm.
    Active,
    /// It takes no new chunks; those that it has are moved to others.
    Draining {
        /// Whether objects are evicted where there is no room for them elsewhere.
        force: bool,
    },
    /// Nothing names it, and its instances have dropped what they held. It is not
    /// invoked.
    Gone,
    /// As one that has gone, but an instance of it could not be reached, and may hold
    /// what it held until the platform takes it.
    Unreached,
}

/// What is to become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was met, and is to take chunks.
    Join,
    /// It is to be emptied.
    Drain {
        /// See [`State::Draining`].
        force: bool,
    },
    /// It is to be kept after all.
    Cancel,
    /// Nothing names it any more, and none of its instances holds anything.
    Emptied,
    /// Nothing names it any more, and what its instances hold cannot be found out.
    GivenUp,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Active,
        Self::Draining { force: false },
        Self::Draining { force: true },
        Self::Gone,
        Self::Unreached,
    ];

    /// The state after a change; none if that cannot follow. Draining what drains can:
    /// it may be forced from then on.
    #[must_use]
    pub fn after(self, change: Change) -> Option<Self> {
        match (self, change) {
            (Self::Gone | Self::Unreached, Change::Join)
            | (Self::Draining { .. }, Change::Cancel) => Some(Self::Active),
            // to be reached after all
            (Self::Active | Self::Unreached, Change::Drain { force }) => {
                Some(Self::Draining { force })
            }
            (Self::Draining { force: before }, Change::Drain { force }) => Some(Self::Draining {
                force: before || force,
            }),
            (Self::Draining { .. }, Change::Emptied) => Some(Self::Gone),
            (Self::Draining { .. }, Change::GivenUp) => Some(Self::Unreached),
            _ => None,
        }
    }

    /// Whether it takes new chunks.
    pub fn takes_chunks(self) -> bool {
        self == Self::Active
    }

    /// Whether it is being emptied.
    pub fn is_draining(self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// Whether the index may name it, and it is invoked.
    pub fn is_member(self) -> bool {
        !matches!(self, Self::Gone | Self::Unreached)
    }

    /// For people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining { .. } => "draining",
            Self::Gone => "gone",
            Self::Unreached => "unreached",
        }
    }

    /// As the journal keeps it.
    pub fn code(self) -> u8 {
        match self {
            Self::Active => 0,
            Self::Draining { force: false } => 1,
            Self::Draining { force: true } => 2,
            Self::Gone => 3,
            Self::Unreached => 4,
        }
    }

    /// What [`Self::code`] made.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// The states of all nodes, by number: the first `configured` ones are there unless
/// the journal says otherwise, others only if it says so.
pub fn seats(configured: u16, journal: &[(NodeId, State)]) -> Vec<State> {
    let beyond = journal.iter().map(|(node, _)| usize::from(node.0) + 1);
    let count = beyond.max().unwrap_or(0).max(configured.into());
    let mut seats = vec![State::Gone; count];
    seats[..configured.into()].fill(State::Active);
    for (node, state) in journal {
        seats[usize::from(node.0)] = *state;
    }
    // no trace is kept of what has gone at the end, beyond those that are configured
    let last = seats.iter().rposition(|state| *state != State::Gone);
    seats.truncate(last.map_or(0, |last| last + 1).max(configured.into()));
    seats
}

/// A node's state, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The node.
    pub node: NodeId,
    /// Whether it is of the pool.
    pub state: State,
    /// Bytes of chunks that the index names there.
    pub named_bytes: u64,
    /// Bytes that it can take.
    pub free_bytes: u64,
}

/// Why nodes are not drained or added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such node.
    #[error("there is no node {0}")]
    Unknown(NodeId),
    /// It is not in a state that allows it.
    #[error("node {node} is {state}")]
    State {
        /// The node.
        node: NodeId,
        /// Its state's name.
        state: &'static str,
    },
    /// Too few would be left for the chunks of one object.
    #[error(
        "{left} nodes would be left, and an object's chunks need {need} different ones: add nodes first"
    )]
    TooFew {
        /// Active nodes that would be left.
        left: usize,
        /// d + p.
        need: usize,
    },
    /// The others cannot take what it holds.
    #[error(
        "no room on the nodes that stay: {lacking_bytes} bytes are lacking; add nodes, or say force to have objects evicted"
    )]
    NoRoom {
        /// Bytes for which there is no room.
        lacking_bytes: u64,
    },
    /// There are as many as there can be.
    #[error("at most {most} nodes")]
    TooMany {
        /// How many.
        most: usize,
    },
    /// Nothing was asked for.
    #[error("say how many nodes, or which")]
    Nothing,
}

/// Whether these nodes may be drained, of a pool whose objects have up to `need`
/// chunks: enough others stay, and those have room for all that is to be moved, unless
/// it is forced.
pub fn may_drain(
    loads: &[Load],
    chosen: &[NodeId],
    need: usize,
    force: bool,
) -> Result<(), Refusal> {
    if chosen.is_empty() {
        return Err(Refusal::Nothing);
    }
    for node in chosen {
        let load = loads.iter().find(|load| load.node == *node);
        let state = load.ok_or(Refusal::Unknown(*node))?.state;
        if state.after(Change::Drain { force }).is_none() {
            let (node, state) = (*node, state.name());
            return Err(Refusal::State { node, state });
        }
    }
    let stays = |load: &&Load| load.state.takes_chunks() && !chosen.contains(&load.node);
    let left = loads.iter().filter(stays).count();
    if left < need {
        return Err(Refusal::TooFew { left, need });
    }
    let goes = |load: &&Load| load.state.is_draining() || chosen.contains(&load.node);
    let moving: u64 = loads.iter().filter(goes).map(|load| load.named_bytes).sum();
    let room: u64 = loads
        .iter()
        .filter(stays)
        .map(|load| load.free_bytes)
        .fold(0, u64::saturating_add);
    match moving.saturating_sub(room) {
        lacking_bytes @ 1.. if !force => Err(Refusal::NoRoom { lacking_bytes }),
        _ => Ok(()),
    }
}

/// Which nodes go when so many are to go: those with the highest numbers, as tools do
/// that are given a count of functions.
pub fn last_active(states: &[State], count: usize) -> Vec<NodeId> {
    let active = numbered(states).rev().filter(|(_, s)| s.takes_chunks());
    active.take(count).map(|(node, _)| node).collect()
}

/// Which nodes may come, in this order: those that have gone, the lowest numbers first,
/// then new ones, which must come one after the other. There are `most` numbers.
pub fn free(states: &[State], most: usize) -> impl Iterator<Item = NodeId> + '_ {
    let gone = numbered(states).filter(|(_, s)| !s.is_member());
    let new = (states.len()..most).map_while(|n| u16::try_from(n).ok().map(NodeId));
    gone.map(|(node, _)| node).chain(new)
}

fn numbered(states: &[State]) -> impl DoubleEndedIterator<Item = (NodeId, State)> + '_ {
    // there are fewer nodes than numbers
    let number = |i: usize| NodeId(u16::try_from(i).unwrap_or(u16::MAX));
    let states = states.iter().enumerate();
    states.map(move |(i, state)| (number(i), *state))
}

#[cfg(test)]
mod tests;
