//! Traces: `seconds,op,key,bytes` lines, plain or gzip, in order of time.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;

/// What a gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The longest line, its end included.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// The most requests that are kept in memory.
const MAX_REQUESTS: usize = 100_000_000;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Get,
    Set,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) at_s: f64,
    pub(crate) op: Op,
    /// Which of the keys.
    pub(crate) key: u32,
    pub(crate) bytes: u64,
}

/// A whole trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Trace {
    pub(crate) requests: Vec<Request>,
    /// By their numbers.
    pub(crate) keys: Vec<String>,
    /// Lines that were left out since they are none of a trace.
    pub(crate) skipped: u64,
}

impl Trace {
    /// Reads a file, plain or gzip. A line that does not parse is an error with its
    /// number, unless such lines are to be skipped: then they are counted.
    pub(crate) fn read(path: &Path, skip_bad_lines: bool) -> Result<Self> {
        let shown = path.display();
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let mut file = BufReader::new(file);
        let head = file
            .fill_buf()
            .with_context(|| format!("cannot read {shown}"))?;
        let trace = if head.starts_with(&GZIP) {
            Self::parse(BufReader::new(MultiGzDecoder::new(file)), skip_bad_lines)
        } else {
            Self::parse(file, skip_bad_lines)
        };
        trace.with_context(|| format!("{shown} is no trace of `seconds,op,key,bytes` lines"))
    }

    fn parse(mut text: impl BufRead, skip_bad_lines: bool) -> Result<Self> {
        let mut trace = Self::default();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let (mut line, mut number, mut latest_s) = (Vec::new(), 0u64, 0.0);
        loop {
            line.clear();
            number += 1;
            let within = || format!("line {number}");
            let read = text.by_ref().take(MAX_LINE_BYTES);
            if { read }.read_until(b'\n', &mut line).with_context(within)? == 0 {
                break;
            }
            let is_whole = line.ends_with(b"\n") || (line.len() as u64) < MAX_LINE_BYTES;
            let shown = String::from_utf8_lossy(&line);
            let shown = shown.trim_end_matches(['\n', '\r']);
            if number == 1 && shown == "seconds,op,key,bytes" || shown.is_empty() {
                continue;
            }
            let parsed = match is_whole {
                true => parse_line(shown, latest_s),
                false => Err(format!("a line of less than {MAX_LINE_BYTES} bytes")),
            };
            let (at_s, op, key, bytes) = match parsed {
                Ok(parsed) => parsed,
                Err(_) if skip_bad_lines => {
                    trace.skipped += 1;
                    if !is_whole {
                        skip_line(&mut text)?;
                    }
                    continue;
                }
                Err(expected) => {
                    let start: String = shown.chars().take(80).collect();
                    bail!("line {number}: expected {expected}, found \"{start}\"");
                }
            };
            if trace.requests.len() == MAX_REQUESTS {
                bail!("line {number}: more than {MAX_REQUESTS} requests");
            }
            latest_s = at_s;
            let next = trace.keys.len() as u32;
            let key = match numbers.get(key) {
                Some(known) => *known,
                None => {
                    numbers.insert(key.to_owned(), next);
                    trace.keys.push(key.to_owned());
                    next
                }
            };
            trace.requests.push(Request {
                at_s,
                op,
                key,
                bytes,
            });
        }
        if trace.requests.is_empty() {
            bail!("there is no request in it");
        }
        Ok(trace)
    }

    /// Seconds until the last request.
    pub(crate) fn seconds(&self) -> f64 {
        self.requests.last().map_or(0.0, |r| r.at_s)
    }
}

/// Leaves what is left of a line that was too long.
fn skip_line(text: &mut impl BufRead) -> Result<()> {
    loop {
        let read = text.fill_buf()?;
        let end = read.iter().position(|b| *b == b'\n');
        let used = end.map_or(read.len(), |at| at + 1);
        let is_over = end.is_some() || read.is_empty();
        text.consume(used);
        if is_over {
            return Ok(());
        }
    }
}

/// The fields of a line, or what was expected.
fn parse_line(line: &str, latest_s: f64) -> Result<(f64, Op, &str, u64), String> {
    let fields: Vec<&str> = line.split(',').collect();
    let [at, op, key, bytes] = fields[..] else {
        return Err("four fields, seconds,op,key,bytes".into());
    };
    let at_s = match at.parse::<f64>() {
        Ok(at_s) if at_s.is_finite() && at_s >= latest_s => at_s,
        Ok(_) => return Err(format!("seconds from {latest_s} on, in order of time")),
        Err(_) => return Err("a number of seconds in the first field".into()),
    };
    let op = match op {
        "GET" => Op::Get,
        "SET" => Op::Set,
        _ => return Err("GET or SET in the second field".into()),
    };
    if key.is_empty() {
        return Err("a key in the third field".into());
    }
    let bytes = bytes.parse::<u64>();
    let bytes = bytes.map_err(|_| "a whole number of bytes in the fourth field".to_owned())?;
    Ok((at_s, op, key, bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const TEXT: &str = "seconds,op,key,bytes\n0.5,GET,a,100\r\n\n1.5,SET,b,7\n1.5,GET,a,200\n";

    fn error(text: &str) -> String {
        Trace::parse(text.as_bytes(), false)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn plain_and_gzip_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("t.csv"), folder.path().join("t.csv.gz"));
        std::fs::write(&plain, TEXT).unwrap();
        let file = std::fs::File::create(&packed).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(TEXT.as_bytes()).unwrap();
        encoder.finish().unwrap();
        let trace = Trace::read(&plain, false).unwrap();
        assert_eq!(trace, Trace::read(&packed, false).unwrap());
        assert_eq!(trace.keys, ["a", "b"]);
        let fields = trace
            .requests
            .iter()
            .map(|r| (r.at_s, r.op, r.key, r.bytes));
        assert!(fields.eq([
            (0.5, Op::Get, 0, 100),
            (1.5, Op::Set, 1, 7),
            (1.5, Op::Get, 0, 200)
        ]));
        assert_eq!(trace.seconds(), 1.5);
    }

    #[test]
    fn bad_lines_are_named_with_what_was_expected() {
        for (text, expected) in [
            ("0,GET,a\n", "line 1: expected four fields"),
            (
                "0,GET,a,1\nx,GET,a,1\n",
                "line 2: expected a number of seconds",
            ),
            (
                "5,GET,a,1\n4,GET,a,1\n",
                "line 2: expected seconds from 5 on",
            ),
            ("0,DEL,a,1\n", "line 1: expected GET or SET"),
            ("0,GET,,1\n", "line 1: expected a key"),
            ("0,GET,a,-1\n", "line 1: expected a whole number of bytes"),
            ("inf,GET,a,1\n", "line 1: expected seconds from 0 on"),
            ("\n", "no request"),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = format!("0,GET,{},1\n", "a".repeat(MAX_LINE_BYTES as usize));
        assert!(
            error(&long).contains("a line of less than"),
            "{}",
            error(&long)
        );
    }

    #[test]
    fn bad_lines_are_skipped_and_counted_on_request() {
        let long = "a".repeat(3 * MAX_LINE_BYTES as usize);
        let text = format!("nonsense\n0,GET,{long},1\n1,GET,a,1\n0,GET,a,1\n2,GET,a,1\n");
        let trace = Trace::parse(text.as_bytes(), true).unwrap();
        assert_eq!((trace.requests.len(), trace.skipped), (2, 3));
    }
}
