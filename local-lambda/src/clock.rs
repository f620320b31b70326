//! The one place that reads the wall clock. Everything else uses the monotonic
//! one, or is given the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970, for deadlines and trace ids that other processes read.
#[expect(clippy::disallowed_methods, reason = "this is that place")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
