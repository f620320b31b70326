//! What proxy and node say to each other on a link. Kinds are pinned by number.

use bytes::BufMut;

use crate::{
    codec::{Fields, put_text, text},
    descriptor::{ChunkDescriptor, put_write_id, write_id},
    frame::FrameError,
    ids::{ChunkId, Epoch, InstanceId, InvocationId, LabelId, Token, WriteId},
    limits::{DELETE_BATCH, LABEL_PAGE, LIST_PAGE, MAX_LABEL_BYTES, MAX_WINDOW_CELLS},
};

/// What an instance holds at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Bytes of chunks, unfinished ones included.
    pub bytes: u64,
    /// Bytes that it is ready to hold.
    pub budget_bytes: u64,
    /// Number of chunks.
    pub chunks: u32,
}

/// The first message of a link: who dialled, and by what right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The secret of this invocation.
    pub token: Token,
    /// The sandbox that answers.
    pub instance: InstanceId,
    /// The invocation that it serves.
    pub invocation: InvocationId,
    /// When the process started, milliseconds since 1970 by the instance's clock.
    pub birth_unix_ms: u64,
    /// The highest epoch that it has met.
    pub highest_epoch: Epoch,
    /// What it holds.
    pub held: Held,
}

/// Why a request was not carried out. The proxy tries elsewhere or again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The instance is about to return: ask again in the next invocation.
    Returning,
    /// The bytes do not fit its budget.
    Full,
    /// The write id's epoch is below the highest seen.
    StaleEpoch,
    /// The cell does not fit its descriptor or its checksum.
    BadCell,
    /// Too many requests at once on one link.
    Busy,
}

/// Why a node says goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoodbyeReason {
    /// Nothing asked within the linger time.
    Idle,
    /// The invocation's deadline is near.
    Deadline,
    /// The proxy asked for it.
    Released,
    /// The proxy asked for it, and for the end of the process.
    Retired,
}

/// What a value is called and what is known of it: for a proxy that has lost its
/// index. Nodes do not look into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What it is on.
    pub id: LabelId,
    /// At most [`MAX_LABEL_BYTES`].
    pub text: Vec<u8>,
}

