//! The two instances of a node change places, and one of them goes for good.

use std::sync::{Arc, atomic::AtomicU64};

use scatterhoard_wire::{InstanceId, InvocationId, WriteId};

use super::{Inner, Link, Node, Reservation, Second, age};
use crate::pool::retire::Ages;

/// The two instances of a node have changed places.
pub(in crate::pool) struct Swapped {
    /// The link that serves now.
    pub(in crate::pool) main: Arc<Link>,
    /// Who served before.
    pub(in crate::pool) second: Second,
    /// Set aside for what only that one has.
    pub(in crate::pool) room: Reservation,
}

impl Node {
    /// How old its two instances are, if both say so.
    pub(in crate::pool) fn ages(&self) -> Option<Ages> {
        let inner = self.inner.lock();
        let second = inner.second.as_ref()?;
        Some(Ages {
            main: age(inner.birth_unix_ms)?,
            second: age(second.birth_unix_ms)?,
        })
    }

    /// Who answers at the end of the second link serves from now on, and who
    /// served on this one is the second. `None`: one of the links has ended.
    pub(in crate::pool) fn swap(self: &Arc<Self>, main: &Link, floor: WriteId) -> Option<Swapped> {
        let mut inner = self.inner.lock();
        let is_linked = inner.is_linked(main.invocation());
        let swapped = is_linked.then(|| inner.swap(floor)).flatten();
        drop(inner);
        self.changed.notify_waiters();
        let (main, second, bytes) = swapped?;
        let room = Reservation {
            node: self.clone(),
            bytes: AtomicU64::new(bytes),
        };
        Some(Swapped { main, second, room })
    }

    /// The second instance, of this invocation, was told to end its process.
    pub(in crate::pool) fn retires(&self, instance: InstanceId, invocation: InvocationId) {
        self.inner.lock().retiring = Some((invocation, instance));
    }

    /// This invocation ended without a report; whether that was the end of an
    /// instance that was told to go. A round is due then.
    pub(in crate::pool) fn has_retired(&self, invocation: InvocationId) -> bool {
        let mut inner = self.inner.lock();
        let retired = inner.retiring.take_if(|(id, _)| *id == invocation);
        if let Some((_, instance)) = retired {
            inner.instances.forget(instance);
            inner.other_birth_unix_ms = 0;
            inner.backup.urge();
        }
        retired.is_some()
    }
}

impl Inner {
    fn swap(&mut self, floor: WriteId) -> Option<(Arc<Link>, Second, u64)> {
        let is_open = |link: &Arc<Link>| !link.is_closed();
        let link = self.link.clone().filter(is_open)?;
        let second = self.second.clone().filter(|s| is_open(&s.link))?;
        let (instance, held) = (self.instances.current()?, self.account.held()?);
        if !self.life.swap() {
            return None;
        }
        let birth_unix_ms = std::mem::replace(&mut self.birth_unix_ms, second.birth_unix_ms);
        self.other_birth_unix_ms = birth_unix_ms;
        self.instances.meet(second.instance);
        let room = self.account.succeed(second.held);
        self.garbage.begin_link(Some(second.link.invocation()));
        self.link = Some(second.link.clone());
        self.tell_garbage(&second.link, floor);
        let other = Second {
            link,
            instance,
            birth_unix_ms,
            held,
        };
        self.second = Some(other.clone());
        Some((second.link, other, room))
    }
}
