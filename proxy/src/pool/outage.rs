//! Most nodes fail at the same time: a zone is out, the link port was closed, Lambda is
//! away. One thing is wrong then, not one with each node: it is told once, by the cause
//! that most of them show. Pure.
//!
//! ```text
//!        most nodes fail for a second          no more than half for five seconds
//! Well -------------------------------> Out ---------------------------------------> Well
//! ```

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::platform::{InvokeFailure, errors::Cause};

/// Fewer nodes are no outage, unless there are no more.
const LEAST_NODES: usize = 3;
/// What most of them do for so long is no accident.
const BEGINS_AFTER: Duration = Duration::from_secs(1);
/// They have been well for so long when it is over.
const ENDS_AFTER: Duration = Duration::from_secs(5);
/// One node is asked so often, to see whether it is over.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// As soon as one is well again, so many of the others are asked at each look.
const ASK_AT_ONCE: usize = 8;
/// Another cause is told no sooner after the last one.
const TELL_OTHER: Duration = Duration::from_secs(60);
/// While nothing changes it is told again.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// Why a node fails, as far as that can be the same with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The platform does not run the function.
    Refused(Cause),
    /// It runs, but no link comes about.
    Link,
    /// It fails: crashes, is killed, times out.
    Function,
    /// It is a node of a release too old for this proxy.
    NodeOutdated,
    /// It is a node of a release that this proxy is too old for.
    ProxyOutdated,
    /// What answers is no node.
    Report,
    /// Nothing is heard of an invoke.
    Silent,
}

impl Trouble {
    /// What an invoke that failed shows.
    pub fn of(failure: &InvokeFailure) -> Self {
        match failure {
            InvokeFailure::Refused { cause, .. } | InvokeFailure::Held(cause) => {
                Self::Refused(*cause)
            }
            InvokeFailure::Link(_) => Self::Link,
            InvokeFailure::Function(_) => Self::Function,
            InvokeFailure::Version(none) if none.are_ours_older() => Self::ProxyOutdated,
            InvokeFailure::Version(_) => Self::NodeOutdated,
            InvokeFailure::Report(_) => Self::Report,
            InvokeFailure::Silent => Self::Silent,
        }
    }

    /// Label for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused(cause) => cause.name(),
            Self::Link => "link",
            Self::Function => "function",
            Self::NodeOutdated => "node_outdated",
            Self::ProxyOutdated => "proxy_outdated",
            Self::Report => "report",
            Self::Silent => "silent",
        }
    }

    /// What it means.
    pub fn what(self) -> &'static str {
        match self {
            Self::Refused(cause) => cause.what(),
            Self::Link => "their functions run, but cannot connect to the proxy's link port",
            Self::Function => "their functions crash, time out or are killed",
            Self::NodeOutdated => "their code is of a release too old for this proxy",
            Self::ProxyOutdated => "this proxy is of a release too old for their code",
            Self::Report => "what answers is no node",
            Self::Silent => "invokes are not answered in time",
        }
    }

    /// What to do about it.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Refused(cause) => cause.fix(),
            Self::Link => {
                "let the link port (--link-listen) in from the functions' security group, and see that --link-advertise is this machine's address for them; `scatterhoard doctor` tries it"
            }
            Self::Function => {
                "see the functions' logs and memory; was other code deployed to all of them?"
            }
            Self::NodeOutdated => {
                "update their code: `scatterhoard pool update` (docs/operations.md, Upgrading)"
            }
            Self::ProxyOutdated => {
                "update this proxy, or give them the code of its release again (docs/operations.md, Upgrading)"
            }
            Self::Report => "deploy the node's zip of this release to all functions",
            Self::Silent => "see whether this machine is overloaded or its network is away",
        }
    }

    /// Whether an outage of a zone shows itself so. What somebody has set wrongly does not
    /// come over a zone.
    pub fn may_be_the_zone(self) -> bool {
        match self {
            Self::Refused(cause) => matches!(
                cause,
                Cause::Unreachable
                    | Cause::NotReady
                    | Cause::EniLimit
                    | Cause::Ec2Throttled
                    | Cause::Ec2Failed
                    | Cause::Service
                    | Cause::Other
            ),
            Self::Link | Self::Function | Self::Silent => true,
            Self::NodeOutdated | Self::ProxyOutdated | Self::Report => false,
        }
    }
}

/// How many nodes fail, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Nodes that fail.
    pub failing: usize,
    /// Nodes of the pool.
    pub nodes: usize,
    /// Why most of those fail.
    pub trouble: Trouble,
    /// How many of them that is.
    pub alike: usize,
}

