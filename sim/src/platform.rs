//! A platform that runs functions as Lambda does: it chooses the instance, starts
//! new ones, freezes and takes them when it likes, and refuses now and then.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use rand::Rng;
use scatterhoard_node::{clock, embedded::Embedded, random};
use scatterhoard_proxy::{
    keyspace::Object,
    pool::platform::{Invoke, InvokeFailure, errors::Cause},
};
use scatterhoard_wire::{
    ChunkId, NodeId, SPOKEN, Versions,
    invoke::{Ending, Report},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    history::History,
    network::{Connection, Halves, Weather},
};

/// Which of several idle instances an invoke reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// The one that returned last, as observed on AWS.
    LatestFirst,
    /// The one that returned first.
    OldestFirst,
    /// Any.
    Random,
}

/// What does not change during a run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Memory of a function in MiB.
    pub memory_mb: u64,
    /// Who answers.
    pub routing: Routing,
    /// Share of the invokes that start an instance although one is idle.
    pub restless: f64,
    /// Time from an invoke to its function, and back.
    pub latency: Duration,
    /// Further time when an instance must be started.
    pub cold_start: Duration,
    /// Longest invocation.
    pub timeout: Duration,
    /// Idle instances are taken after so long.
    pub idle_timeout: Duration,
    /// Instances of a function at once.
    pub concurrency: usize,
    /// The network to the proxy.
    pub weather: Weather,
}

/// What goes wrong at present, as shares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Invokes refused for their number.
    pub throttled: f64,
    /// Invokes that fail before anything is run.
    pub failing: f64,
    /// Invokes that are carried out and answered with an error.
    pub disowned: f64,
    /// Answers that never come.
    pub unanswered: f64,
}

/// How long the SDK waits for an answer that never comes, here.
const UNANSWERED: Duration = Duration::from_secs(40);

/// How an instance ends, as its proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its connection ends.
    Heard,
    /// No packet says so.
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle(Instant),
    Busy,
    Dead,
}

/// One instance of a function.
pub struct Sandbox {
    name: String,
    node: Embedded,
    state: Cell<State>,
    dead: CancellationToken,
    /// Its processes stand still.
    is_stopped: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    connection: RefCell<Option<Connection>>,
}

impl Sandbox {
    /// Runs a future, but not while stopped.
    async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            match self.is_stopped.get() {
                true => Poll::Pending,
                false => work.as_mut().poll(cx),
            }
        })
        .await
    }
}

/// Where the proxies of a run listen, by port.
type Doors = BTreeMap<u16, mpsc::Sender<Halves>>;

/// All functions.
pub struct Platform {
    settings: Settings,
    faults: Cell<Faults>,
    functions: RefCell<BTreeMap<String, Vec<Rc<Sandbox>>>>,
    doors: RefCell<Doors>,
    started: Cell<u64>,
    /// What instances speak that are started in turn.
    code: Cell<[Versions; 2]>,
    history: Rc<History>,
    tasks: TaskTracker,
}

impl Platform {
    /// A platform on which every function exists that is invoked.
    pub fn new(settings: Settings, history: Rc<History>) -> Rc<Self> {
        Rc::new(Self {
            settings,
            faults: Cell::default(),
            functions: RefCell::default(),
            doors: RefCell::default(),
            started: Cell::new(0),
            code: Cell::new([SPOKEN; 2]),
            history,
            tasks: TaskTracker::new(),
        })
    }

    /// Instances that are started from now on speak these, in turn.
    pub fn deploy(&self, code: [Versions; 2]) {
        self.code.set(code);
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.history.add(format_args!("platform {faults:?}"));
        self.faults.set(faults);
    }

