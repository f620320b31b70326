//! Publish and subscribe: who gets what is published to which channel.

pub mod keyevents;
mod mailbox;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;

pub use keyevents::{Classes, KeyEvent, KeyEvents};
pub use mailbox::{Limits, Mailbox, Message, SharedLimits};

use crate::command::glob;

/// What a subscription names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// One channel.
    Channel,
    /// All channels that match a glob.
    Pattern,
    /// One channel of a shard.
    Shard,
}

/// By name, who subscribes, by number of its connection.
type Subscribers = BTreeMap<Bytes, BTreeMap<u64, Arc<Mailbox>>>;

/// All subscriptions.
#[derive(Default)]
pub struct Hub {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    channels: Subscribers,
    patterns: Subscribers,
    shards: Subscribers,
}

impl Tables {
    fn of(&mut self, topic: Topic) -> &mut Subscribers {
        match topic {
            Topic::Channel => &mut self.channels,
            Topic::Pattern => &mut self.patterns,
            Topic::Shard => &mut self.shards,
        }
    }
}

impl Hub {
    /// Sends a message to all who subscribe to this channel; to how many.
    pub fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let tables = self.tables.lock();
        let mut sent = 0;
        for mailbox in tables.channels.get(channel).into_iter().flatten() {
            mailbox.1.put(Message::Channel {
                channel: channel.clone(),
                payload: payload.clone(),
            });
            sent += 1;
        }
        for (pattern, subscribers) in &tables.patterns {
            if !glob::matches(pattern, channel) {
                continue;
            }
            for mailbox in subscribers.values() {
                mailbox.put(Message::Pattern {
                    pattern: pattern.clone(),
                    channel: channel.clone(),
                    payload: payload.clone(),
                });
                sent += 1;
            }
        }
        sent
    }

    /// The same of a channel of a shard, which no pattern matches.
    pub fn publish_to_shard(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let tables = self.tables.lock();
        let subscribers = tables.shards.get(channel);
        let mailboxes = subscribers.into_iter().flat_map(BTreeMap::values);
        let put = |mailbox: &Arc<Mailbox>| {
            mailbox.put(Message::Shard {
                channel: channel.clone(),
                payload: payload.clone(),
            });
        };
        mailboxes.map(put).count()
    }

    /// Names to which somebody subscribes, as far as they match the glob.
    pub fn active(&self, topic: Topic, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let mut tables = self.tables.lock();
        let fits = |name: &&Bytes| pattern.is_none_or(|p| glob::matches(p, name));
        tables.of(topic).keys().filter(fits).cloned().collect()
    }

    /// How many subscribe to this name.
    pub fn subscribers(&self, topic: Topic, name: &Bytes) -> usize {
        let mut tables = self.tables.lock();
        tables.of(topic).get(name).map_or(0, BTreeMap::len)
    }

    fn enter(&self, topic: Topic, name: &Bytes, id: u64, mailbox: &Arc<Mailbox>) {
        let mut tables = self.tables.lock();
        let subscribers = tables.of(topic).entry(name.clone()).or_default();
        subscribers.insert(id, mailbox.clone());
    }

    fn leave(&self, topic: Topic, name: &Bytes, id: u64) {
        let mut tables = self.tables.lock();
        let table = tables.of(topic);
        if let Some(subscribers) = table.get_mut(name) {
            subscribers.remove(&id);
            if subscribers.is_empty() {
                table.remove(name);
            }
        }
    }
}

/// What one connection subscribes to; nothing once it is dropped.
pub struct Subscriptions {
    hub: Arc<Hub>,
    id: u64,
    mailbox: Arc<Mailbox>,
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    shards: BTreeSet<Bytes>,
    /// What all names take.
    bytes: usize,
}

/// Subscriptions that one connection may have.
pub const MAX_SUBSCRIPTIONS: usize = 65_536;
/// Bytes that their names may have together.
pub const MAX_NAME_BYTES: usize = 16 << 20;

impl Subscriptions {
    /// None yet, of the connection of this number.
    pub fn new(hub: Arc<Hub>, id: u64, mailbox: Arc<Mailbox>) -> Self {
        Self {
            hub,
            id,
            mailbox,
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            shards: BTreeSet::new(),
            bytes: 0,
        }
    }

    fn of(&mut self, topic: Topic) -> &mut BTreeSet<Bytes> {
        match topic {
            Topic::Channel => &mut self.channels,
            Topic::Pattern => &mut self.patterns,
            Topic::Shard => &mut self.shards,
        }
    }

