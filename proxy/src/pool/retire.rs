//! Planned hand-over: which instance goes before the platform takes it. Pure.
//!
//! A loss that was planned costs less than one that was not: the other instance
//! of the node is known to hold everything, and a young one is filled at once
//! instead of at the next round. That pays only where old instances die faster
//! than young ones. Ages are kept apart: each node has an age limit of its own,
//! its two instances go at different times, those of the pool a few at a time.

use std::time::Duration;

use scatterhoard_wire::NodeId;
use tokio::time::Instant;

/// At which age instances go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Settings {
    /// At none.
    #[default]
    Never,
    /// At the age at which the platform usually takes them, once that is known,
    /// and if they are taken for their age.
    Typical,
    /// At this one.
    At(Duration),
}

/// Limits of the nodes are between this share of the age and all of it.
const EARLIEST: f64 = 0.75;
/// Instances of a node whose ages differ by less than this share are twins: one
/// of them goes at half the limit, so that they will not die together.
const TWINS: f64 = 0.25;
/// A node's instances go at least this share of the age apart.
const NODE_PACE: f64 = 0.25;
/// Instances of the pool go twice as often as would do at most.
const POOL_PACE: f64 = 0.25;
/// One node of so many may have an instance that is not replaced yet.
const AT_ONCE: usize = 32;
/// After a hand-over that was given up the node's next is due this share of the age
/// later, then twice as much, and so on up to its pace.
const AGAIN: f64 = 1.0 / 64.0;
/// A node that is not given another instance for so long holds up no others.
const OPEN_AT_MOST: Duration = Duration::from_secs(300);

/// How old the two instances of a node are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// That of the one that serves.
    pub main: Duration,
    /// That of the other one.
    pub second: Duration,
}

/// Who goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    /// The one that serves: the other one has to take its place before.
    Main,
    /// The other one.
    Second,
}

/// What a round could not settle of two instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Chunks that the one that serves lacks and has no room for.
    pub left_out: usize,
    /// Chunks that the other one lacks and has no room for.
    pub not_backed_up: usize,
    /// Chunks that only the other one has, and that may yet be named, or read.
    pub in_use: usize,
    /// Those of them whose writes were not over when the round began.
    pub under_way: usize,
}

/// Why an instance stays whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// What only it has finds no room on the other one.
    #[error("no room on the other instance")]
    NoRoom,
    /// What only it has may yet be needed.
    #[error("chunks are in use that only it has")]
    InUse,
    /// A link ended meanwhile, or somebody did not answer.
    #[error("interrupted")]
    Interrupted,
}

impl Obstacle {
    /// For metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::InUse => "in_use",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Unsettled {
    /// Whether the one that serves has all that the other one has.
    pub fn is_merged(self) -> bool {
        self.left_out == 0 && self.under_way == 0
    }

