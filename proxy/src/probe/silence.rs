//! How long instances live when they are left alone: silences of growing length, many
//! functions side by side.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use scatterhoard_node::random::HashSet;
use scatterhoard_wire::InstanceId;
use tokio::time::Instant;

use super::Subject;
use crate::{pool::platform::Platform, profile::Gap};

/// Silences, in seconds, from one to the next if the instance is there after it, and back
/// if it is not.
const LADDER_S: [u64; 13] = [1, 2, 5, 15, 30, 60, 120, 240, 480, 900, 1_800, 2_700, 3_600];
/// The same, for the end of the time: shorter ones are of no use then.
const SHORTEST: Duration = Duration::from_secs(1);
/// A function that cannot be invoked so often in a row is given up.
const MOST_FAILURES: u32 = 5;

/// Leaves instances alone until `end`; what became of them.
pub(super) async fn measure(
    platform: &Platform,
    functions: &[String],
    known: HashSet<InstanceId>,
    end: Instant,
    say: &(impl Fn(String) + Sync),
) -> Vec<Gap> {
    let seen: Mutex<BTreeMap<u64, Gap>> = Mutex::default();
    let subjects = functions.iter().enumerate().map(|(i, name)| {
        let subject = Subject::new(platform, name, i);
        leave_alone(subject, known.clone(), end, &seen, say)
    });
    join_all(subjects).await;
    seen.into_inner().into_values().collect()
}

/// The silence to try now: this step's, or the longest that there is time for.
fn fitting(step: usize, left: Duration) -> Option<Duration> {
    let steps = LADDER_S.iter().take(step + 1).rev();
    let mut silences = steps.map(|s| Duration::from_secs(*s));
    silences.find(|silence| *silence <= left && *silence >= SHORTEST)
}

async fn leave_alone(
    subject: Subject<'_>,
    mut known: HashSet<InstanceId>,
    end: Instant,
    seen: &Mutex<BTreeMap<u64, Gap>>,
    say: &(impl Fn(String) + Sync),
) {
    let (mut step, mut last, mut failures) = (0, None::<InstanceId>, 0);
    while failures < MOST_FAILURES {
        let left = end.saturating_duration_since(Instant::now());
        let Some(silence) = fitting(step, left) else {
            return;
        };
        tokio::time::sleep(silence).await;
        let ping = match subject.ping().await {
            Ok(ping) => ping,
            Err(failure) => {
                say(format!("{}: {}", subject.function, failure.advice()));
                // nothing is known of this silence, nor of the next
                (last, failures) = (None, failures + 1);
                continue;
            }
        };
        failures = 0;
        let instance = ping.report.instance;
        let is_new = known.insert(instance);
        let Some(before) = last.replace(instance) else {
            continue;
        };
        let kept = before == instance;
        if !kept && !is_new {
            // the function has several: what became of the other one is not known
            say(format!("{}: another instance answers", subject.function));
            continue;
        }
        note(seen, silence.as_secs(), kept);
        step = match kept {
            true => (step + 1).min(LADDER_S.len() - 1),
            false => step.saturating_sub(1),
        };
        let fate = if kept { "kept" } else { "lost" };
        say(format!(
            "{}: {} s, {fate}",
            subject.function,
            silence.as_secs()
        ));
    }
}

fn note(seen: &Mutex<BTreeMap<u64, Gap>>, gap_s: u64, kept: bool) {
    let mut seen = seen.lock();
    let gap = seen.entry(gap_s).or_insert(Gap {
        gap_s,
        kept: 0,
        lost: 0,
    });
    gap.kept += u32::from(kept);
    gap.lost += u32::from(!kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silences_fit_the_time_that_is_left() {
        let fits = |step, left_s| fitting(step, Duration::from_secs(left_s)).map(|d| d.as_secs());
        assert_eq!(fits(0, 1_000), Some(1));
        assert_eq!(fits(6, 1_000), Some(120));
        assert_eq!(fits(12, 1_000), Some(900));
        assert_eq!(fits(12, 14), Some(5));
        assert_eq!(fits(12, 0), None);
    }
}
