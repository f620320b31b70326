//! Running gets of one link, served a cell at a time in turn, so that a long
//! one does not keep a short one waiting.

use std::collections::VecDeque;

use bytes::Bytes;
use scatterhoard_wire::{ChunkId, message::Message, stream::SendQueue};

use crate::store::ChunkStore;

/// Most gets at once on one link; the proxy is told when there are more.
const MAX_GETS: usize = 256;

struct Get {
    request: u32,
    chunk: ChunkId,
    next: u32,
    left: u32,
}

/// The gets that still have cells to send.
#[derive(Default)]
pub(super) struct Gets(VecDeque<Get>);

impl Gets {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether reading further requests makes sense.
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < MAX_GETS
    }

    /// Takes a get on; false if there are too many.
    pub(super) fn add(&mut self, request: u32, chunk: ChunkId, first: u32, count: u32) -> bool {
        let room = self.has_room();
        if room {
            self.0.push_back(Get {
                request,
                chunk,
                next: first,
                left: count,
            });
        }
        room
    }

    pub(super) fn cancel(&mut self, request: u32) {
        self.0.retain(|get| get.request != request);
    }

    /// Ends all of them; their request ids.
    pub(super) fn drain(&mut self) -> Vec<u32> {
        self.0.drain(..).map(|get| get.request).collect()
    }

    /// Queues cells until about `ahead_bytes` wait to be written.
    pub(super) fn take_turns(
        &mut self,
        store: &ChunkStore,
        queue: &mut SendQueue,
        ahead_bytes: usize,
    ) {
        while queue.bytes() < ahead_bytes {
            let Some(mut get) = self.0.pop_front() else {
                return;
            };
            // deleted meanwhile, or asked beyond its end
            let Some(cell) = store.cell(get.chunk, get.next) else {
                queue.push(get.request, &Message::Missing, Bytes::new());
                continue;
            };
            let message = Message::Cell {
                stripe: cell.stripe,
                checksum: cell.checksum,
            };
            queue.push(get.request, &message, cell.payload);
            get.next += 1;
            get.left -= 1;
            if get.left > 0 {
                self.0.push_back(get);
            }
        }
    }
}
