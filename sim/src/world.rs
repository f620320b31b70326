//! One run: clients, proxies that die, a platform that takes what it likes, and what
//! must be true all the time.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use rand::Rng;
use scatterhoard_judge::{
    bodies::Bodies,
    model::{Content, Ending, Key},
};
use scatterhoard_node::{clock, random};
use scatterhoard_proxy::{
    elastic::Which,
    journal::memory::MemoryDisk,
    keyspace::{KeyRef, Object},
    value::Value,
};
use scatterhoard_wire::{Epoch, SPOKEN};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use crate::{
    client,
    history::History,
    next_release,
    platform::{Faults, Platform},
    proxy::Proxy,
    scenario::Scenario,
};

/// How long things go wrong.
const TROUBLED: Duration = Duration::from_secs(240);
/// How long after that all must be well again.
const RECOVERS_WITHIN: Duration = Duration::from_secs(60);
/// And how long a read may be put off then, while the platform chooses among more
/// instances of a node than it runs at a time.
const MET_WITHIN: Duration = Duration::from_secs(30);
/// The date when every run begins.
const BEGINS: Duration = Duration::from_secs(1_600_000_000);
/// Nodes are added as long as there have been no more.
const MOST_NODES: usize = 16;
const FIRST_PORT: u16 = 10_000;

/// What came out of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What must not be, with what led to it.
    pub violations: Vec<String>,
    /// A number that stands for the whole history, and its events.
    pub fingerprint: (u64, u64),
    /// Reads that found nothing because too few chunks were left.
    pub lost: u64,
    /// Lives of proxies.
    pub lives: u64,
    /// Virtual time.
    pub took: Duration,
}

/// What all parts of a run share.
pub struct World {
    /// What the seed decided.
    pub scenario: Scenario,
    /// What happened.
    pub history: Rc<History>,
    /// What each key may hold.
    pub keys: RefCell<Vec<Key>>,
    /// The contents of values.
    pub bodies: Bodies,
    platform: Rc<Platform>,
    disk: Option<MemoryDisk>,
    proxy: RefCell<Option<Rc<Proxy>>>,
    /// Where keys were, when last seen in the index.
    seen: RefCell<BTreeMap<usize, Seen>>,
    violations: RefCell<Vec<String>>,
    lost: Cell<u64>,
    lives: Cell<u64>,
    over: Cell<bool>,
    /// Orders to add or drain nodes.
    orders: TaskTracker,
}

/// Runs one seed from its beginning to its end.
pub fn run(seed: u64, prints: bool) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    random::simulate(Some(seed));
    let report = LocalSet::new().block_on(&runtime, async {
        clock::simulate(Some(BEGINS));
        World::new(seed, prints)?.run().await
    });
    drop(runtime);
    clock::simulate(None);
    random::simulate(None);
    report
}

/// A key that was in the index.
#[derive(Clone)]
struct Seen {
    /// Whose chunks held its bytes.
    object: Arc<Object>,
    /// Which of them were certain to be met when it was first found gone.
    left: Option<BTreeMap<u8, Vec<String>>>,
}

impl World {
    fn new(seed: u64, prints: bool) -> anyhow::Result<Rc<Self>> {
        let scenario = Scenario::new(seed)?;
        let history = Rc::new(History::new(prints));
        history.add(format_args!("{scenario:?}"));
        let platform = Platform::new(scenario.platform, history.clone());
        platform.deploy([SPOKEN, next_release()]);
        Ok(Rc::new(Self {
            keys: RefCell::new((0..scenario.keys).map(Key::new).collect()),
            bodies: Bodies::new(scenario.largest.max(4_000), seed),
            platform,
            disk: scenario.has_journal.then(MemoryDisk::default),
            proxy: RefCell::default(),
            seen: RefCell::default(),
            violations: RefCell::default(),
            lost: Cell::new(0),
            lives: Cell::new(0),
            over: Cell::new(false),
            orders: TaskTracker::new(),
            scenario,
            history,
        }))
    }

    /// Virtual time since the beginning.
    pub fn now(&self) -> Duration {
        self.history.now()
    }

