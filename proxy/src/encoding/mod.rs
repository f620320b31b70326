//! Values that are not strings, as bytes: what the index, nodes and the backing
//! store know of them. Pure.
//!
//! A kind of values has one file: its encoding, and what its commands do with it.
//! They are decoded and encoded anew by each command, so they are bounded in size.

pub mod hash;

/// The bytes are no value of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored {0} cannot be understood")]
pub struct Undecodable(pub &'static str);
