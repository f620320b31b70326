//! Names of things, as newtypes so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One proxy process's reign. Raised and made durable before the first write of
/// every process start; a node refuses anything below the highest it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Names one write attempt for ever: never used again, not even for a retry.
/// Ordered: a later attempt of the same owner is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId {
    /// The epoch of the proxy that writes.
    pub epoch: Epoch,
    /// Counts the write attempts within the epoch.
    pub counter: u64,
}

/// One stored piece of one write attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId {
    /// The write attempt it belongs to.
    pub write_id: WriteId,
    /// Which of the d + p chunks: data chunks are `0..d`, parity is `d..d+p`.
    pub index: u8,
}

/// What a label is on: a value, and the object whose chunks hold it (its own, or
/// a segment).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelId {
    /// The write whose chunks they are.
    pub object: WriteId,
    /// The write that the value is.
    pub value: WriteId,
}

/// One function of the pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u16);

/// One running sandbox of a node: drawn at random when the process starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(pub u128);

/// One invocation, as the proxy that made it counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvocationId(pub u64);

/// One-time secret that lets an instance open the link of one invocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(pub u128);

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 32]);

/// Not as many hexadecimal digits as it takes: 32 for an id, 64 for a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("expected hexadecimal digits, 32 for an id, 64 for a fingerprint")]
pub struct BadHex;

fn parse_hex(s: &str) -> Result<u128, BadHex> {
    if s.len() != 32 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(BadHex);
    }
    u128::from_str_radix(s, 16).map_err(|_| BadHex)
}

macro_rules! hex_id {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = BadHex;
            fn try_from(s: String) -> Result<Self, BadHex> {
                parse_hex(&s).map(Self)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                format!("{:032x}", id.0)
            }
        }
    };
}
hex_id!(InstanceId);
hex_id!(Token);

impl TryFrom<String> for Fingerprint {
    type Error = BadHex;
    fn try_from(s: String) -> Result<Self, BadHex> {
        let (high, low) = s.split_at_checked(32).ok_or(BadHex)?;
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&parse_hex(high)?.to_be_bytes());
        bytes[16..].copy_from_slice(&parse_hex(low)?.to_be_bytes());
        Ok(Self(bytes))
    }
}
impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.to_string()
    }
}
impl Fingerprint {
    /// Whether it is the same one; takes as long wherever they differ.
    pub fn is(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
/// A secret: never printed.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}
impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{self}")
    }
}
impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch.0, self.counter)
    }
}
impl fmt::Debug for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{self}")
    }
}
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
