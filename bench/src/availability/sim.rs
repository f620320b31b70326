//! One day of one pool, in virtual time. Policies are production's; what is
//! simulated is the platform, the network and what moves over it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use scatterhoard_proxy::pool::instances::Meeting;
use scatterhoard_proxy::pool::lifecycle::{Event, Outcome};
use scatterhoard_proxy::pool::{PING_SLACK, TICK, retire::Retirements, warmth::Warmth};
use scatterhoard_proxy::store::{LOOK, rate::Rate, repairs::Queue};
use scatterhoard_wire::InstanceId;

use super::bill::{Hour, Purpose, Tally};
use super::index::{Index, Keys};
use super::node::{Answer, Chunk, Clock, Node, Us, is_other};
use super::objects::Object;
use super::patterns::Pattern;
use super::population::{Script, Step};
use super::repairs::Worker;
use super::settings::{DIAL, PING, Settings, micros};

pub(super) const MINUTE: Us = 60_000_000;
pub(super) const HOUR: Us = 60 * MINUTE;

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
    /// What an index of bounded capacity came to.
    pub(crate) tally: Tally,
    /// Bytes into the proxy and out of it, by the minute.
    pub(crate) traffic: Vec<[f64; 2]>,
}

pub(super) struct Sim<'a> {
    pub(super) settings: &'a Settings,
    pub(super) pattern: &'a Pattern,
    pub(super) script: &'a Script,
    pub(super) clock: Clock,
    pub(super) rng: SmallRng,
    pub(super) due: BinaryHeap<Reverse<(Us, u64, Due)>>,
    pub(super) events: u64,
    pub(super) nodes: Vec<Node>,
    /// When each node's next round may be due, and its next ping.
    pub(super) round_due: Vec<Us>,
    pub(super) ping_due: Vec<Us>,
    /// No round is due before.
    pub(super) first_round: Us,
    pub(super) next_look: Us,
    pub(super) rounds_running: usize,
    pub(super) objects: Vec<Object>,
    pub(super) writes: u64,
    pub(super) uses: u32,
    pub(super) ids: u128,
    pub(super) repairs: Queue,
    pub(super) workers: Vec<Option<Worker>>,
    pub(super) backup_rate: Rate,
    pub(super) repair_rate: Rate,
    pub(super) warmth: Warmth,
    pub(super) retirements: Retirements,
    pub(super) hold: Us,
    pub(super) expected: usize,
    pub(super) lost: usize,
    /// Objects that could not be read at some moment of this minute.
    pub(super) bad: usize,
    /// What keys mean, if capacity is bounded by the nodes and not by the script.
    pub(super) index: Option<Index<'a>>,
    pub(super) run: Run,
}

