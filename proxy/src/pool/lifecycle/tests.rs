use proptest::{collection::vec, prelude::*};

use super::*;

fn machine(now: Instant) -> Lifecycle {
    Lifecycle::new(Settings::default(), now)
}

fn id(n: u64) -> InvocationId {
    InvocationId(n)
}

#[test]
fn a_request_wakes_serves_and_lets_go() {
    let now = Instant::now();
    let mut m = machine(now);
    assert_eq!(
        m.step(Event::Wanted, now),
        Some(Action::Invoke(id(1), Purpose::Serve))
    );
    assert_eq!(m.step(Event::Wanted, now), None, "one invocation at a time");
    assert_eq!(m.step(Event::Hello(id(7)), now), Some(Action::Refuse));
    assert_eq!(m.step(Event::Hello(id(1)), now), Some(Action::Admit));
    assert_eq!(m.step(Event::Goodbye(id(1)), now), None);
    assert_eq!(
        m.step(Event::Wanted, now),
        None,
        "not before the invoke has returned"
    );
    let again = m.step(Event::Returned(id(1), Outcome::Ok), now);
    assert_eq!(again, Some(Action::Invoke(id(2), Purpose::Serve)));
}

#[test]
fn silence_is_ended_by_a_ping_and_traffic_counts_as_one() {
    let start = Instant::now();
    let mut m = machine(start);
    let warm = Settings::default().warm_interval;
    assert_eq!(m.step(Event::Tick, start + warm / 2), None);
    m.step(Event::Wanted, start + warm / 2);
    m.step(Event::Hello(id(1)), start + warm / 2);
    m.step(Event::Returned(id(1), Outcome::Ok), start + warm / 2);
    assert_eq!(m.step(Event::Tick, start + warm), None);
    let due = start + warm / 2 + warm;
    assert_eq!(
        m.step(Event::Tick, due),
        Some(Action::Invoke(id(2), Purpose::Warm))
    );
    assert_eq!(m.step(Event::Wanted, due), None);
    let served = m.step(Event::Returned(id(2), Outcome::Ok), due);
    assert_eq!(served, Some(Action::Invoke(id(3), Purpose::Serve)));
}

#[test]
fn failures_back_off_and_recover() {
    let mut now = Instant::now();
    let mut m = machine(now);
    m.step(Event::Wanted, now);
    let retry = m.step(Event::Returned(id(1), Outcome::Failed), now);
    assert_eq!(
        retry,
        Some(Action::Invoke(id(2), Purpose::Serve)),
        "the first is retried at once"
    );
    assert_eq!(m.step(Event::Returned(id(2), Outcome::Failed), now), None);
    assert!(m.is_unreachable(now));
    assert_eq!(m.step(Event::Wanted, now), None);
    now += Duration::from_millis(100);
    assert_eq!(
        m.step(Event::Wanted, now),
        Some(Action::Invoke(id(3), Purpose::Serve))
    );
    assert_eq!(m.step(Event::Hello(id(3)), now), Some(Action::Admit));
    m.step(Event::LinkLost(id(3)), now);
    m.step(Event::Returned(id(3), Outcome::Failed), now);
    assert_eq!(
        m.phase(),
        Phase::Asleep,
        "killed while active: simply invoke again"
    );
}

#[test]
fn a_refusal_is_not_tried_again_at_once() {
    let mut now = Instant::now();
    let mut m = machine(now);
    let ms = Duration::from_millis;
    let (first, most) = (ms(500), ms(1_500));
    m.step(Event::Wanted, now);
    // 500 ms, and again: the first two are the same; then it doubles, to its limit
    for (n, pause) in (1..).zip([500, 500, 1_000, 1_500, 1_500].map(ms)) {
        let refused = Event::Returned(id(n), Outcome::Refused { first, most });
        assert_eq!(m.step(refused, now), None);
        assert_eq!(
            m.phase(),
            Phase::Unreachable {
                retry_at: now + pause
            }
        );
        now += pause;
        let again = Some(Action::Invoke(id(n + 1), Purpose::Serve));
        assert_eq!(m.step(Event::Wanted, now), again);
    }
    // what works again is forgotten
    m.step(Event::Hello(id(6)), now);
    m.step(Event::Returned(id(6), Outcome::Ok), now);
    m.step(Event::Wanted, now);
    m.step(
        Event::Returned(id(7), Outcome::Refused { first, most }),
        now,
    );
    assert_eq!(
        m.phase(),
        Phase::Unreachable {
            retry_at: now + first
        }
    );
}

fn any_event() -> impl Strategy<Value = (u8, i64, bool, u64)> {
    (0u8..9, -2i64..2, any::<bool>(), 0u64..20_000)
}

