//! The connections there are, for CLIENT LIST and INFO, and what each has set
//! for itself.

mod filter;
mod info;
mod lookout;
mod pause;
mod strangers;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use scatterhoard_node::random::HashMap;
use tokio_util::sync::CancellationToken;

pub use filter::Filter;
pub use info::{ClientInfo, Kind};
pub use lookout::Lookout;
pub use pause::{Pause, Paused};
pub use strangers::{STRANGER_LIMIT, Stranger, Strangers};

use crate::{
    acl::User,
    command::{CommandError, connection::Consent},
    monitor::{Monitoring, Shown},
    pubsub::{Hub, Mailbox, Subscriptions},
    resp::Protocol,
    room::Room,
    store::{Key, TrackingEntry, Watch, WriteError, Written},
    tracking::Wish,
    value::Value,
};

/// A connection that came in.
pub struct Arrival {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Where it came to.
    pub local: SocketAddr,
    /// The number of its socket.
    pub descriptor: i32,
    /// Ends it.
    pub end: CancellationToken,
}

struct Known {
    info: Arc<Mutex<ClientInfo>>,
    mailbox: Weak<Mailbox>,
    end: CancellationToken,
}

type Table = Mutex<BTreeMap<u64, Known>>;

/// All connections. Cheap to clone.
#[derive(Clone, Default)]
pub struct Clients {
    table: Arc<Table>,
    last_id: Arc<AtomicU64>,
    /// Those that have not said who they are.
    pub strangers: Strangers,
    /// Whether their commands wait.
    pub pause: Arc<Pause>,
    /// What keeps a worker awake between requests that follow each other closely.
    pub lookout: Arc<Lookout>,
}

/// One connection's entry; gone when dropped.
pub struct Entry {
    id: u64,
    info: Arc<Mutex<ClientInfo>>,
    table: Arc<Table>,
}

/// Whether replies are held back (CLIENT REPLY).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Silence {
    /// No.
    #[default]
    None,
    /// All of them.
    Always,
    /// That of this command and of the next.
    ThisAndNext,
    /// That of this command.
    This,
}

/// A value on nodes that no key names yet, or why it is not there; `None` once taken.
pub type Upload = Option<Result<Written, WriteError>>;

/// What a connection has set for itself, and what it has under way.
pub struct Client {
    /// Selected database.
    pub db: u8,
    /// RESP version of replies.
    pub protocol: Protocol,
    /// Whether it gets replies.
    pub silence: Silence,
    /// Values of the present request, or of all that are queued, that went to nodes
    /// while they arrived.
    pub uploads: Vec<Upload>,
    /// Whether the last request was carried out, not refused.
    pub carried_out: bool,
    /// Why the present request is refused, if that was found out before its end.
    pub refusal: Option<CommandError>,
    /// What is queued since MULTI.
    pub queue: Option<Queue>,
    /// What it subscribes to.
    pub subscriptions: Subscriptions,
    /// What EXEC depends on.
    pub watches: HashMap<Key, Watch>,
    /// What it wants to be told of keys that change.
    pub tracking: Option<Tracked>,
    /// Keys that the present request reads are tracked: that they change is told behind
    /// its reply.
    pub has_remembered: bool,
    /// It is told of all commands.
    pub monitoring: Option<Monitoring>,
    /// What those who are told of all commands are to be told of the present request.
    pub shown: Option<Box<Shown>>,
    /// Where it finds its messages.
    pub mailbox: Arc<Mailbox>,
    /// Who it is; nobody as long as it has not said a password.
    pub user: Option<Arc<User>>,
    /// Whether it came by TLS.
    pub by_tls: bool,
    /// Its entry among the connections.
    pub entry: Entry,
}

/// CLIENT TRACKING.
pub struct Tracked {
    /// What is wanted.
    pub wish: Wish,
    /// Of which reads.
    pub consent: Consent,
    /// CLIENT CACHING was said before the present command.
    pub caching: bool,
    /// The connection that is told instead, or 0.
    pub redirect: u64,
    /// Wanted until dropped.
    pub registration: TrackingEntry,
}

