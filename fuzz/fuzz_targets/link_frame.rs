//! Any bytes as a frame, or as the body of a message past the checksum: what
//! decodes, encodes to the same bytes.
#![no_main]

use scatterhoard_wire::fuzzing::{check_frame, check_message};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check_frame(data);
    check_message(data);
});
