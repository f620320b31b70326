//! One node of the pool as the proxy sees it: life, link, bytes, garbage.
//! Everything here is quick and under one lock; what waits is in `pool`.

mod beside;
mod handover;
mod membership;
mod tick;
mod trouble;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use scatterhoard_wire::{
    InstanceId, InvocationId, NodeId, WriteId,
    invoke::Purpose,
    limits::DELETE_BATCH,
    message::{Held, Message},
};
use tokio::{sync::Notify, time::Instant};

use crate::clock;

use super::{
    account::Account,
    backup::Backup,
    bucket::{self, Bucket},
    doubt::Doubt,
    instances::{Instances, Meeting},
    latency::Latency,
    lifecycle::{Action, Event, Lifecycle, Phase},
    linger::Linger,
    link::Link,
    membership::State,
    outage::Trouble,
    placement::Candidate,
    platform::InvokeFailure,
};
pub use beside::Second;
pub(super) use beside::SecondAccess;
pub use handover::Succession;
pub(super) use handover::Swapped;

/// One function of the pool.
pub struct Node {
    /// Its number in the pool.
    pub id: NodeId,
    /// The function's name or ARN.
    pub function: String,
    /// Rung whenever a waiter for the link should look again.
    pub(super) changed: Notify,
    /// Chunks on their way to it.
    puts: AtomicUsize,
    inner: Mutex<Inner>,
}

/// A chunk is on its way to a node until this is dropped.
pub struct PutUnderWay<'a>(&'a Node);

impl Drop for PutUnderWay<'_> {
    fn drop(&mut self) {
        self.0.puts.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Inner {
    state: State,
    life: Lifecycle,
    linger: Linger,
    latency: Latency,
    instances: Instances,
    link: Option<Arc<Link>>,
    second: Option<Second>,
    backup: Backup,
    /// Invokes that the function may have.
    bucket: Bucket,
    /// When the present instance was started, by its own clock, in milliseconds
    /// since 1970; 0: unknown.
    birth_unix_ms: u64,
    /// The same of the other one, there or not.
    other_birth_unix_ms: u64,
    /// The instance that was told to go, and its invocation.
    retiring: Option<(InvocationId, InstanceId)>,
    /// Invoke calls that have not returned.
    calls: u32,
    /// Until then an instance may be at work for a predecessor.
    inherited_until: Option<Instant>,
    account: Account,
    garbage: Garbage,
    last_failure: Option<InvokeFailure>,
    /// Why it fails, if it does.
    trouble: Option<Trouble>,
    /// Whether it can be counted on.
    doubt: Doubt,
}

/// Write ids whose chunks the node may free. Bounded by the chunks it holds.
#[derive(Default)]
struct Garbage {
    /// Not told yet.
    open: Vec<WriteId>,
    /// Told on the link of this invocation, in order, not confirmed.
    told: VecDeque<Vec<WriteId>>,
    told_on: Option<InvocationId>,
    /// Up to where the given instance was told to drop everything.
    floor_told: Option<(InstanceId, WriteId)>,
}

impl Garbage {
    /// What was told on an earlier link and not confirmed is told again.
    fn begin_link(&mut self, invocation: Option<InvocationId>) {
        if !self.told.is_empty() {
            self.floor_told = None;
        }
        self.open.extend(self.told.drain(..).flatten());
        self.told_on = invocation;
    }
}

/// What an instance says of itself when it is met.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) instance: InstanceId,
    pub(super) birth_unix_ms: u64,
    pub(super) held: Held,
}

/// An instance of the node was met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contact {
    pub(super) meeting: Meeting,
    /// How long the node had been left alone before.
    pub(super) silence: Duration,
    /// How old the instance of the last time is, or would be.
    pub(super) age: Option<Duration>,
}

/// A look at a node, for metrics and the admin port.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its number.
    pub id: NodeId,
    /// Its function.
    pub function: String,
    /// Whether it is of the pool.
    pub state: State,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it holds, once known.
    pub held: Option<Held>,
    /// The instance that answered last.
    pub instance: Option<InstanceId>,
}

