//! Bytes to replies, as they arrive.
//!
//! Lists and strings are framed here, and what stands on one line (numbers,
//! doubles, truth values, nulls) is decoded by redis-protocol, as in the proxy
//! the other way round. Its decoder is not given whole replies: it recurses
//! without a bound (32 KB of `*1\r\n` end the process), begins anew with every
//! read of a list that is not complete (quadratic), knows no limits, wants a
//! large string in one piece in front of it, and puts maps into hash maps: their
//! order is lost, keys that are lists are refused. Property tests hold this
//! parser against redis-protocol's encoders and decoder.

use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp3::{decode::complete, types::OwnedFrame};

use super::Reply;

/// What is reserved for a string within a list on a server's word.
const RESERVED_BYTES: usize = 1 << 20;

/// What a reply may take. Beyond, the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a line: a status, an error, a number, a header.
    pub line_bytes: usize,
    /// Lists within lists.
    pub depth: usize,
    /// Elements of a reply, at all depths.
    pub elements: usize,
    /// Bytes of a reply that is a list, its elements counted with what they take.
    pub held_bytes: u64,
    /// Bytes of a string that is a reply itself, and handed on as it comes.
    pub body_bytes: u64,
    /// Strings of more than so many bytes are handed on as they come where they
    /// are the reply, and get memory of their own where they are part of one.
    /// Others are copied.
    pub large_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: 64 << 10,
            depth: 32,
            elements: 4 << 20,
            held_bytes: 1 << 30,
            body_bytes: 1 << 40,
            large_bytes: 16 << 10,
        }
    }
}

/// Bytes that are no reply, or one beyond [`Limits`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Not RESP.
    #[error("the server sent what is not RESP: {0}")]
    Malformed(String),
    /// More than is allowed.
    #[error("the server's reply has more {what} than the allowed {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many are.
        limit: u64,
    },
}

/// What has been recognised.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A whole reply, or a push.
    Reply(Reply),
    /// A large string begins, of so many bytes; it is the reply.
    Body(u64),
    /// Its next bytes.
    Chunk(Bytes),
    /// All of it was there: the reply is complete.
    End,
}

/// A list that is not complete.
#[derive(Debug)]
struct Level {
    kind: u8,
    /// How many are to come.
    rest: u64,
    items: Vec<Reply>,
}

#[derive(Debug)]
enum State {
    /// In front of a line of which so many bytes have no line end.
    Line { seen: usize },
    /// A string that is part of a reply, or small.
    Held {
        kind: u8,
        rest: usize,
        bytes: BytesMut,
    },
    /// A large one that is the reply, handed on.
    Body { rest: u64 },
    /// After an error.
    Failed(ProtocolError),
}

/// Recognises replies, one after the other. Does no I/O.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    state: State,
    levels: Vec<Level>,
    /// Of this reply, those that are announced included.
    elements: u64,
    held: u64,
}

type Parsed<T> = Result<T, ProtocolError>;

