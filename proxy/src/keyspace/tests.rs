use std::collections::{BTreeMap, HashSet};

use proptest::{collection::vec, prelude::*};
use rand::{SeedableRng, rngs::SmallRng};
use scatterhoard_wire::{Epoch, Geometry, GeometryPolicy, NodeId};

use super::*;

fn object(counter: u64, size: u64) -> Arc<Object> {
    let layout = GeometryPolicy::with_full(Geometry::new(10, 2).unwrap())
        .layout(size)
        .unwrap();
    let nodes = (0..layout.geometry().total())
        .map(|i| Some(NodeId(i as u16)))
        .collect();
    Arc::new(Object::new(
        WriteId {
            epoch: Epoch(1),
            counter,
        },
        layout,
        nodes,
    ))
}

pub(super) fn at(key: &[u8]) -> KeyRef<'_> {
    KeyRef { db: 0, key }
}

pub(super) fn put(k: &mut Keyspace, key: &[u8], counter: u64) -> Committed {
    k.commit(
        at(key),
        object(counter, 10),
        Condition::Always,
        NewExpiry::Set(None),
        0,
    )
}

fn freed(k: &mut Keyspace) -> Vec<u64> {
    k.take_freed().iter().map(|o| o.write_id.counter).collect()
}

#[test]
fn databases_change_places() {
    let mut k = Keyspace::default();
    put(&mut k, b"a", 1);
    put(&mut k, b"both", 2);
    let other = KeyRef {
        db: 5,
        key: b"both",
    };
    k.commit(
        other,
        object(3, 10),
        Condition::Always,
        NewExpiry::Set(Some(50)),
        0,
    );
    k.swap(0, 5);
    let at = |db, key| KeyRef { db, key };
    let mut id = |db, key| {
        k.peek(at(db, key), 0)
            .map(|f| (f.object.write_id.counter, f.expires_unix_ms))
    };
    assert_eq!((id(0, b"a"), id(5, b"a")), (None, Some((1, None))));
    assert_eq!(
        (id(0, b"both"), id(5, b"both")),
        (Some((3, Some(50))), Some((2, None)))
    );
    assert_eq!((k.len(0), k.len(5)), (1, 2));
    assert_eq!(k.expire(50, 10), 1);
    assert_eq!((k.len(0), k.len(5)), (0, 2));
    assert_eq!(freed(&mut k), [3]);
}

#[test]
fn conditions_decide_at_the_commit() {
    let mut k = Keyspace::default();
    let mut set = |counter, condition| {
        k.commit(at(b"a"), object(counter, 1), condition, NewExpiry::Keep, 0)
            .done
    };
    assert!(!set(1, Condition::Present));
    assert!(set(2, Condition::Absent));
    assert!(!set(3, Condition::Absent));
    assert!(set(4, Condition::Present));
    assert_eq!(freed(&mut k), [1, 3, 2]);
    assert_eq!(k.get(at(b"a"), 0).unwrap().object.write_id.counter, 4);
}

#[test]
fn a_pinned_object_is_freed_by_its_last_reader() {
    let mut k = Keyspace::default();
    put(&mut k, b"a", 1);
    let id = object(1, 10).write_id;
    k.pin(id);
    k.pin(id);
    put(&mut k, b"a", 2);
    k.unpin(id);
    assert!(freed(&mut k).is_empty());
    assert!(k.is_held(id));
    k.unpin(id);
    assert_eq!(freed(&mut k), [1]);
}

#[test]
fn what_is_only_read_still_is_found_where_it_is() {
    let mut k = Keyspace::default();
    put(&mut k, b"k", 1);
    let id = object(1, 10).write_id;
    k.pin(id);
    let moved = NodeId(9);
    assert!(k.chunk_moved(at(b"k"), id, 0, moved));
    put(&mut k, b"k", 2);
    // the key means something else, the reader's chunks are where they were moved to
    let placed = k.placed(id, at(b"k"), 1);
    assert_eq!(placed.unwrap().node(0), Some(moved));
    k.unpin(id);
    assert_eq!(k.placed(id, at(b"k"), 1), None);
}