/// What a request finds when it asks for the link.
pub(super) enum Access {
    /// Here it is.
    Open(Arc<Link>),
    /// Wait for [`Node::changed`]; carry out the action first.
    Wait(Option<Action>),
    /// The function has had as many invokes as it may: not before then.
    Later(Instant),
    /// Not before the back-off is over.
    Unreachable(Option<InvokeFailure>),
    /// It is no more of the pool.
    Drained,
}

impl Node {
    pub(super) fn new(
        id: NodeId,
        function: String,
        state: State,
        life: Lifecycle,
        linger: Linger,
        backup: Backup,
        lost_after: u32,
    ) -> Self {
        let inner = Inner {
            state,
            life,
            linger,
            latency: Latency::default(),
            instances: Instances::new(lost_after, backup.has_standby()),
            link: None,
            second: None,
            backup,
            bucket: Bucket::new(bucket::Settings::default()),
            birth_unix_ms: 0,
            other_birth_unix_ms: 0,
            retiring: None,
            calls: 0,
            inherited_until: None,
            account: Account::default(),
            garbage: Garbage::default(),
            last_failure: None,
            trouble: None,
            doubt: Doubt::default(),
        };
        Self {
            id,
            function,
            changed: Notify::new(),
            puts: AtomicUsize::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// The link, or how to come by it: `wanted` says who wants it.
    pub(super) fn access(&self, wanted: Event, now: Instant) -> Access {
        let mut inner = self.inner.lock();
        if let Some(link) = inner.link.as_ref().filter(|l| !l.is_closed()) {
            return Access::Open(link.clone());
        }
        if !inner.state.is_member() {
            return Access::Drained;
        }
        if inner.life.would_invoke(now)
            && let Err(when) = inner.bucket.take(now)
        {
            return Access::Later(when);
        }
        let action = inner.life.step(wanted, now);
        if inner.life.is_unreachable(now) {
            return Access::Unreachable(inner.last_failure.clone());
        }
        Access::Wait(action)
    }

    /// Notes that a request wants the node.
    pub(super) fn requested(&self, now: Instant) {
        self.inner.lock().linger.requested(now);
    }

    /// A cell came so long after it was asked for.
    pub fn answered(&self, took: Duration) {
        let mut inner = self.inner.lock();
        inner.latency.observe(took);
        let is_linked = inner.link.is_some();
        inner.doubt.cell_came(is_linked);
    }

    /// What takes longer is out of the ordinary; none before the first answer.
    pub fn ordinary_latency(&self) -> Option<Duration> {
        self.inner.lock().latency.ordinary()
    }

    /// How long an invocation that begins now is held open when idle; long
    /// enough for another token, when there are few left.
    pub(super) fn hold(&self, now: Instant) -> Duration {
        let inner = self.inner.lock();
        let hold = inner.linger.hold();
        if inner.bucket.is_low(now) {
            hold.max(inner.bucket.every())
        } else {
            hold
        }
    }

    /// The open link, if there is one: no invoke, no waiting.
    pub fn open_link(&self) -> Option<Arc<Link>> {
        self.inner.lock().link.clone().filter(|l| !l.is_closed())
    }

    pub(super) fn step(&self, event: Event, now: Instant) -> Option<Action> {
        self.step_locked(self.inner.lock(), event, now)
    }

    fn step_locked(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        event: Event,
        now: Instant,
    ) -> Option<Action> {
        let before = (inner.life.phase(), inner.life.companion());
        let action = inner.life.step(event, now);
        inner.note_trouble(event, before.0);
        inner.note_doubt(event);
        if let Some(Action::Invoke(..)) = action {
            // one that cannot wait counts all the same
            let _ = inner.bucket.take(now);
        }
        inner.step_beside(event);
        match event {
            Event::Goodbye(id) | Event::LinkLost(id) if inner.is_linked(id) => inner.link = None,
            // over, whatever the connection pretends: a link that died
            // silently would otherwise be used until TCP gives it up
            Event::Returned(id, _) if inner.is_linked(id) => {
                if let Some(link) = inner.link.take() {
                    link.give_up();
                }
            }
            _ => {}
        }
        if let Event::LinkLost(id) = event
            && inner.garbage.told_on == Some(id)
        {
            inner.garbage.begin_link(None);
        }
        let is_same = before == (inner.life.phase(), inner.life.companion());
        drop(inner);
        if event != Event::Tick || !is_same {
            self.changed.notify_waiters();
        }
        action
    }

    /// A link was admitted: from now on requests find it. What may be freed is
    /// told first.
    pub(super) fn attach(&self, link: Arc<Link>, floor: WriteId) {
        let mut inner = self.inner.lock();
        if inner.life.invocation() != Some(link.invocation()) {
            link.give_up();
            return;
        }
        inner.garbage.begin_link(Some(link.invocation()));
        inner.link = Some(link.clone());
        inner.tell_garbage(&link, floor);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Notes what an invocation's report says, unless it is too late to matter.
    pub(super) fn reported(&self, invocation: InvocationId, about: About) -> Option<Contact> {
        let mut inner = self.inner.lock();
        let is_current = inner.life.invocation() == Some(invocation);
        if is_current && inner.instances.current() == Some(about.instance) {
            inner.account.report(about.held);
        }
        // who serves was met at the hello; pings have none
        let pinged = matches!(inner.life.phase(), Phase::Pinging { .. });
        (is_current && pinged).then(|| inner.meet(about))
    }

    /// Nothing is known of the node: ask it soon.
    pub(super) fn overdue(&self, now: Instant) {
        self.inner.lock().life.overdue(now);
    }

    /// Instances that did not answer lately, may come back, and may then hold what
    /// the present one does not.
    pub fn absent_instances(&self) -> usize {
        let inner = self.inner.lock();
        if inner.backup.has_standby() && !inner.backup.can_search() {
            return 0;
        }
        inner.instances.absent()
    }

    pub(super) fn met(&self, about: About) -> Contact {
        self.inner.lock().meet(about)
    }

    /// A chunk is on its way, until what is returned is dropped; it may pause between two
    /// windows.
    pub fn put_begins(&self) -> PutUnderWay<'_> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        PutUnderWay(self)
    }

    /// Whether any chunk is on its way.
    pub fn is_put_under_way(&self) -> bool {
        self.puts.load(Ordering::Relaxed) > 0
    }

    /// An invoke call begins.
    pub(super) fn call_begins(&self) {
        self.inner.lock().calls += 1;
    }

    /// It is over.
    pub(super) fn call_ended(&self) {
        self.inner.lock().calls -= 1;
    }

    /// Whether it fell asleep when this invocation returned.
    pub(super) fn sleeps_since(&self, invocation: InvocationId) -> bool {
        let inner = self.inner.lock();
        inner.life.phase() == Phase::Asleep && inner.life.last_main() == invocation
    }

    /// The node is left alone for so long from now on, if it sleeps.
    pub(super) fn leave_alone(&self, silence: Duration) {
        self.inner.lock().life.leave_alone(silence);
    }

    pub(super) fn failed(&self, failure: InvokeFailure) {
        self.inner.lock().last_failure = Some(failure);
    }

    /// The instance of this invocation said what it holds.
    pub(super) fn held(&self, invocation: InvocationId, held: Held) {
        let mut inner = self.inner.lock();
        if inner.is_linked(invocation) {
            inner.account.report(held);
        } else if let Some(second) = &mut inner.second
            && second.link.invocation() == invocation
        {
            second.held = held;
        }
    }

    pub(super) fn delete_confirmed(&self, invocation: InvocationId) {
        let mut inner = self.inner.lock();
        if inner.garbage.told_on == Some(invocation) {
            inner.garbage.told.pop_front();
        }
    }

    /// The object was superseded, deleted or given up: the node frees it when
    /// it is told, and its bytes count until it says so.
    pub fn discard(&self, write_id: WriteId) {
        let mut inner = self.inner.lock();
        // one that has gone is told nothing any more
        if inner.state.is_member() {
            inner.garbage.open.push(write_id);
        }
    }

    /// Tells the node what it may free. Order on the link makes room for any
    /// put that follows.
    pub(super) fn tell_garbage(&self, link: &Link, floor: WriteId) {
        let mut inner = self.inner.lock();
        if inner.is_linked(link.invocation()) {
            inner.tell_garbage(link, floor);
        }
    }

    /// The node as placement sees it.
    pub(super) fn candidate(&self, now: Instant) -> Candidate {
        let inner = self.inner.lock();
        Candidate {
            node: self.id,
            free_bytes: inner.account.free_bytes(),
            // a node that was never met has no budget that we know of
            reachable: inner.account.held().is_some() && !inner.life.is_unreachable(now),
            birth_unix_ms: inner.birth_unix_ms,
        }
    }

    /// Whether it takes chunks, and invoking it is expected to work.
    pub fn is_reachable(&self) -> bool {
        self.state().takes_chunks() && self.candidate(Instant::now()).reachable
    }

    /// Sets bytes aside for a chunk that it did not have so far, until the reservation
    /// is dropped.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut inner = self.inner.lock();
        let fits = inner.state.takes_chunks() && inner.account.reserve(bytes);
        drop(inner);
        fits.then(|| self.reserved(bytes))
    }

    /// The same for one that it should have.
    pub fn reserve_own(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let fits = self.inner.lock().account.reserve(bytes);
        fits.then(|| self.reserved(bytes))
    }

    fn reserved(self: &Arc<Self>, bytes: u64) -> Reservation {
        Reservation {
            node: self.clone(),
            bytes: AtomicU64::new(bytes),
        }
    }

    /// A look at the node.
    pub fn view(&self) -> NodeView {
        let inner = self.inner.lock();
        NodeView {
            id: self.id,
            function: self.function.clone(),
            state: inner.state,
            phase: inner.life.phase(),
            held: inner.account.held(),
            instance: inner.instances.current(),
        }
    }
}

impl Inner {
    /// Whatever another instance than the last one lacks has to be found out.
    fn meet(&mut self, about: About) -> Contact {
        self.account.report(about.held);
        let before = self.instances.lost();
        let meeting = self.instances.meet(about.instance);
        self.count_lost(before);
        self.doubt.met(meeting);
        // a round that woke it compares both instances anyhow
        let is_round = self.backup.is_running() && self.life.woken_for() == Purpose::Backup;
        if meeting == Meeting::Stranger || meeting == Meeting::Back && !is_round {
            self.backup.urge();
        }
        let birth = std::mem::replace(&mut self.birth_unix_ms, about.birth_unix_ms);
        if meeting == Meeting::Back {
            self.other_birth_unix_ms = birth;
        }
        Contact {
            meeting,
            silence: self.life.woken_after(),
            age: age(birth),
        }
    }