/// Plays a trace in a pool that begins empty and evicts by itself.
pub(crate) fn replay(
    settings: &Settings,
    pattern: &Pattern,
    script: &Script,
    keys: Keys<'_>,
    seed: u64,
) -> Run {
    let mut sim = Sim::new(settings, pattern, script, seed);
    sim.index = Some(Index::new(settings, keys));
    sim.fill();
    sim.play();
    sim.run
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
            let (life, rounds, linger) = (settings.life, settings.backup, settings.linger());
            Node::new(
                clock,
                share(i),
                settings.lost_after,
                life,
                rounds,
                linger,
                ids,
            )
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
            warmth: Warmth::new(settings.warmth),
            retirements: Retirements::new(settings.retire, count),
            hold: settings.hold(),
            expected: 0,
            lost: 0,
            bad: 0,
            index: None,
            run: Run {
                traffic: vec![[0.0; 2]; settings.hours * 60],
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
        for n in 0..self.nodes.len() {
            for slot in 0..2 {
                let Some(instance) = self.nodes[n].slots[slot] else {
                    continue;
                };
                // as if it had lived for a while
                let mut lived = (2 * n + slot) as Us * 19 * MINUTE % (2 * HOUR);
                if matches!(self.pattern, Pattern::TwoHours) {
                    let share = self.rng.random_range(0.0..1.0);
                    let life = self.lifetime();
                    let left = (life as f64 * share) as Us;
                    self.schedule(left, Due::Die(n as u16, instance.id.0));
                    lived = life - left;
                }
                let node = &mut self.nodes[n];
                let born = -(lived as i64);
                node.slots[slot].iter_mut().for_each(|i| i.born = born);
                if slot == 0 {
                    node.main_born = born;
                } else {
                    node.other_born = born;
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
                steps.next().into_iter().for_each(|s| self.step(s, now));
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

    fn step(&mut self, step: &Step, now: Us) {
        match self.index.is_some() {
            true => self.request(step, now),
            false => self.get(step, now),
        }
    }

    /// Bytes into the proxy and out of it.
    pub(super) fn passes(&mut self, into: u64, out: u64, now: Us) {
        if let Some(minute) = self.run.traffic.get_mut((now / MINUTE) as usize) {
            minute[0] += into as f64;
            minute[1] += out as f64;
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

    /// Has an instance answer an invoke; when its hello comes.
    pub(super) fn route(&mut self, n: usize, busy: Option<usize>, now: Us) -> (Answer, Us) {
        self.ids += 1;
        let answer = self.nodes[n].route(busy, InstanceId(self.ids), now);
        if answer.is_cold && matches!(self.pattern, Pattern::TwoHours) {
            let end = now + self.lifetime();
            self.schedule(end, Due::Die(n as u16, answer.id.0));
        }
        let takes = match answer.is_cold {
            true => self.settings.cold_hello,
            false => self.settings.warm_hello,
        };
        (answer, now + takes)
    }

    /// What is billed of an invocation before its hello.
    fn billed_start(&self, who: Answer) -> Us {
        match who.is_cold {
            true => self.settings.cold_hello,
            false => DIAL,
        }
    }

    /// Bills an invocation that answered at `hello`.
    pub(super) fn bill(&mut self, purpose: Purpose, who: Answer, hello: Us, end: Us) {
        let start = self.billed_start(who);
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
        self.met(n, who, now);
    }

    pub(super) fn met(&mut self, n: usize, who: Answer, now: Us) {
        if !self.greet(n, who, now) {
            return;
        }
        self.expect_round(n, now);
        self.next_look = self.next_look.min(now);
        self.note_hurt(n, now);
    }

    /// An instance answers alone, as `Pool::met`; whether it is another one.
    pub(super) fn greet(&mut self, n: usize, who: Answer, now: Us) -> bool {
        let node = &mut self.nodes[n];
        let meeting = node.meet(who.id);
        let age = (now as i64 - node.main_born).max(0) as Us;
        if let Some(instance) = node.slots[who.slot] {
            let before = std::mem::replace(&mut node.main_born, instance.born);
            if meeting == Meeting::Back {
                node.other_born = before;
            }
        }
        if self.settings.learns()
            && let Meeting::Same | Meeting::Stranger = meeting
        {
            let (survived, silence) = (meeting == Meeting::Same, node.life.woken_after());
            let (age, at) = (Duration::from_micros(age), self.clock.at(now));
            self.warmth.contact(silence, Some(age), survived, at);
        }
        is_other(meeting)
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

    /// The node was heard of, and sleeps: the next ping has time.
    pub(super) fn contact(&mut self, n: usize, at: Us) {
        if self.settings.is_adaptive() {
            let silence = self.warmth.plan(self.clock.at(at));
            self.nodes[n].life.leave_alone(silence + PING_SLACK);
        }
        self.ping_due[n] = at + micros(self.nodes[n].life.silence());
    }

    /// What was planned is overruled, as `Pool::tick_for_ever` does.
    fn leave_alone_at_most(&mut self, now: Us) {
        let longest = self.warmth.longest(self.clock.at(now)) + PING_SLACK;
        for (n, node) in self.nodes.iter_mut().enumerate() {
            let planned = node.life.silence();
            if planned > longest {
                node.life.leave_alone(longest);
                self.ping_due[n] -= micros(planned - longest).min(self.ping_due[n]);
            }
        }
    }

    fn tick(&mut self, now: Us) {
        if self.settings.is_adaptive() {
            self.leave_alone_at_most(now);
        }
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
            let took = match who.is_cold {
                true => self.settings.cold_hello + PING,
                false => PING,
            };
            let memory_gb = self.settings.memory_gb;
            self.hour(now).bill(Purpose::Warm).add(took, memory_gb);
            let over = self.clock.at(answered);
            self.nodes[n]
                .life
                .step(Event::Returned(id, Outcome::Ok), over);
            self.contact(n, answered);
            self.met(n, who, now);
        }
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
