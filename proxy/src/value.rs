//! A value as it travels between client and nodes: bytes in one or several
//! segments, cut where the erasure code wants them cut, so that nobody has to
//! copy it into one piece.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Bytes of a key, an argument or an object, in order.
///
/// Small values are one segment. Large ones arrive as segments as long as the
/// cells of the object's layout (see `scatterhoard_wire::geometry`); segments
/// are never empty, but for the single one of an empty value.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Empty,
    /// One contiguous piece.
    One(Bytes),
    /// Two or more pieces and their total length in bytes.
    Many(Vec<Bytes>, u64),
    /// Not here: the session sent it to nodes while it arrived, as its upload
    /// of this number.
    Uploaded {
        /// Which upload of the request.
        number: u32,
        /// Length in bytes.
        len: u64,
        /// What is still known of it, to be shown: the first bytes, or none.
        start: Bytes,
    },
    /// Not here: refused when it was announced. Its first bytes are kept, to be
    /// quoted.
    Refused {
        /// At most [`Self::QUOTED_BYTES`] of it.
        start: Bytes,
        /// Length in bytes as announced.
        len: u64,
    },
}

impl Value {
    /// What errors quote at most of an argument.
    pub const QUOTED_BYTES: usize = 128;

    /// A value made of the given segments, in order. Empty ones are dropped.
    pub fn from_segments(mut segments: Vec<Bytes>) -> Self {
        segments.retain(|s| !s.is_empty());
        match segments.len() {
            0 => Self::Empty,
            1 => Self::One(segments.swap_remove(0)),
            _ => {
                let len = segments.iter().map(|s| s.len() as u64).sum();
                Self::Many(segments, len)
            }
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::One(b) => b.len() as u64,
            Self::Many(_, len) | Self::Uploaded { len, .. } | Self::Refused { len, .. } => *len,
        }
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The segments in order; none for a value that is empty or not here, and the
    /// first bytes of one that was refused.
    pub fn segments(&self) -> &[Bytes] {
        match self {
            Self::Empty | Self::Uploaded { .. } => &[],
            Self::One(b) | Self::Refused { start: b, .. } => std::slice::from_ref(b),
            Self::Many(v, _) => v,
        }
    }

    /// These bytes of it, which must lie within it, without copying them.
    #[must_use]
    pub fn slice(&self, bytes: Range<u64>) -> Self {
        let (mut start, mut parts) = (0, Vec::new());
        for segment in self.segments() {
            let end = start + segment.len() as u64;
            let (low, high) = (bytes.start.max(start), bytes.end.min(end));
            if low < high {
                parts.push(segment.slice((low - start) as usize..(high - start) as usize));
            }
            start = end;
        }
        Self::from_segments(parts)
    }

    /// Its first bytes, at most so many, in one piece. Of a value that is not here,
    /// those that were kept.
    pub fn start(&self, most_bytes: u64) -> Bytes {
        let of = |start: &Bytes| {
            let most = usize::try_from(most_bytes).unwrap_or(usize::MAX);
            start.slice(..start.len().min(most))
        };
        match self {
            Self::Empty => Bytes::new(),
            Self::One(b) => of(b),
            Self::Uploaded { start, .. } | Self::Refused { start, .. } => of(start),
            Self::Many(_, len) => self.slice(0..most_bytes.min(*len)).into_contiguous(),
        }
    }

    /// The value in one piece; copies only if it was in several.
    pub fn into_contiguous(self) -> Bytes {
        match self {
            Self::Empty | Self::Uploaded { .. } => Bytes::new(),
            Self::One(b) | Self::Refused { start: b, .. } => b,
            Self::Many(v, len) => {
                let mut whole = BytesMut::with_capacity(usize::try_from(len).unwrap_or(0));
                v.iter().for_each(|s| whole.extend_from_slice(s));
                whole.freeze()
            }
        }
    }
}

impl From<Bytes> for Value {
    fn from(b: Bytes) -> Self {
        if b.is_empty() {
            Self::Empty
        } else {
            Self::One(b)
        }
    }
}

impl From<&'static str> for Value {
    fn from(s: &'static str) -> Self {
        Bytes::from_static(s.as_bytes()).into()
    }
}

/// Equal bytes, however they are cut.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .segments()
                .iter()
                .flat_map(|s| s.iter())
                .eq(other.segments().iter().flat_map(|s| s.iter()))
    }
}
impl Eq for Value {}
