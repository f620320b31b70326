//! Replies as a decoder reads them that we did not write.

use redis_protocol::{resp2, resp3};

/// How many replies these are, and the bytes of one that is not whole.
pub fn count(mut bytes: &[u8]) -> (usize, usize) {
    let mut count = 0;
    while !bytes.is_empty() {
        let Some(len) = first(bytes) else { break };
        bytes = &bytes[len..];
        count += 1;
    }
    (count, bytes.len())
}

/// Length of the first reply, if it is whole: HELLO may change the protocol.
fn first(bytes: &[u8]) -> Option<usize> {
    match resp2::decode::decode(bytes) {
        Ok(frame) => frame.map(|(_, len)| len),
        Err(_) => match resp3::decode::complete::decode(bytes) {
            Ok(frame) => frame.map(|(_, len)| len),
            Err(error) => {
                let start = bytes.escape_ascii().to_string();
                let start: String = start.chars().take(200).collect();
                panic!("no RESP: {error} in {start}")
            }
        },
    }
}
