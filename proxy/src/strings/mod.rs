//! What commands compute of string values: bits, numbers, subsequences. Pure;
//! values may come in pieces.

pub mod bitfield;
pub mod bits;
pub mod extended;
pub mod lcs;
