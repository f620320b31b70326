//! An index made anew from what nodes hold: their chunks, and the labels that say
//! what was committed. Pure.
//!
//! A key means the highest write id that any label names for it, or nothing: not an
//! older one if that is incomplete. Of what labels of the same write contradict each
//! other in, the earlier expiry counts, and whichever place is complete.

use scatterhoard_node::random::{HashMap, HashSet};
use scatterhoard_wire::{ChunkDescriptor, Layout, NodeId, WriteId};

use super::{KeyRef, Keyspace, Object};

/// What a key and its claim take at least, and what an object takes.
const CLAIM_BYTES: usize = 256;
const OBJECT_BYTES: usize = 128;

type Key = (u8, Box<[u8]>);

/// What was found so far.
pub struct Inventory {
    objects: HashMap<WriteId, Seen>,
    claims: HashMap<Key, Claim>,
    /// Chunks that are somewhere else already.
    strays: Vec<(NodeId, WriteId)>,
    nodes: usize,
    room_bytes: usize,
    left_out: u64,
}

/// Whole chunks of an object.
struct Seen {
    layout: Layout,
    placement: Box<[Option<NodeId>]>,
}

impl Seen {
    fn is_complete(&self) -> bool {
        let chunks = self.placement.iter().flatten().count();
        chunks >= self.layout.geometry().data()
    }
}

/// The highest write that is said to be a key's.
struct Claim {
    write_id: WriteId,
    /// Where it is said to be: in one place, unless it was moved lately.
    homes: Vec<Object>,
    expires_unix_ms: Option<u64>,
}

/// A key and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundKey {
    /// Its database.
    pub db: u8,
    /// Its bytes.
    pub key: Box<[u8]>,
    /// What it names.
    pub object: Object,
    /// When it expires.
    pub expires_unix_ms: Option<u64>,
}

/// What an inventory came to.
#[derive(Debug, Default)]
pub struct Findings {
    /// Segments in which values lie.
    pub segments: Vec<Object>,
    /// Keys, the latest written last.
    pub keys: Vec<FoundKey>,
    /// Chunks that nobody asks a node for.
    pub strays: Vec<(NodeId, WriteId)>,
    /// Bytes of all values.
    pub bytes: u64,
    /// Keys that have expired.
    pub expired: u64,
    /// Keys of which too few chunks are there.
    pub doubtful: u64,
    /// Labels and chunks for which there was no room.
    pub left_out: u64,
}

impl Inventory {
    /// Nothing found so far, of a pool of `nodes`; takes about `room_bytes` of
    /// memory at most. Keys beyond that are left out.
    pub fn new(nodes: usize, room_bytes: usize) -> Self {
        Self {
            objects: HashMap::default(),
            claims: HashMap::default(),
            strays: Vec::new(),
            nodes,
            room_bytes,
            left_out: 0,
        }
    }

    /// Room for something new, or it is left out.
    fn takes(&mut self, bytes: usize) -> bool {
        match self.room_bytes.checked_sub(bytes) {
            Some(rest) => {
                self.room_bytes = rest;
                true
            }
            None => {
                // never again: what is left out must stay out
                self.room_bytes = 0;
                self.left_out += 1;
                false
            }
        }
    }

    /// A node holds this chunk, whole.
    pub fn chunk(&mut self, node: NodeId, chunk: &ChunkDescriptor) {
        let id = chunk.id.write_id;
        if !self.objects.contains_key(&id) {
            let total = chunk.layout.geometry().total();
            if !self.takes(OBJECT_BYTES + 4 * total) {
                return;
            }
            let seen = Seen {
                layout: chunk.layout,
                placement: vec![None; total].into(),
            };
            self.objects.insert(id, seen);
        }
        let Some(seen) = self.objects.get_mut(&id) else {
            return;
        };
        let index = usize::from(chunk.id.index);
        if seen.layout != chunk.layout {
            return;
        }
        match seen.placement.get_mut(index) {
            Some(place @ None) => *place = Some(node),
            Some(Some(other)) if *other != node && self.room_bytes > 0 => {
                self.room_bytes = self
                    .room_bytes
                    .saturating_sub(size_of::<(NodeId, WriteId)>());
                self.strays.push((node, id));
            }
            _ => {}
        }
    }

