//! redis-protocol understands what we accept, we accept what it makes, and
//! replies are encoded as it encodes them.
#![no_main]

use scatterhoard_proxy::resp::fuzzing::{check_differential, check_reply};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check_differential(data);
    check_reply(data);
});
