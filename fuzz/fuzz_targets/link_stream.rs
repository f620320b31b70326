//! A stream of frames and garbage reads the same however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| scatterhoard_fuzz::link_stream::check(data));
