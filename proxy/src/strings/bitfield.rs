//! BITFIELD: integers of any width at any bit of a value.

/// What an integer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Whether its highest bit is a sign.
    pub is_signed: bool,
    /// Its width: 1 to 64, or 63 without a sign.
    pub bits: u8,
}

impl Format {
    /// One bit.
    pub const BIT: Self = Self {
        is_signed: false,
        bits: 1,
    };

    /// `i8`, `u63` and so on.
    pub fn parse(text: &[u8]) -> Option<Self> {
        // as a C string
        let text = text.split(|b| *b == 0).next()?;
        let (is_signed, digits) = match text.split_first()? {
            (b'i', digits) => (true, digits),
            (b'u', digits) => (false, digits),
            _ => return None,
        };
        let bits = crate::resp::number::parse_i64(digits)?;
        let most = if is_signed { 64 } else { 63 };
        let bits = u8::try_from(bits).ok().filter(|b| (1..=most).contains(b))?;
        Some(Self { is_signed, bits })
    }
}

/// What happens to a number that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Its lowest bits are taken.
    #[default]
    Wrap,
    /// It becomes the nearest one that fits.
    Saturate,
    /// Nothing is written, and the reply is null.
    Fail,
}

/// What is done with an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Returned.
    Get,
    /// Overwritten; the one before is returned.
    Set(i64),
    /// Added to; the sum is returned.
    Add(i64),
}

/// One step of a BITFIELD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the integer looks like.
    pub format: Format,
    /// Its first bit.
    pub offset: u64,
    /// What is done with it.
    pub action: Action,
    /// If it does not fit.
    pub overflow: Overflow,
}

impl Step {
    /// Whether it may change the value.
    pub fn writes(&self) -> bool {
        self.action != Action::Get
    }

    /// The bytes in which the integer lies: nine at most.
    pub fn bytes(&self) -> std::ops::Range<u64> {
        let end = self.offset.saturating_add(self.format.bits.into());
        self.offset / 8..end.div_ceil(8)
    }
}

/// Bytes of a value, as far as they are needed. Behind its end are zeros.
pub trait Bytes {
    /// Byte `at`.
    fn byte(&self, at: u64) -> u8;
    /// Changes byte `at`.
    fn set_byte(&mut self, at: u64, byte: u8);
}

/// Carries the steps out in order; what each returns, and whether one of them
/// changed anything.
pub fn run(steps: &[Step], bytes: &mut impl Bytes) -> (Vec<Option<i64>>, bool) {
    let mut changed = false;
    let answers = steps.iter().map(|step| {
        let (answer, did) = step.run(bytes);
        changed |= did;
        answer
    });
    let answers = answers.collect();
    (answers, changed)
}

impl Step {
    fn run(&self, bytes: &mut impl Bytes) -> (Option<i64>, bool) {
        let old = self.read(bytes);
        let (new, over, answers_new) = match self.action {
            Action::Get => return (Some(old), false),
            Action::Set(new) => {
                let over = self.check(new, 0);
                (over.unwrap_or(new), over.is_some(), false)
            }
            Action::Add(more) => {
                let over = self.check(old, more);
                (over.unwrap_or(old.wrapping_add(more)), over.is_some(), true)
            }
        };
        if over && self.overflow == Overflow::Fail {
            return (None, false);
        }
        self.write(bytes, new);
        (Some(if answers_new { new } else { old }), old != new)
    }

    /// The bits in the lowest places of as many bytes as they lie in.
    fn window(&self, bytes: &impl Bytes) -> u128 {
        let places = self.bytes();
        places.fold(0, |window, at| window << 8 | u128::from(bytes.byte(at)))
    }

    fn shift(&self) -> u32 {
        let end = self.offset % 8 + u64::from(self.format.bits);
        ((8 - end % 8) % 8) as u32
    }

    fn mask(&self) -> u128 {
        (1 << self.format.bits) - 1
    }

    fn read(&self, bytes: &impl Bytes) -> i64 {
        let value = (self.window(bytes) >> self.shift()) & self.mask();
        let beyond = 128 - u32::from(self.format.bits);
        match self.format.is_signed {
            true => ((value << beyond).cast_signed() >> beyond) as i64,
            false => value as i64,
        }
    }

    fn write(&self, bytes: &mut impl Bytes, value: i64) {
        let value = value as u128 & self.mask();
        let kept = self.window(bytes) & !(self.mask() << self.shift());
        let mut window = kept | value << self.shift();
        for at in self.bytes().rev() {
            bytes.set_byte(at, window as u8);
            window >>= 8;
        }
    }

    /// What `value + more` becomes if it does not fit; any number with
    /// [`Overflow::Fail`].
    fn check(&self, value: i64, more: i64) -> Option<i64> {
        match self.format.is_signed {
            true => self.check_signed(value, more),
            false => self.check_unsigned(value, more),
        }
    }

