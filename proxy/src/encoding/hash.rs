//! A hash: fields with a value each, in the order in which they came.
//!
//! Encoded as a version and, for each field, the lengths of field and value in
//! bytes (32 bits each, little-endian) and both.

use std::hash::BuildHasher;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use scatterhoard_node::random::{HashMap, HashSet};

use super::Undecodable;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;
/// With more fields at once, looking each up in order takes too long.
const LOOK_UP_IN_ORDER: usize = 4;

/// A hash in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hash {
    fields: Vec<(Bytes, Bytes)>,
}

impl Hash {
    /// What [`Hash::encode`] made; fields and values are slices of it.
    pub fn decode(mut bytes: Bytes) -> Result<Self, Undecodable> {
        let wrong = Undecodable("hash");
        if bytes.try_get_u8() != Ok(VERSION) {
            return Err(wrong);
        }
        let mut fields = Vec::new();
        while bytes.has_remaining() {
            let lens = (bytes.try_get_u32_le(), bytes.try_get_u32_le());
            let (Ok(field), Ok(value)) = lens else {
                return Err(wrong);
            };
            let (field, value) = (field as usize, value as usize);
            if field
                .checked_add(value)
                .is_none_or(|both| both > bytes.len())
            {
                return Err(wrong);
            }
            fields.push((bytes.split_to(field), bytes.split_to(value)));
        }
        Ok(Self { fields })
    }

    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let lens = |(field, value): &(Bytes, Bytes)| HEADER_BYTES + field.len() + value.len();
        let len = self.fields.iter().map(lens).sum::<usize>();
        let mut out = BytesMut::with_capacity(1 + len);
        out.put_u8(VERSION);
        for (field, value) in &self.fields {
            // the parser takes no longer ones
            out.put_u32_le(u32::try_from(field.len()).unwrap_or(u32::MAX));
            out.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
            out.put_slice(field);
            out.put_slice(value);
        }
        out.freeze()
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// All fields with their values.
    pub fn iter(&self) -> impl Iterator<Item = &(Bytes, Bytes)> {
        self.fields.iter()
    }

    /// The field at this place.
    pub fn at(&self, place: usize) -> Option<&(Bytes, Bytes)> {
        self.fields.get(place)
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<&Bytes> {
        let found = self.fields.iter().find(|(f, _)| f == field);
        found.map(|(_, value)| value)
    }

    /// Sets fields, the last one of the same name counts; how many are new.
    pub fn set(&mut self, pairs: Vec<(Bytes, Bytes)>) -> usize {
        if pairs.len() <= LOOK_UP_IN_ORDER {
            return pairs
                .into_iter()
                .map(|p| usize::from(self.set_one(p)))
                .sum();
        }
        let places = self.fields.iter().enumerate();
        let mut places: HashMap<Bytes, usize> = places.map(|(i, (f, _))| (f.clone(), i)).collect();
        let before = self.fields.len();
        for (field, value) in pairs {
            match places.get(&field) {
                Some(place) => self.fields[*place].1 = value,
                None => {
                    places.insert(field.clone(), self.fields.len());
                    self.fields.push((field, value));
                }
            }
        }
        self.fields.len() - before
    }

    /// Sets one field; whether it is new.
    fn set_one(&mut self, (field, value): (Bytes, Bytes)) -> bool {
        match self.fields.iter_mut().find(|(f, _)| *f == field) {
            Some(found) => {
                found.1 = value;
                false
            }
            None => {
                self.fields.push((field, value));
                true
            }
        }
    }

    /// Removes fields; how many there were.
    pub fn remove(&mut self, fields: &[Bytes]) -> usize {
        let before = self.fields.len();
        if fields.len() <= LOOK_UP_IN_ORDER {
            self.fields.retain(|(f, _)| !fields.contains(f));
        } else {
            let gone: HashSet<&Bytes> = fields.iter().collect();
            self.fields.retain(|(f, _)| !gone.contains(f));
        }
        before - self.fields.len()
    }

    /// One step of an iteration: about `count` fields from the cursor on (0 to
    /// begin), and where to go on (0 at the end). Fields are visited in the order of
    /// their hashes, so that those which are there throughout are all visited,
    /// whatever else comes and goes.
    pub fn scan(&self, cursor: u64, count: usize) -> (Vec<&(Bytes, Bytes)>, u64) {
        let state = foldhash::quality::FixedState::default();
        // never 0, which is the beginning and the end; few enough bits for clients
        // that take cursors for floating point numbers
        let place = |pair: &(Bytes, Bytes)| (state.hash_one(&pair.0) >> 12) | 1;
        let mut rest: Vec<(u64, &(Bytes, Bytes))> = self
            .fields
            .iter()
            .map(|pair| (place(pair), pair))
            .filter(|(place, _)| *place >= cursor)
            .collect();
        rest.sort_by_key(|(place, _)| *place);
        let mut end = count.max(1).min(rest.len());
        // those of the same place come together
        while end > 0 && end < rest.len() && rest[end].0 == rest[end - 1].0 {
            end += 1;
        }
        let next = rest.get(end).map_or(0, |(place, _)| *place);
        let step = rest.into_iter().take(end).map(|(_, pair)| pair);
        (step.collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn text() -> impl Strategy<Value = Bytes> {
        vec(0u8..4, 0..4).prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn it_is_a_map_that_comes_back_from_its_bytes(
            steps in vec((vec((text(), text()), 0..12), vec(text(), 0..3)), 0..12)
        ) {
            let (mut hash, mut model) = (Hash::default(), BTreeMap::new());
            for (pairs, gone) in steps {
                let before = model.len();
                model.extend(pairs.clone());
                prop_assert_eq!(hash.set(pairs), model.len() - before);
                let before = model.len();
                gone.iter().for_each(|field| { model.remove(field); });
                prop_assert_eq!(hash.remove(&gone), before - model.len());
                hash = Hash::decode(hash.encode()).unwrap();
                let all: BTreeMap<Bytes, Bytes> = hash.iter().cloned().collect();
                prop_assert_eq!(all.len(), hash.len());
                prop_assert_eq!(&all, &model);
                for (field, value) in &model {
                    prop_assert_eq!(hash.get(field), Some(value));
                }
            }
        }

        #[test]
        fn garbage_is_refused_or_read_without_harm(bytes in vec(any::<u8>(), 0..60)) {
            if let Ok(hash) = Hash::decode(bytes.into()) {
                prop_assert_eq!(Hash::decode(hash.encode()), Ok(hash));
            }
        }

        #[test]
        fn a_scan_visits_all_that_stay(
            stay in vec(text(), 1..40), go in vec(text(), 0..20), count in 1usize..7
        ) {
            let mut hash = Hash::default();
            hash.set(stay.iter().chain(&go).map(|f| (f.clone(), Bytes::new())).collect());
            let go: Vec<Bytes> = go.into_iter().filter(|f| !stay.contains(f)).collect();
            let (mut cursor, mut met) = (0, Vec::new());
            for step in 0.. {
                let (some, next) = hash.scan(cursor, count);
                met.extend(some.into_iter().map(|(f, _)| f.clone()));
                cursor = next;
                if cursor == 0 {
                    break;
                }
                prop_assert!(step < 1000);
                if let Some(field) = go.get(step) {
                    hash.remove(std::slice::from_ref(field));
                }
            }
            for field in &stay {
                prop_assert_eq!(met.iter().filter(|f| *f == field).count(), 1);
            }
        }
    }
}