    /// A proxy listens at this port; what it invokes comes through `invokes`.
    pub fn attach(
        self: &Rc<Self>,
        port: u16,
        door: mpsc::Sender<Halves>,
        mut invokes: mpsc::Receiver<Invoke>,
    ) {
        self.doors.borrow_mut().insert(port, door);
        let platform = self.clone();
        self.tasks.spawn_local(async move {
            while let Some(invoke) = invokes.recv().await {
                if !platform.doors.borrow().contains_key(&port) {
                    return;
                }
                let owner = platform.clone();
                platform
                    .tasks
                    .spawn_local(async move { owner.invoked(invoke).await });
            }
        });
    }

    /// The proxy at this port is dead: nothing it does reaches anybody.
    pub fn detach(&self, port: u16, how: Death) {
        self.doors.borrow_mut().remove(&port);
        for sandbox in self.all() {
            if let Some(connection) = sandbox.connection.borrow_mut().take() {
                match how {
                    Death::Heard => connection.reset(),
                    Death::Silent => connection.cut(),
                }
            }
        }
    }

    /// Every living instance.
    fn all(&self) -> Vec<Rc<Sandbox>> {
        let functions = self.functions.borrow();
        functions.values().flatten().cloned().collect()
    }

    async fn invoked(self: Rc<Self>, invoke: Invoke) {
        let (settings, faults) = (self.settings, self.faults.get());
        let mut rng = random::rng();
        let Invoke {
            function,
            invocation,
            answer,
        } = invoke;
        sleep(settings.latency.mul_f64(rng.random_range(0.5..1.5))).await;
        if rng.random_bool(faults.throttled) {
            let _ = answer.send(Err(InvokeFailure::refused(
                Cause::FunctionRate,
                "rate exceeded",
            )));
            return;
        }
        if rng.random_bool(faults.failing) {
            let _ = answer.send(Err(InvokeFailure::refused(Cause::Service, "no")));
            return;
        }
        let (sandbox, is_new) = match self.choose(&function) {
            Some(chosen) => chosen,
            None => {
                let _ = answer.send(Err(InvokeFailure::refused(
                    Cause::FunctionConcurrency,
                    "concurrency",
                )));
                return;
            }
        };
        self.history.add(format_args!(
            "invoke {} {} by {} as {}{}",
            sandbox.name,
            invocation.invocation,
            invocation.proxy.port(),
            invocation.purpose.name(),
            if is_new { ", cold" } else { "" },
        ));
        let mut answer = Some(answer);
        if rng.random_bool(faults.disowned)
            && let Some(answer) = answer.take()
        {
            let _ = answer.send(Err(InvokeFailure::refused(Cause::Service, "who knows")));
        }
        if is_new {
            sleep(settings.cold_start.mul_f64(rng.random_range(0.5..1.5))).await;
        }
        let result = self.clone().run(&sandbox, &invocation).await;
        self.history.add(format_args!(
            "return {} {} {:?}",
            sandbox.name,
            invocation.invocation,
            result.as_ref().map(|report| report.ending)
        ));
        sleep(settings.latency.mul_f64(rng.random_range(0.5..1.5))).await;
        let Some(answer) = answer else { return };
        if rng.random_bool(faults.unanswered) {
            sleep(UNANSWERED).await;
            return;
        }
        let _ = answer.send(result);
    }

