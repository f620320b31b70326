//! What commands answer to scripts, and scripts to clients.

use bytes::Bytes;

/// A value that goes between scripts, commands and clients: RESP as scripts
/// see it. Texts may hold any bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// No such thing: a null bulk string, a null array, or RESP3's null.
    Nil,
    /// A number.
    Integer(i64),
    /// A string of bytes.
    Bulk(Bytes),
    /// A status such as `OK`.
    Status(Bytes),
    /// An error, its code first: `ERR syntax error`.
    Error(Bytes),
    /// A list.
    Array(Vec<Reply>),
    /// A floating point number.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// Keys with values, in no order.
    Map(Vec<(Reply, Reply)>),
    /// A list without order.
    Set(Vec<Reply>),
    /// A whole number of any size, in decimal digits.
    BigNumber(Bytes),
    /// Text for humans.
    Verbatim {
        /// Three letters: `txt`, `mkd`.
        format: [u8; 3],
        /// The text.
        text: Bytes,
    },
}

impl Reply {
    /// An error with this text, its code first.
    pub(crate) fn error(text: impl Into<Vec<u8>>) -> Self {
        Self::Error(Bytes::from(text.into()))
    }
}
