//! Numbers as C writes and reads them: printf's `%g`, and strtod.

/// `number` with `precision` significant digits (at least 1), as `%.<precision>g`.
pub(crate) fn general(number: f64, precision: usize) -> String {
    if !number.is_finite() {
        return match (number.is_nan(), number.is_sign_negative()) {
            (true, false) => "nan".into(),
            (true, true) => "-nan".into(),
            (false, false) => "inf".into(),
            (false, true) => "-inf".into(),
        };
    }
    let scientific = format!("{number:.*e}", precision - 1);
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let places = i32::try_from(precision).unwrap_or(i32::MAX) - 1 - exponent;
    if exponent < -4 || places < 0 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(digits), exponent.abs());
    }
    let places = usize::try_from(places).unwrap_or_default();
    without_zeros(&format!("{number:.places$}")).to_owned()
}

/// Without zeros at the end of a fraction.
fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

/// The number that `text` begins with, and how many bytes it takes: decimal,
/// hexadecimal, infinity or nan, with or without a sign. `None` if there is none.
pub(crate) fn prefix(text: &[u8]) -> Option<(f64, usize)> {
    let (negative, signed) = match text.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let rest = &text[signed..];
    let (value, taken) = named(rest)
        .or_else(|| hexadecimal(rest))
        .or_else(|| decimal(rest))?;
    Some((if negative { -value } else { value }, signed + taken))
}

fn named(text: &[u8]) -> Option<(f64, usize)> {
    let begins = |word: &str| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
            .then_some(word.len())
    };
    begins("infinity")
        .or_else(|| begins("inf"))
        .map(|taken| (f64::INFINITY, taken))
        .or_else(|| begins("nan").map(|taken| (f64::NAN, taken)))
}

/// How many digits are at `from`.
fn digits(text: &[u8], from: usize) -> usize {
    text[from.min(text.len())..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count()
}

fn decimal(text: &[u8]) -> Option<(f64, usize)> {
    let whole = digits(text, 0);
    let mut end = whole;
    let mut fraction = 0;
    if text.get(end) == Some(&b'.') {
        fraction = digits(text, end + 1);
        if whole + fraction > 0 {
            end += 1 + fraction;
        }
    }
    if whole + fraction == 0 {
        return None;
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'-' | b'+')));
        let exponent = digits(text, end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let number = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    Some((number, end))
}

fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    if !matches!(text, [b'0', b'x' | b'X', ..]) {
        return None;
    }
    let (mut value, mut end, mut seen, mut exponent) = (0.0_f64, 2, 0, 0_i32);
    let mut fraction = false;
    loop {
        match text
            .get(end)
            .map(|&byte| (byte, char::from(byte).to_digit(16)))
        {
            Some((_, Some(digit))) => {
                value = value * 16.0 + f64::from(digit);
                seen += 1;
                exponent -= if fraction { 4 } else { 0 };
            }
            Some((b'.', _)) if !fraction => fraction = true,
            _ => break,
        }
        end += 1;
    }
    if seen == 0 {
        // only the zero before the x
        return Some((0.0, 1));
    }
    if let Some(b'p' | b'P') = text.get(end) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'-' | b'+')));
        let count = digits(text, end + 1 + sign);
        if count > 0 {
            let written = std::str::from_utf8(&text[end + 1..end + 1 + sign + count]).ok()?;
            let power: i32 = written.trim_start_matches('+').parse().unwrap_or(9_999);
            exponent = exponent.saturating_add(power);
            end += 1 + sign + count;
        }
    }
    Some((value * 2.0_f64.powi(exponent), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_as_printf() {
        for (number, precision, text) in [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (1.0, 17, "1"),
            (0.1, 17, "0.10000000000000001"),
            (0.1, 14, "0.1"),
            (3.5, 14, "3.5"),
            (1e14, 14, "1e+14"),
            (1e13, 14, "10000000000000"),
            (123_456_789_012_345_678.0, 17, "1.2345678901234568e+17"),
            (12_345_678_901_234_567.0, 17, "12345678901234568"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (1e300, 14, "1e+300"),
            (f64::INFINITY, 14, "inf"),
            (f64::NEG_INFINITY, 14, "-inf"),
            (9.999_999_999_999_999, 3, "10"),
        ] {
            assert_eq!(general(number, precision), text);
        }
    }

    #[test]
    fn reads_as_strtod() {
        for (text, number, taken) in [
            ("12", 12.0, 2),
            ("-1.5e3]", -1500.0, 6),
            ("1e", 1.0, 1),
            ("1e+", 1.0, 1),
            ("5.", 5.0, 2),
            ("-.5", -0.5, 3),
            ("0x10", 16.0, 4),
            ("0x.8p1", 1.0, 6),
            ("0xg", 0.0, 1),
            ("Infinity,", f64::INFINITY, 8),
            ("-inf", f64::NEG_INFINITY, 4),
        ] {
            assert_eq!(prefix(text.as_bytes()), Some((number, taken)), "{text}");
        }
        for text in ["", "-", ".", "x", "e5"] {
            assert_eq!(prefix(text.as_bytes()), None, "{text}");
        }
        assert!(prefix(b"nan").is_some_and(|(number, taken)| number.is_nan() && taken == 3));
    }
}
