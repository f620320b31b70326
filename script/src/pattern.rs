//! Lua 5.1's patterns, matched within bounds of stack and time.
//!
//! Lua's own matcher recurses as deep as the pattern is long, and tries for as
//! long as it takes. Here depth is limited, and every few thousand steps the
//! matcher asks whether the script is to end. Nothing here has a destructor,
//! since errors of Lua jump over it.

use std::ffi::CStr;

use crate::context::Context;

/// Captures of one match.
const MAX_CAPTURES: usize = 32;
/// Nested attempts: about one for each item of a pattern that may match more or
/// less.
const MAX_DEPTH: usize = 400;
/// Steps between two looks at the clock.
const STEPS: u32 = 8_192;

/// Why a match came to no end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PatternError {
    /// The pattern makes no sense, or is too complex.
    Malformed(&'static CStr),
    /// The script is to end.
    Stopped,
}

/// What a capture has.
pub(crate) enum Capture<'a> {
    /// Bytes of the text.
    Text(&'a [u8]),
    /// A position, counted from 1: `()`.
    Position(usize),
}

#[derive(Clone, Copy)]
enum Extent {
    Open,
    Position,
    Len(usize),
}

/// A text and a pattern.
pub(crate) struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    anchored: bool,
    captures: [(usize, Extent); MAX_CAPTURES],
    level: usize,
    depth: usize,
    steps: u32,
    context: &'a Context,
}

type Outcome = Result<Option<usize>, PatternError>;

const fn malformed<T>(what: &'static CStr) -> Result<T, PatternError> {
    Err(PatternError::Malformed(what))
}

impl<'a> Matcher<'a> {
    /// Matches `pattern`, at the beginning only if it begins with `^`.
    pub(crate) fn new(text: &'a [u8], pattern: &'a [u8], context: &'a Context) -> Self {
        let anchored = pattern.first() == Some(&b'^');
        let mut matcher = Self::new_unanchored(text, &pattern[usize::from(anchored)..], context);
        matcher.anchored = anchored;
        matcher
    }

    /// Matches `pattern`, in which `^` is a character like others.
    pub(crate) fn new_unanchored(text: &'a [u8], pattern: &'a [u8], context: &'a Context) -> Self {
        // a pattern ends at its first zero byte, as in Lua 5.1
        let end = pattern
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(pattern.len());
        Self {
            text,
            pattern: &pattern[..end],
            anchored: false,
            captures: [(0, Extent::Open); MAX_CAPTURES],
            level: 0,
            depth: 0,
            steps: STEPS,
            context,
        }
    }

    /// Whether a pattern is more than plain text.
    pub(crate) fn has_specials(pattern: &[u8]) -> bool {
        pattern
            .iter()
            .take_while(|&&byte| byte != 0)
            .any(|byte| b"^$*+?.([%-".contains(byte))
    }

    /// Where `what` is in `text`, from `from` on.
    pub(crate) fn plain(text: &[u8], what: &[u8], from: usize, context: &Context) -> Outcome {
        let Some(&first) = what.first() else {
            return Ok(Some(from));
        };
        let (mut at, mut work) = (from, 0);
        while at + what.len() <= text.len() {
            let candidates = &text[at..=text.len() - what.len()];
            let Some(skip) = candidates.iter().position(|&byte| byte == first) else {
                return Ok(None);
            };
            at += skip;
            if &text[at..at + what.len()] == what {
                return Ok(Some(at));
            }
            at += 1;
            work += what.len();
            if work > 1 << 20 {
                work = 0;
                if context.should_end() {
                    return Err(PatternError::Stopped);
                }
            }
        }
        Ok(None)
    }

    /// The first match from `from` on: its start and end.
    pub(crate) fn search(&mut self, from: usize) -> Result<Option<(usize, usize)>, PatternError> {
        for start in from..=self.text.len() {
            if let Some(end) = self.at(start)? {
                return Ok(Some((start, end)));
            }
            if self.anchored {
                break;
            }
        }
        Ok(None)
    }

    /// The end of a match that begins at `start`.
    pub(crate) fn at(&mut self, start: usize) -> Outcome {
        self.level = 0;
        self.depth = 0;
        self.run(start, 0)
    }

    /// Whether the pattern began with `^`.
    pub(crate) fn anchored(&self) -> bool {
        self.anchored
    }

