//! How instances die, learnt while the pool runs, and from that the longest
//! silence before a ping (T_warm). Pure.
//!
//! An instance is taken for its own reasons, at some hazard per second whatever
//! we do, or because it was idle for too long. Pings help against the second
//! only. So what matters of a silence is its *idle loss*: the share of
//! instances that it costs beyond that hazard. One step longer, from T / STEP
//! to T, saves (STEP - 1) / T pings a second and costs q / T losses: it pays
//! while q < (STEP - 1) * ping / loss.
//!
//! Nothing is known of silences that were never kept, so a few nodes at a time,
//! the *scouts*, are left alone a step longer than what is proven, which in turn
//! is a step longer than what all others keep: that is the margin. One ping out
//! of eight comes at half the interval, as a *control*: its losses are
//! those that no ping prevents. Sequential tests (Wald 1945; Page 1954) compare.
//! Scouts that live move the interval up a step, those that die close the step
//! for an hour, longer each time; losses at the interval itself bring it down
//! by half at once, slight ones by a step. Deaths that began before such a change do not speak of it:
//! a burst that takes the whole pool halves the interval once.

mod evidence;
mod lifetimes;

use std::time::Duration;

use tokio::time::Instant;

use evidence::{Hazard, Odds, Tally};
use lifetimes::Lifetimes;

/// Ratio of neighbouring silences.
const STEP: f64 = 4.0 / 3.0;
/// Most steps between the least and the most silence: a factor of 10,000.
const MOST_STEPS: usize = 32;
/// Steps down when the interval suddenly proves too long: less than half of it is
/// left. Slight losses take it down one step.
const FALL: usize = 3;
/// One ping in so many is a control, at most one a scout.
const SHARE: u32 = 8;
/// Kept silences count as the interval, or a scout's, within these.
const ABOUT: std::ops::RangeInclusive<f64> = 0.8..=1.15;
/// The idle loss that scouts look for, which shows within a few contacts.
const SUDDEN: f64 = 0.5;
/// Those that are looked for at the interval: slight ones need many contacts.
const LOSSES: [f64; 3] = [SUDDEN, 0.05, 0.01];
/// Odds, as logarithms, at which scouts are believed to be safe (six of them
/// that live) or lost (one that dies where hardly any should).
const SAFE: f64 = -3.9;
const UNSAFE: f64 = 3.0;
/// The same for the interval, with thousands of contacts an hour: a false alarm
/// in e^11 contacts.
const ALARM: f64 = 11.0;
/// A closed step stays closed for at most so many times [`Settings::memory`].
const LONGEST_PAUSE: u32 = 4;
/// Falls within so many times [`Settings::memory`] are one story: each closes
/// for twice as long as the one before.
const STORY: u32 = 8;
/// Share of the instances that has been taken at an age that is typical for it.
const TYPICAL: f64 = 0.2;
/// Lifetimes are remembered for so many times [`Settings::memory`]: they are
/// hours.
const LIFETIMES: f64 = 4.0;

/// Bounds and costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Shortest T_warm, taken to be safe, and the first.
    pub least: Duration,
    /// Longest T_warm; no node is left alone for longer.
    pub most: Duration,
    /// What a ping costs, in US dollars.
    pub ping_usd: f64,
    /// What the loss of an instance costs, in US dollars: repairs, misses.
    pub loss_usd: f64,
    /// What was seen so long ago has 1/e of its weight.
    pub memory: Duration,
    /// Mean lifetime to expect while nothing is known.
    pub lifetime: Duration,
    /// Share of the instances that may be lost without anybody knowing: losses
    /// show only when a silence ends.
    pub unfound: f64,
}

impl Default for Settings {
    /// A ping is a request and a millisecond of 1.5 GB on x86. A loss costs what
    /// it takes to rebuild 1 GB: ten others send as much, at 75 MB/s each (FAST
    /// 2020), 200 GB-s in all. Busy instances live about 2 hours (FAST 2020).
    fn default() -> Self {
        Self {
            least: Duration::from_secs(60),
            most: Duration::from_secs(1_800),
            ping_usd: 2.25e-7,
            loss_usd: 3.3e-3,
            memory: Duration::from_secs(3_600),
            lifetime: Duration::from_secs(7_200),
            unfound: 0.02,
        }
    }
}

/// A step of silence that proved too long.
#[derive(Clone, Copy, Debug)]
struct Closed {
    step: usize,
    until: Instant,
    pause: Duration,
}

/// What a pool knows of its platform.
#[derive(Clone, Debug)]
pub struct Warmth {
    settings: Settings,
    /// The longest step that scouts have proven.
    proven: usize,
    closed: Option<Closed>,
    /// The scouts' odds, and how many of them lived.
    scouts: Odds,
    lived: u32,
    next_scout: Option<Instant>,
    plans_since_scout: u32,
    plans: u32,
    /// The interval's odds, for each of [`LOSSES`].
    losses: [Odds; LOSSES.len()],
    fell_at: Option<Instant>,
    last_pause: Duration,
    /// As the controls and other short silences show it.
    unprevented: Hazard,
    /// As all silences up to the interval show it: many more.
    hazard: Hazard,
    by_silence: [Tally; MOST_STEPS + 2],
    lifetimes: Lifetimes,
    faded_at: Option<Instant>,
}

