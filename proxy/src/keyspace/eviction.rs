//! Which objects go when nodes are full. Pure: the caller says what would help
//! and when it is enough.

use rand::{Rng, seq::SliceRandom};
use scatterhoard_node::random::HashMap;
use scatterhoard_wire::{NodeId, WriteId};
use serde::{Deserialize, Serialize};

use super::{Keyspace, Object};

/// In which order objects are offered as victims, by Redis's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvictionPolicy {
    /// None: writes fail when the pool is full.
    Noeviction,
    /// The longest unused first.
    #[default]
    AllkeysLru,
    /// The longest unused first, of those with an expiry only.
    VolatileLru,
    /// Any.
    AllkeysRandom,
    /// The next to expire first.
    VolatileTtl,
}

impl EvictionPolicy {
    /// Redis's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Noeviction => "noeviction",
            Self::AllkeysLru => "allkeys-lru",
            Self::VolatileLru => "volatile-lru",
            Self::AllkeysRandom => "allkeys-random",
            Self::VolatileTtl => "volatile-ttl",
        }
    }
}

/// What an offered object is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Evict it and go on.
    Take,
    /// It frees nothing that is needed.
    Skip,
    /// Evict it; that is enough.
    TakeAndStop,
}

/// Which objects help against a lack of room: those with chunks on the nodes that
/// lack it, until none lacks any more.
pub fn freeing(lacking: &[(NodeId, u64)]) -> impl FnMut(&Object) -> Verdict + use<> {
    let mut open = lacking.to_vec();
    move |object| {
        let gain = object.layout.accounted_bytes();
        let mut useful = false;
        for id in object.nodes() {
            if let Some(entry) = open
                .iter_mut()
                .find(|(node, left)| *node == id && *left > 0)
            {
                entry.1 = entry.1.saturating_sub(gain);
                useful = true;
            }
        }
        match (useful, open.iter().all(|(_, left)| *left == 0)) {
            (false, _) => Verdict::Skip,
            (true, false) => Verdict::Take,
            (true, true) => Verdict::TakeAndStop,
        }
    }
}

/// Objects looked at in one go; when none of them helps, the write fails. Values that no
/// node has are passed by and not counted: settling them may need the room that others
/// take. There are no more of them than their budget allows.
const MAX_LOOKED_AT: usize = 100_000;

/// Slots of the victims, in order.
pub(super) fn victims(
    keyspace: &Keyspace,
    policy: EvictionPolicy,
    rng: &mut impl Rng,
    wanted: &mut impl FnMut(&Object) -> Verdict,
) -> Vec<u32> {
    let by_age = || keyspace.recency.oldest_first(&keyspace.slots);
    let is_volatile = |i: &u32| keyspace.slot(*i).is_some_and(|s| s.expires_unix_ms != 0);
    let mut choice = Choice::new(keyspace, wanted);
    match policy {
        EvictionPolicy::Noeviction => return Vec::new(),
        EvictionPolicy::AllkeysLru => choice.from(by_age(), |_| true),
        EvictionPolicy::VolatileLru => choice.from(by_age().filter(is_volatile), is_volatile),
        EvictionPolicy::VolatileTtl => {
            choice.from(keyspace.expiries.iter().map(|(_, i)| *i), is_volatile)
        }
        EvictionPolicy::AllkeysRandom => {
            let mut all: Vec<u32> = by_age().collect();
            all.shuffle(rng);
            choice.from(all.into_iter(), |_| true)
        }
    }
    choice.chosen
}

/// Objects that are looked at in a policy's order.
struct Choice<'a, W> {
    keyspace: &'a Keyspace,
    wanted: &'a mut W,
    /// Values of each segment that were looked at; none once it was decided on.
    /// A segment goes as a whole: when the policy has come to half of its values.
    segments: HashMap<WriteId, Option<u32>>,
    chosen: Vec<u32>,
}

impl<'a, W: FnMut(&Object) -> Verdict> Choice<'a, W> {
    fn new(keyspace: &'a Keyspace, wanted: &'a mut W) -> Self {
        Self {
            keyspace,
            wanted,
            segments: HashMap::default(),
            chosen: Vec::new(),
        }
    }

    fn from(&mut self, order: impl Iterator<Item = u32>, may_go: impl Fn(&u32) -> bool) {
        let keyspace = self.keyspace;
        let slots = order.filter_map(|i| Some((i, keyspace.slot(i)?)));
        let on_nodes = slots.filter(|(_, slot)| !slot.is_dirty);
        for (i, slot) in on_nodes.take(MAX_LOOKED_AT) {
            let verdict = match slot.object.place() {
                Some(place) => self.consider_segment(place.segment, &may_go),
                None => self.consider(&slot.object, || vec![i]),
            };
            if verdict == Verdict::TakeAndStop {
                return;
            }
        }
    }

    fn consider_segment(&mut self, id: WriteId, may_go: impl Fn(&u32) -> bool) -> Verdict {
        let looked_at = self.segments.entry(id).or_insert(Some(0));
        let Some(count) = looked_at else {
            return Verdict::Skip;
        };
        *count += 1;
        if *count * 2 < self.keyspace.segments.references(id) {
            return Verdict::Skip;
        }
        *looked_at = None;
        let members = self.keyspace.member_slots(id);
        match self.keyspace.segments.object(id) {
            Some(object) if members.iter().all(may_go) => {
                let object = object.clone();
                self.consider(&object, || members)
            }
            _ => Verdict::Skip,
        }
    }

    fn consider(&mut self, object: &Object, slots: impl FnOnce() -> Vec<u32>) -> Verdict {
        // a pinned object frees nothing until its readers are done
        if self.keyspace.pins.contains_key(&object.write_id) {
            return Verdict::Skip;
        }
        let verdict = (self.wanted)(object);
        if verdict != Verdict::Skip {
            self.chosen.extend(slots());
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};
    use scatterhoard_wire::{Epoch, Geometry, Layout};

    use super::{
        super::{
            HeldString,
            tests::{at, put},
        },
        *,
    };

    /// As after a restart: those that a predecessor had not settled were used longest ago.
    #[test]
    fn values_that_no_node_has_hold_up_no_eviction() {
        let mut k = Keyspace::default();
        k.keep_values(1 << 20, 1 << 10);
        let layout = Layout::new(Geometry::new(1, 1).unwrap(), 1, 1024).unwrap();
        let waiting = MAX_LOOKED_AT as u64 + 1;
        for counter in 1..=waiting {
            let epoch = Epoch(1);
            let key = counter.to_be_bytes();
            let string = HeldString {
                key: at(&key),
                layout,
                value: b"x",
            };
            k.hold_all(&[string], WriteId { epoch, counter }, 1);
        }
        put(&mut k, b"on nodes", waiting + 1);
        let mut rng = SmallRng::seed_from_u64(1);
        for policy in [EvictionPolicy::VolatileLru, EvictionPolicy::AllkeysLru] {
            let evicted = k.evict(policy, &mut rng, freeing(&[(NodeId(0), 1)]));
            assert_eq!(evicted == 1, policy == EvictionPolicy::AllkeysLru);
        }
        assert!(k.peek(at(b"on nodes"), 1).is_none());
        assert_eq!(k.dirty_values() as u64, waiting);
    }
}
