//! Redis's glob patterns (`stringmatchlen`), in time `pattern * text` at most.

/// A pattern with a star may have so many bytes, where clients bring it.
pub const MAX_STARRED_BYTES: usize = 1024;
/// What one comparison may take; others wait for some of them.
const MAX_STEPS: usize = 1 << 20;

/// Whether a client's pattern is one that may be compared with many texts: without
/// a star it is gone through once.
pub fn is_sane(pattern: &[u8]) -> bool {
    pattern.len() <= MAX_STARRED_BYTES || !pattern.contains(&b'*')
}

/// Whether `text` matches `pattern`: `*` any bytes, `?` one byte, `[a-z]` one
/// byte of a class, `[^a-z]` one byte that is not, `\` takes away the meaning
/// of the next byte. Bytes, not characters; case counts.
///
/// Redis 7.0 tries every split at every `*`, which takes exponential time for
/// patterns such as `a*a*a*a*b`. Only the last `*` needs to be tried again: what
/// lies before it has already matched as early as it can.
///
/// After [`MAX_STEPS`] it gives up, and the text does not match: no pattern that
/// commands take needs so many for a text of 1 KiB.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    let mut steps = MAX_STEPS;
    // where to go on when something behind the last star does not match
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            retry = Some((rest, text));
            continue;
        }
        let stepped = match text {
            [] if pattern.is_empty() => return true,
            // a longer text is no better when this one is at its end
            [] => return false,
            [byte, rest @ ..] => {
                let (hit, behind) = one(pattern, *byte);
                // a class is looked through, all else is a step
                let passed = pattern.len() - behind.len();
                match steps.checked_sub(passed.max(1)) {
                    Some(left) => steps = left,
                    None => return false,
                }
                hit.then_some((behind, rest))
            }
        };
        match (stepped, retry) {
            (Some((behind, rest)), _) => (pattern, text) = (behind, rest),
            (None, Some((behind_star, [_, rest @ ..]))) => {
                retry = Some((behind_star, rest));
                (pattern, text) = (behind_star, rest);
            }
            (None, _) => return false,
        }
    }
}

/// Whether the byte matches the first part of the pattern, and what is behind that.
fn one(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    match pattern {
        [] => (false, pattern),
        [b'?', rest @ ..] => (true, rest),
        [b'[', class @ ..] => in_class(class, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte, rest),
    }
}

/// Whether the byte is in the class, and what is behind the class's `]`. A
/// class that does not end ends with the pattern, as in Redis.
fn in_class(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut class) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut hit = false;
    loop {
        class = match class {
            [] => break,
            [b']', rest @ ..] => {
                class = rest;
                break;
            }
            [b'\\', literal, rest @ ..] => {
                hit |= *literal == byte;
                rest
            }
            [from, b'-', to, rest @ ..] => {
                let (low, high) = if from <= to { (from, to) } else { (to, from) };
                hit |= (low..=high).contains(&&byte);
                rest
            }
            [literal, rest @ ..] => {
                hit |= *literal == byte;
                rest
            }
        };
    }
    (hit != negated, class)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    fn fits(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn patterns_mean_what_they_mean_in_redis() {
        let hits = [
            ("*", ""),
            ("*", "abc"),
            ("**", "a"),
            ("a*", "a"),
            ("*b", "aab"),
            ("a*c*e", "abcde"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            (r"\*", "*"),
            (r"[\]]", "]"),
            (r"a\", r"a\"),
            ("[a", "a"),
            ("[^", "x"),
            ("", ""),
            ("[a-]", "a"),
            ("*[0-9]", "x7"),
            ("?*?", "ab"),
        ];
        for (pattern, text) in hits {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        let misses = [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("a*", "b"),
            ("h[^e]llo", "hello"),
            ("[", "["),
            ("A", "a"),
            (r"\*", "a"),
            ("[]", "a"),
            ("[]-]", "]-]"),
            ("*a", "ab"),
            ("?*?", "a"),
        ];
        for (pattern, text) in misses {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_comparison_ends() {
        let pattern = format!("*{}b", "a".repeat(1000));
        let text = format!("{}b", "a".repeat(10_000));
        // so long a text takes too many steps; a usual one does not
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
        let text = format!("{}b", "a".repeat(1024));
        assert!(matches(pattern.as_bytes(), text.as_bytes()));
        let class = format!("*[{}]", "b".repeat(1000));
        assert!(!matches(class.as_bytes(), &[b'a'; 20_000]));
        assert!(super::is_sane(pattern.as_bytes()) && super::is_sane(&[b'?'; 5000]));
        assert!(!super::is_sane(&[b'*'; 5000]));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(1000) + "b";
        assert!(!fits(&pattern, &"a".repeat(20_000)));
    }

    /// Tries every split at every star.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => {
                (0..=text.len()).any(|at| by_definition(rest, &text[at..]))
            }
            (_, []) => false,
            (pattern, [byte, text @ ..]) => {
                let (hit, rest) = super::one(pattern, *byte);
                hit && by_definition(rest, text)
            }
        }
    }

    proptest! {
        #[test]
        fn stars_stand_for_any_bytes(pattern in r"[ab*?\\\[\]^-]{0,10}", text in "[ab*\\-\\]]{0,8}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), by_definition(pattern, text));
        }

        #[test]
        fn any_bytes_are_a_pattern(pattern: Vec<u8>, text: Vec<u8>) {
            matches(&pattern, &text);
        }

        #[test]
        fn an_escaped_text_matches_itself_alone(text: Vec<u8>, other: Vec<u8>) {
            let pattern: Vec<u8> = text.iter().flat_map(|byte| [b'\\', *byte]).collect();
            prop_assert!(matches(&pattern, &text));
            prop_assert_eq!(matches(&pattern, &other), text == other);
        }
    }
}
