//! Several servers that share the hash slots of a Redis Cluster. One that is alone
//! has them all: then there is no map, and everything goes to it.
//!
//! That there is a cluster is told by the servers: in the handshake, or by MOVED
//! and CROSSSLOT. Then CLUSTER SLOTS is asked for: by one for all who wait, and again
//! [`REFRESH_INTERVAL`] later at the earliest; in between, a MOVED changes the one slot.

mod route;
mod slots;
mod split;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use rand::seq::{IteratorRandom, SliceRandom};
use tokio::time::{Instant, sleep, timeout};

use self::slots::{MEMBERS, SlotMap};
pub(crate) use self::{
    route::Route,
    slots::{Address, slot_of},
    split::{Several, together},
};
use crate::{
    Client, Error,
    command::checked,
    connection::{
        member::{Common, Member},
        pool::Pool,
    },
    protocol::Request,
};

/// Between the end of one question for who has which slot and the next one.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Members that are asked for the map.
const ASKED: usize = 12;
/// So many of them at first, and as many more each time that nobody has told it for a while:
/// whoever hangs keeps his time, and nobody else from being asked.
const ASKED_AT_ONCE: usize = 3;
/// Of a request's time, until more are asked: all are, before it is over.
const PATIENCE_SHARE: u32 = 4;

/// The servers of a client.
pub(crate) struct Cluster {
    common: Common,
    /// The one that the client was made for.
    seed: Arc<Member>,
    state: RwLock<State>,
    /// Held by who brings the map.
    gate: tokio::sync::Mutex<()>,
    asked: Mutex<Asked>,
}

/// When the map was asked for.
#[derive(Clone, Copy, Default)]
struct Asked {
    last: Option<Instant>,
    /// So often there was an end to it, be it with a map or without one.
    times: u64,
}

impl Asked {
    fn is_due(&self, now: Instant) -> bool {
        let since = |at| now.saturating_duration_since(at);
        self.last.is_none_or(|at| since(at) >= REFRESH_INTERVAL)
    }
}

#[derive(Default)]
struct State {
    map: Option<SlotMap>,
    /// Those that have been asked for anything, at most [`MEMBERS`].
    members: HashMap<Address, Arc<Member>>,
    /// Of members that are none any more: as long as requests are under way there.
    retired: Vec<Weak<Pool>>,
}