proptest! {
    /// Whatever happens in whatever order: never two invocations at once unless
    /// the first was given up by its deadline, or the second was to reach another
    /// instance and the first one's link is open; ids never repeat, a link only
    /// for an invocation under way, and who wants a link gets an invocation or
    /// an unreachable node, never silence for ever.
    #[test]
    fn no_order_of_events_breaks_the_rules(events in vec(any_event(), 1..120)) {
        let mut now = Instant::now();
        let mut m = machine(now);
        let mut issued = 0u64;
        for (kind, offset, ok, ms) in events {
            now += Duration::from_millis(ms);
            let about = id(issued.saturating_add_signed(offset));
            let (before, beside) = (m.phase(), m.companion());
            if kind == 8 {
                let both = matches!(before, Phase::Active { .. })
                    && matches!(beside, Companion::Active { .. });
                let ids = (m.invocation(), m.companion().invocation());
                prop_assert_eq!(m.swap(), both);
                let swapped = (m.companion().invocation(), m.invocation());
                let after = if both { swapped } else { (m.invocation(), m.companion().invocation()) };
                prop_assert_eq!(after, ids);
                continue;
            }
            let event = match kind {
                0 => Event::Wanted,
                1 => Event::Tick,
                2 => Event::Hello(about),
                3 => Event::Goodbye(about),
                4 => Event::LinkLost(about),
                5 => Event::RoundWanted,
                6 => Event::CompanionWanted,
                _ => Event::Returned(about, if ok { Outcome::Ok } else { Outcome::Failed }),
            };
            match m.step(event, now) {
                Some(Action::Invoke(new, purpose)) => {
                    prop_assert!(new.0 == issued + 1);
                    issued = new.0;
                    if event == Event::CompanionWanted {
                        prop_assert!(matches!(before, Phase::Active { .. }), "{before:?}");
                        prop_assert_eq!(beside, Companion::None);
                        prop_assert_eq!((purpose, m.phase()), (Purpose::Backup, before));
                        continue;
                    }
                    let over = match before {
                        Phase::Asleep => true,
                        Phase::Unreachable { retry_at } => now >= retry_at,
                        Phase::Active { .. } => matches!(event, Event::Returned(..)),
                        Phase::Pinging { deadline, .. } | Phase::Waking { deadline, .. }
                        | Phase::Returning { deadline, .. } =>
                            now >= deadline || matches!(event, Event::Returned(..)),
                    };
                    prop_assert!(over, "{before:?} {event:?}");
                }
                Some(Action::Admit) => {
                    let waking = matches!(before, Phase::Waking { invocation, .. }
                        if event == Event::Hello(invocation));
                    prop_assert!(waking && m.is_active(), "{before:?} {event:?}");
                }
                Some(Action::AdmitCompanion) => {
                    let waking = matches!(beside, Companion::Waking { invocation, .. }
                        if event == Event::Hello(invocation));
                    prop_assert!(waking, "{beside:?} {event:?}");
                    prop_assert_eq!(m.phase(), before);
                }
                Some(Action::Refuse) | None => {}
            }
            prop_assert!(m.invocation().is_none() || m.invocation() != m.companion().invocation());
            if matches!(event, Event::Wanted | Event::RoundWanted) {
                prop_assert!(m.phase() != Phase::Asleep);
            }
        }
        // left alone, every node comes to rest
        for _ in 0..4 {
            now += Duration::from_secs(20);
            for under_way in [m.invocation(), m.companion().invocation()].into_iter().flatten() {
                m.step(Event::Returned(under_way, Outcome::Ok), now);
            }
            m.step(Event::Tick, now);
        }
        prop_assert_eq!(m.companion(), Companion::None);
    }
}

#[test]
fn a_companion_comes_only_beside_a_node_that_is_busy() {
    let now = Instant::now();
    let mut m = machine(now);
    assert_eq!(m.step(Event::CompanionWanted, now), None);
    let woken = m.step(Event::RoundWanted, now);
    assert_eq!(woken, Some(Action::Invoke(id(1), Purpose::Backup)));
    assert_eq!(m.step(Event::CompanionWanted, now), None, "no hello yet");
    m.step(Event::Hello(id(1)), now);
    let second = m.step(Event::CompanionWanted, now);
    assert_eq!(second, Some(Action::Invoke(id(2), Purpose::Backup)));
    assert_eq!(m.step(Event::CompanionWanted, now), None, "one is enough");
    // the first may return before the second says hello
    m.step(Event::Goodbye(id(1)), now);
    m.step(Event::Returned(id(1), Outcome::Ok), now);
    assert_eq!(
        m.step(Event::Hello(id(2)), now),
        Some(Action::AdmitCompanion)
    );
    let again = m.step(Event::Wanted, now);
    assert_eq!(again, Some(Action::Invoke(id(3), Purpose::Serve)));
    m.step(Event::LinkLost(id(2)), now);
    assert_eq!(m.step(Event::Hello(id(3)), now), Some(Action::Admit));
    assert_eq!(
        m.step(Event::CompanionWanted, now),
        None,
        "it returns first"
    );
    m.step(Event::Returned(id(2), Outcome::Failed), now);
    assert!(m.step(Event::CompanionWanted, now).is_some() && m.is_active());
}

#[test]
fn a_companion_takes_the_place_of_the_one_that_serves() {
    let now = Instant::now();
    let mut m = machine(now);
    m.step(Event::RoundWanted, now);
    m.step(Event::Hello(id(1)), now);
    m.step(Event::CompanionWanted, now);
    assert!(!m.swap(), "its link is not open");
    m.step(Event::Hello(id(2)), now);
    assert!(m.swap());
    assert_eq!((m.invocation(), m.last_main()), (Some(id(2)), id(2)));
    // the one that served ends its process: nobody waits for it, nothing failed
    m.step(Event::Goodbye(id(1)), now);
    m.step(Event::Returned(id(1), Outcome::Failed), now);
    assert!(m.is_active() && m.companion() == Companion::None);
    assert_eq!(m.step(Event::Wanted, now), None);
    m.step(Event::Goodbye(id(2)), now);
    m.step(Event::Returned(id(2), Outcome::Ok), now);
    assert_eq!(m.phase(), Phase::Asleep);
}
