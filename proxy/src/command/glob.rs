//! Redis's glob patterns (`stringmatchlen`), in time `pattern * text` at most.

/// Whether `text` matches `pattern`: `*` any bytes, `?` one byte, `[a-z]` one
/// byte of a class, `[^a-z]` one byte that is not, `\` takes away the meaning
/// of the next byte. Bytes, not characters; case counts.
///
/// Redis 7.0 tries every split at every `*`, which takes exponential time for
/// patterns such as `a*a*a*a*b`. Only the last `*` needs to be tried again: what
/// lies before it has already matched as early as it can.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
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
            [byte, rest @ ..] => one(pattern, *byte).map(|behind| (behind, rest)),
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

/// Matches one byte; returns the pattern behind what matched it.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', class @ ..] => {
            let (hit, rest) = in_class(class, byte);
            hit.then_some(rest)
        }
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
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
                super::one(pattern, *byte).is_some_and(|rest| by_definition(rest, text))
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
