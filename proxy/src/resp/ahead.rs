//! The most usual request, recognised where it lies in the read buffer.

use std::ops::Range;

use super::number::parse_i64;

/// Longer keys are left to the parser.
const MAX_KEY_BYTES: usize = 1024;

/// A `GET` that is complete.
#[derive(Debug, PartialEq, Eq)]
pub struct PlainGet {
    /// Where its key is.
    pub key: Range<usize>,
    /// Length of the request in bytes.
    pub len: usize,
}

/// The `GET` of a short key at the front of `buf`, in the form in which client libraries
/// write it. The parser finds the same request there; what is not recognised is for it to
/// say.
pub fn plain_get(buf: &[u8]) -> Option<PlainGet> {
    const HEAD: &[u8] = b"*2\r\n$3\r\nGET\r\n$";
    let head = buf.get(..HEAD.len())?;
    if !head.eq_ignore_ascii_case(HEAD) {
        return None;
    }
    let rest = &buf[HEAD.len()..];
    let digits = rest.iter().take(5).position(|byte| *byte == b'\r')?;
    let len = usize::try_from(parse_i64(&rest[..digits])?).ok()?;
    let start = HEAD.len() + digits + 2;
    let key = start..start + len;
    let is_whole = len <= MAX_KEY_BYTES
        && buf.get(start - 1) == Some(&b'\n')
        && buf.get(key.end..key.end + 2) == Some(b"\r\n");
    is_whole.then(|| PlainGet {
        len: key.end + 2,
        key,
    })
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

    /// Bytes that are a GET but for a few.
    fn nearly_a_get() -> impl Strategy<Value = Vec<u8>> {
        let key = prop::collection::vec(any::<u8>(), 0..12);
        let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        (key, damage, any::<prop::sample::Index>()).prop_map(|(key, damage, cut)| {
            let mut bytes = format!("*2\r\n$3\r\nGeT\r\n${}\r\n", key.len()).into_bytes();
            bytes.extend(key);
            bytes.extend(b"\r\n*2\r\n");
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
        fn the_parser_finds_the_same(bytes in nearly_a_get()) {
            let Some((key, len)) = found(&bytes) else { return Ok(()) };
            let mut buf = BytesMut::from(&bytes[..]);
            let step = RequestParser::new(Limits::default()).step(&mut buf);
            let Ok(Step::Request(request)) = step else {
                return Err(TestCaseError::fail(format!("{step:?}")));
            };
            let request: Vec<_> = request.into_iter().map(|v| v.into_contiguous()).collect();
            prop_assert_eq!(request.len(), 2);
            prop_assert!(request[0].eq_ignore_ascii_case(b"GET"));
            prop_assert_eq!(&request[1][..], key);
            prop_assert_eq!(bytes.len() - buf.len(), len);
        }
    }
}
