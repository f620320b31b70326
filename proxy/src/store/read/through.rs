//! A read goes on from the backing store where nodes have lost the rest, in the
//! middle of a value, too: what a write is called is the same there, and its
//! bytes can be no others. Nodes then get their chunks again by a repair.

use std::ops::Range;

use bytes::Bytes;

use super::{ObjectReader, ReadError};
use crate::{
    admission::Permit,
    backing::{BackingError, GLANCE_BYTES, WINDOW_BYTES},
};

/// How far a read is.
pub(super) struct Through {
    /// Bytes of the source that were not handed on.
    rest: Range<u64>,
    /// It reads from the backing store.
    is_open: bool,
    /// Memory for one window of it.
    memory: Option<Permit>,
    /// Why it does not.
    refusal: Option<BackingError>,
    /// How nodes had failed when it turned there.
    nodes: Option<ReadError>,
}

impl Through {
    pub(super) fn new(bytes: Range<u64>) -> Self {
        Self {
            rest: bytes,
            is_open: false,
            memory: None,
            refusal: None,
            nodes: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn handed_on(&mut self, cells: &[Bytes]) {
        self.rest.start += cells.iter().map(|cell| cell.len() as u64).sum::<u64>();
    }

    /// Nodes have failed so: what that means. Nothing is lost that the backing
    /// store may have.
    pub(super) fn error(&mut self, nodes: ReadError) -> ReadError {
        match self.refusal.take() {
            Some(error @ BackingError::Unreachable(_)) => ReadError::Backing(error),
            _ => nodes,
        }
    }

    /// It went on from the backing store, and that has failed: what it has not is
    /// lost only if nodes have lost it.
    fn broken(&mut self, backing: BackingError) -> ReadError {
        match (backing, self.nodes.take()) {
            (BackingError::Absent | BackingError::Damaged, Some(nodes)) => nodes,
            (error, _) => ReadError::Backing(error),
        }
    }
}

impl ObjectReader {
    /// Nodes cannot bring what is due: has the backing store bring it, and all
    /// behind it; their error if it cannot, either. Little at first: memory for
    /// more is asked for when that of the stripes was given back.
    pub(super) async fn turn_to_backing(
        &mut self,
        nodes: ReadError,
    ) -> Result<Vec<Bytes>, ReadError> {
        if self.through.refusal.is_some() {
            // asked once, which may have taken its time
            return Err(nodes);
        }
        match self.read_through(GLANCE_BYTES).await {
            Ok(cells) => {
                self.through.is_open = true;
                self.through.nodes = Some(nodes);
                // known to be missing by now: nodes get it again
                self.finish();
                let chunks = &mut self.chunks;
                chunks.iter_mut().for_each(|chunk| chunk.reset(chunk.next));
                self.opening.clear();
                self.gather.clear();
                self.ahead.finish();
                Ok(cells)
            }
            Err(error) => {
                self.through.refusal = Some(error);
                Err(nodes)
            }
        }
    }

    /// The next bytes, once the backing store brings them.
    pub(super) async fn next_through(&mut self) -> Result<Option<Vec<Bytes>>, ReadError> {
        if self.through.rest.is_empty() {
            self.through.memory = None;
            return Ok(None);
        }
        if self.through.memory.is_none() && self.ahead.is_metered() {
            let memory = self.store.memory.grant(WINDOW_BYTES).await;
            self.through.memory = Some(memory);
        }
        match self.read_through(WINDOW_BYTES).await {
            Ok(cells) => Ok(Some(cells)),
            Err(error) => Err(self.through.broken(error)),
        }
    }

    async fn read_through(&mut self, most_bytes: u64) -> Result<Vec<Bytes>, BackingError> {
        let Some(backing) = self.store.backing.clone() else {
            return Err(BackingError::Absent);
        };
        let (write_id, size_bytes) = (self.object.write_id, self.object.size_bytes());
        let rest = &self.through.rest;
        let bytes = rest.start..rest.end.min(rest.start + most_bytes);
        // its own box: readers are everywhere, and seldom come here
        let cells = Box::pin(backing.read(write_id, size_bytes, bytes)).await;
        if matches!(cells, Err(BackingError::Damaged)) {
            // nodes that do not answer now may have it whole
            self.store.mend_backed(&self.pinned.key, write_id);
        }
        let cells = cells?;
        self.through.handed_on(&cells);
        Ok(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_may_still_have_is_not_lost() {
        let turned = |nodes| Through {
            nodes: Some(nodes),
            ..Through::new(0..1)
        };
        let away = || ReadError::Unavailable { failed: 3 };
        for error in [BackingError::Absent, BackingError::Damaged] {
            let broken = turned(away()).broken(error.clone());
            assert!(matches!(broken, ReadError::Unavailable { failed: 3 }));
            let broken = turned(ReadError::Lost { missing: 3 }).broken(error);
            assert!(matches!(broken, ReadError::Lost { missing: 3 }));
        }
        let broken = turned(away()).broken(BackingError::Unreachable(String::new()));
        assert!(matches!(broken, ReadError::Backing(_)));
    }
}
