//! What one process is and holds, from birth to reclaim.

use std::io;

use scatterhoard_wire::{
    Epoch, Fingerprint, InstanceId, Token, Versions,
    invoke::{Ending, Invocation, Report},
    message::Hello,
};

use crate::{clock, conduit::Dialer, random, store::ChunkStore};

/// Memory that is not for chunks: the runtime, buffers, the allocator's slack.
const RESERVE_BYTES: u64 = 32 << 20;
/// Further share kept free, since allocators round up.
const RESERVE_DIVISOR: u64 = 10;

/// The state that survives a freeze.
pub(crate) struct Instance {
    /// What its code speaks.
    speaks: Versions,
    id: InstanceId,
    birth_unix_ms: u64,
    highest_epoch: Epoch,
    /// For the proxy that was dialled last.
    dialer: Option<Dialer>,
    pub(crate) store: ChunkStore,
}

/// Bytes for chunks in a function of `memory_mb` MiB.
pub fn budget_bytes(memory_mb: u64) -> u64 {
    let all = memory_mb << 20;
    all.saturating_sub(RESERVE_BYTES.max(all / RESERVE_DIVISOR))
}

impl Instance {
    pub(crate) fn new(memory_mb: u64, speaks: Versions) -> Self {
        Self {
            speaks,
            id: InstanceId(random::random()),
            birth_unix_ms: clock::unix_ms(),
            highest_epoch: Epoch(0),
            dialer: None,
            store: ChunkStore::new(budget_bytes(memory_mb)),
        }
    }

    /// Meets an invocation's epoch. Below the highest one seen the proxy has
    /// been superseded and is refused; above it, what its predecessors left
    /// unfinished can never be finished and goes.
    pub(crate) fn admit(&mut self, epoch: Epoch) -> bool {
        if epoch < self.highest_epoch {
            return false;
        }
        if epoch > self.highest_epoch {
            self.highest_epoch = epoch;
            self.store.drop_unfinished_below(epoch);
        }
        true
    }

    pub(crate) fn speaks(&self) -> Versions {
        self.speaks
    }

    pub(crate) fn id(&self) -> InstanceId {
        self.id
    }

    pub(crate) fn highest_epoch(&self) -> Epoch {
        self.highest_epoch
    }

    /// Dials the proxy with this certificate; the same one as long as that is the
    /// same.
    pub(crate) fn dialer(&mut self, certificate: Fingerprint) -> io::Result<Dialer> {
        let known = self.dialer.take();
        let dialer = match known.filter(|d| d.fingerprint() == certificate) {
            Some(dialer) => dialer,
            None => Dialer::new(certificate)?,
        };
        self.dialer = Some(dialer.clone());
        Ok(dialer)
    }

    pub(crate) fn hello(&self, invocation: &Invocation) -> Hello {
        Hello {
            token: Token(invocation.token.0),
            instance: self.id,
            invocation: invocation.invocation,
            birth_unix_ms: self.birth_unix_ms,
            highest_epoch: self.highest_epoch,
            held: self.store.held(),
        }
    }

    pub(crate) fn report(&self, ending: Ending) -> Report {
        let held = self.store.held();
        Report {
            speaks: self.speaks,
            instance: self.id,
            birth_unix_ms: self.birth_unix_ms,
            highest_epoch: self.highest_epoch,
            held_bytes: held.bytes,
            budget_bytes: held.budget_bytes,
            chunks: held.chunks,
            ending,
        }
    }
}

#[cfg(test)]
mod tests {
    use scatterhoard_wire::SPOKEN;

    use super::*;

    #[test]
    fn the_budget_leaves_room_for_the_process() {
        assert_eq!(budget_bytes(128), 96 << 20);
        assert_eq!(budget_bytes(1536), (1536 << 20) - (1536 << 20) / 10);
        assert_eq!(budget_bytes(16), 0);
    }

    #[test]
    fn a_superseded_epoch_is_refused() {
        let mut instance = Instance::new(128, SPOKEN);
        assert!(instance.admit(Epoch(5)) && instance.admit(Epoch(5)));
        assert!(!instance.admit(Epoch(4)));
        assert_eq!(instance.report(Ending::StaleEpoch).highest_epoch, Epoch(5));
    }
}