    /// How many captures the match has.
    pub(crate) fn captures(&self) -> usize {
        self.level
    }

    /// A part of the text.
    pub(crate) fn text(&self, found: (usize, usize)) -> &'a [u8] {
        &self.text[found.0..found.1]
    }

    /// A capture of the match `found`. With none, the first is the whole match.
    pub(crate) fn capture(
        &self,
        index: usize,
        found: (usize, usize),
    ) -> Result<Capture<'a>, PatternError> {
        if index >= self.level {
            return match index {
                0 => Ok(Capture::Text(self.text(found))),
                _ => malformed(c"invalid capture index"),
            };
        }
        match self.captures[index] {
            (start, Extent::Len(len)) => Ok(Capture::Text(&self.text[start..start + len])),
            (start, Extent::Position) => Ok(Capture::Position(start + 1)),
            (_, Extent::Open) => malformed(c"unfinished capture"),
        }
    }

    fn step(&mut self) -> Result<(), PatternError> {
        self.steps -= 1;
        if self.steps == 0 {
            self.steps = STEPS;
            if self.context.should_end() {
                return Err(PatternError::Stopped);
            }
        }
        Ok(())
    }

    /// Matches the rest of the pattern, one level deeper.
    fn run(&mut self, at: usize, item: usize) -> Outcome {
        if self.depth == MAX_DEPTH {
            return malformed(c"pattern too complex");
        }
        self.depth += 1;
        let outcome = self.rest(at, item);
        self.depth -= 1;
        outcome
    }

    fn rest(&mut self, mut at: usize, mut item: usize) -> Outcome {
        loop {
            self.step()?;
            let Some(&first) = self.pattern.get(item) else {
                return Ok(Some(at));
            };
            let second = self.pattern.get(item + 1).copied();
            match (first, second) {
                (b'(', Some(b')')) => return self.open(at, item + 2, Extent::Position),
                (b'(', _) => return self.open(at, item + 1, Extent::Open),
                (b')', _) => return self.close(at, item + 1),
                (b'%', Some(b'b')) => match self.balance(at, item + 2)? {
                    Some(end) => (at, item) = (end, item + 4),
                    None => return Ok(None),
                },
                (b'%', Some(b'f')) => match self.frontier(at, item + 2)? {
                    Some(next) => item = next,
                    None => return Ok(None),
                },
                (b'%', Some(digit @ b'0'..=b'9')) => match self.again(at, digit)? {
                    Some(end) => (at, item) = (end, item + 2),
                    None => return Ok(None),
                },
                (b'$', None) => return Ok((at == self.text.len()).then_some(at)),
                _ => {
                    let end = self.class_end(item)?;
                    let matches = self.single(at, item, end);
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if matches && let Some(found) = self.run(at + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            item = end + 1;
                        }
                        Some(b'*') => return self.most(at, item, end),
                        Some(b'+') if matches => return self.most(at + 1, item, end),
                        Some(b'-') => return self.least(at, item, end),
                        Some(b'+') => return Ok(None),
                        _ if matches => (at, item) = (at + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    /// As many as there are, then fewer.
    fn most(&mut self, at: usize, item: usize, end: usize) -> Outcome {
        let mut count = 0;
        while self.single(at + count, item, end) {
            self.step()?;
            count += 1;
        }
        loop {
            if let Some(found) = self.run(at + count, end + 1)? {
                return Ok(Some(found));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    /// As few as will do.
    fn least(&mut self, mut at: usize, item: usize, end: usize) -> Outcome {
        loop {
            if let Some(found) = self.run(at, end + 1)? {
                return Ok(Some(found));
            }
            if !self.single(at, item, end) {
                return Ok(None);
            }
            at += 1;
        }
    }

    fn open(&mut self, at: usize, item: usize, extent: Extent) -> Outcome {
        if self.level == MAX_CAPTURES {
            return malformed(c"too many captures");
        }
        self.captures[self.level] = (at, extent);
        self.level += 1;
        let outcome = self.run(at, item)?;
        if outcome.is_none() {
            self.level -= 1;
        }
        Ok(outcome)
    }

    fn close(&mut self, at: usize, item: usize) -> Outcome {
        let open = self.captures[..self.level]
            .iter()
            .rposition(|(_, extent)| matches!(extent, Extent::Open));
        let Some(index) = open else {
            return malformed(c"invalid pattern capture");
        };
        self.captures[index].1 = Extent::Len(at - self.captures[index].0);
        let outcome = self.run(at, item)?;
        if outcome.is_none() {
            self.captures[index].1 = Extent::Open;
        }
        Ok(outcome)
    }

    /// `%bxy`: from x to the y that closes it.
    fn balance(&mut self, at: usize, item: usize) -> Outcome {
        let Some(&[open, close]) = self.pattern.get(item..item + 2) else {
            return malformed(c"unbalanced pattern");
        };
        if self.text.get(at) != Some(&open) {
            return Ok(None);
        }
        let mut nested = 1_usize;
        for index in at + 1..self.text.len() {
            self.step()?;
            if self.text[index] == close {
                nested -= 1;
                if nested == 0 {
                    return Ok(Some(index + 1));
                }
            } else if self.text[index] == open {
                nested += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: here the set begins. Returns where the pattern goes on.
    fn frontier(&mut self, at: usize, item: usize) -> Outcome {
        if self.pattern.get(item) != Some(&b'[') {
            return malformed(c"missing '[' after '%f' in pattern");
        }
        let end = self.class_end(item)?;
        let before = at.checked_sub(1).map_or(0, |index| self.text[index]);
        let here = self.text.get(at).copied().unwrap_or(0);
        let begins = !self.in_set(before, item, end - 1) && self.in_set(here, item, end - 1);
        Ok(begins.then_some(end))
    }

    /// `%1`: what a capture has, once more.
    fn again(&mut self, at: usize, digit: u8) -> Outcome {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        if index >= self.level {
            return malformed(c"invalid capture index");
        }
        let (start, len) = match self.captures[index] {
            (start, Extent::Len(len)) => (start, len),
            // a position is nowhere in the text
            (_, Extent::Position) => return Ok(None),
            (_, Extent::Open) => return malformed(c"invalid capture index"),
        };
        let same = self.text[at..].starts_with(&self.text[start..start + len]);
        Ok(same.then_some(at + len))
    }

    /// Where the single character class that begins at `item` ends.
    fn class_end(&self, item: usize) -> Result<usize, PatternError> {
        let pattern = self.pattern;
        let mut at = item + 1;
        match pattern[item] {
            b'%' if at == pattern.len() => malformed(c"malformed pattern (ends with '%')"),
            b'%' => Ok(at + 1),
            b'[' => {
                if pattern.get(at) == Some(&b'^') {
                    at += 1;
                }
                // the first character is of the set even if it is a bracket
                loop {
                    let Some(&byte) = pattern.get(at) else {
                        return malformed(c"malformed pattern (missing ']')");
                    };
                    at += 1;
                    if byte == b'%' && at < pattern.len() {
                        at += 1;
                    }
                    if pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(at),
        }
    }

    /// Whether the character at `at` is of the class.
    fn single(&self, at: usize, item: usize, end: usize) -> bool {
        let Some(&byte) = self.text.get(at) else {
            return false;
        };
        match self.pattern[item] {
            b'.' => true,
            b'%' => in_class(byte, self.pattern[item + 1]),
            b'[' => self.in_set(byte, item, end - 1),
            literal => literal == byte,
        }
    }

    /// Whether `byte` is in the set from the bracket at `open` to that at `close`.
    fn in_set(&self, byte: u8, open: usize, close: usize) -> bool {
        let set = &self.pattern[open + 1..close];
        let (set, wanted) = match set.split_first() {
            Some((b'^', rest)) => (rest, false),
            _ => (set, true),
        };
        let mut at = 0;
        while at < set.len() {
            let found = match set[at..] {
                [b'%', ref class @ ..] => {
                    at += 1;
                    // behind a range that took its percent sign for a bound, the
                    // class may be the closing bracket
                    in_class(byte, class.first().copied().unwrap_or(b']'))
                }
                [from, b'-', to, ..] => {
                    at += 2;
                    (from..=to).contains(&byte)
                }
                [literal, ..] => literal == byte,
                [] => false,
            };
            if found {
                return wanted;
            }
            at += 1;
        }
        !wanted
    }
}

/// `%a` and its kind; in capitals, all the others.
fn in_class(byte: u8, class: u8) -> bool {
    let within = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    within != class.is_ascii_uppercase()
}
