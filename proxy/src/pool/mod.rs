//! The pool: nodes, their lives and their links. It knows chunks and bytes, but
//! no keys and no RESP.
//!
//! `lifecycle`, `instances`, `backup`, `account` and `placement` decide; this
//! file, the `listener`, `requests` and `rounds` act on their decisions.

pub mod account;
pub mod autoscale;
pub mod backup;
pub mod breaker;
pub mod bucket;
mod doubt;
mod handover;
pub mod instances;
mod labels;
pub mod latency;
pub mod lifecycle;
pub mod linger;
pub mod link;
pub mod link_tls;
pub(crate) mod listener;
mod members;
pub mod membership;
pub mod node;
pub mod outage;
mod oversight;
pub mod placement;
pub mod platform;
pub mod requests;
pub mod retire;
pub mod rounds;
mod strangers;
pub mod warmth;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use scatterhoard_node::{
    conduit::Acceptor,
    random::{self, HashMap},
};
use scatterhoard_wire::{
    Epoch, InstanceId, InvocationId, NodeId, Token, Versions, WriteId,
    invoke::{Ending, Invocation, Purpose, Report},
    message::Held,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use backup::Backup;
use instances::Meeting;
use lifecycle::{Action, Event, Lifecycle, Outcome};
use link::Link;
pub use listener::Links;
use members::Seats;
pub use members::{Newcomer, function_name};
use membership::State;
use node::{About, Access, Contact, Node};
use outage::Outage;
use placement::Candidate;
use platform::{InvokeFailure, Platform};
use retire::Retirements;
use strangers::Strangers;
use warmth::Warmth;

/// How the pool is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Functions are named PREFIX-000, PREFIX-001 and so on, one node each.
    pub function_prefix: String,
    /// Which of them there are, by number.
    pub seats: Vec<State>,
    /// Where nodes dial, as they see it.
    pub link_address: SocketAddr,
    /// What links show to be TLS; none: plain text.
    pub link_tls: Option<Acceptor>,
    /// How long an idle invocation is held open.
    pub linger: linger::Settings,
    /// A link on which nothing comes for so long, although somebody waits, ends.
    pub patience: Duration,
    /// How long before its deadline an instance leaves.
    pub deadline_margin: Duration,
    /// An absent instance is lost after so many invokes that met another.
    pub lost_after: u32,
    /// When a node's instances are brought together.
    pub backup: backup::Settings,
    /// Times of the lifecycle.
    pub lifecycle: lifecycle::Settings,
    /// Bounds of the longest silence before a ping, and what it costs.
    pub warmth: warmth::Settings,
    /// At which age instances are replaced.
    pub retire: retire::Settings,
    /// Which versions of payloads and links it speaks.
    pub speaks: Versions,
}

/// What a survey of the pool found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Nodes that answered.
    pub answered: usize,
    /// The highest epoch that any of them has met.
    pub highest_epoch: Epoch,
    /// Why the first one that did not answer did not.
    pub failure: Option<String>,
}

/// Why a node cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    /// Invokes fail; it is tried again after a pause.
    #[error("node unreachable: {0}")]
    Unreachable(String),
    /// Its link ended at the wrong moment: ask again.
    #[error("link lost")]
    Interrupted,
    /// It did not get ready in time.
    #[error("node did not answer in time")]
    Deadline,
    /// The proxy is shutting down.
    #[error("shutting down")]
    Stopping,
    /// It is no more of the pool.
    #[error("node was drained")]
    Drained,
}