/// Requests that wait for EXEC.
pub struct Queue {
    /// In order.
    pub requests: Vec<Vec<Value>>,
    /// Something could not be queued: EXEC is to refuse.
    pub has_failed: bool,
    /// Room for them, among what all clients have queued.
    pub room: Room,
}

impl Client {
    /// A connection that has set nothing yet, and finds its messages here.
    pub fn new(
        entry: Entry,
        user: Option<Arc<User>>,
        hub: &Arc<Hub>,
        mailbox: &Arc<Mailbox>,
    ) -> Self {
        Self {
            user,
            db: 0,
            protocol: Protocol::Resp2,
            silence: Silence::None,
            uploads: Vec::new(),
            refusal: None,
            carried_out: false,
            subscriptions: Subscriptions::new(hub.clone(), entry.id(), mailbox.clone()),
            queue: None,
            watches: HashMap::default(),
            tracking: None,
            has_remembered: false,
            monitoring: None,
            shown: None,
            mailbox: mailbox.clone(),
            by_tls: false,
            entry,
        }
    }

    /// Who it is from now on.
    pub fn is_now(&mut self, user: Option<Arc<User>>) {
        let name = user.as_ref().map_or("default", |user| &user.name[..]);
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.entry.update(|c| c.user = name);
        self.user = user;
    }

    /// What it has set is made known to others.
    pub fn show(&self) {
        let subscriptions = self.subscriptions.counts();
        let tracking = self.tracking.as_ref();
        let tracking = tracking.map(|t| (t.redirect, t.wish.broadcast, t.registration.is_broken()));
        let is_monitor = self.monitoring.is_some();
        let queued = self.queue.as_ref();
        let queued = queued.map(|queue| (queue.requests.len(), queue.room.used() as usize));
        self.entry.update(|c| {
            c.subscriptions = subscriptions;
            c.queued = queued;
            c.tracking = tracking;
            c.is_monitor = is_monitor;
        });
    }

    /// RESET: as if new.
    pub fn reset(&mut self) {
        self.queue = None;
        self.subscriptions.clear();
        self.watches.clear();
        self.tracking = None;
        self.monitoring = None;
        self.uploads.clear();
        self.db = 0;
        self.protocol = Protocol::Resp2;
        self.silence = Silence::None;
        self.entry.update(|c| {
            c.db = 0;
            c.resp = 2;
            c.name = Bytes::new();
            c.is_kept = false;
        });
    }
}

impl Clients {
    /// Adds a connection.
    pub fn enter(&self, arrival: Arrival) -> Entry {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let info = ClientInfo::new(arrival.peer, arrival.local, arrival.descriptor);
        let info = Arc::new(Mutex::new(info));
        let known = Known {
            info: info.clone(),
            mailbox: Weak::new(),
            end: arrival.end,
        };
        self.table.lock().insert(id, known);
        Entry {
            id,
            info,
            table: self.table.clone(),
        }
    }

    /// Where a connection finds its messages.
    pub fn mailbox(&self, id: u64) -> Option<Arc<Mailbox>> {
        self.table.lock().get(&id)?.mailbox.upgrade()
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// CLIENT LIST's lines: of these ids, or of all if there are none, as far as
    /// they are of this kind.
    pub fn lines(&self, mut ids: Vec<u64>, kind: Option<Kind>) -> String {
        ids.sort_unstable();
        ids.dedup();
        let table = self.table.lock();
        let line = |(id, known): (&u64, &Known)| {
            // ended: it goes as soon as it notices
            if known.end.is_cancelled() {
                return None;
            }
            let info = known.info.lock();
            let is_meant = kind.is_none_or(|kind| kind == info.kind());
            is_meant.then(|| info.line(*id))
        };
        if ids.is_empty() {
            return table.iter().filter_map(line).collect();
        }
        let named = ids.iter().filter_map(|id| table.get_key_value(id));
        named.filter_map(line).collect()
    }

    /// Ends all of them.
    pub fn end_all(&self) {
        let table = self.table.lock();
        table.values().for_each(|known| known.end.cancel());
    }

    /// Ends the connections that this means, but that of who asks; how many it
    /// means, and whether that one is among them.
    pub fn kill(&self, filter: &Filter, mine: u64) -> (usize, bool) {
        let (mut count, mut me_too) = (0, false);
        for (id, known) in self.table.lock().iter() {
            let is_there = !known.end.is_cancelled();
            if !is_there || !filter.fits(*id, mine, &known.info.lock()) {
                continue;
            }
            count += 1;
            match *id == mine {
                true => me_too = true,
                false => known.end.cancel(),
            }
        }
        (count, me_too)
    }

    /// Ends connections that have asked for nothing for so long. Subscribers and
    /// monitors may.
    pub fn end_idle(&self, longest: Duration) -> usize {
        let mut count = 0;
        for known in self.table.lock().values() {
            let info = known.info.lock();
            let idle = info.idle_since.map(|since| since.elapsed());
            let is_idle = idle.is_some_and(|idle| idle > longest);
            let is_told = info.is_monitor || info.kind() != Kind::Normal;
            if is_idle && !is_told && !known.end.is_cancelled() {
                known.end.cancel();
                count += 1;
            }
        }
        count
    }
}

impl Entry {
    /// The connection finds its messages there.
    pub fn finds_messages(&self, mailbox: &Arc<Mailbox>) {
        if let Some(known) = self.table.lock().get_mut(&self.id) {
            known.mailbox = Arc::downgrade(mailbox);
        }
    }