    /// Whether clients are to stop.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// The proxy that lives at present.
    pub fn proxy(&self) -> Option<Rc<Proxy>> {
        self.proxy.borrow().clone()
    }

    /// The key's name.
    pub fn name(&self, key: usize) -> Value {
        Value::from_segments(vec![Bytes::from(format!("key:{key}"))])
    }

    /// Something happened that must not; false.
    pub fn violated(&self, key: usize, what: &str) -> bool {
        self.history.add(format_args!("VIOLATED at {key}: {what}"));
        let mut violations = self.violations.borrow_mut();
        if violations.len() < 5 {
            violations.push(format!("{:.3?} key {key}: {what}", self.now()));
        }
        false
    }

    /// Remembers where the key's bytes are.
    pub fn observe(&self, key: usize) {
        let Some(proxy) = self.proxy() else { return };
        let name = format!("key:{key}");
        let key_ref = KeyRef {
            db: 0,
            key: name.as_bytes(),
        };
        let mut index = proxy.store().index();
        let found = index.peek(key_ref, clock::unix_ms());
        let source = found.map(|found| index.source(&found.object).0);
        drop(index);
        let mut seen = self.seen.borrow_mut();
        if let Some(object) = source {
            seen.insert(key, Seen { object, left: None });
        } else if let Some(gone) = seen.get_mut(&key)
            && gone.left.is_none()
        {
            gone.left = Some(self.reachable(&gone.object));
        }
    }

    /// Instances that are certain to be met, of those that hold chunks.
    fn reachable(&self, object: &Object) -> BTreeMap<u8, Vec<String>> {
        let at_once = 1 + usize::from(self.scenario.config.backup.standby);
        self.platform.reachable(object, at_once)
    }

    /// A key is missing that was stored: was it lost?
    pub fn missed(&self, key: usize) {
        let gone = self.seen.borrow().get(&key).cloned();
        let Some(Seen { object: seen, left }) = gone else {
            self.violated(key, "missed, and never seen in the index");
            return;
        };
        // what dies later makes others certain to be met, which then were not
        let alive = left.unwrap_or_else(|| self.reachable(&seen));
        self.history.add(format_args!(
            "missed {key}: {}, alive {alive:?}",
            seen.write_id
        ));
        for node in self
            .proxy()
            .iter()
            .flat_map(|p| p.store().pool().nodes().cloned())
        {
            let (absent, sought) = (node.absent_instances(), node.sought_instances(None));
            let rounds = node.rounds_ended();
            self.history.add(format_args!(
                "node {}: {absent} absent, {sought} sought, {rounds} rounds",
                node.id
            ));
        }
        let data = seen.layout.geometry().data();
        if alive.len() >= data {
            let what = format!(
                "missed, but chunks of {} can be reached, {data} needed: {alive:?}",
                seen.write_id
            );
            self.violated(key, &what);
        }
        self.lost.set(self.lost.get() + 1);
        // or it comes back, with an instance that was not there
        self.forget(key, Ending::Refused);
    }

    /// From now on the key is missing, or may be.
    fn forget(&self, key: usize, ending: Ending) {
        let mut keys = self.keys.borrow_mut();
        let version = keys[key].begin_write(Content::Nothing, self.now());
        keys[key].end_write(version, ending, self.now());
    }

    async fn run(self: Rc<Self>) -> anyhow::Result<Report> {
        let tasks = TaskTracker::new();
        let mut lives = Lives {
            last_epoch: Epoch(0),
            count: 0,
        };
        lives.begin(&self).await?;
        for index in 0..self.scenario.clients {
            tasks.spawn_local(client::work(self.clone(), index));
        }
        while self.now() < TROUBLED && self.violations.borrow().is_empty() {
            self.second(&mut lives).await?;
        }
        self.platform.set_faults(Faults::default());
        if let Some(disk) = &self.disk {
            disk.fill(false);
        }
        if self.violations.borrow().is_empty() {
            self.recover(&mut lives).await?;
        }
        self.over.set(true);
        tasks.close();
        tasks.wait().await;
        self.orders.close();
        self.orders.wait().await;
        if self.violations.borrow().is_empty() {
            self.read_all().await;
        }
        if let Some(proxy) = self.proxy.take() {
            proxy.kill(&self.platform, self.disk.as_ref(), false);
            proxy.bury().await;
        }
        let mut violations = self.violations.take();
        if let Some(first) = violations.first_mut() {
            let lines = self.history.about(&[String::new()], 60);
            *first = format!("{first}\n{}", lines.join("\n"));
        }
        Ok(Report {
            violations,
            fingerprint: self.history.fingerprint(),
            lost: self.lost.get(),
            lives: self.lives.get(),
            took: self.now(),
        })
    }

