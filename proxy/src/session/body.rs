//! The body of a large argument, read into buffers cut like its cells.

use std::{io, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{Session, SessionError};
use crate::value::Value;

/// A client that announced a body has so long for each segment (a cell, at most
/// 256 KiB by default): what it has sent so far takes room that others wait for.
const BODY_STALL: Duration = Duration::from_secs(30);

impl Session {
    /// Reads exactly `len` bytes: what is in the input buffer, then the socket.
    pub(super) async fn read_body(&mut self, len: u64) -> Result<Value, SessionError> {
        let geometry = self.context.store.settings().geometry;
        // the parser's limit keeps `len` below the largest object
        let layout = geometry.layout(len).map_err(io::Error::other)?;
        let mut segments = Vec::with_capacity(layout.stripes() as usize);
        for stripe in 0..layout.stripes() {
            for chunk in 0..layout.geometry().data() {
                let range = layout.data_range(stripe, chunk);
                let size = (range.end - range.start) as usize;
                if size > 0 {
                    self.admission.admit(&mut self.admitted, size as u64).await;
                    segments.push(self.read_exactly(size).await?);
                }
            }
        }
        Ok(Value::from_segments(segments))
    }

    async fn read_exactly(&mut self, len: usize) -> Result<Bytes, SessionError> {
        let mut segment = BytesMut::with_capacity(len);
        let here = len.min(self.input.len());
        segment.put_slice(&self.input.split_to(here));
        let fill = async {
            while segment.len() < len {
                let missing = len - segment.len();
                let mut room = (&mut segment).limit(missing);
                if self.stream.read_buf(&mut room).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
            }
            Ok(())
        };
        match timeout(BODY_STALL, fill).await {
            Ok(filled) => filled?,
            Err(_) => return Err(SessionError::Stalled),
        }
        Ok(segment.freeze())
    }
}
