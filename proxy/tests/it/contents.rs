//! Values to store: from a seed, so that a failure can be seen again.

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