    /// How many there are, as the reply to a subscription counts them: channels and
    /// patterns together, channels of shards alone.
    pub fn count(&self, topic: Topic) -> usize {
        match topic {
            Topic::Channel | Topic::Pattern => self.channels.len() + self.patterns.len(),
            Topic::Shard => self.shards.len(),
        }
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        !(self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty())
    }

    /// What is subscribed to.
    pub fn names(&mut self, topic: Topic) -> Vec<Bytes> {
        self.of(topic).iter().cloned().collect()
    }

    /// How many channels, patterns and channels of shards there are.
    pub fn counts(&self) -> [usize; 3] {
        [self.channels.len(), self.patterns.len(), self.shards.len()]
    }

    /// Whether these names may come on top, should all of them be new.
    pub fn have_room_for(&self, names: &[Bytes]) -> bool {
        let [channels, patterns, shards] = self.counts();
        let bytes: usize = names.iter().map(Bytes::len).sum();
        channels + patterns + shards + names.len() <= MAX_SUBSCRIPTIONS
            && self.bytes + bytes <= MAX_NAME_BYTES
    }

    /// Subscribes to one more.
    pub fn add(&mut self, topic: Topic, name: &Bytes) {
        if self.of(topic).insert(name.clone()) {
            self.bytes += name.len();
            self.hub.enter(topic, name, self.id, &self.mailbox);
        }
    }

    /// Subscribes to one less.
    pub fn remove(&mut self, topic: Topic, name: &Bytes) {
        if self.of(topic).remove(name) {
            self.bytes -= name.len();
            self.hub.leave(topic, name, self.id);
        }
    }

    /// Subscribes to nothing.
    pub fn clear(&mut self) {
        for topic in [Topic::Channel, Topic::Pattern, Topic::Shard] {
            for name in std::mem::take(self.of(topic)) {
                self.hub.leave(topic, &name, self.id);
            }
        }
        self.bytes = 0;
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn name(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    #[test]
    fn who_subscribes_gets_it_and_nobody_else() {
        let hub = Arc::new(Hub::default());
        let mailbox = || Arc::new(Mailbox::new(Limits::default(), CancellationToken::new()));
        let (one, two) = (mailbox(), mailbox());
        let mut first = Subscriptions::new(hub.clone(), 1, one.clone());
        let mut second = Subscriptions::new(hub.clone(), 2, two.clone());
        first.add(Topic::Channel, &name("news"));
        first.add(Topic::Channel, &name("news"));
        first.add(Topic::Pattern, &name("n*"));
        second.add(Topic::Channel, &name("other"));
        second.add(Topic::Shard, &name("news"));
        assert_eq!(
            (first.count(Topic::Channel), second.count(Topic::Shard)),
            (2, 1)
        );
        assert_eq!(hub.publish(&name("news"), &name("x")), 2);
        assert!(matches!(one.take(), Some(Message::Channel { .. })));
        assert!(matches!(one.take(), Some(Message::Pattern { .. })));
        assert!(!two.has_any());
        assert_eq!(hub.publish_to_shard(&name("news"), &name("x")), 1);
        assert!(matches!(two.take(), Some(Message::Shard { .. })));
        assert_eq!(
            hub.active(Topic::Channel, None),
            [name("news"), name("other")]
        );
        assert_eq!(hub.active(Topic::Channel, Some(b"n*")), [name("news")]);

        first.remove(Topic::Channel, &name("news"));
        assert_eq!(hub.publish(&name("news"), &name("x")), 1);
        drop(first);
        assert_eq!(hub.publish(&name("news"), &name("x")), 0);
        assert_eq!(hub.subscribers(Topic::Channel, &name("other")), 1);
        drop(second);
        assert!(hub.active(Topic::Channel, None).is_empty());
    }

    #[test]
    fn a_connection_has_so_many_subscriptions_and_no_more() {
        let hub = Arc::new(Hub::default());
        let mailbox = Arc::new(Mailbox::new(Limits::default(), CancellationToken::new()));
        let mut all = Subscriptions::new(hub, 1, mailbox);
        let names: Vec<Bytes> = (0..MAX_SUBSCRIPTIONS)
            .map(|i| i.to_string().into())
            .collect();
        assert!(all.have_room_for(&names));
        // in no quadratic time
        names.iter().for_each(|n| all.add(Topic::Channel, n));
        assert!(!all.have_room_for(&[name("one")]));
        all.remove(Topic::Channel, &names[7]);
        assert!(all.have_room_for(&[name("one")]));
        all.clear();
        let long = Bytes::from(vec![b'x'; 1 << 16]);
        assert!(all.have_room_for(&vec![long.clone(); 256]));
        assert!(!all.have_room_for(&vec![long; 257]));
    }
}
