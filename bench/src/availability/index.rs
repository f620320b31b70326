//! A pool whose capacity is what its nodes hold: the proxy's own index says what
//! is stored, and its eviction makes room, as `store/write` has it.

use std::collections::HashSet;
use std::sync::Arc;

use rand::rngs::SmallRng;
use scatterhoard_proxy::keyspace::eviction::freeing;
use scatterhoard_proxy::keyspace::{
    Condition, EvictionPolicy, KeyRef, Keyspace, NewExpiry, Object as Entry,
};
use scatterhoard_proxy::pool::lifecycle::{Event, Outcome};
use scatterhoard_proxy::pool::placement::{PlacementError, place, shortfall};
use scatterhoard_wire::geometry::GeometryPolicy;
use scatterhoard_wire::{Epoch, Geometry, Layout, NodeId, WriteId};

use super::bill::Purpose;
use super::node::Us;
use super::population::Step;
use super::settings::{Settings, micros};
use super::sim::{HOUR, Sim};

/// As often a write looks for room: `store/write`.
const ROOM_ATTEMPTS: usize = 8;

/// What keys there are, and what they may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys<'a> {
    /// The key of each object of the script: another version is another object.
    pub(crate) of: &'a [u32],
    /// What a node takes.
    pub(crate) node_budget_bytes: u64,
    /// Larger objects are not stored.
    pub(crate) max_object_bytes: u64,
}

pub(super) struct Index<'a> {
    keyspace: Keyspace,
    layouts: Option<GeometryPolicy>,
    keys: Keys<'a>,
    /// The object of each write, from the first on.
    written: Vec<u32>,
    /// Objects that were given up since their last write.
    dropped: HashSet<u32>,
    hour: Us,
}

impl<'a> Index<'a> {
    pub(super) fn new(settings: &Settings, keys: Keys<'a>) -> Self {
        let number = |n: usize| u8::try_from(n).ok();
        let full = number(settings.data).zip(number(settings.parity));
        let full = full.and_then(|(d, p)| Geometry::new(d, p).ok());
        Self {
            keyspace: Keyspace::default(),
            layouts: full.map(GeometryPolicy::with_full),
            keys,
            written: Vec::new(),
            dropped: HashSet::new(),
            hour: 0,
        }
    }

    /// How an object of this size is cut; none if it is not stored at all.
    pub(super) fn layout(&self, bytes: u64) -> Option<Layout> {
        let is_small_enough = bytes <= self.keys.max_object_bytes;
        let layout = self.layouts.filter(|_| is_small_enough)?.layout(bytes);
        let fits = |l: &Layout| l.accounted_bytes() <= self.keys.node_budget_bytes;
        layout.ok().filter(fits)
    }
}

/// A key's name.
fn name(key: u32) -> [u8; 4] {
    key.to_be_bytes()
}

fn key(name: &[u8; 4]) -> KeyRef<'_> {
    KeyRef { db: 0, key: name }
}