/// One message. Requests carry an id that their replies repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Node, first: see [`Hello`].
    Hello(Hello),
    /// Proxy: the link is open.
    Welcome,
    /// Proxy: no link for you; why, for the log.
    Reject(String),
    /// Proxy, with payload: one cell of a chunk. `last` asks for the reply.
    Put {
        /// The chunk.
        chunk: ChunkDescriptor,
        /// The cell's stripe.
        stripe: u32,
        /// The cell's checksum.
        checksum: u32,
        /// No further cell in this request: reply [`Message::Stored`].
        last: bool,
    },
    /// Node: the cells of a put request are in memory.
    Stored {
        /// Whether every cell of the chunk is there now.
        complete: bool,
        /// What it holds.
        held: Held,
    },
    /// Proxy: send cells of a complete chunk.
    Get {
        /// The chunk.
        chunk: ChunkId,
        /// First stripe.
        first: u32,
        /// Number of cells, 1 to [`MAX_WINDOW_CELLS`].
        count: u32,
    },
    /// Node, with payload: one cell, in the order of stripes. Says at the same
    /// time that the whole chunk is there.
    Cell {
        /// The cell's stripe.
        stripe: u32,
        /// Its checksum as it was stored.
        checksum: u32,
    },
    /// Node: the chunk is not there, or not complete.
    Missing,
    /// Node: not done.
    Refused(Refusal),
    /// Proxy: free every chunk of these write ids.
    Delete(Vec<WriteId>),
    /// Proxy: free every chunk below this write id.
    DeleteBelow(WriteId),
    /// Node: freed; what it holds now.
    Deleted(Held),
    /// Proxy: which chunks are there, behind this one in order?
    List(Option<ChunkId>),
    /// Node: a page of complete chunks, in order, and whether more follow.
    Listed {
        /// At most [`LIST_PAGE`].
        chunks: Vec<ChunkDescriptor>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// Proxy: are you there?
    Ping,
    /// Node: yes.
    Pong(Held),
    /// Proxy: send no more for the request with this frame's id.
    Cancel,
    /// Proxy: return as soon as what is asked is answered.
    Release,
    /// Proxy: take no more cells on this link; what is there can still be had.
    Seal,
    /// Proxy: the same as release, and the process ends: another instance has all
    /// that this one holds.
    Retire,
    /// Proxy: keep this with the chunks of its object, in place of an earlier one.
    /// No reply; what does not fit is not kept.
    Label(Label),
    /// Proxy: drop all labels of these objects. No reply.
    Unlabel(Vec<WriteId>),
    /// Proxy: which labels are there, behind this one in order?
    ListLabels(Option<LabelId>),
    /// Node: a page of labels, in order, and whether more follow.
    Labels {
        /// At most [`LABEL_PAGE`], and about `LABEL_PAGE_BYTES`.
        labels: Vec<Label>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// Proxy: the labels of which objects are there, behind this one in order?
    SumLabels(Option<WriteId>),
    /// Node: for each the sum of its labels' checksums, and whether more follow.
    LabelSums {
        /// At most [`LIST_PAGE`].
        sums: Vec<(WriteId, u32)>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// Node: takes no new request and is about to return.
    Goodbye(GoodbyeReason),
    /// Proxy: understood, nothing more will be sent.
    GoodbyeOk,
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const WELCOME: u8 = 2;
    pub(super) const REJECT: u8 = 3;
    pub(super) const PUT: u8 = 4;
    pub(super) const STORED: u8 = 5;
    pub(super) const GET: u8 = 6;
    pub(super) const CELL: u8 = 7;
    pub(super) const MISSING: u8 = 8;
    pub(super) const REFUSED: u8 = 9;
    pub(super) const DELETE: u8 = 10;
    pub(super) const DELETE_BELOW: u8 = 11;
    pub(super) const DELETED: u8 = 12;
    pub(super) const LIST: u8 = 13;
    pub(super) const LISTED: u8 = 14;
    pub(super) const PING: u8 = 15;
    pub(super) const PONG: u8 = 16;
    pub(super) const CANCEL: u8 = 17;
    pub(super) const RELEASE: u8 = 18;
    pub(super) const GOODBYE: u8 = 19;
    pub(super) const GOODBYE_OK: u8 = 20;
    pub(super) const SEAL: u8 = 21;
    pub(super) const RETIRE: u8 = 22;
    pub(super) const LABEL: u8 = 23;
    pub(super) const UNLABEL: u8 = 24;
    pub(super) const LIST_LABELS: u8 = 25;
    pub(super) const LABELS: u8 = 26;
    pub(super) const SUM_LABELS: u8 = 27;
    pub(super) const LABEL_SUMS: u8 = 28;
}

impl Message {
    /// Whether a payload (a cell) follows the body.
    pub fn has_payload(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Cell { .. })
    }

    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Welcome => kind::WELCOME,
            Self::Reject(_) => kind::REJECT,
            Self::Put { .. } => kind::PUT,
            Self::Stored { .. } => kind::STORED,
            Self::Get { .. } => kind::GET,
            Self::Cell { .. } => kind::CELL,
            Self::Missing => kind::MISSING,
            Self::Refused(_) => kind::REFUSED,
            Self::Delete(_) => kind::DELETE,
            Self::DeleteBelow(_) => kind::DELETE_BELOW,
            Self::Deleted(_) => kind::DELETED,
            Self::List(_) => kind::LIST,
            Self::Listed { .. } => kind::LISTED,
            Self::Ping => kind::PING,
            Self::Pong(_) => kind::PONG,
            Self::Cancel => kind::CANCEL,
            Self::Release => kind::RELEASE,
            Self::Seal => kind::SEAL,
            Self::Retire => kind::RETIRE,
            Self::Label(_) => kind::LABEL,
            Self::Unlabel(_) => kind::UNLABEL,
            Self::ListLabels(_) => kind::LIST_LABELS,
            Self::Labels { .. } => kind::LABELS,
            Self::SumLabels(_) => kind::SUM_LABELS,
            Self::LabelSums { .. } => kind::LABEL_SUMS,
            Self::Goodbye(_) => kind::GOODBYE,
            Self::GoodbyeOk => kind::GOODBYE_OK,
        }
    }

    pub(crate) fn encode_body(&self, out: &mut impl BufMut) {
        match self {
            Self::Hello(hello) => {
                out.put_u128_le(hello.token.0);
                out.put_u128_le(hello.instance.0);
                out.put_u64_le(hello.invocation.0);
                out.put_u64_le(hello.birth_unix_ms);
                out.put_u64_le(hello.highest_epoch.0);
                put_held(out, hello.held);
            }
            Self::Reject(why) => put_text(out, why),
            Self::Put {
                chunk,
                stripe,
                checksum,
                last,
            } => {
                chunk.encode(out);
                out.put_u32_le(*stripe);
                out.put_u32_le(*checksum);
                out.put_u8(u8::from(*last));
            }
            Self::Stored { complete, held } => {
                out.put_u8(u8::from(*complete));
                put_held(out, *held);
            }
            Self::Get {
                chunk,
                first,
                count,
            } => {
                put_chunk_id(out, *chunk);
                out.put_u32_le(*first);
                out.put_u32_le(*count);
            }
            Self::Cell { stripe, checksum } => {
                out.put_u32_le(*stripe);
                out.put_u32_le(*checksum);
            }
            Self::Refused(why) => out.put_u8(*why as u8),
            Self::Label(label) => put_label(out, label),
            Self::ListLabels(after) => {
                out.put_u8(u8::from(after.is_some()));
                if let Some(id) = after {
                    put_label_id(out, *id);
                }
            }
            Self::Labels { labels, more } => {
                debug_assert!(labels.len() <= LABEL_PAGE);
                out.put_u8(u8::from(*more));
                out.put_u16_le(labels.len() as u16);
                labels.iter().for_each(|label| put_label(out, label));
            }
            Self::SumLabels(after) => {
                out.put_u8(u8::from(after.is_some()));
                if let Some(id) = after {
                    put_write_id(out, *id);
                }
            }
            Self::LabelSums { sums, more } => {
                debug_assert!(sums.len() <= LIST_PAGE);
                out.put_u8(u8::from(*more));
                out.put_u16_le(sums.len() as u16);
                for (id, sum) in sums {
                    put_write_id(out, *id);
                    out.put_u32_le(*sum);
                }
            }
            Self::Delete(ids) | Self::Unlabel(ids) => {
                debug_assert!(ids.len() <= DELETE_BATCH);
                out.put_u16_le(ids.len() as u16);
                ids.iter().for_each(|id| put_write_id(out, *id));
            }
            Self::DeleteBelow(floor) => put_write_id(out, *floor),
            Self::Deleted(held) | Self::Pong(held) => put_held(out, *held),
            Self::List(after) => {
                out.put_u8(u8::from(after.is_some()));
                if let Some(id) = after {
                    put_chunk_id(out, *id);
                }
            }
            Self::Listed { chunks, more } => {
                debug_assert!(chunks.len() <= LIST_PAGE);
                out.put_u8(u8::from(*more));
                out.put_u16_le(chunks.len() as u16);
                chunks.iter().for_each(|c| c.encode(out));
            }
            Self::Goodbye(why) => out.put_u8(*why as u8),
            Self::Welcome
            | Self::Missing
            | Self::Ping
            | Self::Cancel
            | Self::Release
            | Self::Seal
            | Self::Retire
            | Self::GoodbyeOk => {}
        }
    }

    pub(crate) fn decode(kind: u8, body: &[u8]) -> Result<Self, FrameError> {
        let mut f = Fields::new(body);
        let message = match kind {
            kind::HELLO => Self::Hello(Hello {
                token: Token(f.u128()?),
                instance: InstanceId(f.u128()?),
                invocation: InvocationId(f.u64()?),
                birth_unix_ms: f.u64()?,
                highest_epoch: Epoch(f.u64()?),
                held: held(&mut f)?,
            }),
            kind::WELCOME => Self::Welcome,
            kind::REJECT => Self::Reject(text(&mut f)?),
            kind::PUT => Self::Put {
                chunk: ChunkDescriptor::decode(&mut f)?,
                stripe: f.u32()?,
                checksum: f.u32()?,
                last: f.bool()?,
            },
            kind::STORED => Self::Stored {
                complete: f.bool()?,
                held: held(&mut f)?,
            },
            kind::GET => {
                let (chunk, first, count) = (chunk_id(&mut f)?, f.u32()?, f.u32()?);
                if count == 0 || count > MAX_WINDOW_CELLS {
                    return Err(FrameError::Malformed("window"));
                }
                Self::Get {
                    chunk,
                    first,
                    count,
                }
            }
            kind::CELL => Self::Cell {
                stripe: f.u32()?,
                checksum: f.u32()?,
            },
            kind::MISSING => Self::Missing,
            kind::REFUSED => Self::Refused(refusal(f.u8()?)?),
            kind::DELETE => Self::Delete(write_ids(&mut f)?),
            kind::UNLABEL => Self::Unlabel(write_ids(&mut f)?),
            kind::LABEL => Self::Label(label(&mut f)?),
            kind::LIST_LABELS => Self::ListLabels(match f.bool()? {
                true => Some(label_id(&mut f)?),
                false => None,
            }),
            kind::LABELS => {
                let more = f.bool()?;
                let n = bounded(f.u16()?, LABEL_PAGE)?;
                let labels = (0..n).map(|_| label(&mut f)).collect::<Result<_, _>>()?;
                Self::Labels { labels, more }
            }
            kind::SUM_LABELS => Self::SumLabels(match f.bool()? {
                true => Some(write_id(&mut f)?),
                false => None,
            }),
            kind::LABEL_SUMS => {
                let more = f.bool()?;
                let n = bounded(f.u16()?, LIST_PAGE)?;
                let sum = |_| Ok((write_id(&mut f)?, f.u32()?));
                let sums = (0..n).map(sum).collect::<Result<_, _>>()?;
                Self::LabelSums { sums, more }
            }
            kind::DELETE_BELOW => Self::DeleteBelow(write_id(&mut f)?),
            kind::DELETED => Self::Deleted(held(&mut f)?),
            kind::LIST => Self::List(if f.bool()? {
                Some(chunk_id(&mut f)?)
            } else {
                None
            }),
            kind::LISTED => {
                let more = f.bool()?;
                let n = bounded(f.u16()?, LIST_PAGE)?;
                let chunks = (0..n)
                    .map(|_| ChunkDescriptor::decode(&mut f))
                    .collect::<Result<_, _>>()?;
                Self::Listed { chunks, more }
            }
            kind::PING => Self::Ping,
            kind::PONG => Self::Pong(held(&mut f)?),
            kind::CANCEL => Self::Cancel,
            kind::RELEASE => Self::Release,
            kind::SEAL => Self::Seal,
            kind::RETIRE => Self::Retire,
            kind::GOODBYE => Self::Goodbye(match f.u8()? {
                0 => GoodbyeReason::Idle,
                1 => GoodbyeReason::Deadline,
                2 => GoodbyeReason::Released,
                3 => GoodbyeReason::Retired,
                _ => return Err(FrameError::Malformed("reason")),
            }),
            kind::GOODBYE_OK => Self::GoodbyeOk,
            other => return Err(FrameError::Kind(other)),
        };
        if !Self::may_be_longer(kind) {
            f.finish()?;
        }
        Ok(message)
    }

    /// Whether a later release may say more in it than is known here.
    pub(crate) fn may_be_longer(kind: u8) -> bool {
        matches!(kind, kind::HELLO | kind::WELCOME | kind::REJECT)
    }
}

