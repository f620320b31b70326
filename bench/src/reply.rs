//! The RESP2 replies that a benchmark meets, parsed in place.

use std::ops::Range;

use anyhow::{Context, Result, bail};

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

/// Looks at the reply that begins at `begin`; ranges are offsets into `buffer`.
pub(crate) fn parse(buffer: &[u8], begin: usize) -> Result<Parsed> {
    let Some(line_len) = buffer[begin..].windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(Parsed::Partial {
            end: buffer.len() + 1,
            body_begun: false,
        });
    };
    let (line, end) = (begin + 1..begin + line_len, begin + line_len + 2);
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
        Ok(())
    }
}
