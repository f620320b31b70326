//! One day of one pool, in virtual time. Policies are production's; what is
//! simulated is the platform, the network and what moves over it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IteratorRandom};
use scatterhoard_proxy::pool::TICK;
use scatterhoard_proxy::pool::lifecycle::{Event, Outcome};
use scatterhoard_proxy::pool::placement::{Candidate, place};
use scatterhoard_proxy::store::{LOOK, rate::Rate, repairs::Queue};
use scatterhoard_wire::{InstanceId, NodeId};

use super::bill::{Hour, Purpose};
use super::node::{Answer, Chunk, Clock, Node, Us};
use super::patterns::{OBSERVED, Pattern};
use super::population::{Script, Step};
use super::repairs::Worker;
use super::settings::{COLD, DIAL, PING, Settings, WARM, micros};

const MINUTE: Us = 60_000_000;
pub(crate) const HOUR: Us = 60 * MINUTE;
const TWO_HOURS: Us = 2 * HOUR;

/// What was stored under a key.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    /// Which write of it is named; none if it is not stored.
    pub(super) write: Option<u64>,
    /// The LRU without losses would have it.
    pub(super) is_expected: bool,
    pub(super) is_lost: bool,
    /// The node of each chunk.
    pub(super) nodes: Vec<u16>,
    /// Chunks that at least one instance has.
    pub(super) there: usize,
    last_use: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Reclaim,
    Die(u16, u128),
    Minute,
    Copied(u16, u32),
    RoundOver(u16, u32),
    Begin(usize),
    Repaired(usize),
}

/// What came of a day.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) hours: Vec<Hour>,
    /// Seconds from the moment at which a node is known to have lost chunks to
    /// that at which it has all of them again.
    pub(crate) whole_after_s: Vec<f64>,
}

pub(super) struct Sim<'a> {
    pub(super) settings: &'a Settings,
    pattern: &'a Pattern,
    script: &'a Script,
    pub(super) clock: Clock,
    rng: SmallRng,
    due: BinaryHeap<Reverse<(Us, u64, Due)>>,
    events: u64,
    pub(super) nodes: Vec<Node>,
    /// When each node's next round may be due, and its next ping.
    pub(super) round_due: Vec<Us>,
    ping_due: Vec<Us>,
    /// No round is due before.
    pub(super) first_round: Us,
    next_look: Us,
    pub(super) rounds_running: usize,
    pub(super) objects: Vec<Object>,
    pub(super) writes: u64,
    uses: u32,
    ids: u128,
    pub(super) repairs: Queue,
    pub(super) workers: Vec<Option<Worker>>,
    pub(super) backup_rate: Rate,
    pub(super) repair_rate: Rate,
    hold: Us,
    expected: usize,
    lost: usize,
    /// Objects that could not be read at some moment of this minute.
    bad: usize,
    run: Run,
}

/// Plays the day.
pub(crate) fn play(settings: &Settings, pattern: &Pattern, script: &Script, seed: u64) -> Run {
    let mut sim = Sim::new(settings, pattern, script, seed);
    sim.fill();
    sim.play();
    sim.run
}

impl<'a> Sim<'a> {
    fn new(settings: &'a Settings, pattern: &'a Pattern, script: &'a Script, seed: u64) -> Self {
        let (clock, count) = (Clock::new(), settings.nodes);
        let share = |i: usize| i as f64 / count as f64;
        let node = |i: usize| {
            let ids = [InstanceId(2 * i as u128 + 1), InstanceId(2 * i as u128 + 2)];
            let (life, rounds) = (settings.life, settings.backup);
            Node::new(clock, share(i), settings.lost_after, life, rounds, ids)
        };
        let rest = |interval: Us, i: usize| (interval as f64 * (1.0 - share(i))) as Us;
        let first_round = |i| match settings.backup.standby {
            true => rest(micros(settings.backup.interval), i),
            false => Us::MAX,
        };
        let rate = |bytes_per_s| Rate::new(NonZeroU64::new(bytes_per_s));
        Self {
            settings,
            pattern,
            script,
            clock,
            rng: SmallRng::seed_from_u64(seed),
            due: BinaryHeap::new(),
            events: 0,
            nodes: (0..count).map(node).collect(),
            round_due: (0..count).map(first_round).collect(),
            ping_due: (0..count)
                .map(|i| rest(micros(settings.life.warm_interval), i))
                .collect(),
            next_look: 0,
            first_round: 0,
            rounds_running: 0,
            objects: vec![Object::default(); script.sizes.len()],
            writes: 0,
            uses: 0,
            ids: 2 * count as u128 + 2,
            repairs: Queue::default(),
            workers: (0..settings.repairs_at_once).map(|_| None).collect(),
            backup_rate: rate(settings.backup_bytes_per_s),
            repair_rate: rate(settings.repair_bytes_per_s),
            hold: settings.hold(),
            expected: 0,
            lost: 0,
            bad: 0,
            run: Run {
                hours: vec![Hour::default(); settings.hours],
                ..Run::default()
            },
        }
    }

