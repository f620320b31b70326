//! Limits that both ends enforce on what they read, each with its reason.

/// Longest control body of a frame, in bytes. The largest message is a page of
/// [`LIST_PAGE`] descriptors (or [`DELETE_BATCH`] write ids).
pub const MAX_BODY_BYTES: u32 = 64 * 1024;

/// Longest payload of a frame, in bytes: one cell. Larger cells would keep
/// control frames waiting behind them on a link.
pub const MAX_CELL_BYTES: u32 = 4 * 1024 * 1024;

/// Write ids in one delete: 16 bytes each stay well below [`MAX_BODY_BYTES`].
pub const DELETE_BATCH: usize = 2048;

/// Descriptors in one page of a list: 32 bytes each.
pub const LIST_PAGE: usize = 1024;

/// Longest label, in bytes: a key and what a journal would say of it. Values of
/// longer keys have none.
pub const MAX_LABEL_BYTES: usize = 16 * 1024;

/// A page of labels ends behind so many bytes; with one label and their ids it
/// stays below [`MAX_BODY_BYTES`].
pub const LABEL_PAGE_BYTES: usize = 16 * 1024;

/// Most labels of a page, whose ids have 34 bytes with the length.
pub const LABEL_PAGE: usize = 512;

/// Most data chunks of an object. Fan-out costs a request per chunk, and no
/// published geometry goes beyond 20+4.
pub const MAX_DATA_CHUNKS: u8 = 64;

/// Most parity chunks of an object.
pub const MAX_PARITY_CHUNKS: u8 = 32;

/// Most bytes of one object: 5 GB as S3 takes in one PUT, rounded up.
pub const MAX_OBJECT_BYTES: u64 = 8 << 30;

/// Longest text in a frame (a reason for humans), in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Cells that one get may ask for. With the default cell this is 4 MiB of a
/// chunk, a fraction of a second at a function's bandwidth, so that a request
/// fits between the goodbye and the deadline of an invocation.
pub const MAX_WINDOW_CELLS: u32 = 16;
