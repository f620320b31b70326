//! The two instances of a node change places, and one of them goes for good.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use scatterhoard_wire::{InstanceId, InvocationId, WriteId, message::Message};

use super::{Inner, Link, Node, Reservation, Second, age};
use crate::pool::retire::Ages;

/// The two instances of a node have changed places.
pub(in crate::pool) struct Swapped {
    /// The link that serves now.
    pub(in crate::pool) main: Arc<Link>,
    /// Who served before.
    pub(in crate::pool) second: Second,
    /// Set aside for what only that one has.
    pub(in crate::pool) room: Succession,
}

/// Room on the instance that serves, for what only the former one has.
pub struct Succession(Reservation);

impl Succession {
    /// All that it lacks is known: makes the room as large as that, whether or not
    /// there is any. What is under way from now on goes to it.
    pub fn owe(&self, bytes: u64) {
        let room = &self.0;
        let mut inner = room.node.inner.lock();
        let more = bytes.saturating_sub(room.bytes.load(Ordering::Relaxed));
        inner.account.owe(more);
        room.bytes.fetch_add(more, Ordering::Relaxed);
        inner.account.succeeded();
    }

    /// A part of it; `None` if there is less.
    pub fn part(&self, bytes: u64) -> Option<Reservation> {
        let rest = |all: u64| all.checked_sub(bytes);
        let order = Ordering::Relaxed;
        self.0.bytes.fetch_update(order, order, rest).ok()?;
        Some(Reservation {
            node: self.0.node.clone(),
            bytes: AtomicU64::new(bytes),
        })
    }
}

impl Drop for Succession {
    fn drop(&mut self) {
        self.0.node.inner.lock().account.succeeded();
    }
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
        let room = Succession(Reservation {
            node: self.clone(),
            bytes: AtomicU64::new(bytes),
        });
        Some(Swapped { main, second, room })
    }

    /// The second instance, of this invocation, was told to end its process.
    pub(in crate::pool) fn retires(&self, instance: InstanceId, invocation: InvocationId) {
        self.inner.lock().retiring = Some((invocation, instance));
    }

    /// A second instance that holds nothing is told to end its process.
    pub(in crate::pool) fn send_away(&self, second: &Second) {
        self.retires(second.instance, second.link.invocation());
        // whether or not that reaches it, it is none that is looked for
        self.inner.lock().instances.forget(second.instance);
        second.link.send(&Message::Retire);
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
