//! Values that are not in memory as a whole: read ([`get`]) and stored
//! ([`put`]) piece by piece, in bounded memory whatever their size.

mod get;
mod put;
mod resume;

pub use get::ValueStream;
pub use resume::Resume;
