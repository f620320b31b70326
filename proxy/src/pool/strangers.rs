//! Connections that have not said hello. Links have no limit of their own, since
//! every one of them used up the token of an invocation; strangers do, and it is
//! the longest silent one that goes when there are too many: an instance says
//! hello as soon as it is connected.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Strangers at a time.
const MAX_STRANGERS: usize = 256;

#[derive(Default)]
pub(super) struct Strangers {
    waiting: Mutex<VecDeque<(u64, CancellationToken)>>,
}

/// One stranger; known, or gone, when dropped.
pub(super) struct Stranger<'a> {
    all: &'a Strangers,
    id: u64,
    pub(super) dismissed: CancellationToken,
}

impl Strangers {
    /// One more; dismisses the longest waiting one if that is one too many.
    pub(super) fn enter(&self, id: u64) -> Stranger<'_> {
        let dismissed = CancellationToken::new();
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_STRANGERS
            && let Some((_, oldest)) = waiting.pop_front()
        {
            oldest.cancel();
        }
        waiting.push_back((id, dismissed.clone()));
        drop(waiting);
        Stranger {
            all: self,
            id,
            dismissed,
        }
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        let mut waiting = self.all.waiting.lock();
        if let Some(at) = waiting.iter().position(|(id, _)| *id == self.id) {
            waiting.remove(at);
        }
    }
}