    /// One second of trouble.
    async fn second(self: &Rc<Self>, lives: &mut Lives) -> anyhow::Result<()> {
        let (trouble, mut rng) = (self.scenario.trouble, random::rng());
        sleep(Duration::from_millis(rng.random_range(500..1_500))).await;
        for key in 0..self.scenario.keys {
            self.observe(key);
        }
        self.platform.reclaim(trouble.reclaim, trouble.crash);
        if rng.random_bool(trouble.burst) {
            self.history.add("a burst");
            self.platform.reclaim(0.3, 0.3);
        }
        if rng.random_bool(trouble.functions) {
            let parity = self.scenario.config.geometry.full.parity();
            self.platform.take_functions(rng.random_range(1..=parity));
        }
        if rng.random_bool(trouble.strike) {
            self.platform.strike();
        }
        if rng.random_bool(trouble.invokes) {
            let mut share = || {
                if rng.random_bool(0.3) {
                    rng.random_range(0.0..1.0)
                } else {
                    0.0
                }
            };
            let faults = Faults {
                throttled: share(),
                failing: share(),
                disowned: share() / 4.0,
                unanswered: share() / 8.0,
            };
            self.platform.set_faults(faults);
        } else if rng.random_bool(0.1) {
            self.platform.set_faults(Faults::default());
        }
        // drawn only where there is any, as are the others' seconds
        if trouble.elastic > 0.0 && rng.random_bool(trouble.elastic) {
            self.change_pool();
        }
        if let Some(disk) = &self.disk {
            if rng.random_bool(trouble.full_disk) {
                self.history.add("the disk is full");
                disk.fill(true);
            } else if rng.random_bool(0.2) {
                disk.fill(false);
            }
        }
        // what was refused because the disk is full, and seen, would go with the proxy
        let refuses = self.proxy().is_some_and(|p| p.store().refusal().is_some());
        if rng.random_bool(trouble.death) && !refuses {
            lives.end(self).await?;
            sleep(Duration::from_millis(rng.random_range(0..5_000))).await;
        }
        if self.proxy.borrow().is_none() {
            lives.begin(self).await?;
        }
        Ok(())
    }

    /// Nodes are added, drained, or kept after all.
    fn change_pool(self: &Rc<Self>) {
        let Some(proxy) = self.proxy() else { return };
        let (world, mut rng) = (self.clone(), random::rng());
        let (what, count) = (rng.random_range(0..5), rng.random_range(1..4));
        self.orders.spawn_local(async move {
            let there = proxy.store().pool().states().len();
            let order = async {
                let done = match what {
                    0 | 1 if there < MOST_NODES => proxy
                        .elastic
                        .add(Which::Count(count))
                        .await
                        .map(|a| a.nodes),
                    4 => proxy.elastic.cancel(None).await,
                    _ => proxy.elastic.drain(Which::Count(count), what == 3).await,
                };
                let what = ["add", "add", "drain", "force", "cancel"][what];
                let done = done.map_err(|error| error.to_string());
                world.history.add(format_args!("{what} {count}: {done:?}"));
            };
            proxy.dead.run_until_cancelled(order).await;
        });
    }

    /// Nothing goes wrong any more: soon everything is answered.
    async fn recover(self: &Rc<Self>, lives: &mut Lives) -> anyhow::Result<()> {
        let end = Instant::now() + RECOVERS_WITHIN;
        self.history.add("all is well from now on");
        while Instant::now() < end {
            sleep(Duration::from_secs(1)).await;
            if self.proxy.borrow().is_none() {
                lives.begin(self).await?;
            }
        }
        if self.proxy.borrow().is_none() {
            self.violated(usize::MAX, "no proxy starts");
        }
        Ok(())
    }