    /// What is stored when the day begins is on all instances.
    fn fill(&mut self) {
        for &object in &self.script.initial {
            self.store(object, None);
        }
        let all = if self.settings.backup.standby { 3 } else { 1 };
        for node in &mut self.nodes {
            node.stock.iter_mut().for_each(|c| c.on = all);
        }
        self.schedule(0, Due::Minute);
        if matches!(self.pattern, Pattern::TwoHours) {
            for n in 0..self.nodes.len() {
                for instance in self.nodes[n].slots.into_iter().flatten() {
                    // as if it had lived for a while
                    let age = self.rng.random_range(0.0..1.0);
                    let left = (self.lifetime() as f64 * age) as Us;
                    self.schedule(left, Due::Die(n as u16, instance.id.0));
                }
            }
        }
    }

    fn play(&mut self) {
        let end = self.settings.hours as Us * HOUR;
        let script = self.script;
        let (mut steps, mut next_tick) = (script.steps.iter().peekable(), 0);
        loop {
            let event = self.due.peek().map_or(Us::MAX, |Reverse((at, ..))| *at);
            let step = steps.peek().map_or(Us::MAX, |s| s.at_us);
            let now = event.min(step).min(next_tick).min(self.next_look);
            if now >= end {
                break;
            }
            if event == now {
                let Some(Reverse((_, _, due))) = self.due.pop() else {
                    break;
                };
                self.happen(due, now);
            } else if step == now {
                steps.next().into_iter().for_each(|s| self.get(s, now));
            } else if next_tick == now {
                next_tick = now + micros(TICK);
                self.tick(now);
            } else {
                self.next_look = now + micros(LOOK);
                self.look(now);
            }
        }
    }

    fn happen(&mut self, due: Due, now: Us) {
        match due {
            Due::Minute => self.minute(now),
            Due::Reclaim => self.reclaim(now),
            Due::Die(n, id) => self.die(usize::from(n), InstanceId(id), now),
            Due::Copied(n, number) => self.copied(usize::from(n), number, now),
            Due::RoundOver(n, number) => self.round_over(usize::from(n), number, now),
            Due::Begin(worker) => self.begin_repair(worker, now),
            Due::Repaired(worker) => self.repaired(worker, now),
        }
    }

    pub(super) fn schedule(&mut self, at: Us, due: Due) {
        self.events += 1;
        self.due.push(Reverse((at, self.events, due)));
    }

    pub(super) fn hour(&mut self, now: Us) -> &mut Hour {
        let last = self.run.hours.len() - 1;
        &mut self.run.hours[((now / HOUR) as usize).min(last)]
    }