impl Sim<'_> {
    /// A GET or SET of the trace.
    pub(super) fn request(&mut self, step: &Step, now: Us) {
        self.uses += 1;
        self.count_held(now);
        for &victim in &step.evicted {
            self.forget_ghost(victim);
        }
        if step.is_set {
            return self.write(step.object, now);
        }
        let tally = &mut self.run.tally;
        tally.gets += 1.0;
        tally.lru_hits += f64::from(u8::from(step.is_hit));
        let hour = self.hour(now);
        hour.gets += 1.0;
        hour.hits += f64::from(u8::from(step.is_hit));
        if self.finds(step.object) {
            if !self.objects[step.object as usize].is_lost {
                return self.serve_read(step.object, now);
            }
            self.reset(now);
        } else if step.is_hit && self.was_dropped(step.object) {
            self.reset(now);
        }
        self.write(step.object, now);
    }

    fn reset(&mut self, now: Us) {
        self.run.tally.resets += 1.0;
        self.hour(now).hits_lost += 1.0;
    }

    /// Whether the key names this very object. Counts as a use.
    fn finds(&mut self, object: u32) -> bool {
        let write = self.objects[object as usize].write;
        let Some(index) = &mut self.index else {
            return false;
        };
        let name = name(index.keys.of[object as usize]);
        let found = index.keyspace.get(key(&name), 1);
        found.is_some_and(|f| Some(f.object.write_id.counter) == write)
    }

    fn was_dropped(&self, object: u32) -> bool {
        let index = self.index.as_ref();
        index.is_some_and(|i| i.dropped.contains(&object))
    }

    fn serve_read(&mut self, object: u32, now: Us) {
        let (bytes, chunk_bytes) = (self.size(object), self.chunk_bytes(object));
        let stored = &mut self.objects[object as usize];
        stored.last_use = self.uses;
        let (need, nodes) = (stored.need, stored.nodes.clone());
        let has = |n: &u16| {
            let mut stock = self.nodes[usize::from(*n)].stock.iter();
            stock.any(|c| c.object == object && c.on != 0)
        };
        let readers: Vec<u16> = nodes.into_iter().filter(has).take(need).collect();
        let busy = self.settings.stream(chunk_bytes, bytes, bytes);
        for n in readers {
            self.serve(usize::from(n), busy, now);
        }
        let tally = &mut self.run.tally;
        tally.hits += 1.0;
        tally.read_bytes += bytes as f64;
        self.passes(bytes, bytes, now);
    }

    /// What is not there is fetched from its origin, by the client, and stored.
    fn write(&mut self, object: u32, now: Us) {
        let Some(index) = &mut self.index else {
            return;
        };
        let name = name(index.keys.of[object as usize]);
        index.keyspace.remove(key(&name), 1);
        index.dropped.remove(&object);
        self.free();
        let size = self.size(object);
        let Some(layout) = self.index.as_ref().and_then(|i| i.layout(size)) else {
            self.run.tally.too_large += 1.0;
            return;
        };
        let Some(placed) = self.find_room(&layout, now) else {
            self.run.tally.refused += 1.0;
            return;
        };
        let all = layout.chunk_bytes() * placed.len() as u64;
        let busy = self.settings.stream(layout.chunk_bytes(), all, size);
        for id in &placed {
            self.serve(usize::from(id.0), busy, now);
        }
        self.put(object, layout.geometry().data(), &placed, Some(now));
        if let Some(index) = &mut self.index {
            index.written.push(object);
            let placement = placed.into_iter().map(Some).collect();
            let entry = Entry::new(write_id(self.writes), layout, placement);
            index.keyspace.commit(
                key(&name),
                Arc::new(entry),
                Condition::Always,
                NewExpiry::Keep,
                1,
            );
        }
        let tally = &mut self.run.tally;
        tally.stores += 1.0;
        tally.stored_bytes += size as f64;
        self.passes(size, all, now);
    }

    /// Nodes for each chunk. Evicts if need be, as the store does.
    fn find_room(&mut self, layout: &Layout, now: Us) -> Option<Vec<NodeId>> {
        let (want, need) = (layout.geometry().total(), layout.geometry().data() + 1);
        let bytes = layout.accounted_bytes();
        let budget = self.index.as_ref()?.keys.node_budget_bytes;
        for _ in 0..ROOM_ATTEMPTS {
            let candidates = self.candidates(budget);
            match place(&candidates, want, need, bytes, &mut self.rng) {
                Ok(nodes) => return Some(nodes),
                Err(PlacementError::TooFewNodes { .. }) => return None,
                Err(PlacementError::NoRoom { .. }) => {}
            }
            let lacking = shortfall(&candidates, want, bytes);
            let (index, rng): (_, &mut SmallRng) = (self.index.as_mut()?, &mut self.rng);
            let policy = EvictionPolicy::default();
            let evicted = index.keyspace.evict(policy, rng, freeing(&lacking));
            if evicted == 0 {
                return None;
            }
            self.run.tally.evicted += evicted as f64;
            self.free();
            // they are told what is garbage
            for (id, _) in lacking {
                self.serve(usize::from(id.0), 0, now);
            }
        }
        None
    }

    /// Nodes forget what the index names no longer.
    fn free(&mut self) {
        let Some(index) = &mut self.index else {
            return;
        };
        let freed = index.keyspace.take_freed();
        let object = |o: Arc<Entry>| index.written.get(o.write_id.counter as usize - 1).copied();
        let objects: Vec<u32> = freed.into_iter().filter_map(object).collect();
        for object in objects {
            self.evict(object);
        }
    }

    /// Nothing can bring this object back: its key goes.
    pub(super) fn drop_lost(&mut self, object: u32) {
        let write = self.objects[object as usize].write;
        let (Some(index), Some(write)) = (&mut self.index, write) else {
            return;
        };
        let name = name(index.keys.of[object as usize]);
        let is_dropped = index.keyspace.lose(key(&name), write_id(write));
        if is_dropped {
            index.dropped.insert(object);
        }
        self.free();
        if is_dropped {
            self.remember_ghost(object);
        }
    }

    /// What was given up counts as not available until it is stored again, or until a
    /// cache without losses would have let it go.
    fn remember_ghost(&mut self, object: u32) {
        let ghost = &mut self.objects[object as usize];
        if !ghost.is_lost {
            (ghost.is_expected, ghost.is_lost) = (true, true);
            self.expected += 1;
            self.lost += 1;
        }
    }

    fn forget_ghost(&mut self, object: u32) {
        let known = &self.objects[object as usize];
        if known.is_lost && known.write.is_none() {
            self.evict(object);
        }
    }

    /// An instance answers a request: one that is held open still, or another
    /// invocation, which is held open in its turn.
    fn serve(&mut self, n: usize, busy: Us, now: Us) {
        let (at, memory_gb) = (self.clock.at(now), self.settings.memory_gb);
        self.nodes[n].linger.requested(at);
        if self.nodes[n].round.is_some() {
            // awake for the round; what it stays longer for this is billed here
            self.hour(now).bill(Purpose::Serve).extend(busy, memory_gb);
            return;
        }
        let until = self.nodes[n].awake_until;
        let hold = micros(self.nodes[n].linger.hold());
        let end = if now < until {
            let end = now + busy + hold;
            let more = end.saturating_sub(until);
            self.hour(now).bill(Purpose::Serve).extend(more, memory_gb);
            end.max(until)
        } else {
            let Some(id) = self.nodes[n].begin(Event::Wanted, at) else {
                return;
            };
            let (who, hello) = self.route(n, None, now);
            let end = hello + busy + hold;
            self.bill(Purpose::Serve, who, hello, end);
            let (greeted, over) = (self.clock.at(hello), self.clock.at(end));
            let life = &mut self.nodes[n].life;
            life.step(Event::Hello(id), greeted);
            life.step(Event::Goodbye(id), over);
            life.step(Event::Returned(id, Outcome::Ok), over);
            self.met(n, who, now);
            end
        };
        self.nodes[n].awake_until = end;
        self.contact(n, end);
    }

    /// What is held is added up by the hour.
    fn count_held(&mut self, now: Us) {
        let Some(index) = &mut self.index else {
            return;
        };
        let (held, hours) = (index.keyspace.bytes() as f64, now / HOUR - index.hour);
        index.hour = now / HOUR;
        self.run.tally.held_byte_hours += held * hours as f64;
        self.run.tally.held_bytes_at_end = held;
    }
}

fn write_id(counter: u64) -> WriteId {
    WriteId {
        epoch: Epoch(1),
        counter,
    }
}