#[test]
fn expiry_is_lazy_and_active() {
    let mut k = Keyspace::default();
    put(&mut k, b"a", 1);
    put(&mut k, b"b", 2);
    assert!(k.set_expiry(at(b"a"), Some(100), 0) && k.set_expiry(at(b"b"), Some(100), 0));
    assert_eq!(k.get(at(b"a"), 99).unwrap().expires_unix_ms, Some(100));
    assert!(k.get(at(b"a"), 100).is_none());
    assert_eq!(k.expire(99, 10), 0);
    assert_eq!((k.expire(100, 10), k.len(0), k.expired_total()), (1, 0, 2));
    put(&mut k, b"c", 3);
    assert!(
        k.set_expiry(at(b"c"), Some(5), 10),
        "in the past: gone, but it was there"
    );
    assert_eq!(k.len(0), 0);
}

#[test]
fn keep_ttl_keeps_it() {
    let mut k = Keyspace::default();
    k.commit(
        at(b"a"),
        object(1, 1),
        Condition::Always,
        NewExpiry::Set(Some(50)),
        0,
    );
    k.commit(
        at(b"a"),
        object(2, 1),
        Condition::Always,
        NewExpiry::Keep,
        0,
    );
    assert_eq!(k.get(at(b"a"), 0).unwrap().expires_unix_ms, Some(50));
    k.commit(
        at(b"a"),
        object(3, 1),
        Condition::Always,
        NewExpiry::Set(None),
        0,
    );
    assert_eq!(
        (k.get(at(b"a"), 0).unwrap().expires_unix_ms, k.expire(99, 9)),
        (None, 0)
    );
}

#[test]
fn the_longest_unused_go_first_and_pinned_ones_stay() {
    let mut k = Keyspace::default();
    (0..5u8).for_each(|i| {
        put(&mut k, &[i], i.into());
    });
    k.get(at(&[0]), 0);
    k.pin(object(1, 10).write_id);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut taken = 0;
    let two = |_: &Object| {
        taken += 1;
        if taken == 2 {
            eviction::Verdict::TakeAndStop
        } else {
            eviction::Verdict::Take
        }
    };
    assert_eq!(k.evict(EvictionPolicy::AllkeysLru, &mut rng, two), 2);
    assert_eq!(freed(&mut k), [2, 3]);
    let all = |_: &Object| eviction::Verdict::Take;
    assert_eq!(k.evict(EvictionPolicy::Noeviction, &mut rng, all), 0);
    assert_eq!(k.evict(EvictionPolicy::VolatileLru, &mut rng, all), 0);
    assert_eq!(k.evict(EvictionPolicy::AllkeysRandom, &mut rng, all), 2);
}

#[test]
fn a_scan_sees_every_key_that_stays() {
    let mut k = Keyspace::default();
    (0..1000u32).for_each(|i| {
        put(&mut k, &i.to_be_bytes(), i.into());
    });
    let (mut cursor, mut seen, mut round) = (0, Vec::new(), 0u32);
    loop {
        cursor = k.scan(0, cursor, 10, 0, |key, _| seen.push(key.to_vec()));
        // churn around it: odd keys go, new ones come
        k.remove(at(&(2 * round + 1).to_be_bytes()), 0);
        put(&mut k, format!("new{round}").as_bytes(), 0);
        round += 1;
        if cursor == 0 {
            break;
        }
    }
    let distinct: HashSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len());
    for i in (0..1000u32).step_by(2) {
        assert!(distinct.contains(i.to_be_bytes().as_slice()), "{i}");
    }
}

