//! Inline commands: a line of words, as typed into a terminal.

/// Splits a line (without its LF) into words by Redis's rules (`sdssplitargs`).
///
/// Words are separated by blanks. In double quotes, `\xHH`, `\n`, `\r`, `\t`,
/// `\b` and `\a` stand for bytes and a backslash takes away the meaning of any
/// other; in single quotes only `\'` does. A closing quote must end the word.
/// `None`: a quote does not close, or does not end its word.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        // Redis's blanks include the vertical tab
        if let [0x0b, behind @ ..] = rest {
            rest = behind;
            continue;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let (word, behind) = word(rest)?;
        words.push(word);
        rest = behind;
    }
}

/// The first word of a line that begins with one, and what is behind it.
fn word(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    let mut rest = line;
    loop {
        rest = match rest {
            [] => return Some((word, rest)),
            [b' ' | b'\t' | b'\r' | b'\n', ..] => return Some((word, rest)),
            [b'"', behind @ ..] => return ends_word(double_quoted(behind, &mut word)?, word),
            [b'\'', behind @ ..] => return ends_word(single_quoted(behind, &mut word)?, word),
            [byte, behind @ ..] => {
                word.push(*byte);
                behind
            }
        };
    }
}

fn ends_word(rest: &[u8], word: Vec<u8>) -> Option<(Vec<u8>, &[u8])> {
    match rest.first() {
        None | Some(b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c) => Some((word, rest)),
        Some(_) => None,
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let byte;
        (byte, rest) = match rest {
            [] => return None,
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', b'x', high, low, behind @ ..] if is_hex(*high) && is_hex(*low) => {
                (hex(*high) << 4 | hex(*low), behind)
            }
            [b'\\', escaped, behind @ ..] => (unescape(*escaped), behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        word.push(byte);
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let byte;
        (byte, rest) = match rest {
            [] => return None,
            [b'\'', behind @ ..] => return Some(behind),
            [b'\\', b'\'', behind @ ..] => (b'\'', behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        word.push(byte);
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a' - 10),
    }
}

/// Whether a line beginning with this word is from an HTTP request: a POST, or
/// the header that follows any other method.
pub(super) fn is_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"POST") || word.eq_ignore_ascii_case(b"Host:")
}
