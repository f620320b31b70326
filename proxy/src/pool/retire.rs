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

#[derive(Clone, Copy, Debug, Default)]
struct Past {
    last: Option<Instant>,
    /// No other instance has taken the place of the one that went.
    is_open: bool,
}

/// Hand-overs of a pool.
#[derive(Clone, Debug)]
pub struct Retirements {
    settings: Settings,
    nodes: Vec<Past>,
    last: Option<Instant>,
}

impl Retirements {
    /// Of a pool of so many nodes, none so far.
    pub fn new(settings: Settings, nodes: usize) -> Self {
        Self {
            settings,
            nodes: vec![Past::default(); nodes],
            last: None,
        }
    }

    /// Which instance of a node goes now, if each has all that the other one has.
    /// `wearing`: the age from which on instances are taken for their age.
    pub fn choose(
        &self,
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
        let past = self.nodes.get(usize::from(node.0))?;
        let since = |last: Option<Instant>, pace: Duration| {
            last.is_none_or(|last| now.saturating_duration_since(last) >= pace)
        };
        let pool_pace = age.mul_f64(POOL_PACE / self.nodes.len() as f64);
        let is_time = since(past.last, age.mul_f64(NODE_PACE)) && since(self.last, pool_pace);
        if past.is_open || !is_time || self.open(now) > self.nodes.len() / AT_ONCE {
            return None;
        }
        let (older, goes) = if ages.main > ages.second {
            (ages.main, Goes::Main)
        } else {
            (ages.second, Goes::Second)
        };
        let limit = age.mul_f64(limit(node));
        let are_twins = ages.main.abs_diff(ages.second) < age.mul_f64(TWINS);
        let limit = if are_twins { limit / 2 } else { limit };
        (older >= limit).then_some(goes)
    }

    /// Nodes whose instance went and was not replaced.
    fn open(&self, now: Instant) -> usize {
        let lately = |last: Instant| now.saturating_duration_since(last) < OPEN_AT_MOST;
        let open = |past: &&Past| past.is_open && past.last.is_some_and(lately);
        self.nodes.iter().filter(open).count()
    }

    /// An instance of this node goes.
    pub fn goes(&mut self, node: NodeId, now: Instant) {
        self.last = Some(now);
        if let Some(past) = self.nodes.get_mut(usize::from(node.0)) {
            *past = Past {
                last: Some(now),
                is_open: true,
            };
        }
    }

    /// Two instances of this node hold all that it should.
    pub fn is_whole(&mut self, node: NodeId) {
        if let Some(past) = self.nodes.get_mut(usize::from(node.0)) {
            past.is_open = false;
        }
    }
}

/// A node's part of the age, all as far from each other as can be: by the golden
/// ratio.
fn limit(node: NodeId) -> f64 {
    let place = (f64::from(node.0) * 0.618_033_988_749_895).fract();
    EARLIEST + (1.0 - EARLIEST) * place
}

#[cfg(test)]
mod tests;