/// Nodes, and what drives them.
pub struct Pool {
    settings: Settings,
    seats: Seats,
    /// Rung when a node comes, goes, or is to go.
    membership: Notify,
    platform: Platform,
    epoch: AtomicU64,
    /// Who may dial: a token is taken out by the hello that uses it.
    tokens: Mutex<HashMap<Token, (NodeId, InvocationId)>>,
    /// Everything below is garbage, on whatever instance it turns up.
    floor: Mutex<WriteId>,
    /// What is known of how instances die.
    warmth: Mutex<Warmth>,
    /// Which instances went before the platform took them.
    retirements: Mutex<Retirements>,
    /// Rung when a round may be due before the next tick.
    rounds: Notify,
    /// Whose turn it is when several are due.
    next_round: AtomicUsize,
    superseded: watch::Sender<Option<Epoch>>,
    /// Whether most nodes fail.
    outage: Mutex<Outage>,
    strangers: Strangers,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How often the lives of all nodes are looked at.
pub const TICK: Duration = Duration::from_millis(250);
/// Rounds keep instances warm, too: a ping waits so much longer, in case one is
/// about to come.
pub const PING_SLACK: Duration = Duration::from_secs(2);

impl Pool {
    /// A pool whose nodes have not been invoked yet.
    pub fn new(settings: Settings, platform: Platform) -> Arc<Self> {
        let (count, seats) = (settings.seats.len(), settings.seats.clone());
        let pool = Self {
            seats: Seats::new(Vec::new()),
            membership: Notify::new(),
            warmth: Mutex::new(Warmth::new(settings.warmth)),
            retirements: Mutex::new(Retirements::new(settings.retire, count)),
            settings,
            platform,
            epoch: AtomicU64::new(0),
            tokens: Mutex::default(),
            floor: Mutex::new(WriteId {
                epoch: Epoch(0),
                counter: 0,
            }),
            rounds: Notify::new(),
            next_round: AtomicUsize::new(0),
            superseded: watch::Sender::new(None),
            outage: Mutex::default(),
            strangers: Strangers::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let now = Instant::now();
        let node = |(i, state): (usize, State)| {
            // pings and rounds of a pool are spread over their intervals
            let share = i as f64 / count.max(1) as f64;
            let ago = |interval: Duration| now.checked_sub(interval.mul_f64(share)).unwrap_or(now);
            let last_contact = ago(pool.settings.lifecycle.warm_interval);
            let last_round = ago(pool.settings.backup.interval);
            let id = NodeId(u16::try_from(i).unwrap_or(u16::MAX));
            pool.make_node(id, state, last_contact, last_round)
        };
        let nodes = seats.into_iter().enumerate().map(node).collect();
        Arc::new(Self {
            seats: Seats::new(nodes),
            ..pool
        })
    }

    fn make_node(
        &self,
        id: NodeId,
        state: State,
        last_contact: Instant,
        last_round: Instant,
    ) -> Arc<Node> {
        let settings = &self.settings;
        let life = Lifecycle::new(settings.lifecycle, last_contact);
        let backup = Backup::new(settings.backup, last_round);
        let linger = linger::Linger::new(settings.linger);
        let function = self.function_name(id);
        let lost_after = settings.lost_after;
        Arc::new(Node::new(
            id, function, state, life, linger, backup, lost_after,
        ))
    }

    /// Starts to accept links and to ping. `links` come from where nodes dial.
    pub fn start(self: &Arc<Self>, links: Links) {
        oversight::register_metrics();
        let pool = self.clone();
        self.tasks
            .spawn(async move { listener::accept(pool, links).await });
        let pool = self.clone();
        self.tasks.spawn(async move { pool.tick_for_ever().await });
    }

    /// Asks every node how it is, so that budgets and the highest epoch are
    /// known before the first write. Returns when all have answered, or `limit`
    /// is over.
    pub async fn survey(self: &Arc<Self>, limit: Duration) -> Survey {
        let end = Instant::now() + limit;
        let asked = self.members().map(|node| self.ask_how_it_is(node, end));
        let answers = futures_util::future::join_all(asked).await;
        let mut survey = Survey {
            answered: 0,
            highest_epoch: Epoch(0),
            failure: None,
        };
        for (node, answer) in self.members().zip(answers) {
            match answer {
                Ok(epoch) => {
                    survey.answered += 1;
                    survey.highest_epoch = survey.highest_epoch.max(epoch);
                }
                Err(failure) => {
                    tracing::warn!(node = %node.id, function = node.function, %failure, "node not reached");
                    survey.failure.get_or_insert_with(|| failure.advice());
                    node.failed(failure);
                    node.overdue(Instant::now());
                }
            }
        }
        survey
    }

    /// The function's instances were replaced: its node is asked soon how it is.
    pub fn look_soon(&self, function: &str) {
        let named = self.members().filter(|n| n.function == function);
        named.for_each(|node| node.overdue(Instant::now()));
    }

    /// The epoch that invocations carry from now on.
    pub fn reign(&self, epoch: Epoch) {
        self.epoch.store(epoch.0, Ordering::Release);
    }

    /// Every write id below `floor` is dead from now on.
    pub fn raise_floor(&self, floor: WriteId) {
        let mut current = self.floor.lock();
        *current = floor.max(*current);
        drop(current);
        for node in self.nodes() {
            if let Some(link) = node.open_link() {
                node.tell_garbage(&link, floor);
            }
        }
    }

    fn floor(&self) -> WriteId {
        *self.floor.lock()
    }

    /// The longest silence before a ping at present, and instances lost per second
    /// of their life.
    pub fn warmth(&self) -> (Duration, f64) {
        let warmth = self.warmth.lock();
        let interval = warmth.interval().min(warmth.longest(Instant::now()));
        (interval, warmth.hazard_per_s())
    }

    fn ping_slack(&self) -> Duration {
        if self.has_standbys() {
            PING_SLACK
        } else {
            Duration::ZERO
        }
    }

    fn has_standbys(&self) -> bool {
        self.settings.backup.standby
    }

    /// Every node that takes chunks, as placement sees it.
    pub fn candidates(&self) -> Vec<Candidate> {
        let now = Instant::now();
        self.active().map(|node| node.candidate(now)).collect()
    }

    /// Set when a node has met a higher epoch: another proxy owns the nodes.
    pub fn superseded(&self) -> watch::Receiver<Option<Epoch>> {
        self.superseded.subscribe()
    }

    /// The node's link, invoking it if need be, by `deadline` at the latest.
    pub async fn link(
        self: &Arc<Self>,
        node: &Arc<Node>,
        deadline: Instant,
    ) -> Result<Arc<Link>, NodeError> {
        node.requested(Instant::now());
        self.link_for(node, Event::Wanted, deadline).await
    }

    async fn link_for(
        self: &Arc<Self>,
        node: &Arc<Node>,
        wanted: Event,
        deadline: Instant,
    ) -> Result<Arc<Link>, NodeError> {
        loop {
            let changed = node.changed.notified();
            tokio::pin!(changed);
            // before looking, or a change in between would be missed
            changed.as_mut().enable();
            match node.access(wanted, Instant::now()) {
                Access::Open(link) => return Ok(link),
                Access::Unreachable(why) => {
                    let text = why.map_or_else(|| "no answer".into(), |w| w.to_string());
                    return Err(NodeError::Unreachable(text));
                }
                Access::Drained => return Err(NodeError::Drained),
                Access::Wait(_) | Access::Later(_) if self.stop.is_cancelled() => {
                    return Err(NodeError::Stopping);
                }
                Access::Wait(action) => self.act(node, action),
                Access::Later(when) if when < deadline => {
                    // somebody else may have it invoked before
                    let _ = tokio::time::timeout_at(when, changed).await;
                    continue;
                }
                Access::Later(_) => return Err(NodeError::Deadline),
            }
            tokio::time::timeout_at(deadline, changed)
                .await
                .map_err(|_| NodeError::Deadline)?;
        }
    }

    /// Asks every open link to return, waits for the invocations, at most
    /// `limit`. Waiters for links get [`NodeError::Stopping`].
    pub async fn shutdown(&self, limit: Duration) {
        self.stop();
        if tokio::time::timeout(limit, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = self.tasks.len(), "nodes did not return in time");
        }
    }

