//! Ending a script from elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends the runs that it was given to, from any thread. A script ends within
/// some thousand of its instructions; a command that it waits for ends when its
/// [`Caller`](crate::Caller) says so.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A stop that has not happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The script is to end, as after `SCRIPT KILL`.
    pub fn kill(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`kill`](Self::kill) was called.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
