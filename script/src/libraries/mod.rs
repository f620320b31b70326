//! The libraries that Redis adds to Lua's, and what it changes in those.

pub(crate) mod bits;
pub(crate) mod cjson;
pub(crate) mod cmsgpack;
pub(crate) mod math;
pub(crate) mod structs;
