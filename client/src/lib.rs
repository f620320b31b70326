//! A client for programs that keep large objects in Scatterhoard, or in any
//! other server that speaks Redis's protocol.

pub mod protocol;
