//! A second invocation of the same function, beside the one that serves. While
//! that one keeps its instance busy, the platform must choose another: the
//! standby, or a new one if there is none.

use std::time::Duration;

use scatterhoard_wire::InvocationId;
use tokio::time::Instant;

/// Where the second invocation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Companion {
    /// There is none.
    #[default]
    None,
    /// Invoked; the hello has not come yet.
    Waking {
        /// The invocation.
        invocation: InvocationId,
        /// Give it up then.
        deadline: Instant,
    },
    /// Its link is open.
    Active {
        /// The invocation.
        invocation: InvocationId,
    },
    /// Its link is closed, the invoke has not returned yet.
    Returning {
        /// The invocation.
        invocation: InvocationId,
        /// Do not wait longer than that.
        deadline: Instant,
    },
}

impl Companion {
    /// The invocation under way, if there is one that was not given up.
    pub fn invocation(self) -> Option<InvocationId> {
        match self {
            Self::None => None,
            Self::Waking { invocation, .. }
            | Self::Active { invocation }
            | Self::Returning { invocation, .. } => Some(invocation),
        }
    }

    pub(super) fn hello(&mut self, id: InvocationId) -> bool {
        let expected = matches!(self, Self::Waking { invocation, .. } if *invocation == id);
        if expected {
            *self = Self::Active { invocation: id };
        }
        expected
    }

    /// Its link ended; says whether it was its.
    pub(super) fn unlinked(&mut self, id: InvocationId, now: Instant, limit: Duration) -> bool {
        let own = *self == Self::Active { invocation: id };
        if own {
            *self = Self::Returning {
                invocation: id,
                deadline: now + limit,
            };
        }
        own
    }

    /// The invoke returned; says whether it was its.
    pub(super) fn returned(&mut self, id: InvocationId) -> bool {
        let own = self.invocation() == Some(id);
        if own {
            *self = Self::None;
        }
        own
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if let Self::Waking { deadline, .. } | Self::Returning { deadline, .. } = *self
            && now >= deadline
        {
            *self = Self::None;
        }
    }
}
