//! Replies on their way to the client: written as fast as it takes them, and not waited
//! for beyond its limits.

use std::{
    io,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Buf;
use futures_util::FutureExt;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{ClientStream, FLUSH_BYTES, Session, SessionError, WRITE_STALL};
use crate::{client_limits::OutputLimit, resp::OutBuffer};

impl Session {
    /// Writes replies if they have become many.
    pub(super) async fn flush_if_much(&mut self) -> Result<(), SessionError> {
        match self.output.pending_bytes() >= FLUSH_BYTES {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Writes all that waits.
    pub(super) async fn flush(&mut self) -> Result<(), SessionError> {
        let is_told = self.client.subscriptions.any() || self.client.monitoring.is_some();
        let limit = match is_told {
            // what waits for it is bounded in its mailbox
            true => OutputLimit::default(),
            false => self.context.limits.of_replies(),
        };
        let mut above_since = None;
        while self.output.has_remaining() {
            let pending = self.output.pending_bytes() as u64;
            if limit.hard_bytes > 0 && pending > limit.hard_bytes {
                return Err(SessionError::Output);
            }
            // mostly the socket takes it: no clock is read then
            let mut write = pin!(write_some(&mut self.stream, &mut self.output));
            let (written, waited) = match write.as_mut().now_or_never() {
                Some(written) => (Some(written?), Duration::ZERO),
                None => {
                    let began = Instant::now();
                    let mut patience = match &self.taking {
                        Some(pace) => pace.patience(),
                        None => WRITE_STALL,
                    };
                    if let Some(stranger) = &self.stranger {
                        let now = tokio::time::Instant::now();
                        let rest = stranger.deadline.saturating_duration_since(now);
                        if rest.is_zero() {
                            return Err(SessionError::Stranger);
                        }
                        patience = patience.min(rest);
                    }
                    if limit.soft_bytes > 0 && pending > limit.soft_bytes {
                        let soft_for = Duration::from_secs(limit.soft_s);
                        let since: Instant = *above_since.get_or_insert(began);
                        let rest = soft_for.saturating_sub(since.elapsed());
                        if rest.is_zero() {
                            return Err(SessionError::Output);
                        }
                        patience = patience.min(rest);
                    } else {
                        above_since = None;
                    }
                    let write = self.end.run_until_cancelled(timeout(patience, write));
                    let written = write.await.ok_or(SessionError::Ended)?;
                    (written.ok().transpose()?, began.elapsed())
                }
            };
            if written == Some(0) {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            let bytes = written.unwrap_or(0) as u64;
            if let Some(pace) = &mut self.taking {
                if !pace.moved(bytes, waited) {
                    return Err(SessionError::SlowReader);
                }
            } else if written.is_none() && waited >= WRITE_STALL {
                return Err(SessionError::Stalled);
            }
        }
        if let ClientStream::Tls(stream) = &mut self.stream {
            // what is encrypted may not be in the socket yet
            let flush = timeout(WRITE_STALL, stream.flush());
            match self.end.run_until_cancelled(flush).await {
                Some(Ok(flushed)) => flushed?,
                Some(Err(_)) => return Err(SessionError::Stalled),
                None => return Err(SessionError::Ended),
            }
        }
        Ok(())
    }
}

/// Writes what the stream takes at once; how many bytes that were.
async fn write_some(stream: &mut ClientStream, output: &mut OutBuffer) -> io::Result<usize> {
    let Some(all) = output.only_chunk() else {
        return stream.write_buf(output).await;
    };
    // a vectored write of one piece costs the kernel more
    let written = stream.write(all).await?;
    output.advance(written);
    Ok(written)
}