    fn check_unsigned(&self, value: i64, more: i64) -> Option<i64> {
        // one to be set may be negative: it is taken for a very large one
        let exact = i128::from(value.cast_unsigned()) + i128::from(more);
        let most = (1_i128 << self.format.bits) - 1;
        let saturated = match exact {
            ..0 => 0,
            _ if exact > most => most,
            _ => return None,
        };
        Some(match self.overflow {
            Overflow::Saturate => saturated as i64,
            _ => (exact & most) as i64,
        })
    }

    /// Counts as Redis counts, including what overflows while it does.
    fn check_signed(&self, value: i64, more: i64) -> Option<i64> {
        let bits = u32::from(self.format.bits);
        let most = (1_i128 << (bits - 1)) as i64;
        let most = most.wrapping_sub(1);
        let least = -most - 1;
        let (room_up, room_down) = (most.wrapping_sub(value), least.wrapping_sub(value));
        let is_narrow = bits != 64;
        let above =
            value > most || is_narrow && more > room_up || value >= 0 && more > 0 && more > room_up;
        let below = value < least
            || is_narrow && more < room_down
            || value < 0 && more < 0 && more < room_down;
        if !above && !below {
            return None;
        }
        Some(match self.overflow {
            Overflow::Saturate if above => most,
            Overflow::Saturate => least,
            _ => value.wrapping_add(more) << (64 - bits) >> (64 - bits),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    impl Bytes for Vec<u8> {
        fn byte(&self, at: u64) -> u8 {
            self.get(at as usize).copied().unwrap_or(0)
        }

        fn set_byte(&mut self, at: u64, byte: u8) {
            self[at as usize] = byte;
        }
    }

    fn any_format() -> impl Strategy<Value = Format> {
        let signed = (1u8..=64).prop_map(|bits| (true, bits));
        let unsigned = (1u8..=63).prop_map(|bits| (false, bits));
        prop_oneof![signed, unsigned].prop_map(|(is_signed, bits)| Format { is_signed, bits })
    }

    fn range(format: Format) -> (i128, i128) {
        match format.is_signed {
            true => (-(1 << (format.bits - 1)), (1 << (format.bits - 1)) - 1),
            false => (0, (1 << format.bits) - 1),
        }
    }

    proptest! {
        #[test]
        fn what_is_set_is_got_and_the_rest_stays(
            value in vec(any::<u8>(), 20), format in any_format(), offset in 0u64..90,
            number in any::<i64>()
        ) {
            let (least, most) = range(format);
            let span = most - least + 1;
            let number = (least + (i128::from(number) - least).rem_euclid(span)) as i64;
            let step = |action| Step { format, offset, action, overflow: Overflow::Fail };
            let mut changed = value.clone();
            let steps = [step(Action::Get), step(Action::Set(number)), step(Action::Get)];
            let (answers, _) = run(&steps, &mut changed);
            prop_assert_eq!(answers[0], answers[1]);
            prop_assert_eq!(answers[2], Some(number));
            for at in 0..160 {
                let inside = (offset..offset + u64::from(format.bits)).contains(&at);
                let bit = |v: &[u8]| v[at as usize / 8] >> (7 - at % 8) & 1;
                prop_assert!(inside || bit(&value) == bit(&changed), "bit {}", at);
            }
        }

        #[test]
        fn sums_that_do_not_fit_are_treated_as_asked(
            format in any_format(), start in any::<i64>(), more in any::<i64>(), overflow in 0usize..3
        ) {
            let (least, most) = range(format);
            let start = (least + (i128::from(start) - least).rem_euclid(most - least + 1)) as i64;
            let overflow = [Overflow::Wrap, Overflow::Saturate, Overflow::Fail][overflow];
            let step = |action| Step { format, offset: 3, action, overflow };
            let exact = i128::from(start) + i128::from(more);
            let expected = match overflow {
                Overflow::Wrap => Some(least + (exact - least).rem_euclid(most - least + 1)),
                Overflow::Saturate => Some(exact.clamp(least, most)),
                Overflow::Fail => Some(exact).filter(|n| (least..=most).contains(n)),
            };
            let mut value = vec![0; 12];
            let steps = [step(Action::Set(start)), step(Action::Add(more)), step(Action::Get)];
            let (answers, _) = run(&steps, &mut value);
            prop_assert_eq!(answers[1], expected.map(|n| n as i64));
            prop_assert_eq!(answers[2], answers[1].or(Some(start)));
        }
    }

    #[test]
    fn formats_are_read_as_redis_reads_them() {
        let bits = |text: &str| Format::parse(text.as_bytes()).map(|f| (f.is_signed, f.bits));
        assert_eq!(bits("i64"), Some((true, 64)));
        assert_eq!(bits("u63"), Some((false, 63)));
        assert_eq!(bits("u8\0x"), Some((false, 8)));
        for bad in ["", "i", "u64", "i65", "i0", "u-1", "I8", "u08", "x8", "u8 "] {
            assert_eq!(bits(bad), None, "{bad}");
        }
    }
}
