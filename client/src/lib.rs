//! A client for programs that keep large objects in Scatterhoard, or in any
//! other server that speaks Redis's protocol.

mod client;
mod command;
mod connection;
mod error;
mod options;
pub mod protocol;
pub mod retry;
mod stream;

pub use client::Client;
pub use command::{Command, Condition, Expiry, Set, SetOptions, Ttl};
pub use error::{Error, ErrorCode, ServerError};
pub use options::{Options, Tls};
pub use protocol::Reply;
pub use rustls;
pub use stream::{Resume, ValueStream};
