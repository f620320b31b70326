//! What values are called, kept with the chunks of their objects: for a proxy that
//! has lost its index. Opaque, and there only where a proxy asks for it.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use scatterhoard_wire::{
    Epoch, LabelId, WriteId, checksum,
    limits::{LABEL_PAGE, LABEL_PAGE_BYTES},
    message::Label,
};

/// What a label takes besides its text.
const ENTRY_BYTES: u64 = 128;

/// The labels of one instance, by object.
#[derive(Debug, Default)]
pub(super) struct Labels(BTreeMap<LabelId, Box<[u8]>>);

impl Labels {
    /// What it takes in memory.
    pub(super) fn bytes_of(label: &Label) -> u64 {
        ENTRY_BYTES + label.text.len() as u64
    }

    /// Keeps a label; bytes of the one whose place it takes.
    pub(super) fn put(&mut self, label: Label) -> u64 {
        let before = self.0.insert(label.id, label.text.into());
        before.map_or(0, |text| ENTRY_BYTES + text.len() as u64)
    }

    /// Drops the labels of an object; their bytes.
    pub(super) fn drop_of(&mut self, object: WriteId) -> u64 {
        // most have none, and most proxies give none
        if self.0.is_empty() {
            return 0;
        }
        let of_it = label_id(object, LOWEST)..=label_id(object, HIGHEST);
        let ids: Vec<LabelId> = self.0.range(of_it).map(|(id, _)| *id).collect();
        let removed = ids.iter().filter_map(|id| self.0.remove(id));
        removed.map(|text| ENTRY_BYTES + text.len() as u64).sum()
    }

    /// Labels behind `after` in order of their ids, a page of them, and whether
    /// there are more.
    pub(super) fn list(&self, after: Option<LabelId>) -> (Vec<Label>, bool) {
        let (mut labels, mut bytes) = (Vec::new(), 0);
        for (id, text) in self.behind(after) {
            if labels.len() == LABEL_PAGE || bytes >= LABEL_PAGE_BYTES {
                return (labels, true);
            }
            bytes += text.len();
            labels.push(Label {
                id: *id,
                text: text.to_vec(),
            });
        }
        (labels, false)
    }

    /// For each object behind `after` the sum of its labels' checksums, at most
    /// `max`, and whether there are more.
    pub(super) fn sums(&self, after: Option<WriteId>, max: usize) -> (Vec<(WriteId, u32)>, bool) {
        let mut sums: Vec<(WriteId, u32)> = Vec::new();
        for (id, text) in self.behind(after.map(|id| label_id(id, HIGHEST))) {
            let sum = checksum::label(*id, text);
            let is_full = sums.len() == max;
            match sums.last_mut() {
                Some((object, all)) if *object == id.object => *all = all.wrapping_add(sum),
                _ if is_full => return (sums, true),
                _ => sums.push((id.object, sum)),
            }
        }
        (sums, false)
    }

    fn behind(&self, after: Option<LabelId>) -> impl Iterator<Item = (&LabelId, &Box<[u8]>)> {
        let start = after.map_or(Unbounded, Excluded);
        self.0.range((start, Unbounded))
    }
}

const LOWEST: WriteId = WriteId {
    epoch: Epoch(0),
    counter: 0,
};
const HIGHEST: WriteId = WriteId {
    epoch: Epoch(u64::MAX),
    counter: u64::MAX,
};

fn label_id(object: WriteId, value: WriteId) -> LabelId {
    LabelId { object, value }
}
