//! Faults on demand. Pure: a rule decides from its own counters and the
//! generator it is given.

use crate::answer::{Refusal, ThrottleReason};
use crate::text;
use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The Invoke API as a whole is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Down {
    /// Every invoke is answered with ServiceException (500).
    ServiceException,
    /// Every connection that invokes is closed without an answer.
    CloseConnection,
}

/// What a rule does to an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FaultKind {
    /// Refuse with TooManyRequestsException (429).
    Throttle {
        /// The reason given.
        #[serde(default)]
        reason: ThrottleReason,
    },
    /// Refuse with ServiceException (500); the function does not run.
    Fail,
    /// Close the connection; the function does not run.
    CloseConnection,
    /// Run the function, then close the connection instead of answering.
    LoseResponse,
    /// Wait before the invocation.
    Delay {
        /// How long, in milliseconds.
        #[serde(rename = "delay_ms", with = "text::millis")]
        delay: Duration,
    },
}

/// Whom a rule meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Every invocation.
    #[default]
    Always,
    /// The next so many, then never again.
    Next(u32),
    /// Each with this probability, 0 to 1.
    Fraction(f64),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRule {
    /// Only invocations of this function; all when `None`.
    #[serde(default)]
    pub function: Option<String>,
    /// Which of them.
    #[serde(default)]
    pub when: When,
    /// What happens to them.
    #[serde(flatten)]
    pub fault: FaultKind,
}

/// All faults in force. The default has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Seed of the fractions; `None`: the platform's generator goes on.
    pub seed: Option<u64>,
    /// The Invoke API is down.
    pub down: Option<Down>,
    /// Every new instance starts this much later. Not billed.
    #[serde(rename = "cold_start_delay_ms", with = "text::millis")]
    pub cold_start_delay: Duration,
    /// Every invocation of an existing instance takes this much longer, outside
    /// of the function and not billed. Over a real network it is about 13 ms
    /// (FAST 2020).
    #[serde(rename = "warm_invoke_delay_ms", with = "text::millis")]
    pub warm_invoke_delay: Duration,
    /// Rules in order; delays add up, the first refusal wins.
    pub rules: Vec<FaultRule>,
}

/// What is to happen to one invocation.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) delay: Duration,
    pub(crate) refuse: Option<Refusal>,
    pub(crate) lose_response: bool,
}

impl Faults {
    /// Decides about one invocation of `function`, and counts it.
    pub(crate) fn decide(&mut self, function: &str, rng: &mut StdRng) -> Verdict {
        let mut verdict = Verdict::default();
        match self.down {
            Some(Down::ServiceException) => {
                verdict.refuse = Some(Refusal::Service("the service is down"))
            }
            Some(Down::CloseConnection) => verdict.refuse = Some(Refusal::Hangup),
            None => {}
        }
        for rule in &mut self.rules {
            if verdict.refuse.is_some() {
                break;
            }
            if rule.function.as_deref().is_some_and(|f| f != function) || !rule.when.hits(rng) {
                continue;
            }
            match rule.fault {
                FaultKind::Throttle { reason } => verdict.refuse = Some(Refusal::Throttled(reason)),
                FaultKind::Fail => verdict.refuse = Some(Refusal::Service("an injected fault")),
                FaultKind::CloseConnection => verdict.refuse = Some(Refusal::Hangup),
                FaultKind::LoseResponse => verdict.lose_response = true,
                FaultKind::Delay { delay } => verdict.delay += delay,
            }
        }
        verdict
    }
}

impl When {
    fn hits(&mut self, rng: &mut StdRng) -> bool {
        match self {
            When::Always => true,
            When::Next(left) => {
                let hit = *left > 0;
                *left = left.saturating_sub(1);
                hit
            }
            When::Fraction(p) => rng.random_bool(p.clamp(0.0, 1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn rule(function: Option<&str>, when: When, fault: FaultKind) -> FaultRule {
        FaultRule {
            function: function.map(str::to_owned),
            when,
            fault,
        }
    }

    #[test]
    fn next_n_counts_only_its_own_function() {
        let reason = ThrottleReason::CallerRateLimitExceeded;
        let throttle = FaultKind::Throttle { reason };
        let mut faults = Faults {
            rules: vec![rule(Some("a"), When::Next(2), throttle)],
            ..Faults::default()
        };
        let mut rng = StdRng::seed_from_u64(1);
        let hits: Vec<bool> = ["b", "a", "b", "a", "a"]
            .map(|f| faults.decide(f, &mut rng).refuse.is_some())
            .into();
        assert_eq!(hits, [false, true, false, true, false]);
    }

    #[test]
    fn delays_add_up_and_the_first_refusal_wins() {
        let delay = FaultKind::Delay {
            delay: Duration::from_millis(5),
        };
        let mut faults = Faults {
            rules: vec![
                rule(None, When::Always, delay),
                rule(None, When::Always, delay),
                rule(None, When::Always, FaultKind::Fail),
                rule(None, When::Always, FaultKind::CloseConnection),
            ],
            ..Faults::default()
        };
        let verdict = faults.decide("f", &mut StdRng::seed_from_u64(1));
        assert_eq!(verdict.delay, Duration::from_millis(10));
        assert!(matches!(verdict.refuse, Some(Refusal::Service(_))));
    }

    #[test]
    fn a_fraction_is_met_on_average_and_again_with_the_same_seed() {
        let run = || {
            let mut faults = Faults {
                rules: vec![rule(None, When::Fraction(0.3), FaultKind::LoseResponse)],
                ..Faults::default()
            };
            let mut rng = StdRng::seed_from_u64(42);
            (0..1000)
                .filter(|_| faults.decide("f", &mut rng).lose_response)
                .count()
        };
        assert!((250..350).contains(&run()));
        assert_eq!(run(), run());
    }

    #[test]
    fn json_form() {
        let text = r#"{"warm_invoke_delay_ms":13,"down":"close-connection","rules":[
            {"function":"a","kind":"throttle","when":{"next":3}},
            {"kind":"delay","delay_ms":50,"when":{"fraction":0.1}},
            {"kind":"lose-response"}]}"#;
        let faults: Faults = serde_json::from_str(text).unwrap();
        assert_eq!(faults.warm_invoke_delay, Duration::from_millis(13));
        assert_eq!(faults.rules[0].when, When::Next(3));
        assert_eq!(faults.rules[2].when, When::Always);
        let again: Faults = serde_json::from_str(&serde_json::to_string(&faults).unwrap()).unwrap();
        assert_eq!(again, faults);
        assert!(serde_json::from_str::<Faults>(r#"{"warm_delay":1}"#).is_err());
    }
}
