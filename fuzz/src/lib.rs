//! The proxy's RESP front and the node's store alone. Including their files
//! instead of depending on the crates spares every fuzz build the AWS SDK and
//! the Lambda runtime; it works because these modules depend on nothing else of
//! their crates, and is the check of that.

#[path = "../../proxy/src/command/mod.rs"]
pub mod command;
mod input;
pub mod link_stream;
#[path = "../../node/src"]
pub mod node {
    pub mod store;
}
pub mod node_store;
#[path = "../../proxy/src/resp/mod.rs"]
pub mod resp;
#[path = "../../proxy/src/value.rs"]
pub mod value;