    /// Closes a minute, and draws the losses of the next.
    fn minute(&mut self, now: Us) {
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
    fn reclaim(&mut self, now: Us) {
        let nodes = self.nodes.iter().enumerate();
        let alive = nodes.flat_map(|(n, node)| {
            let slots = (0..2).filter(|s| node.slots[*s].is_some());
            slots.map(move |slot| (n, slot))
        });
        if let Some((n, slot)) = alive.choose(&mut self.rng) {
            self.take_away(n, slot, now);
        }
    }

    fn die(&mut self, n: usize, id: InstanceId, now: Us) {
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
        self.break_round(n, now);
        let data = self.settings.data;
        let mut lost = 0;
        for chunk in &mut self.nodes[n].stock {
            let had = chunk.on & 1 << slot != 0;
            chunk.on &= !(1 << slot);
            if had && chunk.on == 0 {
                let object = &mut self.objects[chunk.object as usize];
                object.there -= 1;
                if object.there < data && !object.is_lost {
                    object.is_lost = true;
                    lost += 1;
                }
            }
        }
        self.lost += lost;
        self.bad += lost;
        self.hour(now).lost += lost as f64;
    }

    fn lifetime(&mut self) -> Us {
        (TWO_HOURS as f64 * self.rng.random_range(0.75..1.25)) as Us
    }

    /// Has an instance answer an invoke; when its hello comes.
    pub(super) fn route(&mut self, n: usize, busy: Option<usize>, now: Us) -> (Answer, Us) {
        self.ids += 1;
        let answer = self.nodes[n].route(busy, InstanceId(self.ids), now);
        if answer.is_cold && matches!(self.pattern, Pattern::TwoHours) {
            let end = now + self.lifetime();
            self.schedule(end, Due::Die(n as u16, answer.id.0));
        }
        (answer, now + if answer.is_cold { COLD } else { WARM })
    }

    /// Bills an invocation that answered at `hello`.
    pub(super) fn bill(&mut self, purpose: Purpose, who: Answer, hello: Us, end: Us) {
        let start = if who.is_cold { COLD } else { DIAL };
        let (us, memory_gb) = (start + end - hello, self.settings.memory_gb);
        self.hour(hello).bill(purpose).add(us, memory_gb);
    }

    /// Invokes a node for a request, unless it is awake; it is busy for so long.
    pub(super) fn wake(&mut self, n: usize, purpose: Purpose, busy: Us, now: Us) {
        if self.nodes[n].round.is_some() {
            return;
        }
        let at = self.clock.at(now);
        let Some(id) = self.nodes[n].begin(Event::Wanted, at) else {
            return;
        };
        let (who, hello) = self.route(n, None, now);
        let end = hello + busy + self.hold;
        self.bill(purpose, who, hello, end);
        let (greeted, over) = (self.clock.at(hello), self.clock.at(end));
        let node = &mut self.nodes[n];
        node.life.step(Event::Hello(id), greeted);
        node.life.step(Event::Goodbye(id), over);
        node.life.step(Event::Returned(id, Outcome::Ok), over);
        self.contact(n, end);
        self.met(n, who.id, now);
    }

    fn met(&mut self, n: usize, id: InstanceId, now: Us) {
        if !self.nodes[n].meet(id) {
            return;
        }
        self.expect_round(n, now);
        self.next_look = self.next_look.min(now);
        self.note_hurt(n, now);
    }

    pub(super) fn note_hurt(&mut self, n: usize, now: Us) {
        if self.is_hurt(n) {
            self.nodes[n].hurt_since.get_or_insert(now);
        }
    }

    /// Whether it lacks chunks that can be made anew.
    pub(super) fn is_hurt(&self, n: usize) -> bool {
        let is_missing = |c: &Chunk| c.on == 0 && !self.objects[c.object as usize].is_lost;
        self.nodes[n].stock.iter().any(is_missing)
    }

    /// Ends the time for which a node was hurt, if it is whole.
    pub(super) fn note_whole(&mut self, n: usize, now: Us) {
        if let Some(since) = self.nodes[n].hurt_since
            && !self.is_hurt(n)
        {
            self.nodes[n].hurt_since = None;
            let took = now.saturating_sub(since);
            self.run.whole_after_s.push(took as f64 / 1e6);
        }
    }

    /// The node was heard of: the next ping has time.
    pub(super) fn contact(&mut self, n: usize, at: Us) {
        self.ping_due[n] = at + micros(self.settings.life.warm_interval);
    }

    fn tick(&mut self, now: Us) {
        let due = self
            .ping_due
            .iter()
            .enumerate()
            .filter(|(_, due)| **due <= now);
        let due: Vec<usize> = due.map(|(n, _)| n).collect();
        for n in due {
            if self.nodes[n].round.is_some() {
                continue;
            }
            let at = self.clock.at(now);
            let Some(id) = self.nodes[n].begin(Event::Tick, at) else {
                continue;
            };
            let (who, answered) = self.route(n, None, now);
            let took = if who.is_cold { COLD + PING } else { PING };
            let memory_gb = self.settings.memory_gb;
            self.hour(now).bill(Purpose::Warm).add(took, memory_gb);
            let over = self.clock.at(answered);
            self.nodes[n]
                .life
                .step(Event::Returned(id, Outcome::Ok), over);
            self.contact(n, answered);
            self.met(n, who.id, now);
        }
    }

    /// A GET of the trace: what is not there is stored.
    fn get(&mut self, step: &Step, now: Us) {
        self.hour(now).gets += 1.0;
        self.uses += 1;
        for &victim in &step.evicted {
            self.evict(victim);
        }
        let object = &mut self.objects[step.object as usize];
        object.last_use = self.uses;
        let is_readable = object.write.is_some() && !object.is_lost;
        if step.is_hit {
            self.hour(now).hits += 1.0;
        }
        if step.is_hit && is_readable {
            let nodes = self.objects[step.object as usize].nodes.clone();
            for n in nodes.into_iter().take(self.settings.data) {
                self.wake(usize::from(n), Purpose::Serve, 0, now);
            }
            return;
        }
        if step.is_hit {
            self.hour(now).hits_lost += 1.0;
        }
        self.store(step.object, Some(now));
    }

    fn evict(&mut self, victim: u32) {
        self.forget(victim);
        let object = &mut self.objects[victim as usize];
        self.expected -= usize::from(object.is_expected);
        self.lost -= usize::from(object.is_lost);
        *object = Object::default();
    }

    pub(super) fn chunk_bytes(&self, object: u32) -> u64 {
        self.script.sizes[object as usize].div_ceil(self.settings.data as u64)
    }

    pub(super) fn size(&self, object: u32) -> u64 {
        self.script.sizes[object as usize]
    }

    /// The index names it no longer; its nodes free its chunks.
    pub(super) fn forget(&mut self, object: u32) {
        let bytes = self.chunk_bytes(object);
        let nodes = std::mem::take(&mut self.objects[object as usize].nodes);
        for n in nodes {
            let node = &mut self.nodes[usize::from(n)];
            let found = node.stock.iter().position(|c| c.object == object);
            if let Some(at) = found {
                node.stock.swap_remove(at);
                node.used_bytes -= bytes;
            }
        }
        self.objects[object as usize].write = None;
    }

    /// Stores an object anew; none: before the day began.
    fn store(&mut self, object: u32, now: Option<Us>) {
        self.forget(object);
        let bytes = self.chunk_bytes(object);
        let budget = (self.settings.memory_gb * 1e9) as u64;
        let candidate = |(i, node): (usize, &Node)| Candidate {
            node: NodeId(i as u16),
            free_bytes: budget.saturating_sub(node.used_bytes),
            reachable: true,
        };
        let candidates: Vec<Candidate> = self.nodes.iter().enumerate().map(candidate).collect();
        let (want, need) = (self.settings.chunks(), self.settings.data + 1);
        let placed = place(&candidates, want, need, bytes, &mut self.rng);
        let placed = placed.unwrap_or_default();
        for (index, id) in placed.iter().enumerate() {
            let n = usize::from(id.0);
            if let Some(now) = now {
                self.wake(n, Purpose::Serve, 0, now);
            }
            let on = 1 << self.nodes[n].main_slot().unwrap_or(0);
            let (object, index) = (object, index as u8);
            self.nodes[n].stock.push(Chunk { object, index, on });
            self.nodes[n].used_bytes += bytes;
            if let Some(now) = now {
                self.stored(n, bytes, now);
            }
        }
        self.writes += 1;
        let known = &mut self.objects[object as usize];
        self.expected += usize::from(!known.is_expected);
        self.lost -= usize::from(known.is_lost);
        *known = Object {
            write: Some(self.writes),
            is_expected: true,
            is_lost: false,
            there: placed.len(),
            nodes: placed.iter().map(|id| id.0).collect(),
            last_use: self.uses,
        };
    }

    pub(super) fn stored(&mut self, n: usize, bytes: u64, now: Us) {
        let node = &mut self.nodes[n];
        node.backup.stored(bytes);
        node.fresh_bytes += bytes;
        if self.settings.backup.standby && node.fresh_bytes >= self.settings.backup.after_bytes {
            self.expect_round(n, now);
        }
    }

    /// How many uses of others ago it was last used.
    pub(super) fn idleness(&self, object: u32) -> u32 {
        self.uses - self.objects[object as usize].last_use
    }

    pub(super) fn hold(&self) -> Us {
        self.hold
    }

    pub(super) fn look_now(&mut self, now: Us) {
        self.next_look = self.next_look.min(now);
    }
}

#[cfg(test)]
mod tests;