impl Warmth {
    /// Nothing is known yet: [`Settings::least`] holds.
    pub fn new(settings: Settings) -> Self {
        let most = settings.most.max(settings.least);
        Self {
            settings: Settings { most, ..settings },
            proven: 0,
            closed: None,
            scouts: Odds::default(),
            lived: 0,
            next_scout: None,
            plans_since_scout: 0,
            plans: 0,
            losses: Default::default(),
            fell_at: None,
            last_pause: Duration::ZERO,
            unprevented: Hazard::new(settings.lifetime),
            hazard: Hazard::new(settings.lifetime),
            by_silence: [Tally::default(); MOST_STEPS + 2],
            lifetimes: Lifetimes::default(),
            faded_at: None,
        }
    }

    /// T_warm: how long nodes are left alone at present.
    pub fn interval(&self) -> Duration {
        if self.tolerated() * 2.0 >= 1.0 {
            // pings cost more than what they can save
            return self.settings.most;
        }
        self.silence_of(self.proven.saturating_sub(1))
    }

    /// How long a node that falls silent now should be left alone: mostly
    /// [`Self::interval`], for a few shorter or longer. What is planned is
    /// overruled by [`Self::longest`] while the node sleeps.
    pub fn plan(&mut self, now: Instant) -> Duration {
        self.plans = self.plans.wrapping_add(1);
        self.plans_since_scout = self.plans_since_scout.saturating_add(1);
        let interval = self.interval();
        let control = (interval / 2).max(self.settings.least);
        if self.plans.is_multiple_of(SHARE) && is_shorter(control, interval) {
            return control;
        }
        let due = self.next_scout.is_none_or(|at| now >= at);
        match self.trial(now) {
            Some(trial) if due && self.plans_since_scout >= SHARE => {
                self.plans_since_scout = 0;
                // one at first, twice as many with each round that lives
                self.next_scout = Some(now + trial / (1 + self.lived));
                trial
            }
            _ => interval,
        }
    }

    /// No node should be left alone for longer than that.
    pub fn longest(&self, now: Instant) -> Duration {
        let longest = self.trial(now).unwrap_or_else(|| self.interval());
        longest.min(self.soon_enough())
    }

    /// With such silences no more than [`Settings::unfound`] of the instances are
    /// lost without anybody knowing, whatever takes them.
    fn soon_enough(&self) -> Duration {
        let Settings {
            least,
            most,
            unfound,
            ..
        } = self.settings;
        let silence = Duration::try_from_secs_f64(unfound / self.hazard_per_s());
        silence.unwrap_or(most).clamp(least, most)
    }

    /// An invoke after `silence` met the same instance, or not. `age` is how old
    /// that instance is, or would have been, if its birth is known.
    pub fn contact(
        &mut self,
        silence: Duration,
        age: Option<Duration>,
        survived: bool,
        now: Instant,
    ) {
        self.fade(now);
        self.by_silence[self.step_of(silence)].add(silence, survived);
        let interval = self.interval();
        if is_shorter(silence, interval) || silence <= self.settings.least.mul_f64(*ABOUT.end()) {
            self.unprevented.add(silence, survived);
        }
        if silence <= interval.mul_f64(*ABOUT.end()) {
            self.hazard.add(silence, survived);
            if let Some(age) = age {
                self.lifetimes.add(age, silence, survived);
            }
        }
        let since_fall = self.fell_at.map(|at| now.saturating_duration_since(at));
        if since_fall.is_some_and(|since| since < silence) {
            return;
        }
        match self.trial(now).map(|trial| relative(silence, trial)) {
            // those that outlive it speak for it, too
            Some(part) if part >= 0.95 && (survived || ABOUT.contains(&part)) => {
                self.scouted(silence, survived, now);
            }
            _ if ABOUT.contains(&relative(silence, interval)) => {
                self.watch(silence, survived, now);
            }
            _ => {}
        }
    }

    /// Deaths per second of an instance's life that pings do not prevent, as far
    /// as the interval is short enough.
    pub fn hazard_per_s(&self) -> f64 {
        self.hazard.per_s()
    }

    /// Share of instances that a silence of about this length costs beyond what
    /// short silences cost, as far as such silences were kept lately.
    pub fn idle_loss(&self, silence: Duration) -> Option<f64> {
        self.by_silence[self.step_of(silence)].excess(self.unprevented.per_s())
    }

    /// The age at which a fifth of the instances has been taken, from which on
    /// it is time for a planned hand-over. `None` while so many have not been
    /// seen to die, or none gets so old.
    pub fn typical_age(&self) -> Option<Duration> {
        self.lifetimes.quantile(TYPICAL)
    }

