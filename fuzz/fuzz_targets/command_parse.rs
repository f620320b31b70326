//! Parsing a command never panics, and its errors are one short line.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |data: &[u8]| scatterhoard_proxy::command::fuzzing::check_command(data)
);
