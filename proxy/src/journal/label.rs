//! What nodes keep of a value besides its chunks, for a proxy that has lost its
//! journal: its key and the journal's entry. Pure.

use bytes::{Buf, BufMut};
use scatterhoard_wire::{LabelId, limits::MAX_LABEL_BYTES, message::Label};

use super::record::{self, Entry};
use crate::keyspace::{KeyRef, Object};

/// The label of what a key means; none if it is on no node, or too long.
pub fn of(key: KeyRef<'_>, object: &Object, expires_unix_ms: Option<u64>) -> Option<Label> {
    let is_placed = object.place().is_some() || object.nodes().next().is_some();
    let key = record::encode_key(key);
    if !is_placed || key.len() >= MAX_LABEL_BYTES {
        return None;
    }
    let entry = Entry {
        object: object.clone(),
        expires_unix_ms,
        value: None,
    };
    let mut text = Vec::with_capacity(2 + key.len() + 80);
    text.put_u16_le(key.len() as u16);
    text.put_slice(&key);
    text.put_slice(&entry.encode());
    (text.len() <= MAX_LABEL_BYTES).then_some(Label {
        id: id_of(object),
        text,
    })
}

/// What [`of`] was given; none if it was something else.
pub fn read(label: &Label) -> Option<(KeyRef<'_>, Entry)> {
    let rest = &mut &label.text[..];
    let len = usize::from(rest.try_get_u16_le().ok()?);
    let (key, entry) = rest.split_at_checked(len)?;
    let (key, entry) = (record::decode_key(key)?, Entry::decode(entry).ok()?);
    let fits = entry.value.is_none() && id_of(&entry.object) == label.id;
    fits.then_some((key, entry))
}

fn id_of(object: &Object) -> LabelId {
    LabelId {
        object: object.place().map_or(object.write_id, |p| p.segment),
        value: object.write_id,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use scatterhoard_wire::{Epoch, Geometry, Layout, NodeId, WriteId};

    use super::*;
    use crate::keyspace::Place;

    const ID: WriteId = WriteId {
        epoch: Epoch(5),
        counter: 7,
    };

    proptest! {
        #[test]
        fn a_label_comes_back(key in vec(any::<u8>(), 0..99), at in 1u64.., packed: bool) {
            let layout = Layout::new(Geometry::new(1, 1).unwrap(), 30, 100).unwrap();
            let object = match packed {
                true => {
                    let segment = WriteId { epoch: Epoch(5), counter: 9 };
                    Object::packed(ID, layout, Place { segment, offset_bytes: 3 })
                }
                false => Object::new(ID, layout, vec![Some(NodeId(3)), None]),
            };
            let key = KeyRef { db: 3, key: &key };
            let mut label = of(key, &object, Some(at)).unwrap();
            let (k, entry) = read(&label).unwrap();
            prop_assert_eq!((k, entry.object, entry.expires_unix_ms), (key, object, Some(at)));
            label.id.value.counter += 1;
            prop_assert!(read(&label).is_none());
        }

        #[test]
        fn garbage_does_no_harm(text in vec(any::<u8>(), 0..200)) {
            let id = LabelId { object: ID, value: ID };
            let _ = read(&Label { id, text });
        }
    }

    #[test]
    fn what_is_nowhere_or_too_long_has_none() {
        let layout = Layout::new(Geometry::new(1, 1).unwrap(), 30, 100).unwrap();
        let nowhere = Object::new(ID, layout, vec![None, None]);
        let placed = Object::new(ID, layout, vec![Some(NodeId(3)), None]);
        let key = KeyRef { db: 3, key: b"k" };
        assert!(of(key, &nowhere, None).is_none() && of(key, &placed, None).is_some());
        let long = vec![0; 65_534];
        assert!(of(KeyRef { db: 0, key: &long }, &placed, None).is_none());
    }
}
