//! The RESP2 replies that a benchmark meets, parsed in place.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

/// A longer line is none of a reply that is asked for here.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Nobody stores longer values: a length beyond is a damaged reply, and no room to be made.
pub(crate) const MAX_BULK_BYTES: usize = 2 << 30;

/// One reply; bodies are borrowed from the connection's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Bulk(&'a [u8]),
    Nil,
    /// A simple string or an integer.
    Line(&'a [u8]),
    Error(&'a [u8]),
}

/// A reply as ranges of the buffer that it was parsed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Bulk(Range<usize>),
    Nil,
    Line(Range<usize>),
    Error(Range<usize>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Whole {
        slot: Slot,
        end: usize,
    },
    /// `end` bytes are needed before another look is worth it.
    Partial {
        end: usize,
        body_begun: bool,
    },
}

impl Slot {
    pub(crate) fn reply<'a>(&self, buffer: &'a [u8]) -> Reply<'a> {
        match self {
            Self::Bulk(range) => Reply::Bulk(&buffer[range.clone()]),
            Self::Nil => Reply::Nil,
            Self::Line(range) => Reply::Line(&buffer[range.clone()]),
            Self::Error(range) => Reply::Error(&buffer[range.clone()]),
        }
    }
}

/// The line that begins at `begin`, without its end; none as long as that has not come.
pub(crate) fn line_at(buffer: &[u8], begin: usize) -> Result<Option<Range<usize>>> {
    let window = &buffer[begin..buffer.len().min(begin + MAX_LINE_BYTES)];
    let len = window.windows(2).position(|pair| pair == b"\r\n");
    ensure!(
        len.is_some() || window.len() < MAX_LINE_BYTES,
        "a reply's line of {MAX_LINE_BYTES} bytes has no end"
    );
    Ok(len.map(|len| begin..begin + len))
}

/// What any reply of RESP2 or RESP3 begins with.
fn ensure_resp(buffer: &[u8], begin: usize) -> Result<()> {
    let Some(first) = buffer.get(begin) else {
        return Ok(());
    };
    if b"+-:$*_#,(!=%~>|".contains(first) {
        return Ok(());
    }
    let shown = &buffer[begin..buffer.len().min(begin + 60)];
    bail!(
        "this is no RESP server: expected a reply that begins with one of + - : $ *, but {:?} came",
        String::from_utf8_lossy(shown)
    )
}

/// Looks at the reply that begins at `begin`; ranges are offsets into `buffer`.
pub(crate) fn parse(buffer: &[u8], begin: usize) -> Result<Parsed> {
    let Some(line) = line_at(buffer, begin)? else {
        ensure_resp(buffer, begin)?;
        return Ok(Parsed::Partial {
            end: buffer.len() + 1,
            body_begun: false,
        });
    };
    ensure_resp(buffer, begin)?;
    let (line, end) = (begin + 1..line.end, line.end + 2);
    match buffer[begin] {
        b'+' | b':' => Ok(Parsed::Whole {
            slot: Slot::Line(line),
            end,
        }),
        b'-' => Ok(Parsed::Whole {
            slot: Slot::Error(line),
            end,
        }),
        b'$' if &buffer[line.clone()] == b"-1" => Ok(Parsed::Whole {
            slot: Slot::Nil,
            end,
        }),
        b'$' => {
            let len: usize = std::str::from_utf8(&buffer[line])?
                .parse()
                .context("a bulk length")?;
            ensure!(
                len <= MAX_BULK_BYTES,
                "a bulk of {len} bytes is longer than {MAX_BULK_BYTES}"
            );
            let whole = end + len + 2;
            if buffer.len() < whole {
                return Ok(Parsed::Partial {
                    end: whole,
                    body_begun: buffer.len() > end,
                });
            }
            Ok(Parsed::Whole {
                slot: Slot::Bulk(end..end + len),
                end: whole,
            })
        }
        other => bail!("unexpected reply type {:?}", other as char),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_of_a_bulk_parses_alike() -> Result<()> {
        let wire = b"$5\r\nhe\r\no\r\n";
        for cut in 1..wire.len() {
            let expect_body = cut > 4;
            match parse(&wire[..cut], 0)? {
                Parsed::Partial { end, body_begun } => {
                    assert!(end > cut);
                    assert_eq!(body_begun, expect_body);
                }
                Parsed::Whole { .. } => panic!("whole after {cut} bytes"),
            }
        }
        assert_eq!(
            parse(wire, 0)?,
            Parsed::Whole {
                slot: Slot::Bulk(4..9),
                end: 11
            }
        );
        Ok(())
    }

    #[test]
    fn the_other_types() -> Result<()> {
        let wire = b"+OK\r\n:12\r\n$-1\r\n-ERR no\r\n";
        assert_eq!(
            parse(wire, 0)?,
            Parsed::Whole {
                slot: Slot::Line(1..3),
                end: 5
            }
        );
        assert_eq!(
            parse(wire, 5)?,
            Parsed::Whole {
                slot: Slot::Line(6..8),
                end: 10
            }
        );
        assert_eq!(
            parse(wire, 10)?,
            Parsed::Whole {
                slot: Slot::Nil,
                end: 15
            }
        );
        assert_eq!(
            parse(wire, 15)?,
            Parsed::Whole {
                slot: Slot::Error(16..22),
                end: 24
            }
        );
        assert!(parse(b"*1\r\n", 0).is_err());
        assert!(parse(b"$99999999999\r\n", 0).is_err());
        Ok(())
    }

    #[test]
    fn what_is_no_reply_is_told_at_its_first_byte() {
        for wire in [&b"H"[..], b"HTTP/1.1 400 Bad Request\r\n"] {
            let error = parse(wire, 0).unwrap_err().to_string();
            assert!(error.contains("no RESP server"), "{error}");
        }
        let endless = [b"+", &vec![b'a'; MAX_LINE_BYTES][..]].concat();
        assert!(parse(&endless, 0).is_err());
    }
}
