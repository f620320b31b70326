//! Values to store, from a seed, so that a failure can be seen again; and how they
//! are stored and read again.

use std::collections::BTreeMap;

use redis::{Commands, Connection};

/// What keys should hold.
pub(crate) type Values = BTreeMap<String, Vec<u8>>;

/// Splitmix64: good bytes, and quick even unoptimised.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5ca7_7e12)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Incompressible bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }

    /// Text-like bytes that repeat, all zeros, or incompressible ones.
    pub(crate) fn any_bytes(&mut self, len: usize) -> Vec<u8> {
        match self.below(4) {
            0 => vec![0; len],
            1 => {
                let line = format!("{{\"id\":{},\"state\":\"stored\"}}\n", self.next());
                line.bytes().cycle().take(len).collect()
            }
            _ => self.bytes(len),
        }
    }

    /// 1 byte to 2^`most` bytes, each order of magnitude as likely as another.
    pub(crate) fn size(&mut self, most: u32) -> usize {
        let bits = self.below(most as usize + 1);
        1 + self.below(1 << bits)
    }
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(key: &str, read: Option<&[u8]>, stored: &[u8]) {
    match read {
        None => panic!("{key}: nil instead of {} bytes", stored.len()),
        Some(read) if read != stored => {
            let at = read.iter().zip(stored).position(|(a, b)| a != b);
            panic!(
                "{key}: WRONG BYTES, {} instead of {}, the first difference at {at:?}",
                read.len(),
                stored.len()
            );
        }
        Some(_) => {}
    }
}

/// Stores values of these sizes one by one, and some small ones in a pipeline, which
/// share segments.
pub(crate) fn fill(
    redis: &mut Connection,
    random: &mut Random,
    prefix: &str,
    sizes: &[usize],
    packed: usize,
) -> Values {
    let mut values = Values::new();
    for size in sizes {
        let value = random.any_bytes(*size);
        store(redis, &mut values, format!("{prefix}alone:{size}"), value);
    }
    let mut pipe = redis::pipe();
    for i in 0..packed {
        let (key, value) = (format!("{prefix}packed:{i}"), random.any_bytes(10 + i * 30));
        pipe.set(&key, &value).ignore();
        values.insert(key, value);
    }
    let () = pipe.query(redis).unwrap();
    values
}

#[track_caller]
pub(crate) fn store(redis: &mut Connection, values: &mut Values, key: String, value: Vec<u8>) {
    let () = redis.set(&key, &value).unwrap();
    values.insert(key, value);
}

#[track_caller]
pub(crate) fn delete(redis: &mut Connection, values: &mut Values, key: &str) {
    let () = redis.del(key).unwrap();
    values.remove(key);
}

/// All of them can be read, as they were stored.
#[track_caller]
pub(crate) fn verify(redis: &mut Connection, values: &Values, when: &str) {
    for (key, value) in values {
        let read: Option<Vec<u8>> = redis.get(key).unwrap();
        assert_same(&format!("{key} {when}"), read.as_deref(), value);
    }
}
