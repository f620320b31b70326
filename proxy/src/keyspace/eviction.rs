//! Which objects go when nodes are full. Pure: the caller says what would help
//! and when it is enough.

use rand::{Rng, seq::SliceRandom};
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

/// Objects looked at in one go; when none of them helps, the write fails.
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
    match policy {
        EvictionPolicy::Noeviction => Vec::new(),
        EvictionPolicy::AllkeysLru => choose(keyspace, by_age(), wanted),
        EvictionPolicy::VolatileLru => choose(keyspace, by_age().filter(is_volatile), wanted),
        EvictionPolicy::VolatileTtl => {
            choose(keyspace, keyspace.expiries.iter().map(|(_, i)| *i), wanted)
        }
        EvictionPolicy::AllkeysRandom => {
            let mut all: Vec<u32> = by_age().collect();
            all.shuffle(rng);
            choose(keyspace, all.into_iter(), wanted)
        }
    }
}

fn choose(
    keyspace: &Keyspace,
    order: impl Iterator<Item = u32>,
    wanted: &mut impl FnMut(&Object) -> Verdict,
) -> Vec<u32> {
    let mut chosen = Vec::new();
    for i in order.take(MAX_LOOKED_AT) {
        let Some(slot) = keyspace.slot(i) else {
            continue;
        };
        // a pinned object frees nothing until its readers are done
        if keyspace.pins.contains_key(&slot.object.write_id) {
            continue;
        }
        match wanted(&slot.object) {
            Verdict::Skip => {}
            Verdict::Take => chosen.push(i),
            Verdict::TakeAndStop => {
                chosen.push(i);
                break;
            }
        }
    }
    chosen
}
