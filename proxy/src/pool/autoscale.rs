//! When nodes are added because the pool is full, or drained because it is not. Pure.
//!
//! Between two thresholds nothing is done. A step aims at their middle, and is not taken
//! if it would overshoot that: so with the same bytes it is never taken back.

use std::time::Duration;

use tokio::time::Instant;

/// When the pool changes its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Never fewer active nodes.
    pub min_nodes: usize,
    /// Never more.
    pub max_nodes: usize,
    /// Nodes are added when more of their room is used, in percent.
    pub grow_above: u8,
    /// Nodes are drained when less of it is used, in percent; 0: never.
    pub shrink_below: u8,
    /// Least time between two steps.
    pub every: Duration,
}

/// The pool at a glance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Nodes that take chunks.
    pub active: usize,
    /// Those of them whose room is not known.
    pub unknown: usize,
    /// Nodes that are being emptied.
    pub draining: usize,
    /// Bytes held by all of them.
    pub used_bytes: u64,
    /// Room of the active ones.
    pub budget_bytes: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add so many nodes.
    Grow(usize),
    /// Drain so many.
    Shrink(usize),
}

/// A pool shrinks by this part of its nodes in one step, or by one.
const SHRINK_PART: usize = 10;

/// Who decides it.
#[derive(Clone, Debug)]
pub struct Autoscale {
    settings: Settings,
    last: Instant,
}

impl Autoscale {
    /// The first step is taken no earlier than if there had been one now.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            last: now,
        }
    }

    /// What is to be done now. It is tried once: whether it works or not, the next step
    /// has its time.
    pub fn decide(&mut self, view: &View, now: Instant) -> Option<Step> {
        if now.saturating_duration_since(self.last) < self.settings.every {
            return None;
        }
        let step = step(&self.settings, view)?;
        self.last = now;
        Some(step)
    }
}

/// What is to be done if it is time.
fn step(settings: &Settings, view: &View) -> Option<Step> {
    let known = view.active.saturating_sub(view.unknown);
    if known == 0 || view.budget_bytes == 0 {
        return None;
    }
    let node_bytes = view.budget_bytes as f64 / known as f64;
    let occupancy = |nodes: usize| 100.0 * view.used_bytes as f64 / (nodes as f64 * node_bytes);
    let (grow_above, shrink_below) = (
        f64::from(settings.grow_above),
        f64::from(settings.shrink_below),
    );
    let aim = match settings.shrink_below {
        0 => grow_above * 0.9,
        _ => (grow_above + shrink_below) / 2.0,
    };
    // as many as it takes to be no fuller than that
    let enough = (100.0 * view.used_bytes as f64 / (aim * node_bytes)).ceil() as usize;
    if occupancy(view.active) > grow_above && view.active < settings.max_nodes {
        let wanted = enough.clamp(view.active + 1, settings.max_nodes);
        return Some(Step::Grow(wanted - view.active));
    }
    let is_settled = view.draining == 0 && view.unknown == 0;
    if occupancy(view.active) < shrink_below && is_settled {
        let least = enough.max(settings.min_nodes);
        let most = (view.active / SHRINK_PART).max(1);
        let count = view.active.saturating_sub(least).min(most);
        return (count > 0).then_some(Step::Shrink(count));
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings {
        min_nodes: 4,
        max_nodes: 20,
        grow_above: 80,
        shrink_below: 40,
        every: Duration::from_secs(60),
    };

    fn view(active: usize, used_bytes: u64) -> View {
        View {
            active,
            used_bytes,
            budget_bytes: active as u64 * 100,
            ..View::default()
        }
    }

    #[test]
    fn it_grows_when_full_and_shrinks_when_not() {
        assert_eq!(step(&SETTINGS, &view(10, 800)), None);
        assert_eq!(step(&SETTINGS, &view(10, 801)), Some(Step::Grow(4)));
        assert_eq!(step(&SETTINGS, &view(10, 400)), None);
        assert_eq!(step(&SETTINGS, &view(10, 399)), Some(Step::Shrink(1)));
        assert_eq!(step(&SETTINGS, &view(20, 100)), Some(Step::Shrink(2)));
        assert_eq!(step(&SETTINGS, &view(4, 0)), None, "few enough");
        assert_eq!(step(&SETTINGS, &view(20, 2000)), None, "as many as may be");
        let never = Settings {
            shrink_below: 0,
            ..SETTINGS
        };
        assert_eq!(step(&never, &view(10, 0)), None);
    }

    #[test]
    fn it_waits_between_steps_and_for_drains() {
        let now = Instant::now();
        let mut scale = Autoscale::new(SETTINGS, now);
        let minute = SETTINGS.every;
        assert_eq!(scale.decide(&view(10, 900), now + minute / 2), None);
        assert!(scale.decide(&view(10, 900), now + minute).is_some());
        assert_eq!(scale.decide(&view(10, 900), now + minute * 3 / 2), None);
        let draining = View {
            draining: 1,
            ..view(10, 100)
        };
        assert_eq!(scale.decide(&draining, now + 3 * minute), None);
        assert!(scale.decide(&view(10, 100), now + 3 * minute).is_some());
        let unknown = View {
            unknown: 10,
            budget_bytes: 0,
            ..view(10, 100)
        };
        assert_eq!(step(&SETTINGS, &unknown), None);
    }

    proptest! {
        #[test]
        fn it_keeps_its_bounds_and_does_not_go_to_and_fro(
            min in 1usize..20, more in 0usize..60, grow in 20u8..=100, less in 1u8..60,
            active in 1usize..80, used in 0u64..10_000,
        ) {
            let settings = Settings {
                min_nodes: min,
                max_nodes: min + more,
                grow_above: grow,
                shrink_below: grow.saturating_sub(less),
                every: Duration::ZERO,
            };
            let (mut nodes, mut grew, mut shrank) = (active, false, false);
            for _ in 0..200 {
                match step(&settings, &view(nodes, used)) {
                    None => return Ok(()),
                    Some(Step::Grow(count)) => {
                        prop_assert!(count > 0 && nodes + count <= settings.max_nodes);
                        nodes += count;
                        grew = true;
                    }
                    Some(Step::Shrink(count)) => {
                        prop_assert!(count > 0 && nodes - count >= settings.min_nodes);
                        nodes -= count;
                        shrank = true;
                    }
                }
                prop_assert!(!(grew && shrank), "with the same bytes");
            }
            prop_assert!(false, "no end");
        }
    }
}
