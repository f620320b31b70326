//! The real binary over real sockets: a pool of node processes on this machine,
//! a platform that outlives the proxy, and nodes that misbehave.
//!
//! Every test starts servers of its own on free loopback ports; what it starts
//! ends with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "plain threads and clients that block: nothing here runs on an executor"
)]

mod aws;
mod contents;
mod fakes;
mod generator;
mod inventory;
mod link;
mod platform;
mod restart;
mod server;

mod auth;
mod backing;
mod bad_clients;
mod bad_days;
mod bad_nodes;
mod bits;
mod chaos;
mod clients;
mod cluster;
mod crowds;
mod cut;
mod differential;
mod doctor;
mod elastic;
mod endpoint;
mod handover;
mod inspect;
mod keyevents;
mod library;
mod memory;
mod monitor;
mod nodes;
mod objects;
mod outages;
mod packing;
mod probe;
mod pubsub;
mod races;
mod ranges;
mod retire;
mod robustness;
mod scripts;
mod settings;
mod shutdown;
mod standby;
mod strangers;
mod streams;
mod swapdb;
mod timeouts;
mod tls;
mod tracking;
mod transactions;
mod versions;
