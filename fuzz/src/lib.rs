//! What must hold whatever bytes come: bodies of the fuzz targets that are not
//! beside the code that they check. Every check panics where it does not hold.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a check panics"
)]

mod input;
pub mod link_stream;
pub mod node_store;
pub mod replies;
pub mod script;
pub mod session;
