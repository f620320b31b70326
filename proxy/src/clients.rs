//! The connections there are, for CLIENT LIST and INFO, and what each has set
//! for itself.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    acl::User,
    command::CommandError,
    pubsub::{Hub, Mailbox, Subscriptions},
    resp::Protocol,
    store::{Watch, WriteError, Written},
    value::Value,
};

/// What is known of one connection.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// CLIENT SETNAME.
    pub name: Bytes,
    /// CLIENT SETINFO lib-name.
    pub lib_name: Bytes,
    /// CLIENT SETINFO lib-ver.
    pub lib_ver: Bytes,
    /// Selected database.
    pub db: u8,
    /// RESP version.
    pub resp: u8,
    /// Since when.
    pub since: Instant,
}

type Table = Mutex<BTreeMap<u64, Arc<Mutex<ClientInfo>>>>;

/// All connections. Cheap to clone.
#[derive(Clone, Default)]
pub struct Clients {
    table: Arc<Table>,
    last_id: Arc<AtomicU64>,
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
    /// Why the present request is refused, if that was found out before its end.
    pub refusal: Option<CommandError>,
    /// What is queued since MULTI.
    pub queue: Option<Queue>,
    /// What it subscribes to.
    pub subscriptions: Subscriptions,
    /// What EXEC depends on.
    pub watches: Vec<Watch>,
    /// Who it is; nobody as long as it has not said a password.
    pub user: Option<Arc<User>>,
    /// Its entry among the connections.
    pub entry: Entry,
}

/// Requests that wait for EXEC.
#[derive(Default)]
pub struct Queue {
    /// In order.
    pub requests: Vec<Vec<Value>>,
    /// Something could not be queued: EXEC is to refuse.
    pub has_failed: bool,
    /// Room for them, among what all clients have queued.
    pub room: Vec<OwnedSemaphorePermit>,
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
            subscriptions: Subscriptions::new(hub.clone(), entry.id(), mailbox.clone()),
            queue: None,
            watches: Vec::new(),
            entry,
        }
    }

    /// RESET: as if new.
    pub fn reset(&mut self) {
        self.queue = None;
        self.subscriptions.clear();
        self.watches.clear();
        self.uploads.clear();
        self.db = 0;
        self.protocol = Protocol::Resp2;
        self.silence = Silence::None;
        self.entry.update(|c| {
            c.db = 0;
            c.resp = 2;
            c.name = Bytes::new();
        });
    }
}

impl Clients {
    /// Adds a connection.
    pub fn enter(&self, peer: SocketAddr) -> Entry {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let info = Arc::new(Mutex::new(ClientInfo {
            peer,
            name: Bytes::new(),
            lib_name: Bytes::new(),
            lib_ver: Bytes::new(),
            db: 0,
            resp: 2,
            since: Instant::now(),
        }));
        self.table.lock().insert(id, info.clone());
        Entry {
            id,
            info,
            table: self.table.clone(),
        }
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// CLIENT LIST's lines: of these ids, or of all if there are none.
    pub fn lines(&self, ids: &[u64]) -> String {
        let table = self.table.lock();
        let shown = table
            .iter()
            .filter(|(id, _)| ids.is_empty() || ids.contains(id));
        shown.map(|(id, info)| line(*id, &info.lock())).collect()
    }
}

impl Entry {
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
        line(self.id, &self.info.lock())
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

fn line(id: u64, info: &ClientInfo) -> String {
    let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
    format!(
        "id={id} addr={} name={} age={} db={} flags=N resp={} lib-name={} lib-ver={}\n",
        info.peer,
        text(&info.name),
        info.since.elapsed().as_secs(),
        info.db,
        info.resp,
        text(&info.lib_name),
        text(&info.lib_ver),
    )
}