proptest! {
    /// Against a plain map: same contents, exact counts, nothing freed twice
    /// and nothing forgotten.
    #[test]
    fn behaves_like_a_map(ops in vec((0u8..7, 0u8..6, 0u64..50), 1..200)) {
        let (mut k, mut model) = (Keyspace::default(), BTreeMap::<u8, (u64, u64)>::new());
        let (mut now, mut counter, mut gone) = (1u64, 0u64, HashSet::new());
        let mut rng = SmallRng::seed_from_u64(7);
        for (op, key, n) in ops {
            model.retain(|_, (_, at)| *at == 0 || *at > now);
            match op {
                0 | 1 => {
                    counter += 1;
                    let expiry = if n > 25 { Some(now + n) } else { None };
                    k.commit(at(&[key]), object(counter, n), Condition::Always, NewExpiry::Set(expiry), now);
                    model.insert(key, (counter, expiry.unwrap_or(0)));
                }
                2 => {
                    let removed = k.remove(at(&[key]), now).map(|o| o.write_id.counter);
                    prop_assert_eq!(removed, model.remove(&key).map(|(c, _)| c));
                }
                3 => now += n,
                4 => { k.expire(now, 3); }
                5 if n == 0 => { k.flush(None); model.clear(); }
                _ => {
                    let random = k.random_key(0, now, &mut rng);
                    prop_assert_eq!(random.is_some(), !model.is_empty());
                }
            }
            let found = k.get(at(&[key]), now).map(|f| f.object.write_id.counter);
            prop_assert_eq!(found, model.get(&key).filter(|(_, at)| *at == 0 || *at > now).map(|(c, _)| *c));
            for id in freed(&mut k) { prop_assert!(gone.insert(id), "freed twice: {}", id); }
        }
        k.expire(now, usize::MAX);
        model.retain(|_, (_, at)| *at == 0 || *at > now);
        gone.extend(freed(&mut k));
        prop_assert_eq!(k.len(0) as usize, model.len());
        prop_assert_eq!(gone.len() + model.len(), counter as usize);
        let by_age = k.recency.oldest_first(&k.slots).count();
        prop_assert_eq!(by_age, model.len());
        k.flush(None);
        prop_assert_eq!((k.bytes(), k.len(0)), (0, 0));
    }
}

/// A segment with values of these lengths, and the values.
fn segment(k: &mut Keyspace, counter: u64, lens: &[u64]) -> Vec<Arc<Object>> {
    let bytes = lens.iter().sum();
    k.add_segment(object(counter, bytes), lens.len() as u32, bytes);
    let id = object(counter, bytes).write_id;
    let mut offset_bytes = 0;
    let mut values = Vec::new();
    for (i, len) in lens.iter().enumerate() {
        let like = object(counter + 1 + i as u64, *len);
        let place = Place {
            segment: id,
            offset_bytes,
        };
        values.push(Arc::new(Object::packed(like.write_id, like.layout, place)));
        offset_bytes += *len as u32;
    }
    values
}

fn put_object(k: &mut Keyspace, key: &[u8], object: Arc<Object>) {
    k.commit(at(key), object, Condition::Always, NewExpiry::Set(None), 0);
}

#[test]
fn a_segment_is_freed_with_its_last_value() {
    let mut k = Keyspace::default();
    let [a, b, c] = <[_; 3]>::try_from(segment(&mut k, 10, &[5, 5, 5])).unwrap();
    put_object(&mut k, b"a", a.clone());
    put_object(&mut k, b"b", b);
    let (source, offset) = k.source(&c);
    assert_eq!((source.write_id.counter, offset), (10, 10));
    k.discard(c);
    assert_eq!(freed(&mut k), [13]);
    assert_eq!(k.take_sparse(), None);
    put(&mut k, b"b", 20);
    assert_eq!(freed(&mut k), [12]);
    assert_eq!(k.take_sparse(), None, "it may yet become empty by itself");
    k.age_sparse();
    assert_eq!(k.take_sparse(), Some(object(10, 1).write_id));
    assert_eq!(k.members(a.place().unwrap().segment).len(), 1);
    assert!(k.is_held(object(10, 1).write_id));
    // a reader keeps all of it
    k.pin(source.write_id);
    k.remove(at(b"a"), 0);
    assert_eq!(freed(&mut k), [11]);
    k.unpin(source.write_id);
    assert_eq!(freed(&mut k), [10]);
    assert_eq!(k.segments(), 0);
}

