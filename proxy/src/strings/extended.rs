//! INCRBYFLOAT's numbers. Redis computes them in `long double`, which on x86 has
//! 64 bits of mantissa (x87's 80-bit format), and prints 17 places behind the
//! point. Both are done here exactly, so that texts are the same on any machine.

use std::fmt;

use num_bigint::BigUint;

/// Bits of a mantissa.
const MANTISSA_BITS: i64 = 64;
/// The exponent of the smallest number there is, as of a mantissa that is whole.
const LEAST_EXPONENT: i64 = -16_445;
/// That of the largest.
const MOST_EXPONENT: i64 = 16_383 - 63;
/// Redis reads no longer numbers.
const MAX_TEXT_BYTES: usize = 5 * 1024 - 1;
/// Decimal exponents beyond are none that matter: digits cannot make up for them.
const FAR_EXPONENT: i64 = 20_000;
/// Places behind the point that are printed.
const PLACES: u32 = 17;

/// A number as x87 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// `mantissa * 2^exponent`.
    Finite {
        /// Below zero, or minus zero.
        is_negative: bool,
        /// 64 bits, the highest of them set unless the number is very small.
        mantissa: u64,
        /// See above.
        exponent: i64,
    },
    /// Infinity.
    Infinite {
        /// That below zero.
        is_negative: bool,
    },
}

/// What rounding comes to.
enum Rounded {
    Finite(u64, i64),
    TooLarge,
}

/// `numerator / denominator * 2^exponent`, to the nearest number, even in the
/// middle between two.
fn round(numerator: &BigUint, denominator: &BigUint, exponent: i64) -> Rounded {
    let bits = |n: &BigUint| i64::try_from(n.bits()).unwrap_or(i64::MAX);
    // so that the quotient has 64 bits, or one more
    let shift = MANTISSA_BITS - (bits(numerator) - bits(denominator));
    let mut shift = shift.min(exponent - LEAST_EXPONENT);
    loop {
        let left = u64::try_from(shift).unwrap_or(0);
        let right = u64::try_from(-shift).unwrap_or(0);
        let (n, d) = (numerator << left, denominator << right);
        let (mut quotient, rest) = (&n / &d, &n % &d);
        if bits(&quotient) > MANTISSA_BITS {
            shift -= 1;
            continue;
        }
        let twice = rest << 1_u32;
        if twice > d || twice == d && quotient.bit(0) {
            quotient += 1_u32;
        }
        if bits(&quotient) > MANTISSA_BITS {
            quotient >>= 1_u32;
            shift -= 1;
        }
        let exponent = exponent - shift;
        if exponent > MOST_EXPONENT {
            return Rounded::TooLarge;
        }
        let mantissa = u64::try_from(quotient).unwrap_or(u64::MAX);
        return Rounded::Finite(mantissa, exponent);
    }
}

