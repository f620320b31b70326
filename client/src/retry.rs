//! Which requests are made again; pure.
//!
//! | operation | made again |
//! |---|---|
//! | `get`, `get_small`, `get_many`, `get_range`, `exists`, `ttl` | whenever the error may pass |
//! | `set` and `set_with` without NX, XX and GET, `set_many`, `expire` | whenever the error may pass: to do it twice is to do it once, unless another client wrote to the key in between, over whose value the second one goes as if it had come later |
//! | `set_with` with NX, XX or GET, `delete`, `persist`, `append`, `incr` | only if nothing was sent, or the server refused at once |
//! | `put_stream`, `put_reader` | only while nothing of the source has been taken |
//! | all, after MOVED and ASK of a cluster | five times: the wrong member carries nothing out |
//! | `get_stream` | until its first byte; then see [`crate::Resume`] |
//! | `command` | as `append`; with [`crate::Command::idempotent`] as `get` |
//!
//! A deadline is never followed by another attempt: the time is used up. What is
//! not made again here may be made again by the caller, who knows what it means:
//! [`crate::Error::is_retryable`], [`crate::Error::may_have_happened`].

use std::time::Duration;

use crate::Error;

/// When a request may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// To carry it out twice is to carry it out once.
    Always,
    /// Only if it was not carried out for certain.
    IfNotDone,
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long to pause before a request is made again after `error`, or none if
/// it is not. `attempt` counts from 0, `chance` lies in 0..1.
#[must_use]
pub fn pause(
    error: &Error,
    repeat: Repeat,
    attempt: u32,
    retries: u32,
    chance: f64,
) -> Option<Duration> {
    let is_late = matches!(error, Error::Deadline { .. });
    let is_safe = repeat == Repeat::Always || !error.may_have_happened();
    if attempt >= retries || is_late || !is_safe || !error.is_retryable() {
        return None;
    }
    Some(backoff(attempt, chance))
}

/// The pause before an attempt that is to be made.
pub(crate) fn backoff(attempt: u32, chance: f64) -> Duration {
    let longest = FIRST_PAUSE
        .saturating_mul(1 << attempt.min(16))
        .min(LONGEST_PAUSE);
    // half of it by chance: clients of one server that fails do not return as one
    longest.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::error::ServerError;

    fn server(line: &'static str) -> Error {
        Error::Server(ServerError::parse(&Bytes::from_static(line.as_bytes())))
    }

    fn is_repeated(error: &Error, repeat: Repeat) -> bool {
        pause(error, repeat, 0, 2, 0.5).is_some()
    }

    #[test]
    fn writes_only_when_nothing_happened() {
        use Repeat::{Always, IfNotDone};
        let late = Error::Deadline {
            what: "reply",
            limit: Duration::ZERO,
            sent: false,
        };
        for (error, always, if_not_done) in [
            (Error::ended(true), true, false),
            (Error::ended(false), true, true),
            (server("LOADING x"), true, true),
            (server("UNAVAILABLE x"), true, false),
            (server("WRONGTYPE x"), false, false),
            (server("OOM x"), false, false),
            (late, false, false),
            (Error::Closed, false, false),
        ] {
            assert_eq!(is_repeated(&error, Always), always, "{error}");
            assert_eq!(is_repeated(&error, IfNotDone), if_not_done, "{error}");
        }
    }

    proptest! {
        #[test]
        fn pauses_are_bounded_and_end(attempt in 0_u32..100, retries in 0_u32..100, chance in 0.0..1.0) {
            let pause = pause(&Error::ended(false), Repeat::Always, attempt, retries, chance);
            prop_assert_eq!(pause.is_some(), attempt < retries);
            if let Some(pause) = pause {
                prop_assert!(pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE);
            }
        }
    }
}