impl Parser {
    /// In front of the first reply.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Line { seen: 0 },
            levels: Vec::new(),
            elements: 0,
            held: 0,
        }
    }

    /// Whether no reply has begun, except in bytes not seen yet.
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Line { seen: 0 }) && self.levels.is_empty()
    }

    /// How much of a body is to come: such bytes may be taken past the parser
    /// while its buffer is empty ([`Parser::body_taken`]).
    #[must_use]
    pub fn body_rest(&self) -> u64 {
        match self.state {
            State::Body { rest } => rest,
            _ => 0,
        }
    }

    /// So many bytes of the body were taken past the parser; not more than
    /// [`Parser::body_rest`], what is beyond is not counted.
    pub fn body_taken(&mut self, bytes: u64) {
        if let State::Body { rest } = &mut self.state {
            *rest = rest.saturating_sub(bytes);
        }
    }

    /// Takes the next event from the front of `input`, if there is one: otherwise
    /// more bytes are to be appended to it.
    ///
    /// # Errors
    /// When the bytes are no reply or too large a one, and ever after.
    pub fn next(&mut self, input: &mut BytesMut) -> Parsed<Option<Event>> {
        let event = self.step(input);
        if let Err(error) = &event {
            self.state = State::Failed(error.clone());
            self.levels = Vec::new();
        }
        event
    }

    fn step(&mut self, input: &mut BytesMut) -> Parsed<Option<Event>> {
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(error.clone()),
                State::Body { rest: 0 } => {
                    if !line_end(input)? {
                        return Ok(None);
                    }
                    self.begin();
                    return Ok(Some(Event::End));
                }
                State::Body { rest } => {
                    let len = input
                        .len()
                        .min(usize::try_from(*rest).unwrap_or(usize::MAX));
                    if len == 0 {
                        return Ok(None);
                    }
                    *rest -= len as u64;
                    return Ok(Some(Event::Chunk(input.split_to(len).freeze())));
                }
                State::Held { kind, rest, bytes } => {
                    let len = input.len().min(*rest);
                    bytes.extend_from_slice(&input[..len]);
                    input.advance(len);
                    *rest -= len;
                    if *rest > 0 || !line_end(input)? {
                        return Ok(None);
                    }
                    let item = string(*kind, std::mem::take(bytes).freeze())?;
                    self.state = State::Line { seen: 0 };
                    if let Some(reply) = self.item(item) {
                        return Ok(Some(Event::Reply(reply)));
                    }
                }
                State::Line { seen } => {
                    let Some(len) = line(input, seen, self.limits.line_bytes)? else {
                        return Ok(None);
                    };
                    let line = input.split_to(len + 2);
                    self.state = State::Line { seen: 0 };
                    if let Some(event) = self.line(&line)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    fn begin(&mut self) {
        self.state = State::Line { seen: 0 };
        (self.elements, self.held) = (0, 0);
    }

    /// A line with its end.
    fn line(&mut self, line: &[u8]) -> Parsed<Option<Event>> {
        let (kind, text) = match line {
            [kind, text @ .., b'\r', b'\n'] => (*kind, text),
            _ => return Err(malformed("an empty line", line)),
        };
        self.count(size_of::<Reply>() as u64 + text.len() as u64)?;
        let copy = || Bytes::copy_from_slice(text);
        let item = match kind {
            b'$' | b'=' | b'!' => match length(text)? {
                None if kind == b'$' => Reply::Null,
                None => return Err(malformed("a length", line)),
                Some(len) => return self.begin_string(kind, len),
            },
            b'*' | b'~' | b'>' | b'%' | b'|' => match length(text)? {
                None if kind == b'*' => Reply::Null,
                None => return Err(malformed("a length", line)),
                Some(items) => match self.begin_list(kind, items)? {
                    Some(list) => list,
                    None => return Ok(None),
                },
            },
            b'+' => Reply::Status(copy()),
            b'-' => Reply::Error(copy()),
            b'(' if is_number(text) => Reply::BigNumber(copy()),
            b'_' if text.is_empty() => Reply::Null,
            b':' | b',' | b'#' => scalar(line)?,
            _ => return Err(malformed("a reply", line)),
        };
        Ok(self.item(item).map(Event::Reply))
    }

    fn count(&mut self, bytes: u64) -> Parsed<()> {
        self.held += bytes;
        within("bytes", self.held, self.limits.held_bytes)
    }

    fn begin_string(&mut self, kind: u8, len: u64) -> Parsed<Option<Event>> {
        let large = len > self.limits.large_bytes as u64;
        if large && kind == b'$' && self.levels.is_empty() {
            within("bytes", len, self.limits.body_bytes)?;
            self.state = State::Body { rest: len };
            return Ok(Some(Event::Body(len)));
        }
        self.held = self.held.saturating_add(len);
        within("bytes", self.held, self.limits.held_bytes)?;
        let too_large = |_| malformed("a length", len.to_string().as_bytes());
        let rest = usize::try_from(len).map_err(too_large)?;
        // grown as it comes: who only says that it will gets little memory
        let bytes = BytesMut::with_capacity(rest.min(RESERVED_BYTES));
        self.state = State::Held { kind, rest, bytes };
        Ok(None)
    }

    /// The list itself, if it is empty.
    fn begin_list(&mut self, kind: u8, items: u64) -> Parsed<Option<Reply>> {
        let rest = match kind {
            b'%' | b'|' => items.saturating_mul(2),
            _ => items,
        };
        let elements = self.limits.elements as u64;
        self.elements = self.elements.saturating_add(rest);
        within("elements", self.elements, elements)?;
        within(
            "levels",
            self.levels.len() as u64 + 1,
            self.limits.depth as u64,
        )?;
        if rest == 0 && kind != b'|' {
            return Ok(Some(list(kind, Vec::new())));
        }
        if rest > 0 {
            // grown as they come: who only says that they will gets no memory
            let items = Vec::new();
            self.levels.push(Level { kind, rest, items });
        }
        Ok(None)
    }

    /// Puts a complete element where it belongs; returns the reply that it completes.
    fn item(&mut self, mut item: Reply) -> Option<Reply> {
        while let Some(level) = self.levels.last_mut() {
            level.items.push(item);
            level.rest -= 1;
            if level.rest > 0 {
                return None;
            }
            let level = self.levels.pop()?;
            if level.kind == b'|' {
                // attributes say something about the reply that follows: nothing
                // that anybody here wants to know
                return None;
            }
            item = list(level.kind, level.items);
        }
        self.begin();
        Some(item)
    }
}

fn list(kind: u8, items: Vec<Reply>) -> Reply {
    match kind {
        b'~' => Reply::Set(items),
        b'>' => Reply::Push(items),
        b'%' => {
            let mut pairs = Vec::with_capacity(items.len() / 2);
            let mut items = items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Reply::Map(pairs)
        }
        _ => Reply::Array(items),
    }
}

fn string(kind: u8, bytes: Bytes) -> Parsed<Reply> {
    match (kind, &bytes[..]) {
        (b'$', _) => Ok(Reply::Bulk(bytes)),
        (b'!', _) => Ok(Reply::Error(bytes)),
        (_, [a, b, c, b':', ..]) => Ok(Reply::Verbatim {
            format: [*a, *b, *c],
            text: bytes.slice(4..),
        }),
        _ => Err(malformed("verbatim text", &bytes)),
    }
}

/// The length of the line that `input` begins with, without its end, or none as
/// long as that has not come.
fn line(input: &[u8], seen: &mut usize, limit: usize) -> Parsed<Option<usize>> {
    let Some(at) = input[*seen..].iter().position(|byte| *byte == b'\n') else {
        *seen = input.len();
        within("bytes of a line", *seen as u64, limit as u64)?;
        return Ok(None);
    };
    let end = *seen + at;
    within("bytes of a line", end as u64, limit as u64)?;
    match input[..end].last() {
        Some(b'\r') => Ok(Some(end - 1)),
        _ => Err(malformed("the end of a line", &input[..=end])),
    }
}

/// Takes the line end behind a string, when it is there.
fn line_end(input: &mut BytesMut) -> Parsed<bool> {
    match &input[..] {
        [b'\r', b'\n', ..] => {
            input.advance(2);
            Ok(true)
        }
        [] | [b'\r'] => Ok(false),
        other => Err(malformed("the end of a string", other)),
    }
}

/// A length, or none for -1. Streamed lengths (`?`) are not sent by any server.
fn length(text: &[u8]) -> Parsed<Option<u64>> {
    let wrong = || malformed("a length", text);
    match text {
        b"-1" => Ok(None),
        [b'0'..=b'9', ..] if text.len() <= 18 => {
            let text = str::from_utf8(text).map_err(|_| wrong())?;
            text.parse().map(Some).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

fn is_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// What redis-protocol makes of one line.
fn scalar(line: &[u8]) -> Parsed<Reply> {
    match complete::decode(line) {
        Ok(Some((frame, len))) if len == line.len() => match frame {
            OwnedFrame::Number { data, .. } => Ok(Reply::Integer(data)),
            OwnedFrame::Double { data, .. } => Ok(Reply::Double(data)),
            OwnedFrame::Boolean { data, .. } => Ok(Reply::Boolean(data)),
            _ => Err(malformed("a number or a truth value", line)),
        },
        _ => Err(malformed("a number or a truth value", line)),
    }
}

fn within(what: &'static str, number: u64, limit: u64) -> Parsed<()> {
    if number > limit {
        return Err(ProtocolError::TooLarge { what, limit });
    }
    Ok(())
}

fn malformed(expected: &str, found: &[u8]) -> ProtocolError {
    let found = found.get(..40).unwrap_or(found).escape_ascii();
    ProtocolError::Malformed(format!("expected {expected}, found \"{found}\""))
}