    /// What keeps this one from going, so far as the round can tell.
    pub fn obstacle(self, goes: Goes) -> Option<Obstacle> {
        let (no_room, in_use) = match goes {
            // what comes to it meanwhile is copied when the two have changed places
            Goes::Main => (self.left_out + self.not_backed_up, self.under_way),
            Goes::Second => (self.left_out, self.in_use),
        };
        match (no_room, in_use) {
            (0, 0) => None,
            (0, _) => Some(Obstacle::InUse),
            _ => Some(Obstacle::NoRoom),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Past {
    last: Option<Instant>,
    /// Hand-overs in a row that were given up, and when the latest of them was.
    given_up: u32,
    given_up_at: Option<Instant>,
    /// A hand-over began, and no two instances hold all since.
    is_open: bool,
    opened: Option<Instant>,
    /// Its hand-over was due, but for those of other nodes, since then.
    waits_since: Option<Instant>,
}

/// Hand-overs of a pool.
#[derive(Clone, Debug)]
pub struct Retirements {
    settings: Settings,
    nodes: Vec<Past>,
    last: Option<Instant>,
    /// Least time between two of the pool.
    pace: Duration,
    /// When a node that had waited was called last.
    called: Option<Instant>,
}

impl Retirements {
    /// Of a pool of so many nodes, none so far.
    pub fn new(settings: Settings, nodes: usize) -> Self {
        Self {
            settings,
            nodes: vec![Past::default(); nodes],
            last: None,
            pace: Duration::ZERO,
            called: None,
        }
    }

    /// There are so many nodes by now.
    pub fn grow(&mut self, nodes: usize) {
        let more = nodes.max(self.nodes.len());
        self.nodes.resize(more, Past::default());
    }

    /// Which instance of a node goes now, if each has all that the other one has.
    /// `wearing`: the age from which on instances are taken for their age. A node that
    /// only others keep from it waits: see [`Self::whose_turn`].
    pub fn choose(
        &mut self,
        node: NodeId,
        ages: Ages,
        wearing: Option<Duration>,
        now: Instant,
    ) -> Option<Goes> {
        let age = match self.settings {
            Settings::Never => return None,
            Settings::Typical => wearing?,
            Settings::At(age) => age,
        };
        self.pace = age.mul_f64(POOL_PACE / self.nodes.len().max(1) as f64);
        let is_free = self.is_free(now);
        let past = self.nodes.get_mut(usize::from(node.0))?;
        let goes = past.due(age, limit(node), ages, now);
        let waits = goes.is_some() && !is_free;
        past.waits_since = waits.then(|| past.waits_since.unwrap_or(now));
        goes.filter(|_| is_free)
    }

    /// The node that waits longest, if nobody keeps it any more: a round of it is wanted
    /// now. Its own come at the same distance from those of others again and again, and
    /// may find them in the way each time.
    pub fn whose_turn(&mut self, now: Instant) -> Option<NodeId> {
        let waiting = self.nodes.iter().enumerate();
        let waiting = waiting.filter_map(|(i, past)| Some((past.waits_since?, i)));
        let (_, longest) = waiting.min()?;
        // not more such rounds than there may be hand-overs
        if !self.is_free(now) || !has_passed(self.called, self.pace, now) {
            return None;
        }
        self.called = Some(now);
        self.nodes[longest].waits_since = None;
        u16::try_from(longest).ok().map(NodeId)
    }

    /// Whether other nodes leave room for a hand-over.
    fn is_free(&self, now: Instant) -> bool {
        has_passed(self.last, self.pace, now) && self.open(now) <= self.nodes.len() / AT_ONCE
    }

    /// Nodes whose hand-over is under way, or whose instance was not replaced.
    fn open(&self, now: Instant) -> usize {
        let lately = |at: Instant| now.saturating_duration_since(at) < OPEN_AT_MOST;
        let open = |past: &&Past| past.is_open && past.opened.is_some_and(lately);
        self.nodes.iter().filter(open).count()
    }

    /// The instances of this node begin to hand over: while one has what the other
    /// lacks, others do not, or a value might be between two of them at once.
    pub fn begins(&mut self, node: NodeId, now: Instant) {
        if let Some(past) = self.nodes.get_mut(usize::from(node.0)) {
            (past.is_open, past.opened) = (true, Some(now));
        }
    }

    /// An instance of this node goes.
    pub fn goes(&mut self, node: NodeId, now: Instant) {
        self.last = Some(now);
        if let Some(past) = self.nodes.get_mut(usize::from(node.0)) {
            *past = Past {
                last: Some(now),
                is_open: true,
                opened: Some(now),
                ..Past::default()
            };
        }
    }

    /// The instance of this node whose time it was stays: it is tried again, but
    /// not in each of its rounds. `is_whole`: the two hold as much as before.
    pub fn gives_up(&mut self, node: NodeId, is_whole: bool, now: Instant) {
        if let Some(past) = self.nodes.get_mut(usize::from(node.0)) {
            past.is_open &= !is_whole;
            past.given_up = past.given_up.saturating_add(1);
            past.given_up_at = Some(now);
        }
    }

    /// Two instances of this node hold all that it should.
    pub fn is_whole(&mut self, node: NodeId) {
        if let Some(past) = self.nodes.get_mut(usize::from(node.0)) {
            past.is_open = false;
        }
    }
}

impl Past {
    /// Which instance goes, as far as this node is concerned. `limit`: its share of the
    /// age.
    fn due(&self, age: Duration, limit: f64, ages: Ages, now: Instant) -> Option<Goes> {
        let again = age.mul_f64(self.again_after());
        let is_time = has_passed(self.last, age.mul_f64(NODE_PACE), now)
            && has_passed(self.given_up_at, again, now);
        if self.is_open || !is_time {
            return None;
        }
        let (older, goes) = if ages.main > ages.second {
            (ages.main, Goes::Main)
        } else {
            (ages.second, Goes::Second)
        };
        let limit = age.mul_f64(limit);
        let are_twins = ages.main.abs_diff(ages.second) < age.mul_f64(TWINS);
        let limit = if are_twins { limit / 2 } else { limit };
        (older >= limit).then_some(goes)
    }

    /// Share of the age after which a hand-over that was given up is tried again.
    fn again_after(&self) -> f64 {
        let doubled = self.given_up.saturating_sub(1).min(16);
        (AGAIN * f64::from(1_u32 << doubled)).min(NODE_PACE)
    }
}

fn has_passed(since: Option<Instant>, pause: Duration, now: Instant) -> bool {
    since.is_none_or(|at| now.saturating_duration_since(at) >= pause)
}

/// A node's part of the age, all as far from each other as can be: by the golden
/// ratio.
fn limit(node: NodeId) -> f64 {
    let place = (f64::from(node.0) * 0.618_033_988_749_895).fract();
    EARLIEST + (1.0 - EARLIEST) * place
}

#[cfg(test)]
mod tests;