    /// The same, if instances die clearly faster from then on: memoryless lives
    /// give no reason for a hand-over.
    pub fn wearing_age(&self) -> Option<Duration> {
        self.lifetimes.wearing(TYPICAL)
    }

    /// The idle loss with which a step more still pays.
    fn tolerated(&self) -> f64 {
        let Settings {
            ping_usd, loss_usd, ..
        } = self.settings;
        (STEP - 1.0) * ping_usd / loss_usd.max(f64::MIN_POSITIVE)
    }

    fn silence_of(&self, step: usize) -> Duration {
        let Settings { least, most, .. } = self.settings;
        least.mul_f64(STEP.powi(step as i32)).min(most)
    }

    /// The shortest step that is at least about so long.
    fn step_of(&self, silence: Duration) -> usize {
        let about = silence.mul_f64(0.95);
        (0..=MOST_STEPS)
            .find(|step| about <= self.settings.least.mul_f64(STEP.powi(*step as i32)))
            .unwrap_or(MOST_STEPS + 1)
    }

    /// What scouts try now, if anything. The longest silence is tried twice,
    /// the second time to have it for all.
    fn trial(&self, now: Instant) -> Option<Duration> {
        let step = self.proven + 1;
        let is_over = self.interval() >= self.settings.most || step > MOST_STEPS;
        let is_closed = self
            .closed
            .is_some_and(|closed| step >= closed.step && now < closed.until);
        (!is_over && !is_closed).then(|| self.silence_of(step))
    }

    /// How a contact shifts the odds of an idle loss of `supposed` against none
    /// that matters.
    fn evidence(&self, silence: Duration, survived: bool, supposed: f64) -> f64 {
        let tolerated = self.tolerated();
        let died = self.unprevented.of_dying_within(silence);
        let with = |idle: f64| died + (1.0 - died) * idle;
        let (none, some) = (with(tolerated), with(supposed.max(2.0 * tolerated)));
        if survived {
            ((1.0 - some) / (1.0 - none)).ln()
        } else {
            (some / none).ln()
        }
    }

    /// A scout is back, or is not.
    fn scouted(&mut self, silence: Duration, survived: bool, now: Instant) {
        self.scouts.add(self.evidence(silence, survived, SUDDEN));
        self.lived += u32::from(survived);
        if self.scouts.log() >= UNSAFE {
            let (step, memory) = (self.proven + 1, self.settings.memory);
            let pause = match self.closed {
                Some(closed) if closed.step == step => {
                    (closed.pause * 2).min(memory * LONGEST_PAUSE)
                }
                _ => memory,
            };
            self.close(step, pause, now);
        } else if self.scouts.log() <= SAFE {
            self.proven += 1;
            let reopened = |closed: &Closed| closed.step <= self.proven;
            self.closed = self.closed.filter(|closed| !reopened(closed));
            self.start_anew();
        }
    }

    /// A node was left alone for the interval.
    fn watch(&mut self, silence: Duration, survived: bool, now: Instant) {
        for (i, supposed) in LOSSES.into_iter().enumerate() {
            let evidence = self.evidence(silence, survived, supposed);
            self.losses[i].add_not_below_even(evidence);
        }
        if self.losses[0].log() >= ALARM {
            self.fall(FALL, now);
        } else if self.losses.iter().any(|odds| odds.log() >= ALARM) {
            self.fall(1, now);
        }
    }

    fn fall(&mut self, steps: usize, now: Instant) {
        let memory = self.settings.memory;
        let since = self.fell_at.map(|at| now.saturating_duration_since(at));
        self.last_pause = if since.is_some_and(|since| since < memory * STORY) {
            (self.last_pause * 2).min(memory * LONGEST_PAUSE)
        } else {
            memory
        };
        self.fell_at = Some(now);
        self.close(self.proven.max(1), self.last_pause, now);
        self.proven = self.proven.saturating_sub(steps);
    }

    /// Nothing from `step` on is tried for a while.
    fn close(&mut self, step: usize, pause: Duration, now: Instant) {
        let until = now + pause;
        self.closed = Some(Closed { step, until, pause });
        self.start_anew();
    }

    fn start_anew(&mut self) {
        (self.scouts, self.losses) = Default::default();
        (self.lived, self.next_scout) = (0, None);
    }

    /// Old observations lose weight, by steps that are small against the memory.
    fn fade(&mut self, now: Instant) {
        let since = now.saturating_duration_since(*self.faded_at.get_or_insert(now));
        let part = relative(since, self.settings.memory);
        if part < 0.01 {
            return;
        }
        self.faded_at = Some(now);
        self.unprevented.fade((-part).exp());
        self.hazard.fade((-part).exp());
        self.lifetimes.fade((-part / LIFETIMES).exp());
        for tally in &mut self.by_silence {
            tally.fade((-part).exp());
        }
    }
}

/// Clearly shorter: not about as long.
fn is_shorter(silence: Duration, interval: Duration) -> bool {
    relative(silence, interval) < *ABOUT.start()
}

fn relative(silence: Duration, to: Duration) -> f64 {
    silence.as_secs_f64() / to.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests;
