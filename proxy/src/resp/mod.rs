//! RESP, the Redis serialisation protocol, without any I/O: bytes in, requests
//! out ([`request`]); replies in, bytes out ([`reply`], [`out`]).
//!
//! Invariant: whatever a client sends, memory is bounded by [`request::Limits`]
//! and work is linear in the bytes received.

pub mod ahead;
pub mod inline;
pub mod number;
pub mod out;
pub mod reply;
pub mod request;

#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod tests;

pub use out::OutBuffer;
pub use reply::{Protocol, Reply};
pub use request::{Limits, ProtocolError, RequestParser, Step};
