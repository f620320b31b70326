//! The fleet's decisions, without a process in sight.

use super::*;
use rand::Rng;

const LIMITS: Limits = Limits {
    account_concurrency: 4,
    max_instances: 6,
    rate_limit: false,
};

fn function(name: &str) -> FunctionConfig {
    FunctionConfig::new(name, "/bin/f")
}

fn fleet(configs: impl IntoIterator<Item = FunctionConfig>) -> (Fleet, Instant) {
    let now = Instant::now();
    let mut fleet = Fleet::new(LIMITS, now);
    for config in configs {
        fleet.put(config, 1, now).unwrap();
    }
    (fleet, now)
}

fn admitted(fleet: &mut Fleet, name: &str, now: Instant) -> InstanceId {
    match fleet.admit(name, now).unwrap() {
        Admission::Reuse(id) | Admission::Start { id, .. } => id,
    }
}

fn reason(fleet: &mut Fleet, name: &str, now: Instant) -> ThrottleReason {
    match fleet.admit(name, now) {
        Err(Refusal::Throttled(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn cold_then_warm_then_a_second_one_when_busy() {
    let (mut fleet, now) = fleet([function("f")]);
    let first = admitted(&mut fleet, "f", now);
    assert_eq!(
        fleet.instance(first).unwrap().state,
        InstanceState::Starting
    );
    fleet.initialised(first);
    assert_eq!(fleet.finished(first, now), After::Idle);
    assert_eq!(fleet.admit("f", now), Ok(Admission::Reuse(first)));
    let second = admitted(&mut fleet, "f", now);
    assert_ne!(first, second);
    assert!(matches!(
        fleet.admit("g", now),
        Err(Refusal::NoSuchFunction(_))
    ));
}

#[test]
fn reserved_concurrency_limits_its_function_and_shrinks_the_rest() {
    let reserved = FunctionConfig {
        reserved_concurrency: Some(1),
        ..function("r")
    };
    let (mut fleet, now) = fleet([reserved, function("u")]);
    let running = admitted(&mut fleet, "r", now);
    assert_eq!(
        reason(&mut fleet, "r", now),
        ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded
    );
    for _ in 0..3 {
        admitted(&mut fleet, "u", now);
    }
    assert_eq!(
        reason(&mut fleet, "u", now),
        ThrottleReason::ConcurrentInvocationLimitExceeded
    );
    fleet.finished(running, now);
    assert_eq!(admitted(&mut fleet, "r", now), running);
}

#[test]
fn reservations_may_not_exceed_the_account() {
    let (mut fleet, now) = fleet([FunctionConfig {
        reserved_concurrency: Some(3),
        ..function("a")
    }]);
    let too_much = FunctionConfig {
        reserved_concurrency: Some(2),
        ..function("b")
    };
    assert!(matches!(
        fleet.put(too_much, 1, now),
        Err(Error::ReservedConcurrency { available: 1, .. })
    ));
    // the function's own reservation is given back first
    fleet
        .put(
            FunctionConfig {
                reserved_concurrency: Some(4),
                ..function("a")
            },
            1,
            now,
        )
        .unwrap();
}

#[test]
fn routing_chooses_by_time_or_chance() {
    for (routing, expected) in [(Routing::MostRecent, 2), (Routing::LeastRecent, 0)] {
        let (mut fleet, now) = fleet([FunctionConfig {
            routing,
            ..function("f")
        }]);
        let ids: Vec<_> = (0..3).map(|_| admitted(&mut fleet, "f", now)).collect();
        for id in &ids {
            fleet.finished(*id, now);
        }
        assert_eq!(admitted(&mut fleet, "f", now), ids[expected]);
    }
    let run = |seed| {
        let (mut fleet, now) = fleet([FunctionConfig {
            routing: Routing::Random(seed),
            ..function("f")
        }]);
        let ids: Vec<_> = (0..4).map(|_| admitted(&mut fleet, "f", now)).collect();
        ids.iter()
            .for_each(|id| assert_eq!(fleet.finished(*id, now), After::Idle));
        let picks = (0..40).map(|_| {
            let id = admitted(&mut fleet, "f", now);
            fleet.finished(id, now);
            id
        });
        picks.collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_changed_configuration_retires_instances() {
    let (mut fleet, now) = fleet([function("f")]);
    let (busy, idle) = (
        admitted(&mut fleet, "f", now),
        admitted(&mut fleet, "f", now),
    );
    fleet.finished(idle, now);
    let same = FunctionConfig {
        idle_timeout: Some(Duration::from_secs(1)),
        ..function("f")
    };
    assert!(fleet.put(same.clone(), 1, now).unwrap().is_empty());
    assert!(fleet.expiry(idle).is_some());
    assert_eq!(
        fleet
            .put(
                FunctionConfig {
                    memory_mb: 256,
                    ..same.clone()
                },
                1,
                now
            )
            .unwrap(),
        [idle]
    );
    // put back: the busy one fits again
    fleet.put(same, 1, now).unwrap();
    assert_eq!(fleet.finished(busy, now), After::Idle);
    fleet
        .put(
            FunctionConfig {
                memory_mb: 512,
                ..function("f")
            },
            1,
            now,
        )
        .unwrap();
    assert_eq!(fleet.instances().count(), 0);
}

#[test]
fn idle_time_and_age_expire() {
    let config = FunctionConfig {
        idle_timeout: Some(Duration::from_secs(10)),
        max_age: Some(Duration::from_secs(15)),
        ..function("f")
    };
    let (mut fleet, now) = fleet([config]);
    let id = admitted(&mut fleet, "f", now);
    assert_eq!(fleet.expiry(id), None);
    fleet.finished(id, now);
    assert_eq!(fleet.expiry(id), Some(now + Duration::from_secs(10)));
    assert!(!fleet.expire(id, now + Duration::from_secs(9)));
    admitted(&mut fleet, "f", now);
    fleet.finished(id, now + Duration::from_secs(9));
    assert_eq!(fleet.expiry(id), Some(now + Duration::from_secs(15)));
    admitted(&mut fleet, "f", now + Duration::from_secs(14));
    assert!(
        !fleet.expire(id, now + Duration::from_secs(16)),
        "busy instances finish first"
    );
    assert_eq!(
        fleet.finished(id, now + Duration::from_secs(16)),
        After::Retire
    );
    assert!(fleet.instance(id).is_none());
}

#[test]
fn one_instance_too_many_takes_the_longest_idle() {
    let now = Instant::now();
    let mut fleet = Fleet::new(
        Limits {
            max_instances: 2,
            ..LIMITS
        },
        now,
    );
    for name in ["a", "b", "c"] {
        fleet.put(function(name), 1, now).unwrap();
    }
    let a = admitted(&mut fleet, "a", now);
    let b = admitted(&mut fleet, "b", now);
    assert_eq!(
        reason(&mut fleet, "c", now),
        ThrottleReason::ConcurrentInvocationLimitExceeded
    );
    fleet.finished(b, now);
    fleet.finished(a, now + Duration::from_secs(1));
    assert!(
        matches!(fleet.admit("c", now), Ok(Admission::Start { evicted: Some(id), .. }) if id == b)
    );
}

#[test]
fn concurrency_is_given_back_however_an_instance_leaves() {
    let (mut fleet, now) = fleet([function("f"), function("g")]);
    for round in 0..20 {
        let ids: Vec<_> = (0..4).map(|_| admitted(&mut fleet, "f", now)).collect();
        assert_eq!(
            reason(&mut fleet, "g", now),
            ThrottleReason::ConcurrentInvocationLimitExceeded
        );
        for (n, id) in ids.iter().enumerate() {
            match (n + round) % 3 {
                0 => assert!(fleet.leave(*id)),
                1 => assert_eq!(fleet.finished(*id, now), After::Idle),
                _ => {
                    fleet.finished(*id, now);
                    assert!(fleet.leave(*id));
                    assert!(!fleet.leave(*id));
                }
            }
        }
        assert_eq!((fleet.functions["f"].busy, fleet.unreserved_busy), (0, 0));
    }
    let busy = admitted(&mut fleet, "f", now);
    fleet
        .put(
            FunctionConfig {
                reserved_concurrency: Some(2),
                ..function("f")
            },
            1,
            now,
        )
        .unwrap();
    assert_eq!(fleet.unreserved_busy, 0);
    assert!(fleet.remove("f").unwrap().contains(&busy));
    assert_eq!((fleet.reserved, fleet.instances.len()), (0, 0));
    assert!(fleet.remove("f").is_none());
    assert_eq!(fleet.finished(busy, now), After::Retire);
}

#[test]
fn the_rate_limit_is_ten_a_second_for_each_unit() {
    let now = Instant::now();
    let mut fleet = Fleet::new(
        Limits {
            rate_limit: true,
            ..LIMITS
        },
        now,
    );
    fleet
        .put(
            FunctionConfig {
                reserved_concurrency: Some(1),
                ..function("r")
            },
            1,
            now,
        )
        .unwrap();
    for _ in 0..10 {
        let id = admitted(&mut fleet, "r", now);
        fleet.finished(id, now);
    }
    assert_eq!(
        reason(&mut fleet, "r", now),
        ThrottleReason::ReservedFunctionInvocationRateLimitExceeded
    );
    admitted(&mut fleet, "r", now + Duration::from_millis(150));
}

/// What the counters say must be what the instances say, whatever happened.
fn check(fleet: &Fleet) {
    let mut unreserved = 0;
    for (name, state) in &fleet.functions {
        let of = |wanted: fn(InstanceState) -> bool| {
            let mine = fleet
                .instances
                .iter()
                .filter(|(_, i)| i.config.name == *name);
            mine.filter(|(_, i)| wanted(i.state))
                .map(|(id, _)| *id)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(|s| s != InstanceState::Idle).len(), state.busy as usize);
        let mut idle = state.idle.clone();
        idle.sort_unstable();
        assert_eq!(of(|s| s == InstanceState::Idle), idle);
        unreserved += if state.config.reserved_concurrency.is_none() {
            state.busy
        } else {
            0
        };
    }
    assert_eq!(unreserved, fleet.unreserved_busy);
    let reserved = fleet
        .functions
        .values()
        .filter_map(|f| f.config.reserved_concurrency)
        .sum::<u32>();
    assert_eq!(reserved, fleet.reserved);
    assert!(fleet.reserved <= LIMITS.account_concurrency);
    assert!(fleet.instances.len() <= LIMITS.max_instances);
    assert!(
        fleet
            .instances
            .values()
            .all(|i| fleet.functions.contains_key(&i.config.name))
    );
}

#[test]
fn a_random_walk_keeps_the_books_straight() {
    for seed in 0..30 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut fleet, start) = fleet([]);
        let mut known: Vec<InstanceId> = Vec::new();
        for step in 0..400 {
            let now = start + Duration::from_millis(step * 10);
            let name = ["a", "b", "c"][rng.random_range(0..3)];
            let some = (!known.is_empty()).then(|| known[rng.random_range(0..known.len())]);
            match (rng.random_range(0..12), some) {
                (0..=4, _) => {
                    known.extend(
                        fleet
                            .admit(name, now)
                            .ok()
                            .map(|admission| match admission {
                                Admission::Reuse(id) | Admission::Start { id, .. } => id,
                            }),
                    )
                }
                (5..=7, Some(id))
                    if fleet
                        .instance(id)
                        .is_some_and(|i| i.state != InstanceState::Idle) =>
                {
                    fleet.finished(id, now);
                }
                (8, Some(id)) => drop(fleet.leave(id)),
                (9, Some(id)) => drop(fleet.expire(id, now)),
                (10, _) => {
                    let config = FunctionConfig {
                        memory_mb: [128, 256][rng.random_range(0..2)],
                        reserved_concurrency: [None, Some(0), Some(1), Some(2)]
                            [rng.random_range(0..4)],
                        routing: [
                            Routing::MostRecent,
                            Routing::LeastRecent,
                            Routing::Random(1),
                        ][rng.random_range(0..3)],
                        max_age: [None, Some(Duration::from_millis(300))][rng.random_range(0..2)],
                        ..function(name)
                    };
                    let _ = fleet.put(config, seed, now);
                }
                (11, _) if rng.random_bool(0.2) => drop(fleet.remove(name)),
                _ => {}
            }
            check(&fleet);
        }
    }
}
