//! memcached's text protocol, as far as a benchmark needs it: replies to get, set, delete
//! and version, parsed in place.

use anyhow::{Context, Result, bail, ensure};

use crate::reply::{MAX_BULK_BYTES, Parsed, Slot, line_at};

const END: &[u8] = b"END\r\n";

/// Looks at the reply that begins at `begin`; ranges are offsets into `buffer`. What a get
/// finds is a bulk, what it misses nil, all else a line.
pub(crate) fn parse(buffer: &[u8], begin: usize) -> Result<Parsed> {
    let Some(line) = line_at(buffer, begin)? else {
        return Ok(Parsed::Partial {
            end: buffer.len() + 1,
            body_begun: false,
        });
    };
    let end = line.end + 2;
    let words: Vec<&[u8]> = buffer[line.clone()].split(|byte| *byte == b' ').collect();
    let slot = match words[..] {
        [b"VALUE", _, _, len] => return value(buffer, end, len),
        [b"END"] => Slot::Nil,
        [b"STORED" | b"DELETED" | b"NOT_FOUND"] | [b"VERSION", ..] => Slot::Line(line),
        [b"ERROR" | b"SERVER_ERROR" | b"CLIENT_ERROR", ..] => Slot::Error(line),
        _ => bail!(
            "expected a reply of memcached's text protocol, but {:?} came",
            String::from_utf8_lossy(&buffer[line.start..line.end.min(line.start + 80)])
        ),
    };
    Ok(Parsed::Whole { slot, end })
}

/// The value whose header line ends before `begin`, and the END behind it.
fn value(buffer: &[u8], begin: usize, len: &[u8]) -> Result<Parsed> {
    let len: usize = std::str::from_utf8(len)?
        .parse()
        .context("the length of a value")?;
    ensure!(
        len <= MAX_BULK_BYTES,
        "a value of {len} bytes is longer than {MAX_BULK_BYTES}"
    );
    let whole = begin + len + 2 + END.len();
    if buffer.len() < whole {
        return Ok(Parsed::Partial {
            end: whole,
            body_begun: buffer.len() > begin,
        });
    }
    ensure!(
        &buffer[whole - END.len()..whole] == END,
        "a value is not followed by END"
    );
    Ok(Parsed::Whole {
        slot: Slot::Bulk(begin..begin + len),
        end: whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_of_a_value_parses_alike() -> Result<()> {
        let wire = b"VALUE k 0 5\r\nhe\r\no\r\nEND\r\n";
        for cut in 1..wire.len() {
            match parse(&wire[..cut], 0)? {
                Parsed::Partial { end, body_begun } => {
                    assert!(end > cut);
                    assert_eq!(body_begun, cut > 13);
                }
                Parsed::Whole { .. } => panic!("whole after {cut} bytes"),
            }
        }
        let slot = Slot::Bulk(13..18);
        let end = wire.len();
        assert_eq!(parse(wire, 0)?, Parsed::Whole { slot, end });
        Ok(())
    }

    #[test]
    fn a_miss_an_error_and_what_is_no_reply() -> Result<()> {
        let slot = |wire: &[u8]| match parse(wire, 0) {
            Ok(Parsed::Whole { slot, .. }) => Some(slot),
            _ => None,
        };
        assert_eq!(slot(b"END\r\n"), Some(Slot::Nil));
        assert_eq!(slot(b"STORED\r\n"), Some(Slot::Line(0..6)));
        let refused = b"SERVER_ERROR object too large for cache\r\n";
        assert_eq!(slot(refused), Some(Slot::Error(0..39)));
        assert_eq!(slot(b"+PONG\r\n"), None);
        assert_eq!(slot(b"VALUE k 0 99999999999\r\n"), None);
        assert_eq!(slot(b"VALUE k 0 1\r\nx\r\nVALUE"), None);
        Ok(())
    }
}
