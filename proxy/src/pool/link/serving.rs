//! A link while it lasts: what comes is read and handed to who asked, what could
//! not be written at once is written.

use std::{io, sync::Arc, time::Duration};

use scatterhoard_node::conduit::Reader;
use scatterhoard_wire::{
    message::{Held, Message},
    stream::{Assembler, Frame},
};
use tokio::time::timeout;

use super::{Answer, Link, OUT_BYTES};

/// A node that said goodbye closes the link within this time.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);

/// What the owner of a link is told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The node said what it holds.
    Held(Held),
    /// The oldest unconfirmed delete was carried out.
    Deleted,
    /// The node takes no more requests.
    Goodbye,
}

/// Serves a link until it ends; says why, `None` after a proper goodbye.
pub async fn run(
    link: &Arc<Link>,
    reader: Reader,
    assembler: Assembler,
    notice: &(impl Fn(Notice) + Sync),
) -> Option<io::Error> {
    // whichever direction ends first ends the link
    let end = tokio::select! {
        biased;
        end = read(link, reader, assembler, notice) => end,
        end = write(link) => end,
        () = link.given_up.cancelled() => Err(io::ErrorKind::TimedOut.into()),
    };
    link.close();
    end.err()
}

async fn read(
    link: &Arc<Link>,
    mut reader: Reader,
    mut assembler: Assembler,
    notice: &(impl Fn(Notice) + Sync),
) -> io::Result<()> {
    let mut said_goodbye = false;
    loop {
        // also what came together with the hello
        while let Some(frame) = assembler.next_frame().map_err(io::Error::other)? {
            said_goodbye |= receive(link, frame, notice).await?;
        }
        if let Some((request, Message::Cell { .. })) = assembler.arriving() {
            link.announce(request)?;
        }
        let mut spare = assembler.spare();
        let read = reader.read_buf(&mut spare);
        let n = if said_goodbye {
            timeout(GOODBYE_TIMEOUT, read)
                .await
                .map_err(io::Error::from)??
        } else {
            read.await?
        };
        if n == 0 {
            return if said_goodbye {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        assembler.filled(n);
        link.heard();
    }
}

/// Handles one frame; true if it was the goodbye.
async fn receive(
    link: &Arc<Link>,
    frame: Frame,
    notice: &(impl Fn(Notice) + Sync),
) -> io::Result<bool> {
    let answer = match frame.message {
        Message::Stored { complete, held } => {
            notice(Notice::Held(held));
            Answer::Stored { complete }
        }
        Message::Cell { stripe, checksum } => Answer::Cell {
            stripe,
            checksum,
            payload: frame.payload,
        },
        Message::Missing => Answer::Missing,
        Message::Refused(why) => Answer::Refused(why),
        Message::Deleted(held) => {
            notice(Notice::Held(held));
            if frame.request == 0 {
                notice(Notice::Deleted);
                return Ok(false);
            }
            Answer::Deleted
        }
        Message::Listed { chunks, more } => Answer::Listed { chunks, more },
        Message::Labels { labels, more } => Answer::Labels { labels, more },
        Message::LabelSums { sums, more } => Answer::LabelSums { sums, more },
        Message::Pong(held) => {
            notice(Notice::Held(held));
            Answer::Pong
        }
        Message::Goodbye(_) => {
            notice(Notice::Goodbye);
            // behind everything that was sent before: the node may go then
            link.send(&Message::GoodbyeOk);
            return Ok(true);
        }
        other => return Err(io::Error::other(format!("the node sent {other:?}"))),
    };
    link.answer(frame.request, answer)?;
    Ok(false)
}

/// Writes what could not be written at once.
pub(super) async fn write(link: &Link) -> io::Result<()> {
    let Some(socket) = link.out.lock().socket.clone() else {
        return Ok(());
    };
    loop {
        link.unsent.notified().await;
        loop {
            {
                let mut out = link.out.lock();
                out.write_ready()?;
                if out.queue.bytes() < OUT_BYTES {
                    link.room.notify_waiters();
                }
                if out.is_written() {
                    break;
                }
            }
            socket.writable().await?;
            // a slow link is not a mute one
            link.heard();
        }
    }
}
