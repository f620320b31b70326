//! Which chunks are asked: d at first, others in place of what is late or will be.

use std::{sync::Arc, time::Duration};

use super::{Chunk, LEAST_HEDGE, ObjectReader, State};
use crate::pool::{lifecycle::Phase, node::Node};

impl ObjectReader {
    /// Chunks that were asked and have not brought the stripe that is due.
    pub(super) fn late(&self) -> impl Iterator<Item = usize> + '_ {
        let due = self.gather.next();
        let late = move |(_, c): &(usize, &Chunk)| c.is_asked() && c.next <= due && due < c.until;
        self.chunks.iter().enumerate().filter(late).map(|(i, _)| i)
    }

    /// As long as the slowest of those that are asked ordinarily takes.
    pub(super) fn hedge_after(&self) -> Duration {
        let most = self.store.settings.hedge_after;
        let ordinary = |i: usize| self.node(i)?.ordinary_latency();
        let slowest = self.late().map(|i| ordinary(i).unwrap_or(most)).max();
        slowest.unwrap_or(most).clamp(LEAST_HEDGE.min(most), most)
    }

    /// One more for each that is late.
    pub(super) fn hedge(&mut self) {
        metrics::counter!("scatterhoard_hedged_reads_total").increment(1);
        if self.narrow {
            return self.widen();
        }
        (0..self.late().count()).for_each(|_| self.enlist());
    }

    /// A stripe was done without some that were asked: while enough others are
    /// asked, these need not go on. Parity in place of a slow data chunk stays.
    pub(super) fn release_laggards(&mut self) {
        let d = self.object.layout.geometry().data();
        let due = self.gather.next();
        let asked = self.chunks.iter().filter(|c| c.is_asked()).count();
        if self.narrow || asked <= d {
            return;
        }
        let asked = self.order.iter().rev().map(|&i| (i, &self.chunks[i]));
        let asked = asked.filter(|(_, chunk)| chunk.is_asked());
        let asked = asked.map(|(index, chunk)| Asked {
            index,
            is_late: chunk.next < due,
            is_in_doubt: self.is_in_doubt(index),
        });
        for index in dispensable(&asked.collect::<Vec<_>>(), d) {
            let chunk = &mut self.chunks[index];
            chunk.state = State::Spare;
            chunk.reset(due);
            self.order.retain(|i| *i != index);
            self.order.push(index);
        }
    }

    /// Asks one more chunk, if there is one. One whose node is in doubt is asked, too,
    /// so that it is started again and losses are found, but not counted on.
    pub(super) fn enlist(&mut self) {
        let is_spare = |reader: &Self, i: &&usize| reader.chunks[**i].state == State::Spare;
        while let Some(&i) = self.order.iter().find(|i| is_spare(self, i)) {
            self.chunks[i].state = State::Asked;
            if !self.is_in_doubt(i) {
                return;
            }
        }
    }

    /// Asks one more chunk in place of this one, unless enough others are asked that can be
    /// counted on.
    pub(super) fn replace(&mut self, index: usize) {
        let counts = |i: &usize| *i != index && self.chunks[*i].is_asked() && !self.is_in_doubt(*i);
        let d = self.object.layout.geometry().data();
        if (0..self.chunks.len()).filter(counts).count() < d {
            self.enlist();
        }
    }

    /// Whether there is a chunk, on a node that can be counted on.
    pub(super) fn is_sound(&self, chunk: usize) -> bool {
        let node = self.node(chunk).filter(|node| !node.is_in_doubt());
        let can_be_reached = |n: &Arc<Node>| !matches!(n.view().phase, Phase::Unreachable { .. });
        !self.chunks[chunk].is_failed() && node.is_some_and(can_be_reached)
    }

    /// Whether the chunk's node may take its time, and then not have it.
    pub(super) fn is_in_doubt(&self, chunk: usize) -> bool {
        self.node(chunk).is_some_and(|node| node.is_in_doubt())
    }

    /// The chunks of the range alone will not do: asks d, all from the stripe
    /// that is due to the end.
    pub(super) fn widen(&mut self) {
        self.narrow = false;
        let d = self.object.layout.geometry().data();
        let rest = self.gather.rest();
        let usable = |i: &usize| !self.chunks[*i].is_failed();
        let chosen: Vec<usize> = self.order.iter().copied().filter(usable).take(d).collect();
        let in_vain = chosen.iter().filter(|i| self.is_in_doubt(**i)).count();
        for i in chosen {
            let (chunk, has_it) = (&mut self.chunks[i], self.gather.has(i));
            chunk.until = rest.end;
            if !has_it && chunk.next > rest.start || chunk.state == State::Spare {
                chunk.state = State::Asked;
                chunk.reset(rest.start);
            }
        }
        (0..in_vain).for_each(|_| self.enlist());
    }
}

/// A chunk that is asked.
#[derive(Clone, Copy)]
struct Asked {
    index: usize,
    is_late: bool,
    is_in_doubt: bool,
}

/// Those that are late and need not go on, since d others can be counted on. What is in
/// doubt cannot: it goes first, and nothing goes in its favour.
fn dispensable(asked: &[Asked], d: usize) -> Vec<usize> {
    let sound = asked.iter().filter(|a| !a.is_in_doubt).count();
    let Some(mut surplus) = sound.checked_sub(d) else {
        return Vec::new();
    };
    let goes = |a: &&Asked| {
        let goes = a.is_late && (a.is_in_doubt || surplus > 0);
        if goes && !a.is_in_doubt {
            surplus -= 1;
        }
        goes
    };
    asked.iter().filter(goes).map(|a| a.index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_sound_goes_in_favour_of_what_is_in_doubt() {
        let asked = |marks: &str| -> Vec<Asked> {
            let marks = marks.chars().enumerate();
            let asked = marks.map(|(index, mark)| Asked {
                index,
                is_late: mark.is_ascii_uppercase(),
                is_in_doubt: mark.eq_ignore_ascii_case(&'d'),
            });
            asked.collect()
        };
        let of = |marks: &str| dispensable(&asked(marks), 4);
        assert_eq!(of("SSss"), [0; 0]);
        assert_eq!(of("sssSS"), [3], "no more than are too many");
        assert_eq!(of("ssssDD"), [4, 5]);
        // the one in doubt brought its cell before its link broke
        assert_eq!(of("Sdsss"), [0; 0]);
        assert_eq!(of("SDsss"), [1]);
        assert_eq!(of("SDssss"), [0, 1]);
        assert_eq!(of("Dsss"), [0; 0], "there is nothing else");
    }
}
