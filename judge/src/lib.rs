//! Judges what a cache answered while things went wrong: which values a key may hold,
//! given what was asked and acknowledged before. Pure; fault tests over real processes
//! and the simulation use the same.

pub mod bodies;
pub mod model;
