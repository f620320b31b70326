//! Little-endian fields, read with bounds. Shared by descriptor and messages.

use bytes::BufMut;

use crate::frame::FrameError;

/// Reads fields off a body and never beyond it.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], FrameError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        self.bytes(N)?.try_into().map_err(|_| FrameError::Truncated)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(u8::from_le_bytes(self.array()?))
    }
    pub(crate) fn u16(&mut self) -> Result<u16, FrameError> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    pub(crate) fn u32(&mut self) -> Result<u32, FrameError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub(crate) fn u64(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    pub(crate) fn u128(&mut self) -> Result<u128, FrameError> {
        Ok(u128::from_le_bytes(self.array()?))
    }
    pub(crate) fn bool(&mut self) -> Result<bool, FrameError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError::Malformed("flag")),
        }
    }

    /// Everything must have been read: trailing bytes are a disagreement.
    pub(crate) fn finish(self) -> Result<(), FrameError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Malformed("trailing bytes"))
        }
    }
}

/// Appends a length-prefixed text, cut to the limit on a character boundary.
pub(crate) fn put_text(out: &mut impl BufMut, text: &str) {
    let mut end = text.len().min(crate::limits::MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.put_u16_le(end as u16);
    out.put_slice(&text.as_bytes()[..end]);
}

/// Reads what [`put_text`] wrote.
pub(crate) fn text(fields: &mut Fields<'_>) -> Result<String, FrameError> {
    let len = usize::from(fields.u16()?);
    if len > crate::limits::MAX_TEXT_BYTES {
        return Err(FrameError::Malformed("text too long"));
    }
    String::from_utf8(fields.bytes(len)?.to_vec()).map_err(|_| FrameError::Malformed("text"))
}