    /// Lets all nodes go and invokes none any more; does not wait for it.
    pub fn stop(&self) {
        self.stop.cancel();
        for node in self.nodes() {
            node.release();
            node.changed.notify_waiters();
        }
        self.tasks.close();
    }

    /// Whether it is to end, or has ended.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    async fn tick_for_ever(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
            let now = Instant::now();
            let longest = self.warmth.lock().longest(now) + self.ping_slack();
            for node in self.nodes() {
                let action = node.tick(longest, self.settings.patience, now);
                self.act(node, action);
            }
            self.oversee();
            self.resume_retirements();
        }
    }

    fn drive(self: &Arc<Self>, node: &Arc<Node>, event: Event) {
        let action = node.step(event, Instant::now());
        self.act(node, action);
    }

    fn act(self: &Arc<Self>, node: &Arc<Node>, action: Option<Action>) {
        match action {
            Some(Action::Invoke(id, purpose)) => self.invoke(node.clone(), id, purpose),
            // admitting and refusing is the listener's business
            Some(Action::Admit | Action::AdmitCompanion | Action::Refuse) | None => {}
        }
    }

    fn invocation(
        &self,
        node: &Node,
        invocation: InvocationId,
        purpose: Purpose,
        token: Token,
    ) -> Invocation {
        let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        let linger = match purpose {
            // until the round lets it go
            Purpose::Backup => node.hold(Instant::now()).max(rounds::PATIENCE),
            Purpose::Serve | Purpose::Warm => node.hold(Instant::now()),
        };
        Invocation {
            speaks: self.settings.speaks,
            purpose,
            proxy: self.settings.link_address,
            token,
            certificate: self.settings.link_tls.as_ref().map(Acceptor::fingerprint),
            node: node.id,
            invocation,
            epoch: Epoch(self.epoch.load(Ordering::Acquire)),
            linger_ms: millis(linger),
            deadline_margin_ms: millis(self.settings.deadline_margin),
        }
    }

    fn invoke(self: &Arc<Self>, node: Arc<Node>, id: InvocationId, purpose: Purpose) {
        if self.stop.is_cancelled() {
            return;
        }
        let token = Token(random::random());
        if purpose != Purpose::Warm {
            self.tokens.lock().insert(token, (node.id, id));
        }
        let invocation = self.invocation(&node, id, purpose, token);
        let pool = self.clone();
        node.call_begins();
        self.tasks.spawn(async move {
            let call = pool.platform.invoke(&node.function, &invocation);
            let result = call.await;
            node.call_ended();
            pool.tokens.lock().remove(&token);
            pool.returned(&node, id, purpose, result);
        });
    }

    fn returned(
        self: &Arc<Self>,
        node: &Arc<Node>,
        id: InvocationId,
        purpose: Purpose,
        result: Result<Report, InvokeFailure>,
    ) {
        let outcome = match result {
            // it went before it could report, as it was told to
            Err(InvokeFailure::Function(_)) if node.has_retired(id) => {
                metrics::counter!("scatterhoard_instances_retired_total").increment(1);
                count_invocation(purpose, "retired");
                tracing::info!(node = %node.id, invocation = %id, "instance has retired");
                self.rounds.notify_one();
                Outcome::Ok
            }
            Ok(report) => self.reported(node, id, purpose, &report),
            Err(failure) => {
                let error = failure.advice();
                tracing::info!(node = %node.id, invocation = %id, error, "invoke failed");
                count_invocation(purpose, failure.kind());
                let outcome = failure.outcome();
                node.failed(failure);
                outcome
            }
        };
        self.drive(node, Event::Returned(id, outcome));
        if node.sleeps_since(id) {
            let silence = self.warmth.lock().plan(Instant::now());
            node.leave_alone(silence + self.ping_slack());
        }
    }

    fn reported(
        self: &Arc<Self>,
        node: &Arc<Node>,
        id: InvocationId,
        purpose: Purpose,
        report: &Report,
    ) -> Outcome {
        if let Some(contact) = node.reported(id, about(report)) {
            self.met(node, report.instance, contact);
        }
        let failure = match report.ending {
            Ending::Pinged
            | Ending::Idle
            | Ending::Deadline
            | Ending::Released
            | Ending::Retired => None,
            Ending::LinkLost => Some("the link was lost"),
            Ending::Unreachable => Some("the node could not dial the proxy"),
            Ending::Rejected => Some("the node's hello was refused"),
            Ending::StaleEpoch => Some("the node serves a later proxy"),
            Ending::NoVersion => Some("the node knows none of the payload's versions"),
        };
        if report.ending == Ending::StaleEpoch {
            self.supersede(report.highest_epoch);
        }
        count_invocation(purpose, if failure.is_some() { "link" } else { "ok" });
        let Some(why) = failure else {
            return Outcome::Ok;
        };
        tracing::info!(node = %node.id, invocation = %id, why, "invocation ended early");
        node.failed(InvokeFailure::Link(why));
        Outcome::Failed
    }

    fn supersede(&self, epoch: Epoch) {
        if epoch.0 > self.epoch.load(Ordering::Acquire) {
            self.superseded.send_replace(Some(epoch));
        }
    }

    fn met(&self, node: &Node, instance: InstanceId, contact: Contact) {
        let Contact {
            meeting,
            silence,
            age,
        } = contact;
        if let Meeting::Same | Meeting::Stranger = meeting {
            // of one that is back nobody knows what became of the other
            let survived = meeting == Meeting::Same;
            let now = Instant::now();
            self.warmth.lock().contact(silence, age, survived, now);
        }
        match meeting {
            Meeting::First | Meeting::Same => return,
            Meeting::Stranger => {
                metrics::counter!("scatterhoard_instances_replaced_total").increment(1);
                tracing::info!(node = %node.id, %instance, "another instance answers");
            }
            Meeting::Back => {
                metrics::counter!("scatterhoard_instances_back_total").increment(1);
                tracing::info!(node = %node.id, %instance, "a known instance answers");
            }
        }
        self.rounds.notify_one();
    }
}

fn about(report: &Report) -> About {
    About {
        instance: report.instance,
        birth_unix_ms: report.birth_unix_ms,
        held: Held {
            bytes: report.held_bytes,
            budget_bytes: report.budget_bytes,
            chunks: report.chunks,
        },
    }
}

fn count_invocation(purpose: Purpose, outcome: &'static str) {
    metrics::counter!("scatterhoard_invocations_total", "purpose" => purpose.name(), "outcome" => outcome)
        .increment(1);
}