    /// The connection's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it comes from.
    pub fn peer(&self) -> SocketAddr {
        self.info.lock().peer
    }

    /// Its name, empty if it has none.
    pub fn name(&self) -> Bytes {
        self.info.lock().name.clone()
    }

    /// Its line in CLIENT LIST.
    pub fn line(&self) -> String {
        self.info.lock().line(self.id)
    }

    /// Changes what is known.
    pub fn update(&self, change: impl FnOnce(&mut ClientInfo)) {
        change(&mut self.info.lock());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(port: u16) -> Arrival {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Arrival {
            peer: address(port),
            local: address(6379),
            descriptor: 1,
            end: CancellationToken::new(),
        }
    }

    #[test]
    fn who_was_ended_is_there_no_longer() {
        let clients = Clients::default();
        let [one, two, three] = [1, 2, 3].map(arrival);
        let ends = [&one, &two, &three].map(|a| a.end.clone());
        let entries = [one, two, three].map(|a| clients.enter(a));
        let all = Filter::default();
        let mine = entries[0].id();
        let by_id = Filter {
            id: Some(entries[1].id()),
            ..Filter::default()
        };
        assert_eq!(clients.kill(&by_id, mine), (1, false));
        assert_eq!(clients.kill(&by_id, mine), (0, false));
        assert!(ends[1].is_cancelled() && !ends[2].is_cancelled());
        assert_eq!(clients.lines(Vec::new(), None).lines().count(), 2);
        assert_eq!(clients.kill(&all, mine), (2, true));
        assert!(!ends[0].is_cancelled() && ends[2].is_cancelled());
        let ids = entries.iter().map(Entry::id).collect();
        assert_eq!(clients.lines(ids, Some(Kind::Normal)).lines().count(), 1);
    }

    #[test]
    fn only_who_is_waited_for_is_idle() {
        let clients = Clients::default();
        let [idle, busy, subscriber, monitor] = [1, 2, 3, 4].map(arrival);
        let ends = [&idle, &busy, &subscriber, &monitor].map(|a| a.end.clone());
        let entries = [idle, busy, subscriber, monitor].map(|a| clients.enter(a));
        let long_ago = std::time::Instant::now() - Duration::from_secs(10);
        entries[0].update(|c| c.idle_since = Some(long_ago));
        entries[2].update(|c| {
            c.idle_since = Some(long_ago);
            c.subscriptions = [1, 0, 0];
        });
        entries[3].update(|c| {
            c.idle_since = Some(long_ago);
            c.is_monitor = true;
        });
        assert_eq!(clients.end_idle(Duration::from_secs(20)), 0);
        assert_eq!(clients.end_idle(Duration::from_secs(5)), 1);
        assert_eq!(
            ends.map(|end| end.is_cancelled()),
            [true, false, false, false]
        );
        assert_eq!(clients.end_idle(Duration::from_secs(5)), 0);
    }
}