#[test]
fn values_move_to_other_segments_unless_they_are_written_again() {
    let mut k = Keyspace::default();
    let old = segment(&mut k, 10, &[4, 4]);
    put_object(&mut k, b"a", old[0].clone());
    put_object(&mut k, b"b", old[1].clone());
    k.add_segment(object(30, 8), 2, 8);
    let moved = |o: &Object, offset_bytes| {
        let segment = object(30, 8).write_id;
        let place = Place {
            segment,
            offset_bytes,
        };
        Arc::new(Object::packed(o.write_id, o.layout, place))
    };
    put(&mut k, b"b", 20);
    freed(&mut k);
    assert!(k.rehome(at(b"a"), moved(&old[0], 0)));
    assert!(!k.rehome(at(b"b"), moved(&old[1], 4)));
    assert_eq!(
        freed(&mut k),
        [10, 12],
        "the old segment, and what came too late"
    );
    let now = k.get(at(b"a"), 0).unwrap().object;
    assert_eq!(now.write_id, old[0].write_id);
    assert_eq!(k.source(&now).0.write_id.counter, 30);
}

#[test]
fn a_segment_goes_when_half_of_its_values_would() {
    let mut k = Keyspace::default();
    let values = segment(&mut k, 10, &[5; 4]);
    for (i, value) in values.into_iter().enumerate() {
        put_object(&mut k, &[b'a' + i as u8], value);
        put(&mut k, &[b'p' + i as u8], 20 + i as u64);
    }
    let mut rng = SmallRng::seed_from_u64(1);
    let mut order = Vec::new();
    let removed = k.evict(EvictionPolicy::AllkeysLru, &mut rng, |o| {
        order.push(o.write_id.counter);
        match order.len() {
            4 => eviction::Verdict::TakeAndStop,
            _ => eviction::Verdict::Take,
        }
    });
    assert_eq!(order, [20, 10, 21, 22]);
    assert_eq!(removed, 7);
    assert_eq!(k.len(0), 1);
    // not while some of it may not be evicted
    let values = segment(&mut k, 50, &[5; 2]);
    for (key, value) in [b"x", b"y"].into_iter().zip(values) {
        put_object(&mut k, key, value);
    }
    k.set_expiry(at(b"x"), Some(100), 0);
    let evict = |k: &mut Keyspace, rng: &mut SmallRng| {
        k.evict(EvictionPolicy::VolatileLru, rng, |_| {
            eviction::Verdict::Take
        })
    };
    assert_eq!(evict(&mut k, &mut rng), 0);
    k.set_expiry(at(b"y"), Some(100), 0);
    assert_eq!(evict(&mut k, &mut rng), 2);
}

#[test]
fn what_a_node_should_hold_is_found_and_nothing_that_is_named_is_suspect() {
    let mut k = Keyspace::default();
    for counter in 1..=50u64 {
        put(&mut k, &counter.to_le_bytes(), counter);
    }
    k.remove(at(&7u64.to_le_bytes()), 0);
    put(&mut k, &8u64.to_le_bytes(), 60);
    k.get(at(&9u64.to_le_bytes()), 0);
    let walk = |k: &Keyspace, node| {
        let (mut expected, mut cursor) = (Vec::new(), Some(StockCursor::default()));
        while let Some(at) = cursor {
            cursor = k.expected_on(NodeId(node), at, 7, &mut expected);
        }
        expected.sort_unstable_by_key(|e| e.idleness);
        expected
    };
    let expected = walk(&k, 2);
    let ids: Vec<u64> = expected
        .iter()
        .map(|e| e.chunk.id.write_id.counter)
        .collect();
    assert_eq!(
        (ids.len(), &ids[..3]),
        (49, &[9, 60, 50][..]),
        "the lately used first"
    );
    assert!(expected.iter().all(|e| e.chunk.id.index == 2));
    assert!(walk(&k, 3).is_empty(), "whole copies on three nodes");
    let (key, _) = k.key_of(&expected[0]).unwrap();
    assert_eq!(key, at(&9u64.to_le_bytes()));
    put(&mut k, &9u64.to_le_bytes(), 61);
    assert!(k.key_of(&expected[0]).is_none(), "written anew");
    let id = |counter| object(counter, 1).write_id;
    let mut suspects: scatterhoard_node::random::HashSet<WriteId> =
        [7, 8, 9, 10, 60, 61, 99].map(id).into_iter().collect();
    let mut cursor = Some(StockCursor::default());
    while let Some(at) = cursor {
        cursor = k.unsuspect(at, 7, &mut suspects);
    }
    let left: HashSet<WriteId> = suspects.into_iter().collect();
    assert_eq!(left, HashSet::from([7, 8, 9, 99].map(id)));
}

