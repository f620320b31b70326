//! BITCOUNT, BITPOS and BITOP. Bit 0 is the highest one of the first byte.

use std::ops::Range;

/// What a range counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    #[default]
    Byte,
    /// Bits.
    Bit,
}

/// A range as clients give it: both ends included, negative ones count from
/// the end of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRange {
    /// The first one.
    pub start: i64,
    /// The last one; `None`: the last there is.
    pub end: Option<i64>,
    /// What is counted.
    pub unit: Unit,
}

impl BitRange {
    /// The whole value.
    pub const ALL: Self = Self {
        start: 0,
        end: None,
        unit: Unit::Byte,
    };

    /// The bits that are meant, of a value of `len` bytes.
    pub fn of(&self, len: u64) -> Window {
        let unit_bits = match self.unit {
            Unit::Byte => 8,
            Unit::Bit => 1,
        };
        let total = i64::try_from(len.saturating_mul(8 / unit_bits)).unwrap_or(i64::MAX);
        let absolute = |place: i64| match place {
            ..0 => total.saturating_add(place).max(0),
            _ => place,
        };
        let start = absolute(self.start);
        let last = self.end.map_or(total - 1, absolute).min(total - 1);
        match start <= last {
            // neither is negative
            true => Window(start as u64 * unit_bits..(last as u64 + 1) * unit_bits),
            false => Window(0..0),
        }
    }
}

/// Some bits of a value, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window(Range<u64>);

impl Window {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bit behind the last one.
    pub fn end(&self) -> u64 {
        self.0.end
    }

    /// The bytes in which they are.
    pub fn bytes(&self) -> Range<u64> {
        self.0.start / 8..self.0.end.div_ceil(8)
    }

    /// Those of byte `at` that belong to it.
    fn mask(&self, at: u64) -> u8 {
        let mut mask = 0xff;
        if at == self.0.start / 8 {
            mask &= 0xff >> (self.0.start % 8);
        }
        if at == self.0.end / 8 {
            mask &= !(0xff >> (self.0.end % 8));
        }
        mask
    }

    /// How many of those in `piece` are set, whose first byte is byte `at` of the
    /// value. All of it lies within [`Self::bytes`].
    pub fn count(&self, at: u64, piece: &[u8]) -> u64 {
        let (words, rest) = piece.as_chunks::<8>();
        let in_words = words.iter().map(|w| u64::from_ne_bytes(*w).count_ones());
        let in_rest = rest.iter().map(|b| b.count_ones());
        let all: u64 = in_words.chain(in_rest).map(u64::from).sum();
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else {
            return 0;
        };
        let end = at + piece.len() as u64 - 1;
        let beyond = |at, byte: u8| u64::from((byte & !self.mask(at)).count_ones());
        let beyond_last = if end > at { beyond(end, *last) } else { 0 };
        all - beyond(at, *first) - beyond_last
    }

    /// The first of those in `piece` that is `bit`, as a place in the value.
    pub fn find(&self, bit: bool, at: u64, piece: &[u8]) -> Option<u64> {
        let dull = if bit { 0 } else { 0xff };
        let mut from = 0;
        while let Some(next) = piece[from..].iter().position(|b| *b != dull) {
            let place = from + next;
            let (byte, mask) = (piece[place], self.mask(at + place as u64));
            let byte = if bit { byte & mask } else { byte | !mask };
            if byte != dull {
                let within = match bit {
                    true => byte.leading_zeros(),
                    false => byte.leading_ones(),
                };
                return Some((at + place as u64) * 8 + u64::from(within));
            }
            from = place + 1;
        }
        None
    }
}

/// How BITOP combines values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bits that all have.
    And,
    /// Bits that any has.
    Or,
    /// Bits that an odd number of them has.
    Xor,
    /// Bits that the only one has not.
    Not,
}

impl Operation {
    /// Combines `bytes` with others, behind whose end are zeros.
    pub fn combine(self, bytes: &mut [u8], others: &[u8]) {
        let both = bytes.iter_mut().zip(others);
        match self {
            Self::And => {
                both.for_each(|(byte, other)| *byte &= other);
                let rest = bytes.get_mut(others.len()..).unwrap_or_default();
                rest.fill(0);
            }
            Self::Or => both.for_each(|(byte, other)| *byte |= other),
            Self::Xor => both.for_each(|(byte, other)| *byte ^= other),
            // there are no others
            Self::Not => {}
        }
    }

    /// What is done at last.
    pub fn finish(self, bytes: &mut [u8]) {
        if self == Self::Not {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn bit(value: &[u8], at: u64) -> bool {
        value[at as usize / 8] >> (7 - at % 8) & 1 == 1
    }

    fn any_range() -> impl Strategy<Value = BitRange> {
        let end = prop::option::of(-200i64..200);
        (-200i64..200, end, any::<bool>()).prop_map(|(start, end, bits)| BitRange {
            start,
            end,
            unit: if bits { Unit::Bit } else { Unit::Byte },
        })
    }

    /// Calls with the value's bytes of the window, in pieces.
    fn in_pieces(
        value: &[u8],
        window: &Window,
        step: usize,
        mut work: impl FnMut(u64, &[u8]) -> bool,
    ) {
        let mut at = window.bytes().start as usize;
        let end = window.bytes().end as usize;
        while at < end {
            let next = (at + step).min(end);
            if work(at as u64, &value[at..next]) {
                return;
            }
            at = next;
        }
    }

    proptest! {
        #[test]
        fn bits_are_counted_and_found_one_by_one(
            value in vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..40),
            range in any_range(), step in 1usize..12, wanted in any::<bool>()
        ) {
            let window = range.of(value.len() as u64);
            let counted = window.0.clone().filter(|at| bit(&value, *at)).count() as u64;
            let first = window.0.clone().find(|at| bit(&value, *at) == wanted);
            let (mut count, mut found) = (0, None);
            in_pieces(&value, &window, step, |at, piece| {
                count += window.count(at, piece);
                false
            });
            in_pieces(&value, &window, step, |at, piece| {
                found = window.find(wanted, at, piece);
                found.is_some()
            });
            prop_assert_eq!(count, counted);
            prop_assert_eq!(found, first);
        }

        #[test]
        fn values_combine_as_if_zeros_were_behind_them(
            values in vec(vec(any::<u8>(), 0..20), 1..5), op in 0usize..3
        ) {
            let op = [Operation::And, Operation::Or, Operation::Xor][op];
            let len = values.iter().map(Vec::len).max().unwrap();
            let mut combined = values[0].clone();
            combined.resize(len, 0);
            values[1..].iter().for_each(|v| op.combine(&mut combined, v));
            op.finish(&mut combined);
            for (at, byte) in combined.iter().enumerate() {
                let bytes = values.iter().map(|v| v.get(at).copied().unwrap_or(0));
                let expected = bytes.reduce(|a, b| match op {
                    Operation::And => a & b,
                    Operation::Or => a | b,
                    _ => a ^ b,
                });
                prop_assert_eq!(Some(*byte), expected);
            }
        }
    }
}
