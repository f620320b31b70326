//! Scatterhoard's proxy: an object cache that speaks the Redis protocol and
//! keeps its data, erasure-coded, in the memory of function instances.
//!
//! A GET goes straight through the modules: `serve` (accept) -> `session`
//! (bytes to requests, by `resp` and `command`) -> `apply` -> `store` (with
//! `keyspace` and `codec`) -> `pool` -> a node. Values come back as return
//! values; nobody calls upward.

pub mod accept;
pub mod acl;
pub mod admin;
pub mod admission;
pub mod apply;
pub mod assembly;
pub mod backing;
pub mod checks;
pub mod client_limits;
pub mod client_tls;
pub mod clients;
pub mod clock;
pub mod cluster;
pub mod codec;
pub mod command;
pub mod config;
pub mod descriptors;
pub mod doctor;
pub mod elastic;
pub mod encoding;
pub mod engine;
pub mod epoch;
pub mod journal;
pub mod keyspace;
pub mod local_pool;
pub mod log_rate;
pub mod monitor;
pub mod pool;
pub mod probe;
pub mod profile;
pub mod pubsub;
pub mod resp;
pub mod room;
pub mod serve;
pub mod session;
pub mod slow_log;
pub mod store;
pub mod strings;
pub mod tracking;
pub mod value;