impl Cluster {
    pub(crate) fn new(common: Common) -> Self {
        let seed = Arc::new(Member::new(&common, common.options.address()));
        Self {
            common,
            seed,
            state: RwLock::default(),
            gate: tokio::sync::Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// Whether there is a cluster, as far as anybody has told.
    pub(crate) fn is_cluster(&self) -> bool {
        self.common.is_cluster.load(Ordering::Relaxed)
    }

    /// There is one.
    fn is_one(&self) {
        self.common.is_cluster.store(true, Ordering::Relaxed);
    }

    /// Whether there is a cluster, and who has what is not known.
    pub(crate) fn lacks_map(&self) -> bool {
        self.is_cluster() && self.state.read().map.is_none()
    }

    /// Who has a slot; if that is not known, somebody who can tell.
    pub(crate) fn owner(&self, slot: Option<u16>) -> Arc<Member> {
        let address = {
            let state = self.state.read();
            let owner = slot.zip(state.map.as_ref());
            let owner = owner.and_then(|(slot, map)| map.owner(slot));
            match owner {
                None => return Arc::clone(&self.seed),
                Some(address) => match state.members.get(address) {
                    Some(member) => return Arc::clone(member),
                    None => address.clone(),
                },
            }
        };
        self.member(address)
            .unwrap_or_else(|| Arc::clone(&self.seed))
    }

    /// Who is at an address that a server has named, which was itself reached under
    /// the name `asked`.
    pub(crate) fn member_at(&self, address: &str, asked: &str) -> Option<Arc<Member>> {
        self.is_one();
        self.member(Address::parse(address, asked)?)
    }

    /// A slot has gone there.
    pub(crate) fn moved(&self, slot: u16, address: &str, asked: &str) -> Option<Arc<Member>> {
        self.is_one();
        let address = Address::parse(address, asked)?;
        if let Some(map) = &mut self.state.write().map {
            map.moved(slot, address.clone());
        }
        self.member(address)
    }

    /// None if there are too many.
    fn member(&self, address: Address) -> Option<Arc<Member>> {
        if address == self.seed.place.address {
            return Some(Arc::clone(&self.seed));
        }
        let members = &mut self.state.write().members;
        let is_full = members.len() >= MEMBERS;
        match members.get(&address) {
            Some(member) => Some(Arc::clone(member)),
            None if is_full => None,
            None => {
                let member = Arc::new(Member::new(&self.common, address.clone()));
                members.insert(address, Arc::clone(&member));
                Some(member)
            }
        }
    }

    /// Takes a new map. Who is not in it ends with what is under way there.
    fn install(&self, map: SlotMap) {
        let mut state = self.state.write();
        let State {
            members, retired, ..
        } = &mut *state;
        retired.retain(|pool| pool.strong_count() > 0);
        let gone = members.extract_if(|address, _| !map.addresses().contains(address));
        retired.extend(gone.map(|(_, member)| Arc::downgrade(&member.pool)));
        state.map = Some(map);
    }

    /// Who can tell the map: the first of all, and some of those that are known.
    fn who_knows(&self) -> Vec<Arc<Member>> {
        let first = &self.seed.place.address;
        let known: Vec<Address> = {
            let state = self.state.read();
            let all = state.map.as_ref().map(SlotMap::addresses);
            let others = all.unwrap_or_default().iter();
            let others = others.filter(|address| *address != first).cloned();
            let mut some = others.choose_multiple(&mut rand::rng(), ASKED - 1);
            some.shuffle(&mut rand::rng());
            some
        };
        let known = known.into_iter().filter_map(|address| self.member(address));
        [Arc::clone(&self.seed)].into_iter().chain(known).collect()
    }

    /// All connections for large values, those of former members included.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        let state = self.state.read();
        let members = state.members.values().chain([&self.seed]);
        let members = members.map(|member| Arc::clone(&member.pool));
        let retired = state.retired.iter().filter_map(Weak::upgrade);
        members.chain(retired).collect()
    }
}

impl Client {
    /// Brings the map, unless somebody has just tried. Who comes while it is asked for
    /// waits for that, and no longer.
    pub(crate) async fn refresh(&self) {
        let cluster = &self.inner.cluster;
        let times = cluster.asked.lock().times;
        let _one = cluster.gate.lock().await;
        let asked = *cluster.asked.lock();
        if asked.times != times || !asked.is_due(Instant::now()) {
            return;
        }
        // who gives up has asked, too
        cluster.asked.lock().last = Some(Instant::now());
        let limit = self.inner.options.request_timeout;
        let first = first_map(cluster.who_knows(), limit / PATIENCE_SHARE);
        match timeout(limit, first).await {
            Ok(Some(map)) => cluster.install(map),
            Ok(None) | Err(_) => tracing::debug!("no map of the cluster"),
        }
        let mut asked = cluster.asked.lock();
        asked.last = Some(Instant::now());
        asked.times += 1;
    }

    /// The same in the background.
    pub(crate) fn refresh_behind(&self) {
        let cluster = &self.inner.cluster;
        let is_idle = cluster.gate.try_lock().is_ok();
        let is_due = cluster.asked.lock().is_due(Instant::now());
        if is_idle && is_due && !self.inner.tasks.is_closed() {
            let client = self.clone();
            self.inner
                .tasks
                .spawn(async move { client.refresh().await });
        }
    }
}

/// The first one that any of them tells. A few are asked at the same time: who is gone is
/// followed by another at once, who hangs by some more after `patience`.
async fn first_map(members: Vec<Arc<Member>>, patience: Duration) -> Option<SlotMap> {
    let ask = |member: Arc<Member>| async move { map_of(&member).await };
    let mut members = members.into_iter();
    let mut asked = FuturesUnordered::new();
    asked.extend(members.by_ref().take(ASKED_AT_ONCE).map(ask));
    let mut more = pin!(sleep(patience));
    loop {
        tokio::select! {
            biased;
            told = asked.next() => match told? {
                Ok(map) => return Some(map),
                Err(error) => {
                    tracing::debug!(%error, "a member does not tell the map");
                    asked.extend(members.next().map(ask));
                }
            },
            () = &mut more, if members.len() > 0 => {
                asked.extend(members.by_ref().take(ASKED_AT_ONCE).map(ask));
                more.set(sleep(patience));
            }
        }
    }
}

async fn map_of(member: &Member) -> Result<SlotMap, Error> {
    let request = Request::new("CLUSTER").arg("SLOTS");
    let reply = checked(member.over_shared(&request).await?)?;
    SlotMap::parse(&reply, &member.place.address.host)
}
