//! Replies as programs see them.

use bytes::Bytes;

/// A reply of a server, in RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// A status such as `OK`.
    Status(Bytes),
    /// An error: its code, a blank and text. RESP3's long errors are the same.
    Error(Bytes),
    /// A number.
    Integer(i64),
    /// A string of bytes.
    Bulk(Bytes),
    /// Nothing. RESP2's null array is the same.
    Null,
    /// A list.
    Array(Vec<Reply>),
    /// Keys with values, in the order in which they came.
    Map(Vec<(Reply, Reply)>),
    /// An unordered list.
    Set(Vec<Reply>),
    /// A message that no request asked for.
    Push(Vec<Reply>),
    /// A floating point number.
    Double(f64),
    /// A truth value.
    Boolean(bool),
    /// A whole number of any size, in decimal digits.
    BigNumber(Bytes),
    /// Text with its format, such as `txt` or `mkd`.
    Verbatim {
        /// Three letters.
        format: [u8; 3],
        /// Without the format.
        text: Bytes,
    },
}
