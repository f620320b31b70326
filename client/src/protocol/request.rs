//! Requests, and their encoding: small arguments are copied next to each other,
//! large ones go to the socket from where they are.

use bytes::{Bytes, BytesMut};

/// Arguments of at least so many bytes are not copied. Below, a copy is cheaper
/// than another segment of a vectored write.
const SEPARATE_BYTES: usize = 4 * 1024;

/// A command with its arguments, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    arguments: Vec<Bytes>,
}

/// A request as the segments of a vectored write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// In order, none of them empty.
    pub segments: Vec<Bytes>,
}

impl Encoded {
    /// The length of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|part| part.len() as u64).sum()
    }
}

impl Request {
    /// The command of this name.
    #[must_use]
    pub fn new(name: impl Into<Bytes>) -> Self {
        Self {
            arguments: vec![name.into()],
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<Bytes>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With a number as one more argument.
    #[must_use]
    pub fn number(self, number: i64) -> Self {
        self.arg(number.to_string())
    }

    /// The name and what follows it.
    #[must_use]
    pub fn arguments(&self) -> &[Bytes] {
        &self.arguments
    }

    /// The length of all arguments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.arguments.iter().map(|part| part.len() as u64).sum()
    }

    /// As bytes to send.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let mut out = Segments::default();
        out.header(b'*', self.arguments.len() as u64);
        for argument in &self.arguments {
            out.argument(argument);
        }
        out.end()
    }

    /// Everything in front of one more argument of `len` bytes, which the caller
    /// sends in pieces, and what is to follow it: `tail` as further arguments.
    #[must_use]
    pub fn encode_around(&self, len: u64, tail: &[Bytes]) -> (Encoded, Encoded) {
        let mut front = Segments::default();
        front.header(b'*', (self.arguments.len() + 1 + tail.len()) as u64);
        for argument in &self.arguments {
            front.argument(argument);
        }
        front.header(b'$', len);
        let mut back = Segments::default();
        back.small.extend_from_slice(b"\r\n");
        for argument in tail {
            back.argument(argument);
        }
        (front.end(), back.end())
    }
}

#[derive(Default)]
struct Segments {
    done: Vec<Bytes>,
    small: BytesMut,
}

impl Segments {
    fn argument(&mut self, argument: &Bytes) {
        self.header(b'$', argument.len() as u64);
        self.bytes(argument);
        self.small.extend_from_slice(b"\r\n");
    }

    fn header(&mut self, kind: u8, number: u64) {
        self.small.extend_from_slice(&[kind]);
        self.small.extend_from_slice(number.to_string().as_bytes());
        self.small.extend_from_slice(b"\r\n");
    }

    fn bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < SEPARATE_BYTES {
            self.small.extend_from_slice(bytes);
        } else {
            self.done.push(self.small.split().freeze());
            self.done.push(bytes.clone());
        }
    }

    fn end(mut self) -> Encoded {
        if !self.small.is_empty() {
            self.done.push(self.small.freeze());
        }
        Encoded {
            segments: self.done,
        }
    }
}
