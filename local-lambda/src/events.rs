//! Asynchronous invocations: a bounded queue, and Lambda's retries.
//!
//! The queue is a number of tasks: each event holds a slot and its bytes until
//! it is done with. Beyond that events are refused with 429.

use crate::answer::{Outcome, Refusal, ThrottleReason};
use crate::http::{Admitted, Reply, empty};
use crate::instance::arn;
use crate::platform::Platform;
use crate::settings::EventSettings;
use hyper::StatusCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How an attempt ended, as far as trying again is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Done,
    FunctionError,
    Refused,
}

/// Attempts so far.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    function_errors: usize,
    refusals: u32,
}

/// Queues an event; 202, and no more is heard of it.
pub(crate) fn accept(
    platform: &Arc<Platform>,
    function: String,
    payload: Admitted,
) -> Result<Reply, Refusal> {
    if !platform.world.lock().fleet.has_function(&function) {
        return Err(Refusal::NoSuchFunction(arn(
            &platform.settings.region,
            &function,
        )));
    }
    let full = |_| Refusal::Throttled(ThrottleReason::CallerRateLimitExceeded);
    let slot = Arc::clone(&platform.event_slots)
        .try_acquire_owned()
        .map_err(full)?;
    let size = u32::try_from(payload.bytes.len()).unwrap_or(u32::MAX);
    let permit = Arc::clone(&platform.event_budget)
        .try_acquire_many_owned(size)
        .map_err(full)?;
    let queued = Arc::clone(platform);
    platform.tracker.spawn(async move {
        let bytes = payload.bytes;
        // The event's own budget holds the bytes from here on.
        drop(payload.permit);
        tokio::select! {
            () = run(&queued, &function, &bytes) => {}
            () = queued.stop.cancelled() => {}
        }
        drop((slot, permit));
    });
    Ok(empty(StatusCode::ACCEPTED))
}

async fn run(platform: &Arc<Platform>, function: &str, bytes: &bytes::Bytes) {
    let settings = &platform.settings.events;
    let accepted = Instant::now();
    let mut tries = Tries::default();
    loop {
        let Ok(permit) = Arc::clone(&platform.request_budget)
            .acquire_many_owned(0)
            .await
        else {
            return;
        };
        let payload = Admitted {
            bytes: bytes.clone(),
            permit,
        };
        let attempt = match platform.invoke(function, payload).await {
            Ok(invoked) if matches!(invoked.outcome, Outcome::Response(_)) => Attempt::Done,
            Ok(_) => Attempt::FunctionError,
            Err(Refusal::NoSuchFunction(_)) => Attempt::Done,
            Err(_) => Attempt::Refused,
        };
        let Some(pause) = next_try(settings, attempt, &mut tries, accepted.elapsed()) else {
            if attempt != Attempt::Done {
                tracing::warn!(function, ?tries, "event dropped");
            }
            return;
        };
        tokio::time::sleep(pause).await;
    }
}

/// How long to wait before the next attempt; `None`: there is none.
fn next_try(
    settings: &EventSettings,
    attempt: Attempt,
    tries: &mut Tries,
    age: Duration,
) -> Option<Duration> {
    let pause = match attempt {
        Attempt::Done => return None,
        Attempt::FunctionError => {
            let pause = settings.retry_delays.get(tries.function_errors).copied();
            tries.function_errors += 1;
            pause?
        }
        Attempt::Refused => {
            let doubled = 1u32 << tries.refusals.min(16);
            tries.refusals += 1;
            settings.throttle_backoff * doubled.min(300)
        }
    };
    (age + pause <= settings.max_age).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_error_is_tried_twice_more() {
        let (settings, mut tries) = (EventSettings::default(), Tries::default());
        let mut next =
            |attempt| next_try(&settings, attempt, &mut tries, Duration::ZERO).map(|d| d.as_secs());
        assert_eq!(next(Attempt::Refused), Some(1));
        assert_eq!(next(Attempt::FunctionError), Some(60));
        assert_eq!(next(Attempt::Refused), Some(2));
        assert_eq!(next(Attempt::FunctionError), Some(120));
        assert_eq!(next(Attempt::FunctionError), None);
        assert_eq!(next(Attempt::Done), None);
    }

    #[test]
    fn refusals_back_off_up_to_five_minutes_and_end_with_the_events_age() {
        let (settings, mut tries) = (EventSettings::default(), Tries::default());
        let pauses: Vec<u64> = (0..40)
            .map_while(|_| next_try(&settings, Attempt::Refused, &mut tries, Duration::ZERO))
            .map(|d| d.as_secs())
            .collect();
        assert_eq!(&pauses[..4], [1, 2, 4, 8]);
        assert_eq!(pauses[39], 300);
        assert_eq!(
            next_try(&settings, Attempt::Refused, &mut tries, settings.max_age),
            None
        );
    }
}
