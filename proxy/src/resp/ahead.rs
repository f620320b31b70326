//! The most usual request, recognised where it lies in the read buffer.

use std::ops::Range;

use super::number::parse_i64;

/// Longer keys are left to the parser.
const MAX_KEY_BYTES: usize = 1024;
/// Longer values likewise.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// A `GET` that is complete.
#[derive(Debug, PartialEq, Eq)]
pub struct PlainGet {
    /// Where its key is.
    pub key: Range<usize>,
    /// Length of the request in bytes.
    pub len: usize,
}

/// A `SET` without options that is complete.
#[derive(Debug, PartialEq, Eq)]
pub struct PlainSet {
    /// Where its key is.
    pub key: Range<usize>,
    /// Where its value is.
    pub value: Range<usize>,
    /// Length of the request in bytes.
    pub len: usize,
}

/// The `GET` of a short key at the front of `buf`, in the form in which client libraries
/// write it. The parser finds the same request there; what is not recognised is for it to
/// say.
pub fn plain_get(buf: &[u8]) -> Option<PlainGet> {
    let at = head(buf, b"*2\r\n$3\r\nGET\r\n")?;
    let key = bulk(buf, at, MAX_KEY_BYTES)?;
    let len = key.end + 2;
    Some(PlainGet { key, len })
}

/// The `SET` of a short key to a short value, likewise.
pub fn plain_set(buf: &[u8]) -> Option<PlainSet> {
    let at = head(buf, b"*3\r\n$3\r\nSET\r\n")?;
    let key = bulk(buf, at, MAX_KEY_BYTES)?;
    let value = bulk(buf, key.end + 2, MAX_VALUE_BYTES)?;
    let len = value.end + 2;
    Some(PlainSet { key, value, len })
}

/// The length of `head`, if `buf` begins with it, in capitals or not.
fn head(buf: &[u8], head: &[u8]) -> Option<usize> {
    let is_it = buf.get(..head.len())?.eq_ignore_ascii_case(head);
    is_it.then_some(head.len())
}

/// Where the bytes of the bulk string are whose header is at `at`, if all of it has come.
fn bulk(buf: &[u8], at: usize, max_bytes: usize) -> Option<Range<usize>> {
    let rest = buf.get(at..)?.strip_prefix(b"$")?;
    let digits = rest.iter().take(6).position(|byte| *byte == b'\r')?;
    let len = usize::try_from(parse_i64(&rest[..digits])?).ok()?;
    let start = at + 1 + digits + 2;
    let is_whole = len <= max_bytes
        && buf.get(start - 1) == Some(&b'\n')
        && buf.get(start + len..start + len + 2) == Some(b"\r\n");
    is_whole.then(|| start..start + len)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::resp::{Limits, RequestParser, Step};

    fn found(buf: &[u8]) -> Option<(&[u8], usize)> {
        plain_get(buf).map(|get| (&buf[get.key], get.len))
    }

    #[test]
    fn recognises_what_libraries_send_and_nothing_else() {
        assert_eq!(
            found(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2"),
            Some((&b"k"[..], 20))
        );
        assert_eq!(
            found(b"*2\r\n$3\r\nget\r\n$0\r\n\r\n"),
            Some((&b""[..], 19))
        );
        for other in [
            &b""[..],
            b"*2\r\n$3\r\nGET\r\n$",
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r",
            b"*2\r\n$3\r\nGET\r\n$1\r\nkx\n",
            b"*2\r\n$3\r\nGET\r\n$01\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$-1\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$1\rxk\r\n",
            b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n",
            b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\nk\r\n",
            b"GET k\r\n",
        ] {
            assert_eq!(found(other), None, "{:?}", String::from_utf8_lossy(other));
        }
        let long = [b"*2\r\n$3\r\nGET\r\n$1025\r\n", &[b'k'; 1025][..], b"\r\n"].concat();
        assert_eq!(found(&long), None);
    }

    #[test]
    fn recognises_sets_without_options() {
        let set = b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$2\r\nvv\r\n*";
        let found = plain_set(set).unwrap();
        assert_eq!(
            (&set[found.key], &set[found.value]),
            (&b"k"[..], &b"vv"[..])
        );
        assert_eq!(found.len, set.len() - 1);
        for other in [
            &b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r"[..],
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n",
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16385\r\n",
            b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n$2\r\nEX\r\n$1\r\n9\r\n",
        ] {
            assert_eq!(plain_set(other), None);
        }
    }

    /// Bytes that are a GET or a SET but for a few.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let word = || prop::collection::vec(any::<u8>(), 0..12);
        let words = (word(), prop::option::of(word()));
        let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        (words, damage, any::<prop::sample::Index>()).prop_map(|((key, value), damage, cut)| {
            let (count, name) = if value.is_some() {
                (3, "sEt")
            } else {
                (2, "GeT")
            };
            let mut bytes = format!("*{count}\r\n$3\r\n{name}\r\n").into_bytes();
            for word in [Some(key), value].into_iter().flatten() {
                bytes.extend(format!("${}\r\n", word.len()).into_bytes());
                bytes.extend(word);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"*2\r\n");
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut.index(3) == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        })
    }

    proptest! {
        /// Whatever is recognised is what the parser makes of it.
        #[test]
        fn the_parser_finds_the_same(bytes in nearly()) {
            let get = plain_get(&bytes).map(|get| (&b"get"[..], get.key, None, get.len));
            let set = plain_set(&bytes).map(|set| (&b"set"[..], set.key, Some(set.value), set.len));
            prop_assert!(get.is_none() || set.is_none());
            let Some((name, key, value, len)) = get.or(set) else { return Ok(()) };
            let mut buf = BytesMut::from(&bytes[..]);
            let step = RequestParser::new(Limits::default()).step(&mut buf);
            let Ok(Step::Request(request)) = step else {
                return Err(TestCaseError::fail(format!("{step:?}")));
            };
            let request: Vec<_> = request.into_iter().map(|v| v.into_contiguous()).collect();
            prop_assert!(request[0].eq_ignore_ascii_case(name));
            prop_assert_eq!(&request[1][..], &bytes[key]);
            prop_assert_eq!(request.get(2).map(|v| &v[..]), value.map(|v| &bytes[v]));
            prop_assert_eq!(bytes.len() - buf.len(), len);
        }
    }
}
