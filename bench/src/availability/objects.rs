//! Objects: where their chunks are, how they come and go.

use scatterhoard_proxy::pool::placement::{Candidate, place};
use scatterhoard_wire::NodeId;

use super::bill::Purpose;
use super::node::{Chunk, Node, Us};
use super::population::Step;
use super::sim::Sim;

/// Some date: births before the day have one, too.
const BEGINS_UNIX_MS: i64 = 1_600_000_000_000;

/// What was stored under a key.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    /// Which write of it is named; none if it is not stored.
    pub(super) write: Option<u64>,
    /// The LRU without losses would have it.
    pub(super) is_expected: bool,
    pub(super) is_lost: bool,
    /// The node of each chunk.
    pub(super) nodes: Vec<u16>,
    /// Chunks that at least one instance has.
    pub(super) there: usize,
    pub(super) last_use: u32,
    /// Chunks without which it is lost.
    pub(super) need: usize,
}

impl Sim<'_> {
    /// A GET of the trace: what is not there is stored.
    pub(super) fn get(&mut self, step: &Step, now: Us) {
        self.hour(now).gets += 1.0;
        self.uses += 1;
        for &victim in &step.evicted {
            self.evict(victim);
        }
        let object = &mut self.objects[step.object as usize];
        object.last_use = self.uses;
        let is_readable = object.write.is_some() && !object.is_lost;
        if step.is_hit {
            self.hour(now).hits += 1.0;
        }
        if step.is_hit && is_readable {
            let nodes = self.objects[step.object as usize].nodes.clone();
            for n in nodes.into_iter().take(self.settings.data) {
                self.wake(usize::from(n), Purpose::Serve, 0, now);
            }
            return;
        }
        if step.is_hit {
            self.hour(now).hits_lost += 1.0;
        }
        self.store(step.object, Some(now));
    }

    pub(super) fn evict(&mut self, victim: u32) {
        self.forget(victim);
        let object = &mut self.objects[victim as usize];
        self.expected -= usize::from(object.is_expected);
        self.lost -= usize::from(object.is_lost);
        *object = Object::default();
    }

    pub(super) fn chunk_bytes(&self, object: u32) -> u64 {
        match self
            .index
            .as_ref()
            .and_then(|i| i.layout(self.size(object)))
        {
            Some(layout) => layout.chunk_bytes(),
            None => self.size(object).div_ceil(self.settings.data as u64),
        }
    }

    /// What a chunk takes of a node's budget.
    fn held_bytes(&self, object: u32) -> u64 {
        match self
            .index
            .as_ref()
            .and_then(|i| i.layout(self.size(object)))
        {
            Some(layout) => layout.accounted_bytes(),
            None => self.chunk_bytes(object),
        }
    }

    /// No repair can bring it back.
    pub(super) fn lose(&mut self, object: u32) {
        match self.index.is_some() {
            true => self.drop_lost(object),
            false => self.forget(object),
        }
    }

    pub(super) fn size(&self, object: u32) -> u64 {
        self.script.sizes[object as usize]
    }

    /// The index names it no longer; its nodes free its chunks.
    pub(super) fn forget(&mut self, object: u32) {
        let bytes = self.held_bytes(object);
        let nodes = std::mem::take(&mut self.objects[object as usize].nodes);
        for n in nodes {
            let node = &mut self.nodes[usize::from(n)];
            let found = node.stock.iter().position(|c| c.object == object);
            if let Some(at) = found {
                node.stock.swap_remove(at);
                node.used_bytes -= bytes;
            }
        }
        self.objects[object as usize].write = None;
    }

    /// Stores an object anew; none: before the day began.
    pub(super) fn store(&mut self, object: u32, now: Option<Us>) {
        self.forget(object);
        let bytes = self.chunk_bytes(object);
        let candidates = self.candidates((self.settings.memory_gb * 1e9) as u64);
        let (want, need) = (self.settings.chunks(), self.settings.data + 1);
        let placed = place(&candidates, want, need, bytes, &mut self.rng);
        let placed = placed.unwrap_or_default();
        if let Some(now) = now {
            for id in &placed {
                self.wake(usize::from(id.0), Purpose::Serve, 0, now);
            }
        }
        self.put(object, self.settings.data, &placed, now);
    }

    /// All nodes, as placement sees them.
    pub(super) fn candidates(&self, budget: u64) -> Vec<Candidate> {
        let candidate = |(i, node): (usize, &Node)| Candidate {
            node: NodeId(i as u16),
            free_bytes: budget.saturating_sub(node.used_bytes),
            reachable: true,
            birth_unix_ms: (BEGINS_UNIX_MS + node.main_born / 1_000).max(1) as u64,
        };
        self.nodes.iter().enumerate().map(candidate).collect()
    }

    /// An object is on these nodes from now on.
    pub(super) fn put(&mut self, object: u32, need: usize, placed: &[NodeId], now: Option<Us>) {
        let (bytes, held) = (self.chunk_bytes(object), self.held_bytes(object));
        for (index, id) in placed.iter().enumerate() {
            let n = usize::from(id.0);
            let on = 1 << self.nodes[n].main_slot().unwrap_or(0);
            let (object, index) = (object, index as u8);
            self.nodes[n].stock.push(Chunk { object, index, on });
            self.nodes[n].used_bytes += held;
            if let Some(now) = now {
                self.stored(n, bytes, now);
            }
        }
        self.writes += 1;
        let known = &mut self.objects[object as usize];
        self.expected += usize::from(!known.is_expected);
        self.lost -= usize::from(known.is_lost);
        *known = Object {
            write: Some(self.writes),
            is_expected: true,
            is_lost: false,
            there: placed.len(),
            nodes: placed.iter().map(|id| id.0).collect(),
            last_use: self.uses,
            need,
        };
    }

    pub(super) fn stored(&mut self, n: usize, bytes: u64, now: Us) {
        let node = &mut self.nodes[n];
        node.backup.stored(bytes);
        node.fresh_bytes += bytes;
        if !self.settings.backup.standby || node.round.is_some() {
            return;
        }
        if node.fresh_bytes >= self.settings.backup.after_bytes {
            self.expect_round(n, now);
        } else if node.fresh_bytes == bytes {
            // with something new it does not wait for as long as it may be silent
            let due = self.nodes[n].last_round + self.round_interval(n);
            self.expect_round(n, due.min(self.round_due[n]));
        }
    }

    /// How many uses of others ago it was last used.
    pub(super) fn idleness(&self, object: u32) -> u32 {
        self.uses - self.objects[object as usize].last_use
    }
}
