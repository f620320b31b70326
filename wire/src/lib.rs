//! What two Scatterhoard processes must agree on: ids, geometry, the chunk
//! descriptor, checksums, link frames, the invoke payload, limits, and versions of
//! all that.
//!
//! Pure and synchronous: no sockets, no clock, no tokio. Everything that is
//! decoded here comes from a peer, so no input may panic or allocate beyond
//! [`limits`].

pub mod buffer;
pub mod checksum;
mod codec;
pub mod descriptor;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod geometry;
pub mod ids;
pub mod invoke;
pub mod limits;
pub mod message;
pub mod stream;
pub mod version;

pub use buffer::{buffer_bytes, bulk_buffer, off_page_start};
pub use descriptor::{Cell, ChunkDescriptor};
pub use geometry::{Geometry, GeometryPolicy, Layout};
pub use ids::{
    ChunkId, Epoch, Fingerprint, InstanceId, InvocationId, LabelId, NodeId, Token, WriteId,
};
pub use version::{NoCommon, SPOKEN, Version, Versions};
