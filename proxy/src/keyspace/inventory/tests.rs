use proptest::{collection::vec, prelude::*};
use scatterhoard_wire::{Epoch, Geometry};

use super::*;
use crate::keyspace::Place;

const NODES: usize = 6;

fn id(counter: u64) -> WriteId {
    WriteId {
        epoch: Epoch(1),
        counter,
    }
}

fn layout(size: u64) -> Layout {
    Layout::new(Geometry::new(2, 1).unwrap(), size, 100).unwrap()
}

fn object(write: u64) -> Object {
    let placement = (0..3).map(|i| Some(NodeId((write as u16 + i) % 6)));
    Object::new(id(write), layout(50), placement.collect())
}

fn key(name: &[u8]) -> KeyRef<'_> {
    KeyRef { db: 0, key: name }
}

fn hold(inventory: &mut Inventory, object: &Object, index: usize, node: NodeId) {
    inventory.chunk(node, &object.descriptor(index));
}

fn whole(inventory: &mut Inventory, object: &Object) {
    for index in 0..object.chunks() {
        hold(inventory, object, index, object.node(index).unwrap());
    }
}

fn inventory() -> Inventory {
    Inventory::new(NODES, 1 << 20)
}

#[test]
fn what_is_newer_and_incomplete_is_a_miss() {
    let (old, new) = (object(1), object(2));
    let mut found = inventory();
    whole(&mut found, &old);
    hold(&mut found, &new, 0, NodeId(2));
    found.label(key(b"k"), new.clone(), None);
    found.label(key(b"k"), old, None);
    let findings = found.settle(1000);
    assert_eq!((findings.keys.len(), findings.doubtful), (0, 1));

    let mut found = inventory();
    hold(&mut found, &new, 0, NodeId(2));
    // the same again, on another node and instance
    hold(&mut found, &new, 0, NodeId(2));
    hold(&mut found, &new, 0, NodeId(5));
    found.label(key(b"k"), new.clone(), None);
    let findings = found.settle(1000);
    assert_eq!(findings.doubtful, 1, "one chunk, however often");
    assert_eq!(findings.strays, [(NodeId(5), id(2))]);
}

#[test]
fn chunks_count_where_they_are_and_are_expected_where_they_should_be() {
    let object = object(1);
    let mut found = inventory();
    hold(&mut found, &object, 0, NodeId(5));
    hold(&mut found, &object, 1, NodeId(2));
    found.label(key(b"k"), object, None);
    let findings = found.settle(1000);
    let object = &findings.keys[0].object;
    let nodes: Vec<_> = (0..3).map(|i| object.node(i)).collect();
    assert_eq!(nodes, [5, 2, 3].map(|n| Some(NodeId(n))));
}

#[test]
fn expiries_hold_and_the_earlier_counts() {
    let mut found = inventory();
    for (write, expiries) in [
        (1, [Some(900), None]),
        (2, [Some(2000), Some(1500)]),
        (3, [None, None]),
    ] {
        let object = object(write);
        whole(&mut found, &object);
        for at in expiries {
            found.label(key(&[write as u8]), object.clone(), at);
        }
    }
    let findings = found.settle(1000);
    assert_eq!(findings.expired, 1);
    let expiries: Vec<_> = findings.keys.iter().map(|k| k.expires_unix_ms).collect();
    assert_eq!(expiries, [Some(1500), None]);
}

#[test]
fn a_value_that_moved_is_found_in_the_segment_that_is_whole() {
    let segment = |write| Object::new(id(write), layout(500), vec![Some(NodeId(0)); 3]);
    let packed = |segment, offset_bytes| {
        let place = Place {
            segment: id(segment),
            offset_bytes,
        };
        Object::packed(id(1), layout(50), place)
    };
    let mut found = inventory();
    whole(&mut found, &segment(8));
    hold(&mut found, &segment(7), 0, NodeId(0));
    found.label(key(b"k"), packed(7, 10), None);
    found.label(key(b"k"), packed(8, 20), None);
    let beyond = Object::packed(
        id(3),
        layout(50),
        Place {
            segment: id(8),
            offset_bytes: 451,
        },
    );
    found.label(key(b"beyond"), beyond, None);
    let findings = found.settle(1000);
    assert_eq!(findings.doubtful, 1);
    assert_eq!(findings.keys[0].object, packed(8, 20));
    assert_eq!(findings.segments.len(), 1);
    let mut index = Keyspace::default();
    index.take_in(findings, 1000);
    let found = index.get(key(b"k"), 1000).unwrap();
    assert_eq!(index.source(&found.object).0.write_id, id(8));
}

#[test]
fn what_there_is_no_room_for_stays_out() {
    let mut found = Inventory::new(NODES, 2 * CLAIM_BYTES + 2 * OBJECT_BYTES + 60);
    let (old, new) = (object(1), object(2));
    whole(&mut found, &old);
    found.label(key(b"a"), old.clone(), None);
    found.label(key(b"b"), object(3), None);
    found.label(key(b"c"), object(4), None);
    whole(&mut found, &new);
    // known keys go on to learn of later writes
    found.label(key(b"a"), new, None);
    let findings = found.settle(1000);
    assert!(findings.left_out > 0);
    assert!(findings.keys.is_empty());
}

#[derive(Clone, Debug)]
struct Write {
    key: u8,
    held: [bool; 3],
    labels: usize,
}

fn write() -> impl Strategy<Value = Write> {
    (0u8..4, any::<[bool; 3]>(), 0usize..3).prop_map(|(key, held, labels)| Write {
        key,
        held,
        labels,
    })
}

proptest! {
    /// The rule, written down once more; in whichever order things are found.
    #[test]
    fn a_key_means_its_latest_labelled_write_or_nothing(
        writes in vec(write(), 0..30),
        order in any::<prop::sample::Index>(),
    ) {
        let mut found = inventory();
        let mut finds: Vec<(usize, Option<usize>)> = Vec::new();
        for (i, write) in writes.iter().enumerate() {
            finds.extend((0..3).filter(|c| write.held[*c]).map(|c| (i, Some(c))));
            finds.extend((0..write.labels).map(|_| (i, None)));
        }
        if !finds.is_empty() {
            let at = order.index(finds.len());
            finds.rotate_left(at);
            finds[at..].reverse();
        }
        for (i, what) in finds {
            let object = object(i as u64 + 1);
            match what {
                Some(chunk) => hold(&mut found, &object, chunk, object.node(chunk).unwrap()),
                None => found.label(key(&[writes[i].key]), object, None),
            }
        }
        let findings = found.settle(1000);
        for name in 0u8..4 {
            let labelled = |w: &&(usize, &Write)| w.1.key == name && w.1.labels > 0;
            let latest = writes.iter().enumerate().rfind(|w| labelled(&w));
            let expected = latest
                .filter(|(_, w)| w.held.iter().filter(|h| **h).count() >= 2)
                .map(|(i, _)| id(i as u64 + 1));
            let means = findings.keys.iter().find(|k| *k.key == [name]);
            prop_assert_eq!(means.map(|k| k.object.write_id), expected);
        }
    }
}
