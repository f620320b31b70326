use proptest::prelude::*;

use super::*;

const TICK: Duration = Duration::from_millis(250);
const OUT: Trouble = Trouble::Refused(Cause::Ec2Failed);

fn nodes(troubles: &[(usize, Option<Trouble>)]) -> Vec<Option<Trouble>> {
    let of = |&(count, trouble)| vec![trouble; count];
    troubles.iter().flat_map(of).collect()
}

struct Clock {
    outage: Outage,
    now: Instant,
}

impl Clock {
    fn new() -> Self {
        Self {
            outage: Outage::default(),
            now: Instant::now(),
        }
    }

    /// Everything decided within so long, while nodes are so.
    fn run(&mut self, nodes: &[Option<Trouble>], time: Duration) -> (Vec<News>, usize) {
        let end = self.now + time;
        let (mut news, mut asked) = (Vec::new(), 0);
        while self.now < end {
            self.now += TICK;
            let decision = self.outage.look(nodes.iter().copied(), self.now);
            news.extend(decision.news);
            asked += decision.ask;
        }
        (news, asked)
    }
}

fn extent(failing: usize, nodes: usize, trouble: Trouble, alike: usize) -> Extent {
    Extent {
        failing,
        nodes,
        trouble,
        alike,
    }
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn most_nodes_at_once_are_told_once() {
    let mut clock = Clock::new();
    let (news, asked) = clock.run(&nodes(&[(6, None), (6, Some(OUT))]), LONG);
    assert_eq!((news, asked), (vec![], 0), "half of them are not most");
    let (news, asked) = clock.run(&nodes(&[(5, None), (7, Some(OUT))]), LONG);
    assert_eq!(news, [News::Began(extent(7, 12, OUT, 7))]);
    assert!((4..=6).contains(&asked), "one each 5 s, not {asked}");
    let (seen, lasted) = clock.outage.extent(clock.now).unwrap();
    assert_eq!(seen, extent(7, 12, OUT, 7));
    assert!(lasted > LONG - 2 * BEGINS_AFTER && lasted < LONG);
    let (news, _) = clock.run(&nodes(&[(12, None)]), LONG);
    let [News::Ended(after)] = news[..] else {
        panic!("{news:?}")
    };
    assert!(after >= LONG && after < LONG + 2 * ENDS_AFTER);
    assert_eq!(clock.outage.extent(clock.now), None);
}

#[test]
fn what_is_over_at_once_is_not_told() {
    let mut clock = Clock::new();
    let (bad, well) = (nodes(&[(6, Some(OUT))]), nodes(&[(6, None)]));
    for _ in 0..20 {
        assert_eq!(clock.run(&bad, BEGINS_AFTER - TICK).0, []);
        assert_eq!(clock.run(&well, TICK).0, []);
    }
    assert_eq!(clock.run(&bad, 2 * BEGINS_AFTER).0.len(), 1);
    // nor is it over when it pauses
    for _ in 0..20 {
        assert_eq!(clock.run(&well, ENDS_AFTER - TICK).0, []);
        assert_eq!(clock.run(&bad, TICK).0, []);
    }
}

#[test]
fn a_small_pool_is_out_when_most_of_it_is() {
    for (failing, total, is_out) in [(1, 1, true), (1, 2, false), (2, 2, true), (2, 3, false)] {
        let mut clock = Clock::new();
        let (news, _) = clock.run(
            &nodes(&[(failing, Some(OUT)), (total - failing, None)]),
            LONG,
        );
        assert_eq!(news.len(), usize::from(is_out), "{failing} of {total}");
    }
    assert_eq!(Clock::new().run(&[], LONG).0, []);
}

#[test]
fn the_commonest_cause_is_named() {
    let mut clock = Clock::new();
    let mixed = nodes(&[
        (2, Some(Trouble::Silent)),
        (5, Some(OUT)),
        (1, Some(Trouble::Link)),
    ]);
    let (news, _) = clock.run(&mixed, LONG);
    assert_eq!(news, [News::Began(extent(8, 8, OUT, 5))]);
    let News::Began(extent) = news[0] else {
        panic!("{news:?}")
    };
    assert_eq!(
        extent.to_string(),
        "8 of 8 nodes fail, 5 of them so: EC2 failed while Lambda set up the function's network"
    );
    // of two that are as common the one that was told stays
    let tied = nodes(&[(4, Some(Trouble::Silent)), (4, Some(OUT))]);
    assert_eq!(clock.run(&tied, TELL_OTHER).0, []);
    // another one is told, not too often
    let other = nodes(&[(6, Some(Trouble::Silent)), (2, Some(OUT))]);
    let (news, _) = clock.run(&other, TELL_OTHER);
    let [News::GoesOn(extent, _)] = news[..] else {
        panic!("{news:?}")
    };
    assert_eq!((extent.trouble, extent.alike), (Trouble::Silent, 6));
    // and the same again after ten minutes
    assert_eq!(clock.run(&other, TELL_AGAIN).0.len(), 1);
}

#[test]
fn the_others_are_asked_as_soon_as_one_is_well() {
    let mut clock = Clock::new();
    let bad = nodes(&[(20, Some(OUT))]);
    let (_, asked) = clock.run(&bad, BEGINS_AFTER + TICK);
    assert_eq!(asked, 0);
    let (_, asked) = clock.run(&nodes(&[(1, None), (19, Some(OUT))]), TICK);
    assert_eq!(asked, ASK_AT_ONCE);
    // it is not over, and they are not asked all the time
    let (_, asked) = clock.run(&nodes(&[(1, None), (19, Some(OUT))]), ASK_EVERY - TICK);
    assert_eq!(asked, 0);
    // when it looks over the rest is
    let (_, asked) = clock.run(&nodes(&[(15, None), (5, Some(OUT))]), TICK);
    assert_eq!(asked, ASK_AT_ONCE);
}

#[test]
fn every_trouble_says_what_to_do() {
    let refused = Cause::ALL.iter().map(|cause| Trouble::Refused(*cause));
    let others = [
        Trouble::Link,
        Trouble::Function,
        Trouble::NodeOutdated,
        Trouble::ProxyOutdated,
        Trouble::Report,
        Trouble::Silent,
    ];
    let mut names = Vec::new();
    for trouble in refused.chain(others) {
        let extent = extent(3, 4, trouble, 3);
        assert!(extent.to_string().starts_with("3 of 4 nodes fail: "));
        assert!(extent.fix().starts_with(trouble.fix()) && !trouble.fix().is_empty());
        let blames_zone = extent
            .fix()
            .contains("AWS Health Dashboard; nodes are tried");
        assert_eq!(blames_zone, trouble.may_be_the_zone());
        names.push(trouble.name());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Cause::ALL.len() + others.len());
    for mistake in [
        Cause::CredentialsExpired,
        Cause::AccessDenied,
        Cause::FunctionMissing,
        Cause::AccountConcurrency,
    ] {
        assert!(!Trouble::Refused(mistake).may_be_the_zone(), "{mistake:?}");
    }
}

proptest! {
    /// Beginnings and ends take turns, and follow only what most nodes do.
    #[test]
    fn news_agree_with_the_nodes(steps in prop::collection::vec((0usize..=9, 1u32..60), 1..80)) {
        let mut clock = Clock::new();
        let mut is_out = false;
        for (failing, ticks) in steps {
            let pool = nodes(&[(failing, Some(OUT)), (9 - failing, None)]);
            for news in clock.run(&pool, TICK * ticks).0 {
                match news {
                    News::Began(extent) => {
                        prop_assert!(!is_out && failing > 4 && extent.failing == failing);
                        is_out = true;
                    }
                    News::GoesOn(..) => prop_assert!(is_out && failing > 4),
                    News::Ended(_) => {
                        prop_assert!(is_out && failing <= 4);
                        is_out = false;
                    }
                }
            }
            prop_assert_eq!(clock.outage.extent(clock.now).is_some(), is_out);
            if TICK * ticks > ENDS_AFTER + 2 * TICK {
                prop_assert_eq!(is_out, failing > 4);
            }
        }
    }
}
