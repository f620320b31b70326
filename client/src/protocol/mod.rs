//! RESP from the client's side, without any I/O: requests to bytes
//! ([`Request`]), bytes to replies ([`Parser`]).
//!
//! Invariant: whatever a server sends, memory is bounded by [`Limits`] and work
//! is linear in the bytes received; how the bytes were split makes no difference.

mod parser;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use parser::{Event, Limits, Parser, ProtocolError};
pub use reply::Reply;
pub use request::{Encoded, Request};