#[test]
fn what_a_repair_moved_is_not_wanted_where_it_was_unless_it_comes_back() {
    let mut k = Keyspace::default();
    for counter in 1..=30u64 {
        put(&mut k, &counter.to_le_bytes(), counter);
    }
    let id = |counter| object(counter, 1).write_id;
    let (node, name) = (NodeId(2), 11u64.to_le_bytes());
    // 99 is named by nobody
    let suspects = [10, 11, 12, 99].map(id).into_iter().collect();
    let walk = |k: &Keyspace| {
        let (mut found, mut cursor) = (Vec::new(), Some(StockCursor::default()));
        while let Some(at) = cursor {
            cursor = k.elsewhere(node, at, 7, &suspects, &mut found);
        }
        found
    };
    assert_eq!(walk(&k), [], "they should be there");
    assert!(k.chunk_moved(at(&name), id(11), 2, NodeId(5)));
    let found = walk(&k);
    let ids: Vec<WriteId> = found.iter().map(|e| e.write_id).collect();
    assert_eq!(ids, [id(11)]);
    assert!(k.is_elsewhere(node, &found[0]));
    assert!(!k.is_elsewhere(NodeId(5), &found[0]));
    // read there, or brought back at present
    k.pin(id(11));
    assert_eq!(walk(&k), []);
    assert!(!k.is_elsewhere(node, &found[0]));
    k.unpin(id(11));
    assert!(k.is_elsewhere(node, &found[0]));
    assert!(k.chunk_moved(at(&name), id(11), 2, node));
    assert!(!k.is_elsewhere(node, &found[0]));
    assert!(k.chunk_moved(at(&name), id(11), 2, NodeId(5)));
    put(&mut k, &name, 40);
    assert!(!k.is_elsewhere(node, &found[0]), "written anew");
}

#[test]
fn renamed_keys_keep_their_slots_so_that_walks_meet_them() {
    let mut k = Keyspace::default();
    for (n, key) in [b"a", b"b", b"c"].into_iter().enumerate() {
        put(&mut k, key, n as u64 + 1);
    }
    let seen = |k: &mut Keyspace, cursor| {
        let mut met = HashSet::new();
        let next = k.sources(cursor, 1, |_, object| {
            met.insert(object.write_id.counter);
        });
        (met, next)
    };
    // a walk is behind the first slot; what lies there must not have been moved there
    let (first, cursor) = seen(&mut k, StockCursor::default());
    assert_eq!(first, HashSet::from([1]));
    let rename = |from, to| Rename {
        from: at(from),
        to: at(to),
        expiry: None,
    };
    let exchange = [rename(b"a", b"c"), rename(b"c", b"a")];
    assert_eq!(k.rename_all(&exchange, 0), 2);
    assert_eq!(k.rename_all(&[rename(b"x", b"b")], 0), 0);
    assert!(freed(&mut k).is_empty());
    let named =
        |k: &mut Keyspace, key: &[u8]| k.peek(at(key), 0).map(|f| f.object.write_id.counter);
    assert_eq!(
        [named(&mut k, b"a"), named(&mut k, b"c")],
        [Some(3), Some(1)]
    );
    let (second, cursor) = seen(&mut k, cursor.unwrap());
    let (third, end) = seen(&mut k, cursor.unwrap());
    assert_eq!([second, third], [HashSet::from([2]), HashSet::from([3])]);
    assert_eq!(end, None);
    // onto one that is there: that one goes, and its slot is vacant
    assert!(k.rename(at(b"a"), at(b"b"), 0));
    assert_eq!(freed(&mut k), [2]);
    assert_eq!((named(&mut k, b"a"), named(&mut k, b"b")), (None, Some(3)));
    assert_eq!(k.len(0), 2);
    let expiring = Rename {
        from: at(b"b"),
        to: KeyRef { db: 1, key: b"b" },
        expiry: Some(Some(50)),
    };
    assert_eq!(k.rename_all(&[expiring], 0), 1);
    assert_eq!((k.len(0), k.len(1)), (1, 1));
    assert_eq!(k.expire(50, 9), 1);
    assert_eq!(k.len(1), 0);
}
