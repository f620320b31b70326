//! Connections that have not said who they are: few at a time, and not for long.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// So many at a time; then the longest waiting one is ended.
const MAX_STRANGERS: usize = 256;
/// Each has so long, a TLS handshake included.
pub const STRANGER_LIMIT: Duration = Duration::from_secs(10);

/// All of them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Strangers {
    waiting: Arc<Mutex<VecDeque<(u64, CancellationToken)>>>,
}

/// One of them; known, or gone, when dropped.
pub struct Stranger {
    all: Strangers,
    id: u64,
    /// When it must have said who it is.
    pub deadline: Instant,
}

impl Strangers {
    /// One more, whose connection this ends; the longest waiting one goes if that
    /// is one too many.
    pub fn enter(&self, end: CancellationToken) -> Stranger {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_STRANGERS
            && let Some((_, oldest)) = waiting.pop_front()
        {
            metrics::counter!("scatterhoard_ended_clients_total", "reason" => "strangers")
                .increment(1);
            oldest.cancel();
        }
        let id = waiting.back().map_or(0, |(last, _)| last + 1);
        waiting.push_back((id, end));
        drop(waiting);
        Stranger {
            all: self.clone(),
            id,
            deadline: Instant::now() + STRANGER_LIMIT,
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut waiting = self.all.waiting.lock();
        if let Ok(at) = waiting.binary_search_by_key(&self.id, |(id, _)| *id) {
            waiting.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_too_many_ends_the_one_that_waits_longest() {
        let all = Strangers::default();
        let ends: Vec<_> = (0..MAX_STRANGERS)
            .map(|_| CancellationToken::new())
            .collect();
        let mut known: Vec<_> = ends.iter().map(|end| all.enter(end.clone())).collect();
        assert!(ends.iter().all(|end| !end.is_cancelled()));
        // one has said who it is: there is room
        drop(known.remove(7));
        let _other = all.enter(CancellationToken::new());
        assert!(!ends[0].is_cancelled());
        let _another = all.enter(CancellationToken::new());
        assert!(ends[0].is_cancelled() && !ends[1].is_cancelled());
    }
}