    /// Enough chunks of a key are certain to be met.
    fn is_certain(&self, key: usize) -> bool {
        let seen = self.seen.borrow().get(&key).map(|s| Arc::clone(&s.object));
        let is_met =
            |object: Arc<Object>| self.reachable(&object).len() >= object.layout.geometry().data();
        seen.is_none_or(is_met)
    }

    async fn read_at_last(self: &Rc<Self>, key: usize) {
        let end = Instant::now() + MET_WITHIN;
        loop {
            // by where it lies now, and before its rounds change who is
            self.observe(key);
            let is_certain = self.is_certain(key);
            match client::get(self, key).await {
                client::Ended::Answered => return,
                // lost behind its first bytes: judged as a miss is
                client::Ended::BrokeOff => return self.missed(key),
                client::Ended::PutOff if !is_certain && Instant::now() < end => {
                    self.history.add(format_args!("put off {key}"));
                    sleep(Duration::from_secs(1)).await;
                }
                client::Ended::PutOff | client::Ended::Refused => {
                    self.violated(key, "cannot be read although all is well");
                    return;
                }
            }
        }
    }

    async fn read_all(self: &Rc<Self>) {
        for key in 0..self.scenario.keys {
            self.read_at_last(key).await;
        }
        if let Some(proxy) = self.proxy() {
            let (drains, without_room) = proxy.store().drains();
            if !drains.is_empty() {
                let what = format!("not drained although all is well: {drains:?} {without_room}");
                self.violated(usize::MAX, &what);
            }
            let states = proxy.store().pool().states();
            self.history.add(format_args!("in the end {states:?}"));
        }
        let (chunks, instances) = self.platform.census();
        self.history
            .add(format_args!("{chunks} chunks on {instances} instances"));
    }
}

/// The proxies of a run, one after the other.
struct Lives {
    last_epoch: Epoch,
    count: u16,
}

impl Lives {
    async fn begin(&mut self, world: &Rc<World>) -> anyhow::Result<()> {
        self.count += 1;
        let port = FIRST_PORT + self.count;
        let (config, disk) = (&world.scenario.config, world.disk.as_ref());
        let start = Proxy::start(config, &world.platform, disk, &mut self.last_epoch, port);
        let started = match start.await {
            Ok(started) => started,
            // a full disk
            Err(error) => {
                world.history.add(format_args!("no proxy: {error}"));
                None
            }
        };
        world.history.add(format_args!(
            "proxy {port} {}, epoch {}",
            if started.is_some() {
                "starts"
            } else {
                "finds no node"
            },
            self.last_epoch
        ));
        if started.is_some() {
            world.lives.set(world.lives.get() + 1);
        }
        *world.proxy.borrow_mut() = started.map(Rc::new);
        Ok(())
    }

    async fn end(&mut self, world: &Rc<World>) -> anyhow::Result<()> {
        let Some(proxy) = world.proxy.take() else {
            return Ok(());
        };
        let always =
            world.scenario.config.appendfsync == scatterhoard_proxy::journal::Fsync::Always;
        let machine = world.disk.is_none() || always && random::rng().random_bool(0.5);
        world
            .history
            .add(format_args!("proxy dies, machine too: {machine}"));
        proxy.kill(&world.platform, world.disk.as_ref(), machine);
        if world.disk.is_none() {
            let forget = |key| world.forget(key, Ending::Acknowledged);
            (0..world.scenario.keys).for_each(forget);
        }
        proxy.bury().await;
        Ok(())
    }
}

/// Runs a seed twice; fails if it is not the same history.
pub fn run_twice(seed: u64) -> anyhow::Result<Report> {
    let first = run(seed, false)?;
    let second = run(seed, false)?;
    (first == second)
        .then_some(first)
        .with_context(|| format!("seed {seed} gives two histories"))
}