    fn count_lost(&self, before: u64) {
        let lost = self.instances.lost() - before;
        metrics::counter!("scatterhoard_instances_lost_total").increment(lost);
    }

    fn tell_garbage(&mut self, link: &Link, floor: WriteId) {
        let Some(instance) = self.instances.current() else {
            return;
        };
        let garbage = &mut self.garbage;
        let told = garbage
            .floor_told
            .filter(|(who, _)| *who == instance)
            .map(|(_, floor)| floor);
        if told.is_none_or(|told| told < floor) && link.precede(&Message::DeleteBelow(floor)) {
            garbage.floor_told = Some((instance, floor));
            garbage.told.push_back(Vec::new());
            garbage.open.retain(|id| *id >= floor);
        }
        while !garbage.open.is_empty() {
            let rest = garbage.open.len().saturating_sub(DELETE_BATCH);
            let batch = garbage.open.split_off(rest);
            if !link.precede(&Message::Delete(batch.clone())) {
                garbage.open.extend(batch);
                return;
            }
            garbage.told.push_back(batch);
        }
    }

    fn is_linked(&self, invocation: InvocationId) -> bool {
        self.link
            .as_ref()
            .is_some_and(|l| l.invocation() == invocation)
    }
}

/// How old an instance is that was started then, or would be.
fn age(birth_unix_ms: u64) -> Option<Duration> {
    let age_ms = clock::unix_ms().checked_sub(birth_unix_ms);
    age_ms
        .filter(|_| birth_unix_ms > 0)
        .map(Duration::from_millis)
}

/// Bytes set aside on a node for a chunk under way.
pub struct Reservation {
    node: Arc<Node>,
    bytes: AtomicU64,
}

impl Reservation {
    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The node has the chunk, and counts it itself now.
    pub fn settle(&self) {
        let bytes = self.release();
        self.node.inner.lock().backup.stored(bytes);
    }

    fn release(&self) -> u64 {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            self.node.inner.lock().account.release(bytes);
        }
        bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}
