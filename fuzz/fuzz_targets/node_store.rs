//! The node's store does what a simple map would, within its budget.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| scatterhoard_fuzz::node_store::check(data));
