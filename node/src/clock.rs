//! The only place that reads the wall clock.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

thread_local! {
    /// In a simulation: the date at this moment of the runtime's clock.
    static SIMULATED: Cell<Option<(Duration, Instant)>> = const { Cell::new(None) };
}

/// From now on this thread's wall clock goes with its runtime's, which a test may
/// have paused, and shows this time since 1970; `None` for the real one again.
pub fn simulate(since_1970: Option<Duration>) {
    SIMULATED.set(since_1970.map(|date| (date, Instant::now())));
}

/// Time since 1970.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn since_1970() -> Duration {
    if let Some((date, at)) = SIMULATED.get() {
        return date + at.elapsed();
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

/// Milliseconds since 1970, the unit of every expiry and birth.
pub fn unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}
