//! Running gets of one link, served a cell at a time in turn, so that a long
//! one does not keep a short one waiting. Gets of the same chunk are one after
//! the other: their cells arrive in the order in which they were asked for.

use std::collections::VecDeque;

use bytes::Bytes;
use scatterhoard_wire::{ChunkId, message::Message, stream::SendQueue};

use crate::store::ChunkStore;

/// Most gets at once on one link; the proxy is told when there are more.
const MAX_GETS: usize = 256;

struct Get {
    request: u32,
    next: u32,
    left: u32,
}

/// The gets of one chunk.
struct Turn {
    chunk: ChunkId,
    gets: VecDeque<Get>,
}

/// The gets that still have cells to send.
#[derive(Default)]
pub(super) struct Gets(VecDeque<Turn>);

impl Gets {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether reading further requests makes sense.
    pub(super) fn has_room(&self) -> bool {
        self.0.iter().map(|turn| turn.gets.len()).sum::<usize>() < MAX_GETS
    }

    /// Takes a get on; false if there are too many.
    pub(super) fn add(&mut self, request: u32, chunk: ChunkId, first: u32, count: u32) -> bool {
        if !self.has_room() {
            return false;
        }
        let get = Get {
            request,
            next: first,
            left: count,
        };
        match self.0.iter_mut().find(|turn| turn.chunk == chunk) {
            Some(turn) => turn.gets.push_back(get),
            None => self.0.push_back(Turn {
                chunk,
                gets: VecDeque::from([get]),
            }),
        }
        true
    }

    pub(super) fn cancel(&mut self, request: u32) {
        for turn in &mut self.0 {
            turn.gets.retain(|get| get.request != request);
        }
        self.0.retain(|turn| !turn.gets.is_empty());
    }

    /// Ends all of them; their request ids.
    pub(super) fn drain(&mut self) -> Vec<u32> {
        let turns = self.0.drain(..);
        turns
            .flat_map(|turn| turn.gets)
            .map(|get| get.request)
            .collect()
    }

    /// Queues cells until about `ahead_bytes` wait to be written.
    pub(super) fn take_turns(
        &mut self,
        store: &ChunkStore,
        queue: &mut SendQueue,
        ahead_bytes: usize,
    ) {
        while queue.bytes() < ahead_bytes {
            let Some(mut turn) = self.0.pop_front() else {
                return;
            };
            if let Some(get) = turn.gets.front_mut() {
                let ended = match store.cell(turn.chunk, get.next) {
                    Some(cell) => {
                        let message = Message::Cell {
                            stripe: cell.stripe,
                            checksum: cell.checksum,
                        };
                        queue.push(get.request, &message, cell.payload);
                        get.next += 1;
                        get.left -= 1;
                        get.left == 0
                    }
                    // deleted meanwhile, or asked beyond its end
                    None => {
                        queue.push(get.request, &Message::Missing, Bytes::new());
                        true
                    }
                };
                if ended {
                    turn.gets.pop_front();
                }
            }
            if !turn.gets.is_empty() {
                self.0.push_back(turn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use scatterhoard_wire::{
        ChunkDescriptor, Epoch, Geometry, Layout, WriteId,
        stream::{Assembler, Frame},
    };

    use super::*;

    fn chunk(counter: u64) -> ChunkDescriptor {
        let write_id = WriteId {
            epoch: Epoch(1),
            counter,
        };
        let geometry = Geometry::new(1, 0).unwrap();
        ChunkDescriptor {
            id: ChunkId { write_id, index: 0 },
            layout: Layout::new(geometry, 60, 10).unwrap(),
        }
    }

    fn sent(queue: &mut SendQueue) -> Vec<Frame> {
        let mut assembler = Assembler::default();
        let mut frames = Vec::new();
        while !queue.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[])];
            queue.slices(&mut slices);
            let bytes = slices[0].to_vec();
            bytes::BufMut::put_slice(&mut assembler.spare(), &bytes);
            assembler.filled(bytes.len());
            queue.advance(bytes.len());
            while let Some(frame) = assembler.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn chunks_take_turns_and_gets_of_one_chunk_keep_their_order() {
        let (mut store, [long, short]) = (ChunkStore::new(1 << 20), [1, 2].map(chunk));
        for chunk in [&long, &short] {
            for stripe in 0..6 {
                let cell = chunk.cell(stripe, Bytes::from(vec![0; 10]));
                store.put(chunk, cell).unwrap();
            }
        }
        let (mut gets, mut queue) = (Gets::default(), SendQueue::default());
        assert!(gets.add(1, long.id, 0, 3) && gets.add(2, long.id, 3, 2));
        assert!(gets.add(3, short.id, 0, 1) && gets.add(4, long.id, 9, 1));
        gets.add(5, long.id, 0, 1);
        gets.cancel(5);
        gets.take_turns(&store, &mut queue, usize::MAX);
        let order: Vec<(u32, Option<u32>)> = sent(&mut queue)
            .into_iter()
            .map(|frame| match frame.message {
                Message::Cell { stripe, .. } => (frame.request, Some(stripe)),
                _ => (frame.request, None),
            })
            .collect();
        let cells = [(1, 0), (3, 0), (1, 1), (1, 2), (2, 3), (2, 4)];
        let mut expected: Vec<_> = cells.map(|(r, s)| (r, Some(s))).to_vec();
        expected.push((4, None));
        assert_eq!(order, expected);
        assert!(gets.is_empty());
    }
}
