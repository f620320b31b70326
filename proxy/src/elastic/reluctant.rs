//! Nodes that were to be added and did not answer: they are not asked again at every step
//! of a pool that changes its size on its own. Pure.

use std::{collections::BTreeMap, time::Duration};

use scatterhoard_wire::NodeId;
use tokio::time::Instant;

/// So long one is left alone that did not answer once; then twice as long, and so on.
const FIRST: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Who did not answer. At most as many as there are numbers of nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Reluctant(BTreeMap<NodeId, (Instant, Duration)>);

impl Reluctant {
    /// Whether it may be asked.
    pub(super) fn may_be_asked(&self, node: NodeId, now: Instant) -> bool {
        self.0.get(&node).is_none_or(|(until, _)| *until <= now)
    }

    /// It was asked.
    pub(super) fn was_asked(&mut self, node: NodeId, has_answered: bool, now: Instant) {
        if has_answered {
            self.0.remove(&node);
            return;
        }
        let before = self.0.get(&node).map(|(_, pause)| *pause);
        let pause = before.map_or(FIRST, |pause| (pause * 2).min(LONGEST));
        self.0.insert(node, (now + pause, pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_asked_less_and_less_until_it_does() {
        let (mut reluctant, mut now) = (Reluctant::default(), Instant::now());
        let (dead, other) = (NodeId(3), NodeId(4));
        for pause in [FIRST, 2 * FIRST, 4 * FIRST] {
            assert!(reluctant.may_be_asked(dead, now));
            reluctant.was_asked(dead, false, now);
            assert!(!reluctant.may_be_asked(dead, now + pause - Duration::from_secs(1)));
            assert!(reluctant.may_be_asked(other, now));
            now += pause;
        }
        for _ in 0..20 {
            reluctant.was_asked(dead, false, now);
        }
        assert!(reluctant.may_be_asked(dead, now + LONGEST));
        reluctant.was_asked(dead, true, now);
        reluctant.was_asked(dead, false, now);
        assert!(reluctant.may_be_asked(dead, now + FIRST));
    }
}
