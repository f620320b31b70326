//! The breaker at work: its lock, its metrics, and one log line for each cause.

use std::time::Duration;

use parking_lot::Mutex;
use scatterhoard_node::random::HashMap;
use tokio::time::Instant;

use super::errors::Cause;
use crate::pool::breaker::{Admission, Breaker, Change};

/// The same cause is not told again before.
const TELL_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Gate {
    breaker: Mutex<Breaker>,
    told: Mutex<HashMap<Cause, Instant>>,
}

impl Gate {
    pub(super) fn new() -> Self {
        // there before anything has happened: alarms go by it
        metrics::gauge!("scatterhoard_breaker_open").set(0.0);
        Self::default()
    }

    /// Lets an invoke out, or says why not.
    pub(super) fn admit(&self) -> Result<(), Cause> {
        match self.breaker.lock().admit(Instant::now()) {
            Admission::Free => Ok(()),
            Admission::Probe => {
                metrics::counter!("scatterhoard_breaker_probes_total").increment(1);
                Ok(())
            }
            Admission::Held(cause) => {
                metrics::counter!("scatterhoard_invokes_held_total").increment(1);
                Err(cause)
            }
        }
    }

    pub(super) fn holds(&self) -> Option<Cause> {
        self.breaker.lock().holds()
    }

    pub(super) fn works(&self) {
        // told under the lock: in the order in which it happened
        let mut breaker = self.breaker.lock();
        tell(breaker.works(Instant::now()));
    }

    pub(super) fn failed(&self, cause: Cause, sent: Instant, text: &str, function: &str) {
        metrics::counter!("scatterhoard_invoke_refusals_total", "cause" => cause.name())
            .increment(1);
        let now = Instant::now();
        if self.is_news(cause, now) {
            let (cause, fix) = (cause.what(), cause.fix());
            tracing::warn!(
                function,
                answer = text,
                "functions are not run: {cause}; to do: {fix}"
            );
        }
        let mut breaker = self.breaker.lock();
        tell(breaker.failed(cause, sent, now));
    }

    fn is_news(&self, cause: Cause, now: Instant) -> bool {
        let mut told = self.told.lock();
        let is_news = told.get(&cause).is_none_or(|at| now >= *at + TELL_EVERY);
        if is_news {
            told.insert(cause, now);
        }
        is_news
    }
}

fn tell(change: Option<Change>) {
    let Some(change) = change else { return };
    let open = metrics::gauge!("scatterhoard_breaker_open");
    match change {
        Change::Opened(cause) => {
            open.set(1.0);
            metrics::counter!("scatterhoard_breaker_opened_total", "cause" => cause.name())
                .increment(1);
            tracing::warn!(
                cause = cause.name(),
                "no invokes but probes until the platform answers again"
            );
        }
        Change::Other(cause) => {
            tracing::warn!(
                cause = cause.name(),
                "the platform refuses for another reason now"
            );
        }
        Change::Closed(after) => {
            open.set(0.0);
            tracing::info!(after_ms = after.as_millis(), "the platform answers again");
        }
    }
}
