//! The platform takes instances away here as it was seen to: so many a minute of the trace,
//! for as many instances as there are. What is taken when is pure; the rest asks
//! local-lambda.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep_until};

use crate::availability::patterns::{OBSERVED, Pattern};
use crate::chaos::platform::{Instance, Platform};

const MINUTE_S: f64 = 60.0;
/// Life of an instance where age takes them, give or take a quarter.
const LIFE_S: f64 = 7200.0;
/// The minute of each hour in which one function is taken, if only that is.
const ONE_NODE_AT: usize = 30;

/// What is taken of a pool.
pub(super) struct Reaper<'a> {
    pattern: &'a Pattern,
    correlation: f64,
    /// Whether a function has two instances.
    has_standbys: bool,
    rng: SmallRng,
    /// Seconds of the trace at which instances die of age.
    ends_s: HashMap<u64, f64>,
}

/// What happens in a minute, by seconds of the trace.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Strike {
    pub(super) at_s: f64,
    /// Any one, or this one; or one function.
    pub(super) whom: Whom,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Whom {
    Any,
    One(u64),
    Function,
}

impl<'a> Reaper<'a> {
    pub(super) fn new(
        pattern: &'a Pattern,
        correlation: f64,
        has_standbys: bool,
        seed: u64,
    ) -> Self {
        Self {
            pattern,
            correlation,
            has_standbys,
            rng: SmallRng::seed_from_u64(seed),
            ends_s: HashMap::new(),
        }
    }

    /// What is taken in this minute of the trace, in order of time.
    pub(super) fn minute(&mut self, minute: usize, alive: &[u64]) -> Vec<Strike> {
        let begin_s = minute as f64 * MINUTE_S;
        let mut strikes = Vec::new();
        if matches!(self.pattern, Pattern::OneNode) && minute % 60 == ONE_NODE_AT {
            strikes.push(Strike {
                at_s: begin_s,
                whom: Whom::Function,
            });
        }
        if matches!(self.pattern, Pattern::TwoHours) {
            strikes.extend(self.of_age(begin_s, alive));
        }
        let observed = self.pattern.reclaims(minute, &mut self.rng);
        let events = f64::from(observed) * alive.len() as f64 / OBSERVED / self.each_takes();
        let events = events.floor() as usize + usize::from(self.rng.random_bool(events.fract()));
        strikes.extend((0..events).map(|_| Strike {
            at_s: begin_s + self.rng.random_range(0.0..MINUTE_S),
            whom: Whom::Any,
        }));
        strikes.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        strikes
    }

    /// Instances of one event, on the average.
    fn each_takes(&self) -> f64 {
        match self.has_standbys {
            true => 1.0 + self.correlation,
            false => 1.0,
        }
    }

    /// Those whose life ends in this minute. Who is met in the first one has lived before.
    fn of_age(&mut self, begin_s: f64, alive: &[u64]) -> Vec<Strike> {
        self.ends_s.retain(|id, _| alive.contains(id));
        for id in alive {
            let life = LIFE_S * self.rng.random_range(0.75..1.25);
            let lived = match begin_s > 0.0 {
                true => 0.0,
                false => life * self.rng.random_range(0.0..1.0),
            };
            self.ends_s.entry(*id).or_insert(begin_s + life - lived);
        }
        let ends = self.ends_s.iter();
        let due = ends.filter(|(_, end)| **end < begin_s + MINUTE_S);
        let strike = |(id, end): (&u64, &f64)| Strike {
            at_s: end.max(begin_s),
            whom: Whom::One(*id),
        };
        let mut due: Vec<Strike> = due.map(strike).collect();
        due.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        due
    }

