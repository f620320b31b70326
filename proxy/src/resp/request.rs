//! The request parser: bounded, incremental, and never looking twice at a byte.
//!
//! A client sends flat arrays of bulk strings, or inline commands (a line of
//! words, see [`super::inline`]). redis-protocol's decoder is not used on
//! client bytes: its nesting is unbounded and it starts again from the front
//! whenever a request arrives in pieces.
//!
//! Differences to Redis 7.0, all on the strict side: a header line must end in
//! CRLF, a bulk must be followed by CRLF, an array may have at most
//! [`Limits::max_args`] elements (Redis before 7 had the same limit).

use bytes::{Buf, Bytes, BytesMut};

use super::inline;
use super::number::parse_i64;
use crate::value::Value;

/// What one request may take. Every limit is inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Elements of the array.
    pub max_args: usize,
    /// Length of one bulk string (`proto-max-bulk-len`).
    pub max_bulk_bytes: u64,
    /// Length of a header line or an inline command, without its line end.
    pub max_line_bytes: usize,
    /// Bulk strings this long or longer are not collected in the read buffer
    /// but reported as [`Step::LargeBulk`].
    pub large_from_bytes: usize,
    /// Total length of the large arguments of one request.
    pub max_large_bytes: u64,
    /// Total length of those arguments of one request that are collected here.
    pub max_small_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_args: 1024 * 1024,
            max_bulk_bytes: 512 * 1024 * 1024,
            max_line_bytes: 64 * 1024,
            large_from_bytes: 64 * 1024,
            max_large_bytes: 1024 * 1024 * 1024,
            max_small_bytes: 64 * 1024 * 1024,
        }
    }
}

/// What [`RequestParser::step`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// All that can be used is used: read more into the buffer and call again.
    NeedMore,
    /// A complete request: its arguments, the command's name first, never none.
    ///
    /// The arguments are slices of the read buffer and keep all of it alive:
    /// copy what is to be kept.
    Request(Vec<Value>),
    /// An argument of `len` bytes begins here. The caller takes exactly that
    /// many bytes, first from the buffer and then from the socket, and gives
    /// the value back by [`RequestParser::large_done`]. The line end behind it
    /// is the parser's.
    LargeBulk {
        /// Length in bytes; at least [`Limits::large_from_bytes`].
        len: u64,
    },
}

/// The client broke the protocol. Answer [`ProtocolError`] as an error reply
/// and close the connection: nothing behind this point can be understood.
///
/// The texts are those of Redis where Redis has the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The array's length is not a number, or above the limit.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// The array is longer than strangers may send.
    #[error("Protocol error: unauthenticated multibulk length")]
    StrangersMultibulkLength,
    /// The bulk is longer than strangers may send.
    #[error("Protocol error: unauthenticated bulk length")]
    StrangersBulkLength,
    /// The bulk's length is not a number, negative, or above the limit.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// An array element is something other than a bulk string.
    #[error("Protocol error: expected '$', got '{0}'")]
    ExpectedBulk(char),
    /// A bulk string is longer or shorter than its header says.
    #[error("Protocol error: expected CRLF after bulk")]
    ExpectedCrlf,
    /// The array header does not end within [`Limits::max_line_bytes`].
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLine,
    /// A bulk header does not end within [`Limits::max_line_bytes`].
    #[error("Protocol error: too big bulk count string")]
    BulkLine,
    /// The inline command does not end within [`Limits::max_line_bytes`].
    #[error("Protocol error: too big inline request")]
    InlineLine,
    /// The quotes of an inline command do not match.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The arguments together exceed [`Limits::max_small_bytes`] or
    /// [`Limits::max_large_bytes`].
    #[error("Protocol error: too big request")]
    TooManyBytes,
    /// A browser was tricked into sending commands in the body of an HTTP
    /// request (Redis closes such connections, too).
    #[error("Protocol error: this is not an HTTP server")]
    Http,
}

/// Arguments of whoever has not said a password; Redis's limit.
const STRANGERS_ARGS: usize = 10;
/// Length of one of them; likewise.
const STRANGERS_BULK_BYTES: u64 = 16 * 1024;

/// Where in a request the parser stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a request.
    Start,
    /// Before the header of an argument.
    Header,
    /// Behind the header of a small argument of so many bytes.
    Body(usize),
    /// The caller is taking a large argument.
    Large,
    /// Behind the bytes of a large argument, before its line end.
    LargeEnd,
}

