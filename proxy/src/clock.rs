//! The only place that reads the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

/// Milliseconds since 1970, the unit of every expiry.
pub fn unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}