    /// The instance that an invoke reaches, and whether it was started for it.
    fn choose(&self, function: &str) -> Option<(Rc<Sandbox>, bool)> {
        let mut rng = random::rng();
        let mut functions = self.functions.borrow_mut();
        let sandboxes = functions.entry(function.to_owned()).or_default();
        let since = |sandbox: &Rc<Sandbox>| match sandbox.state.get() {
            State::Idle(since) => Some((since, sandbox.clone())),
            State::Busy | State::Dead => None,
        };
        let mut idle: Vec<(Instant, Rc<Sandbox>)> = sandboxes.iter().filter_map(since).collect();
        idle.sort_by_key(|(since, _)| *since);
        let place = match self.settings.routing {
            Routing::LatestFirst => idle.len().checked_sub(1),
            Routing::OldestFirst => (!idle.is_empty()).then_some(0),
            Routing::Random => (!idle.is_empty()).then(|| rng.random_range(0..idle.len())),
        };
        let may_start = sandboxes.len() < self.settings.concurrency;
        if let Some(place) = place
            && !(may_start && rng.random_bool(self.settings.restless))
        {
            let sandbox = idle.swap_remove(place).1;
            sandbox.state.set(State::Busy);
            return Some((sandbox, false));
        }
        if !may_start {
            return None;
        }
        self.started.set(self.started.get() + 1);
        let [odd, even] = self.code.get();
        let speaks = if self.started.get() % 2 == 1 {
            odd
        } else {
            even
        };
        let short = function.rsplit('-').next().unwrap_or_default();
        let sandbox = Rc::new(Sandbox {
            name: format!("{short}/{}", self.started.get()),
            node: Embedded::new(self.settings.memory_mb, speaks),
            state: Cell::new(State::Busy),
            dead: CancellationToken::new(),
            is_stopped: Cell::new(false),
            waker: RefCell::default(),
            connection: RefCell::default(),
        });
        sandboxes.push(sandbox.clone());
        Some((sandbox, true))
    }

    async fn run(
        self: Rc<Self>,
        sandbox: &Rc<Sandbox>,
        invocation: &scatterhoard_wire::invoke::Invocation,
    ) -> Result<Report, InvokeFailure> {
        let timeout = self.settings.timeout;
        let end = Instant::now() + timeout;
        let deadline_unix_ms = clock::unix_ms() + timeout.as_millis() as u64;
        let dial = async || self.dial(sandbox, invocation.proxy).await;
        let work = sandbox.node.invoke(invocation, deadline_unix_ms, dial);
        let report = tokio::select! {
            biased;
            () = sandbox.dead.cancelled() => {
                return Err(InvokeFailure::Function("it was killed".into()));
            }
            report = sandbox.run(work) => report,
            () = sleep_until(end) => {
                self.kill(sandbox, Death::Heard);
                return Err(InvokeFailure::Function("it timed out".into()));
            }
        };
        *sandbox.connection.borrow_mut() = None;
        if report.ending == Ending::Retired {
            self.kill(sandbox, Death::Heard);
            return Err(InvokeFailure::Function("its process ended".into()));
        }
        if sandbox.state.get() == State::Busy {
            sandbox.state.set(State::Idle(Instant::now()));
        }
        Ok(report)
    }

    async fn dial(&self, sandbox: &Rc<Sandbox>, proxy: SocketAddr) -> io::Result<Halves> {
        sleep(self.settings.weather.latency * 2).await;
        let door = self.doors.borrow().get(&proxy.port()).cloned();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let door = door.ok_or_else(refused)?;
        let (connection, near, far) = Connection::new(self.settings.weather);
        *sandbox.connection.borrow_mut() = Some(connection);
        door.send(far).await.map_err(|_| refused())?;
        Ok(near)
    }

    fn kill(&self, sandbox: &Sandbox, how: Death) {
        if sandbox.state.get() == State::Dead {
            return;
        }
        self.history.add(format_args!(
            "{} dies {:?}, {how:?}",
            sandbox.name,
            sandbox.state.get() == State::Busy
        ));
        sandbox.state.set(State::Dead);
        if let (Death::Silent, Some(connection)) = (how, &*sandbox.connection.borrow()) {
            connection.cut();
        }
        sandbox.dead.cancel();
        for sandboxes in self.functions.borrow_mut().values_mut() {
            sandboxes.retain(|s| s.state.get() != State::Dead);
        }
    }

    /// Takes each instance with this chance, by whether it is busy, and those that
    /// were idle too long.
    pub fn reclaim(&self, idle: f64, busy: f64) {
        let mut rng = random::rng();
        for sandbox in self.all() {
            let taken = match sandbox.state.get() {
                State::Idle(since) => {
                    since.elapsed() > self.settings.idle_timeout || rng.random_bool(idle)
                }
                State::Busy => rng.random_bool(busy),
                State::Dead => false,
            };
            if taken {
                let how = match rng.random_bool(0.5) {
                    true => Death::Heard,
                    false => Death::Silent,
                };
                self.kill(&sandbox, how);
            }
        }
    }

