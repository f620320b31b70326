//! The proxy's RESP front alone. Including its files instead of depending on
//! the crate spares every fuzz build the AWS SDK and the node; it works because
//! these modules depend on nothing else of the proxy, and is the check of that.

#[path = "../../proxy/src/command/mod.rs"]
pub mod command;
#[path = "../../proxy/src/resp/mod.rs"]
pub mod resp;
#[path = "../../proxy/src/value.rs"]
pub mod value;