impl Extended {
    /// A number as Redis takes it: what `strtold` takes, to its end, but for NaN,
    /// blanks before it, and what is too large or too small.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let (is_negative, digits) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        let is = |word: &str| digits.eq_ignore_ascii_case(word.as_bytes());
        if is("inf") || is("infinity") {
            return Some(Self::Infinite { is_negative });
        }
        let (radix, digits) = match digits {
            [b'0', b'x' | b'X', rest @ ..] => (16, rest),
            _ => (10, digits),
        };
        let (whole, places, power) = split(digits, radix)?;
        let digits = BigUint::parse_bytes(&whole, radix)?;
        let zero = Self::Finite {
            is_negative,
            mantissa: 0,
            exponent: LEAST_EXPONENT,
        };
        if digits == BigUint::ZERO {
            return Some(zero);
        }
        let one = BigUint::from(1_u32);
        let rounded = if radix == 16 {
            let power = power.clamp(-4 * FAR_EXPONENT, 4 * FAR_EXPONENT);
            round(&digits, &one, power - 4 * places)
        } else {
            let power = power.clamp(-FAR_EXPONENT, FAR_EXPONENT) - places;
            let ten = BigUint::from(10_u32).pow(u32::try_from(power.abs()).unwrap_or(u32::MAX));
            match power {
                ..0 => round(&digits, &ten, 0),
                _ => round(&(digits * ten), &one, 0),
            }
        };
        match rounded {
            // too small, too large
            Rounded::Finite(0, _) | Rounded::TooLarge => None,
            Rounded::Finite(mantissa, exponent) => Some(Self::Finite {
                is_negative,
                mantissa,
                exponent,
            }),
        }
    }

    /// The sum, if it is a finite number.
    pub fn plus(self, other: Self) -> Option<Self> {
        let (Some(a), Some(b)) = (self.scaled(), other.scaled()) else {
            return None;
        };
        let (is_negative, sum) = match (a.0 == b.0, a.1 >= b.1) {
            (true, _) => (a.0, a.1 + b.1),
            (false, true) => (a.0, a.1 - b.1),
            (false, false) => (b.0, b.1 - a.1),
        };
        match round(&sum, &BigUint::from(1_u32), LEAST_EXPONENT) {
            Rounded::Finite(mantissa, exponent) => Some(Self::Finite {
                is_negative,
                mantissa,
                exponent,
            }),
            Rounded::TooLarge => None,
        }
    }

    /// Its sign, and how many of the smallest numbers it is.
    fn scaled(self) -> Option<(bool, BigUint)> {
        match self {
            Self::Finite {
                is_negative,
                mantissa,
                exponent,
            } => {
                let up = u64::try_from(exponent - LEAST_EXPONENT).unwrap_or(0);
                Some((is_negative, BigUint::from(mantissa) << up))
            }
            Self::Infinite { .. } => None,
        }
    }
}

/// Digits without the point, how many of them are behind it, and the exponent.
fn split(text: &[u8], radix: u32) -> Option<(Vec<u8>, i64, i64)> {
    let is_digit = |b: &u8| char::from(*b).is_digit(radix);
    let is_mark = |b: &u8| match radix {
        16 => b.eq_ignore_ascii_case(&b'p'),
        _ => b.eq_ignore_ascii_case(&b'e'),
    };
    let (number, power) = match text.iter().position(is_mark) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let mut parts = number.splitn(2, |b| *b == b'.');
    let whole = parts.next()?;
    let fraction = parts.next().unwrap_or_default();
    let digits = [whole, fraction].concat();
    let are_digits = !digits.is_empty() && digits.iter().all(is_digit);
    are_digits.then_some((digits, fraction.len() as i64, power))
}

/// A decimal exponent; one that is too long is merely far.
fn exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |n: i64, digit: &u8| n.saturating_mul(10).saturating_add((digit - b'0').into());
    let n = digits.iter().fold(0, add);
    Some(if is_negative { -n } else { n })
}

/// As Redis prints it: without an exponent, 17 places behind the point, those
/// zeros dropped that say nothing.
impl fmt::Display for Extended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is_negative, mantissa, exponent) = match *self {
            Self::Infinite { is_negative } => {
                return f.write_str(if is_negative { "-inf" } else { "inf" });
            }
            Self::Finite {
                is_negative,
                mantissa,
                exponent,
            } => (is_negative, mantissa, exponent),
        };
        let scaled = BigUint::from(mantissa) * BigUint::from(10_u32).pow(PLACES);
        let scaled = match u64::try_from(exponent) {
            Ok(up) => scaled << up,
            Err(_) => nearest(&scaled, exponent.unsigned_abs()),
        };
        let digits = format!("{:0>1$}", scaled.to_string(), PLACES as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - PLACES as usize);
        let fraction = fraction.trim_end_matches('0');
        if is_negative && (whole != "0" || !fraction.is_empty()) {
            f.write_str("-")?;
        }
        f.write_str(whole)?;
        match fraction {
            "" => Ok(()),
            fraction => write!(f, ".{fraction}"),
        }
    }
}