    /// Takes all instances of so many functions.
    pub fn take_functions(&self, count: usize) {
        let names: Vec<String> = self.functions.borrow().keys().cloned().collect();
        let mut rng = random::rng();
        for _ in 0..count {
            let name = &names[rng.random_range(0..names.len())];
            let doomed = self.functions.borrow().get(name).cloned();
            for sandbox in doomed.into_iter().flatten() {
                self.kill(&sandbox, Death::Silent);
            }
        }
    }

    /// Something happens to the connection, or the processes, of one busy instance.
    pub fn strike(self: &Rc<Self>) {
        let mut rng = random::rng();
        let busy: Vec<Rc<Sandbox>> = self
            .all()
            .into_iter()
            .filter(|s| s.state.get() == State::Busy)
            .collect();
        if busy.is_empty() {
            return;
        }
        let sandbox = busy[rng.random_range(0..busy.len())].clone();
        let connection = sandbox.connection.borrow().clone();
        match (rng.random_range(0..4), connection) {
            (0, Some(connection)) => {
                self.history
                    .add(format_args!("{} is cut off", sandbox.name));
                connection.cut();
            }
            (1, Some(connection)) => {
                self.history.add(format_args!("{} is reset", sandbox.name));
                connection.reset();
            }
            (2, Some(connection)) => {
                let by = Duration::from_millis(rng.random_range(100..8_000));
                self.history
                    .add(format_args!("{} is late by {by:?}", sandbox.name));
                connection.delay(by);
            }
            _ => {
                let by = Duration::from_millis(rng.random_range(100..15_000));
                self.history
                    .add(format_args!("{} stands still for {by:?}", sandbox.name));
                sandbox.is_stopped.set(true);
                self.tasks.spawn_local(async move {
                    sleep(by).await;
                    sandbox.is_stopped.set(false);
                    sandbox.waker.take().into_iter().for_each(Waker::wake);
                });
            }
        }
    }

    /// Different chunks of an object that the proxy can reach where the index has
    /// placed them, and who holds them: in whichever way the platform chooses
    /// `at_once` instances of the function, one that is well has the chunk.
    pub fn reachable(&self, object: &Object, at_once: usize) -> BTreeMap<u8, Vec<String>> {
        let mut found: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for (name, sandboxes) in &*self.functions.borrow() {
            let node = name.rsplit('-').next().and_then(|n| n.parse().ok());
            let node = node.map(NodeId);
            let is_of_it = |id: &ChunkId| {
                id.write_id == object.write_id && object.node(usize::from(id.index)) == node
            };
            let mut holders: BTreeMap<u8, Vec<String>> = BTreeMap::new();
            for sandbox in sandboxes.iter().filter(|s| !s.is_stopped.get()) {
                let chunks = sandbox.node.chunks();
                for id in chunks.iter().map(|c| c.id).filter(is_of_it) {
                    holders
                        .entry(id.index)
                        .or_default()
                        .push(sandbox.name.clone());
                }
            }
            holders.retain(|_, who| who.len() + at_once > sandboxes.len());
            for (index, who) in holders {
                found.entry(index).or_default().extend(who);
            }
        }
        found
    }

    /// What each living instance holds, by its name: the number of its function,
    /// and its own.
    pub fn holdings(&self) -> BTreeMap<String, Vec<ChunkId>> {
        let ids = |s: &Sandbox| s.node.chunks().iter().map(|c| c.id).collect();
        let holding = |s: &Rc<Sandbox>| (s.name.clone(), ids(s));
        self.all().iter().map(holding).collect()
    }

    /// Chunks and living instances in all.
    pub fn census(&self) -> (usize, usize) {
        let all = self.all();
        (all.iter().map(|s| s.node.chunks().len()).sum(), all.len())
    }
}