    /// Who that is now: any one, with those of its function in so many of the cases.
    fn victims(&mut self, whom: &Whom, instances: &[Instance]) -> Vec<u64> {
        let chosen = match whom {
            Whom::One(id) => instances.iter().find(|i| i.id == *id),
            Whom::Any | Whom::Function => instances.iter().choose(&mut self.rng),
        };
        let Some(chosen) = chosen else {
            return Vec::new();
        };
        let is_all = *whom == Whom::Function || self.rng.random_bool(self.correlation);
        if !is_all {
            return vec![chosen.id];
        }
        let of_function = |i: &&Instance| i.function == chosen.function;
        instances.iter().filter(of_function).map(|i| i.id).collect()
    }

    /// Goes on until nobody waits for it any more; how many were taken is counted.
    pub(super) async fn reap(
        mut self,
        platform: &Platform,
        begin: Instant,
        speed_up: f64,
        taken: &std::sync::atomic::AtomicU64,
    ) -> Result<()> {
        let at = |trace_s: f64| begin + Duration::from_secs_f64(trace_s / speed_up);
        for minute in 0.. {
            sleep_until(at(minute as f64 * MINUTE_S)).await;
            let alive = platform.instances().await?;
            let ids: Vec<u64> = alive.iter().map(|i| i.id).collect();
            for strike in self.minute(minute, &ids) {
                sleep_until(at(strike.at_s)).await;
                let instances = platform.instances().await?;
                let victims = self.victims(&strike.whom, &instances);
                if !victims.is_empty() {
                    let count = platform.reclaim(&victims).await?;
                    taken.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: u64, function: &str) -> Instance {
        Instance {
            id,
            function: function.into(),
            pid: Some(1),
            state: "idle".into(),
            frozen: true,
        }
    }

    #[test]
    fn as_many_are_taken_as_of_the_pool_that_was_observed() {
        let pattern = Pattern::Minutes(vec![(0.5, 0), (1.0, 20)]);
        let mut reaper = Reaper::new(&pattern, 0.0, true, 1);
        let alive: Vec<u64> = (0..40).collect();
        let strikes: Vec<Strike> = (0..10_000).flat_map(|m| reaper.minute(m, &alive)).collect();
        // a tenth of 10 a minute
        assert!(
            (9_500..10_500).contains(&strikes.len()),
            "{}",
            strikes.len()
        );
        let minutes = strikes.windows(2).all(|pair| pair[0].at_s <= pair[1].at_s);
        assert!(minutes && strikes.iter().all(|s| s.whom == Whom::Any));
    }

    #[test]
    fn whoever_dies_of_age_dies_once_in_two_hours() {
        let mut reaper = Reaper::new(&Pattern::TwoHours, 0.0, true, 3);
        let mut alive: Vec<u64> = (0..100).collect();
        let mut deaths = 0;
        for minute in 0..60 * 20 {
            for strike in reaper.minute(minute, &alive) {
                let Whom::One(id) = strike.whom else {
                    panic!("{strike:?}");
                };
                assert!(alive.contains(&id));
                alive.retain(|a| *a != id);
                alive.push(1_000 + deaths);
                deaths += 1;
            }
        }
        assert!((900..1_100).contains(&deaths), "{deaths}");
    }

    #[test]
    fn a_function_goes_with_both_its_instances() {
        let mut reaper = Reaper::new(&Pattern::OneNode, 0.0, true, 1);
        let all = [instance(1, "a"), instance(2, "a"), instance(3, "b")];
        let mut gone = reaper.victims(&Whom::Function, &all);
        gone.sort_unstable();
        assert!(gone == [1, 2] || gone == [3], "{gone:?}");
        assert_eq!(reaper.victims(&Whom::One(2), &all), [2]);
        assert_eq!(reaper.victims(&Whom::One(9), &all), [0u64; 0]);
        assert_eq!(reaper.minute(30, &[1]).len(), 1);
        assert!(reaper.minute(31, &[1]).is_empty());
        let both = Reaper::new(&Pattern::OneNode, 1.0, true, 1).victims(&Whom::One(1), &all);
        assert_eq!(both, [1, 2]);
    }
}