/// `n / 2^bits`, to the nearest, even in the middle.
fn nearest(n: &BigUint, bits: u64) -> BigUint {
    let half = BigUint::from(1_u32) << bits.saturating_sub(1);
    let quotient = n >> bits;
    let rest = n - (&quotient << bits);
    match rest > half || rest == half && quotient.bit(0) {
        true => quotient + 1_u32,
        false => quotient,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let [a, b] = [a, b].map(|text| Extended::parse(text.as_bytes()));
        a?.plus(b?).map(|sum| sum.to_string())
    }

    /// From redis-server 7.0.15 on x86-64, which a test over sockets asks for more.
    #[test]
    fn sums_are_those_of_redis() {
        for (a, b, expected) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "1.1", "4.1"),
            ("0.1", "0.2", "0.3"),
            ("-0", "-0", "0"),
            ("1e-20", "0", "0"),
            ("-1e-20", "0", "0"),
            ("0x1.8p1", "1", "4"),
            ("1e19", "1", "10000000000000000001"),
            ("1e20", "1", "100000000000000000000"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in [
            "",
            " 1",
            "1 ",
            "1x",
            ".",
            "e1",
            "1e",
            "1e+",
            "0x",
            "0x.p1",
            "0x1p",
            "nan",
            "-nan",
            "1e5000",
            "-1e5000",
            "1e-5000",
            "1e99999999999999999999",
            "1.2.3",
            "--1",
            "1\0",
        ] {
            assert_eq!(Extended::parse(bad.as_bytes()), None, "{bad:?}");
        }
        for good in [
            "inf",
            "-Infinity",
            "+1",
            ".5",
            "5.",
            "1e4932",
            "3.7e-4951",
            "0X.8P0",
        ] {
            assert!(Extended::parse(good.as_bytes()).is_some(), "{good}");
        }
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("1.1e4932", "1.1e4932"), None);
    }

    proptest! {
        /// A `double` has fewer bits: it is exact in this format.
        #[test]
        fn doubles_are_read_exactly(number in any::<f64>()) {
            prop_assume!(number.is_finite() && number != 0.0);
            let read = Extended::parse(format!("{number:e}").as_bytes()).unwrap();
            let exact = Extended::parse(hexadecimal(number).as_bytes()).unwrap();
            // the shortest decimal text is not the exact number, but near it
            let difference = read.plus(negative(exact)).unwrap();
            let bound = Extended::parse(format!("{:e}", number.abs() * 1e-15 + f64::MIN_POSITIVE).as_bytes()).unwrap();
            prop_assert!(difference.scaled().unwrap().1 <= bound.scaled().unwrap().1);
        }

        #[test]
        fn whole_numbers_are_exact(a in any::<i32>(), b in any::<i32>()) {
            let expected = (i64::from(a) + i64::from(b)).to_string();
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), Some(expected));
        }

        /// Small ones have bits to spare for 17 places.
        #[test]
        fn what_is_printed_is_read_again(whole in -15i32..16, fraction in 0u32..1_000_000) {
            let text = format!("{whole}.{fraction:06}");
            let expected = text.trim_end_matches('0').trim_end_matches('.').to_owned();
            let expected = if expected == "-0" { "0".to_owned() } else { expected };
            prop_assert_eq!(Extended::parse(text.as_bytes()).unwrap().to_string(), expected);
        }
    }

    fn negative(number: Extended) -> Extended {
        match number {
            Extended::Finite {
                is_negative,
                mantissa,
                exponent,
            } => Extended::Finite {
                is_negative: !is_negative,
                mantissa,
                exponent,
            },
            infinite => infinite,
        }
    }

    fn hexadecimal(number: f64) -> String {
        let bits = number.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i64;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, exponent) = match exponent {
            0 => (fraction, -1074),
            _ => (fraction | 1 << 52, exponent - 1075),
        };
        let sign = if number < 0.0 { "-" } else { "" };
        format!("{sign}0x{mantissa:x}p{exponent}")
    }
}