fn bounded(n: u16, limit: usize) -> Result<usize, FrameError> {
    let n = usize::from(n);
    if n > limit {
        Err(FrameError::Malformed("too many items"))
    } else {
        Ok(n)
    }
}

fn refusal(byte: u8) -> Result<Refusal, FrameError> {
    Ok(match byte {
        0 => Refusal::Returning,
        1 => Refusal::Full,
        2 => Refusal::StaleEpoch,
        3 => Refusal::BadCell,
        4 => Refusal::Busy,
        _ => return Err(FrameError::Malformed("refusal")),
    })
}

fn put_held(out: &mut impl BufMut, held: Held) {
    out.put_u64_le(held.bytes);
    out.put_u64_le(held.budget_bytes);
    out.put_u32_le(held.chunks);
}

fn held(f: &mut Fields<'_>) -> Result<Held, FrameError> {
    Ok(Held {
        bytes: f.u64()?,
        budget_bytes: f.u64()?,
        chunks: f.u32()?,
    })
}

fn write_ids(f: &mut Fields<'_>) -> Result<Vec<WriteId>, FrameError> {
    let n = bounded(f.u16()?, DELETE_BATCH)?;
    (0..n).map(|_| write_id(f)).collect()
}

fn put_label_id(out: &mut impl BufMut, id: LabelId) {
    put_write_id(out, id.object);
    put_write_id(out, id.value);
}

fn label_id(f: &mut Fields<'_>) -> Result<LabelId, FrameError> {
    Ok(LabelId {
        object: write_id(f)?,
        value: write_id(f)?,
    })
}

fn put_label(out: &mut impl BufMut, label: &Label) {
    debug_assert!(label.text.len() <= MAX_LABEL_BYTES);
    put_label_id(out, label.id);
    out.put_u16_le(label.text.len() as u16);
    out.put_slice(&label.text);
}

fn label(f: &mut Fields<'_>) -> Result<Label, FrameError> {
    let id = label_id(f)?;
    let len = bounded(f.u16()?, MAX_LABEL_BYTES)?;
    let text = f.bytes(len)?.to_vec();
    Ok(Label { id, text })
}

fn put_chunk_id(out: &mut impl BufMut, id: ChunkId) {
    put_write_id(out, id.write_id);
    out.put_u8(id.index);
}

fn chunk_id(f: &mut Fields<'_>) -> Result<ChunkId, FrameError> {
    Ok(ChunkId {
        write_id: write_id(f)?,
        index: f.u8()?,
    })
}

#[cfg(test)]
mod tests;