    /// A label says that this was committed.
    pub fn label(&mut self, key: KeyRef<'_>, object: Object, expires_unix_ms: Option<u64>) {
        let name = (key.db, Box::from(key.key));
        if !self.claims.contains_key(&name) {
            if self.takes(CLAIM_BYTES + key.key.len()) {
                let claim = Claim {
                    write_id: object.write_id,
                    homes: vec![object],
                    expires_unix_ms,
                };
                self.claims.insert(name, claim);
            }
            return;
        }
        let Some(claim) = self.claims.get_mut(&name) else {
            return;
        };
        if object.write_id > claim.write_id {
            *claim = Claim {
                write_id: object.write_id,
                homes: vec![object],
                expires_unix_ms,
            };
        } else if object.write_id == claim.write_id {
            let earlier = [claim.expires_unix_ms, expires_unix_ms];
            claim.expires_unix_ms = earlier.into_iter().flatten().min();
            let place = |o: &Object| o.place();
            if claim.homes.iter().all(|o| place(o) != place(&object)) {
                claim.homes.push(object);
            }
        }
    }

    /// What keys mean by all that.
    pub fn settle(self, now_ms: u64) -> Findings {
        let mut findings = Findings {
            left_out: self.left_out,
            ..Findings::default()
        };
        let mut segments: HashSet<WriteId> = HashSet::default();
        for ((db, key), claim) in &self.claims {
            if claim.expires_unix_ms.is_some_and(|at| at <= now_ms) {
                findings.expired += 1;
                continue;
            }
            let Some(object) = claim.homes.iter().find_map(|home| self.found(home)) else {
                findings.doubtful += 1;
                continue;
            };
            segments.extend(object.place().map(|place| place.segment));
            findings.bytes += object.size_bytes();
            findings.keys.push(FoundKey {
                db: *db,
                key: key.clone(),
                object,
                expires_unix_ms: claim.expires_unix_ms,
            });
        }
        findings.keys.sort_by_key(|found| found.object.write_id);
        let segment = |id: &WriteId| {
            let seen = self.objects.get(id)?;
            Some(Object::new(*id, seen.layout, seen.placement.to_vec()))
        };
        findings.segments = segments.iter().filter_map(segment).collect();
        findings.segments.sort_by_key(|object| object.write_id);
        let is_stray = |(node, id): &(NodeId, WriteId)| {
            let seen = self.objects.get(id);
            seen.is_some_and(|seen| !seen.placement.contains(&Some(*node)))
        };
        findings.strays = self.strays.iter().copied().filter(is_stray).collect();
        findings
    }

    /// The object as it can be read, if it can. Chunks that were not met are still
    /// expected where they should be: they are looked for, and repaired.
    fn found(&self, labelled: &Object) -> Option<Object> {
        if let Some(place) = labelled.place() {
            let seen = self.objects.get(&place.segment)?;
            let end = u64::from(place.offset_bytes).checked_add(labelled.size_bytes())?;
            let lies_there = seen.is_complete() && end <= seen.layout.size_bytes();
            return lies_there.then(|| labelled.clone());
        }
        let seen = self.objects.get(&labelled.write_id)?;
        if !seen.is_complete() || seen.layout != labelled.layout {
            return None;
        }
        let met: HashSet<NodeId> = seen.placement.iter().copied().flatten().collect();
        let expected = |index| {
            let node = labelled.node(index);
            node.filter(|n| usize::from(n.0) < self.nodes && !met.contains(n))
        };
        let placement = (0..).zip(&seen.placement);
        let placement = placement.map(|(i, node)| node.or_else(|| expected(i)));
        let object = Object::new(labelled.write_id, seen.layout, placement.collect());
        Some(object.of_kind(labelled.kind()))
    }
}

impl Keyspace {
    /// Fills an empty index with what was found.
    pub fn take_in(&mut self, findings: Findings, now_ms: u64) {
        let Findings { segments, keys, .. } = findings;
        let mut keys = keys.into_iter();
        self.restore(segments, now_ms, |insert| {
            for found in keys.by_ref() {
                let (db, key) = (found.db, &found.key);
                insert(KeyRef { db, key }, found.object, found.expires_unix_ms);
            }
        });
    }
}

#[cfg(test)]
mod tests;
