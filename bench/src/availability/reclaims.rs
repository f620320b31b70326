//! The platform takes instances away, and what that does to objects.

use rand::{Rng, seq::IteratorRandom};
use scatterhoard_wire::InstanceId;

use super::node::Us;
use super::patterns::{OBSERVED, Pattern};
use super::sim::{Due, HOUR, MINUTE, Sim};

const TWO_HOURS: Us = 2 * HOUR;

impl Sim<'_> {
    /// Closes a minute, and draws the losses of the next.
    pub(super) fn minute(&mut self, now: Us) {
        if now > 0 {
            let (bad, expected) = (self.bad as f64, self.expected.max(1) as f64);
            let hour = self.hour(now - 1);
            hour.available += 1.0 - (bad / expected).min(1.0);
            hour.minutes += 1.0;
            hour.objects = expected;
        }
        self.bad = self.lost;
        self.schedule(now + MINUTE, Due::Minute);
        let minute = (now / MINUTE) as usize;
        if matches!(self.pattern, Pattern::OneNode) && minute % 60 == 30 {
            let n = self.rng.random_range(0..self.nodes.len());
            (0..2).for_each(|slot| self.kill(n, slot, now));
            self.hour(now).pairs += 1.0;
        }
        let observed = self.pattern.reclaims(minute, &mut self.rng);
        let alive = self.nodes.iter().flat_map(|n| n.slots).flatten().count();
        let events = f64::from(observed) * alive as f64 / OBSERVED / self.instances_per_event();
        let events = events.floor() as usize + usize::from(self.rng.random_bool(events.fract()));
        for _ in 0..events {
            let at = now + self.rng.random_range(0..MINUTE);
            self.schedule(at, Due::Reclaim);
        }
    }

    fn instances_per_event(&self) -> f64 {
        if self.settings.backup.standby {
            1.0 + self.settings.correlation
        } else {
            1.0
        }
    }

    /// Any instance may be the one.
    pub(super) fn reclaim(&mut self, now: Us) {
        let nodes = self.nodes.iter().enumerate();
        let alive = nodes.flat_map(|(n, node)| {
            let slots = (0..2).filter(|s| node.slots[*s].is_some());
            slots.map(move |slot| (n, slot))
        });
        if let Some((n, slot)) = alive.choose(&mut self.rng) {
            self.take_away(n, slot, now);
        }
    }

    pub(super) fn die(&mut self, n: usize, id: InstanceId, now: Us) {
        let is_it = |slot: &usize| self.nodes[n].slots[*slot].is_some_and(|i| i.id == id);
        if let Some(slot) = (0..2).find(is_it) {
            self.take_away(n, slot, now);
        }
    }

    fn take_away(&mut self, n: usize, slot: usize, now: Us) {
        self.kill(n, slot, now);
        if self.rng.random_bool(self.settings.correlation) {
            self.kill(n, 1 - slot, now);
        }
        if self.nodes[n].slots.iter().all(Option::is_none) {
            self.hour(now).pairs += 1.0;
        }
    }

    fn kill(&mut self, n: usize, slot: usize, now: Us) {
        if self.nodes[n].slots[slot].take().is_none() {
            return;
        }
        self.hour(now).reclaims += 1.0;
        self.nodes[n].awake_until = 0;
        self.break_round(n, now);
        let mut lost = 0;
        for chunk in &mut self.nodes[n].stock {
            let had = chunk.on & 1 << slot != 0;
            chunk.on &= !(1 << slot);
            if had && chunk.on == 0 {
                let object = &mut self.objects[chunk.object as usize];
                object.there -= 1;
                if object.there < object.need && !object.is_lost {
                    object.is_lost = true;
                    lost += 1;
                }
            }
        }
        self.lost += lost;
        self.bad += lost;
        self.hour(now).lost += lost as f64;
    }

    pub(super) fn lifetime(&mut self) -> Us {
        (TWO_HOURS as f64 * self.rng.random_range(0.75..1.25)) as Us
    }
}
