//! Several servers that share the hash slots of a Redis Cluster. One that is alone
//! has them all: then there is no map, and everything goes to it.
//!
//! That there is a cluster is told by the servers: in the handshake, or by MOVED
//! and CROSSSLOT. Then CLUSTER SLOTS is asked for: by one at a time, and at most
//! once in [`REFRESH_INTERVAL`]; in between, a MOVED changes the one slot.

mod route;
mod slots;
mod split;

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt, future::select_ok};
use parking_lot::{Mutex, RwLock};
use rand::seq::IteratorRandom;
use tokio::time::Instant;

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

/// How often, at most, who has which slot is asked for.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Members that are asked for the map, besides the one that the client was made for.
const ASKED: usize = 2;

/// The servers of a client.
pub(crate) struct Cluster {
    common: Common,
    /// The one that the client was made for.
    seed: Arc<Member>,
    state: RwLock<State>,
    /// Held by who brings the map.
    gate: tokio::sync::Mutex<()>,
    asked: Mutex<Option<Instant>>,
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

    /// Whether the map may be asked for now; then it counts as asked for.
    fn may_ask(&self, now: Instant) -> bool {
        let mut asked = self.asked.lock();
        let is_due = asked.is_none_or(|at| now.duration_since(at) >= REFRESH_INTERVAL);
        if is_due {
            *asked = Some(now);
        }
        is_due
    }

    /// Who can tell the map: some of those that are known, and the first of all.
    fn who_knows(&self) -> Vec<Arc<Member>> {
        let first = &self.seed.place.address;
        let known: Vec<Address> = {
            let state = self.state.read();
            let all = state.map.as_ref().map(SlotMap::addresses);
            let others = all.unwrap_or_default().iter();
            let others = others.filter(|address| *address != first).cloned();
            others.choose_multiple(&mut rand::rng(), ASKED)
        };
        let known = known.into_iter().filter_map(|address| self.member(address));
        known.chain([Arc::clone(&self.seed)]).collect()
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
    /// Brings the map, unless somebody has just tried.
    pub(crate) async fn refresh(&self) {
        let cluster = &self.inner.cluster;
        // who waited finds that it was asked for, and goes on
        let _one = cluster.gate.lock().await;
        if !cluster.may_ask(Instant::now()) {
            return;
        }
        // all at once: one that is gone keeps nobody waiting
        let asked = cluster.who_knows().into_iter();
        let asked = asked.map(|member| async move { map_of(&member).await }.boxed());
        match select_ok(asked).await {
            Ok((map, _)) => cluster.install(map),
            Err(error) => tracing::debug!(%error, "no map of the cluster"),
        }
    }

    /// The same in the background.
    pub(crate) fn refresh_behind(&self) {
        let cluster = &self.inner.cluster;
        let is_idle = cluster.gate.try_lock().is_ok();
        let asked = *cluster.asked.lock();
        let is_due = asked.is_none_or(|at| at.elapsed() >= REFRESH_INTERVAL);
        if is_idle && is_due && !self.inner.tasks.is_closed() {
            let client = self.clone();
            self.inner
                .tasks
                .spawn(async move { client.refresh().await });
        }
    }
}

async fn map_of(member: &Member) -> Result<SlotMap, Error> {
    let request = Request::new("CLUSTER").arg("SLOTS");
    let reply = checked(member.over_shared(&request).await?)?;
    SlotMap::parse(&reply, &member.place.address.host)
}
