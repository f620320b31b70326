//! The body of a large argument, read into buffers cut like its cells: either
//! collected, or on its way to nodes while it arrives.

use std::{
    io,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut, buf::Limit};
use futures_util::FutureExt;
use scatterhoard_wire::bulk_buffer;
use tokio::{io::AsyncReadExt, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{ClientStream, Session, SessionError, pace::Pace};
use crate::{
    apply::{self, Intake},
    store::{Body, Broken},
    value::Value,
};

/// Pieces in which a body is thrown away that nobody can take.
const WASTE_BYTES: usize = 64 * 1024;

/// The rest of a body: what is in the input buffer, then the socket.
struct Incoming<'a> {
    input: &'a mut BytesMut,
    stream: &'a mut ClientStream,
    rest_bytes: &'a mut u64,
    pace: &'a mut Pace,
    end: &'a CancellationToken,
    metered: bool,
    /// Its first bytes are kept here.
    start: &'a mut Bytes,
}

impl Incoming<'_> {
    /// Exactly `len` bytes, in a buffer of their own with room for `capacity`.
    async fn read(&mut self, len: usize, capacity: usize) -> Result<BytesMut, SessionError> {
        let mut segment = bulk_buffer(capacity);
        let here = len.min(self.input.len());
        segment.put_slice(&self.input.split_to(here));
        *self.rest_bytes -= here as u64;
        while segment.len() < len {
            let missing = len - segment.len();
            let n = self.fill(&mut (&mut segment).limit(missing)).await?;
            *self.rest_bytes -= n as u64;
        }
        Ok(segment)
    }

    /// What comes next; the client is waited for as long as its pace allows.
    async fn fill(&mut self, room: &mut Limit<&mut BytesMut>) -> Result<usize, SessionError> {
        let mut read = pin!(self.stream.read_buf(room));
        // mostly it is there: no clock is read then
        let (read, waited) = match read.as_mut().now_or_never() {
            Some(read) => (Some(read?), Duration::ZERO),
            None => {
                let began = Instant::now();
                let read = timeout(self.pace.patience(), read);
                let read = self.end.run_until_cancelled(read).await;
                let read = read.ok_or(SessionError::Ended)?.ok().transpose()?;
                (read, began.elapsed())
            }
        };
        if read == Some(0) {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let n = read.unwrap_or(0);
        match self.pace.moved(n as u64, waited) {
            true => Ok(n),
            false => Err(SessionError::SlowSender),
        }
    }
}

impl Body for Incoming<'_> {
    type Error = SessionError;

    fn is_metered(&self) -> bool {
        self.metered
    }

    async fn next(&mut self, len: usize, padded_len: usize) -> Result<Bytes, SessionError> {
        let mut cell = self.read(len, padded_len).await?;
        if self.start.is_empty() {
            // copied: they are all that is kept
            *self.start = Bytes::copy_from_slice(&cell[..len.min(Value::QUOTED_BYTES)]);
        }
        cell.resize(padded_len, 0);
        Ok(cell.freeze())
    }
}

impl Session {
    /// Reads exactly `len` bytes into memory.
    pub(super) async fn read_body(&mut self, len: u64) -> Result<Value, SessionError> {
        let mut pace = self.pace();
        let store = &self.context.store;
        // the parser's limit keeps `len` below the largest object
        let layout = store.settings().geometry.layout(len);
        let layout = layout.map_err(io::Error::other)?;
        let mut segments = Vec::with_capacity(layout.stripes() as usize);
        let mut rest_bytes = len;
        for stripe in 0..layout.stripes() {
            for chunk in 0..layout.geometry().data() {
                let range = layout.data_range(stripe, chunk);
                let size = (range.end - range.start) as usize;
                if size > 0 {
                    store.memory().admit(&mut self.admitted, size as u64).await;
                    let mut incoming = Incoming {
                        input: &mut self.input,
                        stream: &mut self.stream,
                        rest_bytes: &mut rest_bytes,
                        pace: &mut pace,
                        end: &self.end,
                        metered: true,
                        start: &mut Bytes::new(),
                    };
                    segments.push(incoming.read(size, size).await?.freeze());
                }
            }
        }
        Ok(Value::from_segments(segments))
    }

    /// Takes in a large argument that the parser has come to.
    pub(super) async fn take_in(&mut self, len: u64) -> Result<(), SessionError> {
        // replies to what came before must not wait for the body
        self.flush().await?;
        let args = self.parser.args_so_far();
        let argc = args.len() + self.parser.args_missing();
        let intake = match self.client.refusal {
            Some(_) => Intake::Refused(None),
            None => apply::intake(&self.context, &self.client, args, argc, len, self.checked),
        };
        self.checked = args.len();
        let body = match intake {
            Intake::Stored => self.upload(len).await?,
            Intake::Kept => self.read_body(len).await?,
            Intake::Refused(error) => {
                self.client.refusal = self.client.refusal.take().or(error);
                let start = self.waste(len).await?;
                Value::Refused { start, len }
            }
        };
        self.parser.large_done(body);
        Ok(())
    }

    /// Reads bytes that nobody takes; returns the first of them.
    async fn waste(&mut self, mut rest_bytes: u64) -> Result<Bytes, SessionError> {
        let mut start = Bytes::new();
        let mut pace = self.pace();
        let mut waste = Incoming {
            input: &mut self.input,
            stream: &mut self.stream,
            rest_bytes: &mut rest_bytes,
            pace: &mut pace,
            end: &self.end,
            metered: false,
            start: &mut Bytes::new(),
        };
        while *waste.rest_bytes > 0 {
            let piece = WASTE_BYTES.min(usize::try_from(*waste.rest_bytes).unwrap_or(WASTE_BYTES));
            let piece = waste.read(piece, piece).await?;
            if start.is_empty() {
                start = Bytes::copy_from_slice(&piece[..piece.len().min(Value::QUOTED_BYTES)]);
            }
        }
        Ok(start)
    }

    /// Sends the next `len` bytes to nodes while they arrive, under a write id
    /// that no key names yet. Where that fails, the body is read all the same,
    /// and thrown away: the client gets its answer behind it.
    pub(super) async fn upload(&mut self, len: u64) -> Result<Value, SessionError> {
        let mut rest_bytes = len;
        let mut pace = self.pace();
        let mut start = Bytes::new();
        let incoming = Incoming {
            input: &mut self.input,
            stream: &mut self.stream,
            rest_bytes: &mut rest_bytes,
            pace: &mut pace,
            end: &self.end,
            metered: self.admitted.is_empty(),
            start: &mut start,
        };
        let store = &self.context.store;
        let early = self.client.queue.as_ref().map(|_| store.early(len));
        let upload = match early.transpose() {
            Err(error) => Err(error),
            Ok(early) => match store.write_from(len, incoming).await {
                Ok(mut written) => {
                    early.into_iter().for_each(|early| written.set_early(early));
                    Ok(written)
                }
                Err(Broken::Write(error)) => Err(error),
                Err(Broken::Body(error)) => return Err(error),
            },
        };
        let wasted = self.waste(rest_bytes).await?;
        if start.is_empty() {
            start = wasted;
        }
        // a request has no more arguments than that
        let number = u32::try_from(self.client.uploads.len()).unwrap_or(u32::MAX);
        self.client.uploads.push(Some(upload));
        Ok(Value::Uploaded { number, len, start })
    }
}