impl Extent {
    /// Of these nodes, each with its trouble; the earlier one if as many have two of them,
    /// but `usual` before all. None if none fails.
    fn of(
        nodes: impl Iterator<Item = Option<Trouble>>,
        usual: Option<Trouble>,
    ) -> (Option<Self>, usize) {
        let (mut total, mut failing) = (0, 0);
        let mut counts: Vec<(Trouble, usize)> = Vec::new();
        for node in nodes {
            total += 1;
            let Some(trouble) = node else { continue };
            failing += 1;
            match counts.iter_mut().find(|(known, _)| *known == trouble) {
                Some((_, count)) => *count += 1,
                None => counts.push((trouble, 1)),
            }
        }
        // the last of several that are largest is taken
        let weight = |(trouble, count): &&(Trouble, usize)| (*count, Some(*trouble) == usual);
        let most = counts.iter().rev().max_by_key(weight);
        let extent = most.map(|&(trouble, alike)| Self {
            failing,
            nodes: total,
            trouble,
            alike,
        });
        (extent, total)
    }

    fn is_most(&self) -> bool {
        self.failing >= LEAST_NODES.min(self.nodes) && self.failing * 2 > self.nodes
    }

    /// What to do about it.
    pub fn fix(&self) -> String {
        let fix = self.trouble.fix();
        if self.trouble.may_be_the_zone() {
            format!(
                "{fix}; if nothing was changed here, the zone or Lambda in it is out: see the AWS Health Dashboard; nodes are tried by themselves until they answer, and for an outage that lasts begin a pool in another zone (docs/operations.md, When the zone is out)"
            )
        } else {
            fix.to_owned()
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            failing,
            nodes,
            trouble,
            alike,
        } = self;
        let what = trouble.what();
        if alike == failing {
            write!(f, "{failing} of {nodes} nodes fail: {what}")
        } else {
            write!(
                f,
                "{failing} of {nodes} nodes fail, {alike} of them so: {what}"
            )
        }
    }
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// From now on most nodes fail.
    Began(Extent),
    /// They still do, or for another reason now.
    GoesOn(Extent, Duration),
    /// They answer again, after so long.
    Ended(Duration),
}

/// What follows from a look at all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What is to be told.
    pub news: Option<News>,
    /// So many of the nodes that fail are to be asked whether they still do.
    pub ask: usize,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    since: Instant,
    extent: Extent,
    told_at: Instant,
    told: Trouble,
    asked_at: Instant,
}

/// Whether most nodes fail at the same time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    out: Option<Out>,
    /// Since when it looks as if that had changed.
    turning: Option<Instant>,
}

impl Outage {
    /// How far it goes, and for how long, if there is one.
    pub fn extent(&self, now: Instant) -> Option<(Extent, Duration)> {
        let out = self.out?;
        Some((out.extent, now.saturating_duration_since(out.since)))
    }

    /// Looks at all nodes: what is wrong with each, if anything is.
    pub fn look(&mut self, nodes: impl Iterator<Item = Option<Trouble>>, now: Instant) -> Decision {
        let (extent, total) = Extent::of(nodes, self.out.map(|out| out.told));
        let most = extent.filter(Extent::is_most);
        let Some(mut out) = self.out else {
            return self.look_while_well(most, now);
        };
        if most.is_some() || total == 0 {
            self.turning = None;
        } else if now >= *self.turning.get_or_insert(now) + ENDS_AFTER {
            *self = Self::default();
            let news = News::Ended(now.saturating_duration_since(out.since));
            return Decision {
                news: Some(news),
                ask: 0,
            };
        }
        let before = out.extent.failing;
        if let Some(extent) = extent {
            out.extent = extent;
        }
        let is_other = out.extent.trouble != out.told;
        let pause = if is_other { TELL_OTHER } else { TELL_AGAIN };
        let news = (most.is_some() && now >= out.told_at + pause).then(|| {
            (out.told_at, out.told) = (now, out.extent.trouble);
            News::GoesOn(out.extent, now.saturating_duration_since(out.since))
        });
        let failing = extent.map_or(0, |extent| extent.failing);
        let ask = if failing > 0 && (failing < before || most.is_none()) {
            ASK_AT_ONCE
        } else if now >= out.asked_at + ASK_EVERY {
            1
        } else {
            0
        };
        if ask > 0 {
            out.asked_at = now;
        }
        self.out = Some(out);
        Decision { news, ask }
    }

    fn look_while_well(&mut self, most: Option<Extent>, now: Instant) -> Decision {
        let Some(extent) = most else {
            self.turning = None;
            return Decision::default();
        };
        if now < *self.turning.get_or_insert(now) + BEGINS_AFTER {
            return Decision::default();
        }
        self.turning = None;
        self.out = Some(Out {
            since: now,
            extent,
            told_at: now,
            told: extent.trouble,
            asked_at: now,
        });
        Decision {
            news: Some(News::Began(extent)),
            ask: 0,
        }
    }
}

#[cfg(test)]
mod tests;
