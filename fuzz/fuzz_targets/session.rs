//! Any bytes of a client, in any pieces: whole replies, and nothing stays behind.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| scatterhoard_fuzz::session::check(data));