/// What a part of the parser found.
enum Progress {
    /// Go on with the next part.
    Advanced,
    /// More bytes are needed.
    Blocked,
    /// A large argument begins.
    Large(u64),
    /// The request is complete.
    Complete,
}

/// Turns the bytes of one connection into requests. Keep one per connection.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    state: State,
    pub(super) args: Vec<Value>,
    /// Arguments that are not complete yet, the present one included.
    missing: usize,
    small_bytes: usize,
    large_bytes: u64,
    /// Bytes at the front of the buffer that hold no line end.
    scanned: usize,
    /// Who sends has yet to say a password.
    is_stranger: bool,
}

impl RequestParser {
    /// A parser at the start of a request.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Start,
            args: Vec::new(),
            missing: 0,
            small_bytes: 0,
            large_bytes: 0,
            scanned: 0,
            is_stranger: false,
        }
    }

    /// Whether who sends has yet to say a password: then requests must be short.
    pub fn is_from_stranger(&mut self, is_stranger: bool) {
        self.is_stranger = is_stranger;
    }

    /// Takes what it can from the front of `buf`.
    ///
    /// Call again after every step but `NeedMore` without reading, since more
    /// requests may be in the buffer. `buf` must be the same buffer every time,
    /// only appended to in between. After an error the parser is of no use.
    pub fn step(&mut self, buf: &mut BytesMut) -> Result<Step, ProtocolError> {
        loop {
            let progress = match self.state {
                State::Start => self.start(buf)?,
                State::Header => self.header(buf)?,
                State::Body(len) => self.body(buf, len)?,
                State::Large => Progress::Blocked,
                State::LargeEnd => self.large_end(buf)?,
            };
            match progress {
                Progress::Advanced => {}
                Progress::Blocked => return Ok(Step::NeedMore),
                Progress::Large(len) => return Ok(Step::LargeBulk { len }),
                Progress::Complete => return Ok(Step::Request(self.finish())),
            }
        }
    }

    /// Hands back the argument announced by [`Step::LargeBulk`]. Does nothing
    /// if none was.
    pub fn large_done(&mut self, body: Value) {
        if self.state == State::Large {
            self.args.push(body);
            self.state = State::LargeEnd;
        }
    }

    /// Before a request: an array's header, or an inline command.
    fn start(&mut self, buf: &mut BytesMut) -> Result<Progress, ProtocolError> {
        match buf.first() {
            None => Ok(Progress::Blocked),
            Some(b'*') => self.array_header(buf),
            Some(_) => self.inline(buf),
        }
    }

    fn array_header(&mut self, buf: &mut BytesMut) -> Result<Progress, ProtocolError> {
        let Some(line) = self.line(buf, ProtocolError::MultibulkLine)? else {
            return Ok(Progress::Blocked);
        };
        let number = header_number(&buf[..line]).ok_or(ProtocolError::MultibulkLength)?;
        buf.advance(line + 1);
        // Redis passes over empty and null arrays in silence
        let count = usize::try_from(number).unwrap_or(0);
        if count > self.limits.max_args {
            return Err(ProtocolError::MultibulkLength);
        }
        if self.is_stranger && count > STRANGERS_ARGS {
            return Err(ProtocolError::StrangersMultibulkLength);
        }
        if count > 0 {
            // room for what is usual, never for what a client merely claims
            self.args = Vec::with_capacity(count.min(8));
            self.missing = count;
            self.state = State::Header;
        }
        Ok(Progress::Advanced)
    }

    fn inline(&mut self, buf: &mut BytesMut) -> Result<Progress, ProtocolError> {
        let Some(line) = self.line(buf, ProtocolError::InlineLine)? else {
            return Ok(Progress::Blocked);
        };
        let words = inline::split(&buf[..line]).ok_or(ProtocolError::UnbalancedQuotes)?;
        buf.advance(line + 1);
        let Some(first) = words.first() else {
            return Ok(Progress::Advanced);
        };
        if inline::is_http(first) {
            return Err(ProtocolError::Http);
        }
        self.args = words
            .into_iter()
            .map(|word| Bytes::from(word).into())
            .collect();
        Ok(Progress::Complete)
    }

    /// Before the header of an argument.
    fn header(&mut self, buf: &mut BytesMut) -> Result<Progress, ProtocolError> {
        match buf.first() {
            None => return Ok(Progress::Blocked),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::ExpectedBulk(shown(*other))),
        }
        let Some(line) = self.line(buf, ProtocolError::BulkLine)? else {
            return Ok(Progress::Blocked);
        };
        let len = header_number(&buf[..line])
            .and_then(|number| u64::try_from(number).ok())
            .filter(|len| *len <= self.limits.max_bulk_bytes)
            .ok_or(ProtocolError::BulkLength)?;
        if self.is_stranger && len > STRANGERS_BULK_BYTES {
            return Err(ProtocolError::StrangersBulkLength);
        }
        buf.advance(line + 1);
        match usize::try_from(len) {
            Ok(len) if len < self.limits.large_from_bytes => {
                self.small_bytes += len;
                if self.small_bytes > self.limits.max_small_bytes {
                    return Err(ProtocolError::TooManyBytes);
                }
                self.state = State::Body(len);
                Ok(Progress::Advanced)
            }
            _ => {
                self.large_bytes = self.large_bytes.saturating_add(len);
                if self.large_bytes > self.limits.max_large_bytes {
                    return Err(ProtocolError::TooManyBytes);
                }
                self.state = State::Large;
                Ok(Progress::Large(len))
            }
        }
    }

    /// Behind the header of a small argument.
    fn body(&mut self, buf: &mut BytesMut, len: usize) -> Result<Progress, ProtocolError> {
        match buf.get(len..) {
            Some([b'\r', b'\n', ..]) => {
                self.args.push(buf.split_to(len).freeze().into());
                buf.advance(2);
                Ok(self.argument_done())
            }
            None | Some([] | [b'\r']) => Ok(Progress::Blocked),
            Some(_) => Err(ProtocolError::ExpectedCrlf),
        }
    }

    fn large_end(&mut self, buf: &mut BytesMut) -> Result<Progress, ProtocolError> {
        match buf.as_ref() {
            [b'\r', b'\n', ..] => {
                buf.advance(2);
                Ok(self.argument_done())
            }
            [] | [b'\r'] => Ok(Progress::Blocked),
            _ => Err(ProtocolError::ExpectedCrlf),
        }
    }

    fn argument_done(&mut self) -> Progress {
        self.missing -= 1;
        self.state = State::Header;
        if self.missing == 0 {
            Progress::Complete
        } else {
            Progress::Advanced
        }
    }

    fn finish(&mut self) -> Vec<Value> {
        self.state = State::Start;
        self.small_bytes = 0;
        self.large_bytes = 0;
        std::mem::take(&mut self.args)
    }

    /// Where the first line of the buffer ends (its LF), looking only at bytes
    /// that are new; `too_long` if it does not end in time.
    fn line(
        &mut self,
        buf: &BytesMut,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        // with its CR, a line may be one byte longer
        let end = buf.len().min(self.limits.max_line_bytes + 2);
        let new = buf.get(self.scanned..end).unwrap_or_default();
        let found = new.iter().position(|b| *b == b'\n');
        let max = self.limits.max_line_bytes;
        match found {
            Some(at) => {
                let at = std::mem::take(&mut self.scanned) + at;
                let is_cr = at > 0 && buf[at - 1] == b'\r';
                if at > max && !is_cr {
                    Err(too_long)
                } else {
                    Ok(Some(at))
                }
            }
            // one byte more may still be the CR of a line of full length
            None if end > max + 1 || (end == max + 1 && buf[max] != b'\r') => Err(too_long),
            None => {
                self.scanned = end;
                Ok(None)
            }
        }
    }

    /// Whether no request is half parsed. (Bytes may still be in the buffer.)
    pub fn is_idle(&self) -> bool {
        self.state == State::Start
    }

    /// The arguments of the present request that are complete: lets the caller
    /// of a [`Step::LargeBulk`] see which command and key its bytes belong to.
    pub fn args_so_far(&self) -> &[Value] {
        &self.args
    }

    /// How many arguments of the present request are not complete yet, the one
    /// that is being read included.
    pub fn args_missing(&self) -> usize {
        self.missing
    }

    /// How many bytes the present small argument still needs in `buf`, line end
    /// included; a hint for how much to reserve, at most
    /// [`Limits::large_from_bytes`] + 2.
    pub fn wanted_bytes(&self) -> usize {
        match self.state {
            State::Body(len) => len + 2,
            State::LargeEnd => 2,
            _ => 1,
        }
    }
}

/// The number in a header line: one byte of kind, digits, CR.
fn header_number(line: &[u8]) -> Option<i64> {
    match line {
        [_, digits @ .., b'\r'] => parse_i64(digits),
        _ => None,
    }
}

/// The byte as it may stand in an error reply.
fn shown(byte: u8) -> char {
    if byte.is_ascii_graphic() {
        char::from(byte)
    } else {
        char::REPLACEMENT_CHARACTER
    }
}
