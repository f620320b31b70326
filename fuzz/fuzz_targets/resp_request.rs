//! Any bytes parse the same however they are cut, and within limits.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| scatterhoard_proxy::resp::fuzzing::check_request(data));
