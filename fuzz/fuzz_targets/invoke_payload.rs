//! Any bytes as the payload or the result of an invocation.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| scatterhoard_wire::fuzzing::check_invoke(data));
