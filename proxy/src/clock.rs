//! The wall clock: time since 1970, the same way in proxy and nodes.

pub use scatterhoard_node::clock::{since_1970, unix_ms};
