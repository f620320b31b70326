//! LCS: the longest common subsequence of two values. Of the classic table only
//! a row of lengths is kept, and one bit for each cell: which way back to go.

use bytes::Bytes;

/// Cells of the table; Redis takes 4 bytes for each, one row and one column more.
pub fn cells(a: u64, b: u64) -> u64 {
    a.saturating_add(1).saturating_mul(b.saturating_add(1))
}

/// A table that is filled row by row.
pub struct Table {
    a: Bytes,
    b: Bytes,
    /// Lengths in the last row that was filled.
    lengths: Vec<u32>,
    /// Where to go up and not left, row by row; empty if only the length counts.
    up: Vec<u64>,
    keeps_way: bool,
    rows: usize,
}

/// Bytes that are the same in both values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The first one in either.
    pub start: [usize; 2],
    /// How many.
    pub len: usize,
}

impl Table {
    /// An empty one; with `keeps_way`, not only for the length.
    pub fn new(a: Bytes, b: Bytes, keeps_way: bool) -> Self {
        let words = match keeps_way {
            true => (a.len() * b.len()).div_ceil(64),
            false => 0,
        };
        Self {
            lengths: vec![0; b.len() + 1],
            up: vec![0; words],
            keeps_way,
            rows: 0,
            a,
            b,
        }
    }

    /// Fills so many rows more; false when all are.
    pub fn fill(&mut self, rows: usize) -> bool {
        let end = self.a.len().min(self.rows.saturating_add(rows));
        for i in self.rows..end {
            self.fill_row(i);
        }
        self.rows = end;
        end < self.a.len()
    }

    fn fill_row(&mut self, i: usize) {
        let (byte, mut diagonal) = (self.a[i], 0);
        let row = i * self.b.len();
        let mut left = 0;
        for (j, other) in self.b.iter().enumerate() {
            let above = self.lengths[j + 1];
            let length = if byte == *other {
                diagonal + 1
            } else if above > left {
                if self.keeps_way {
                    self.up[(row + j) / 64] |= 1 << ((row + j) % 64);
                }
                above
            } else {
                left
            };
            self.lengths[j + 1] = length;
            (diagonal, left) = (above, length);
        }
    }

    /// Length of the subsequence, once all rows are filled.
    pub fn len(&self) -> usize {
        self.lengths.last().map_or(0, |len| *len as usize)
    }

    /// Whether nothing is common.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is common, from the end; needs the way.
    pub fn matches(&self) -> Vec<Match> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut matches: Vec<Match> = Vec::new();
        let mut goes_on = false;
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
                match matches.last_mut() {
                    Some(last) if goes_on => {
                        *last = Match {
                            start: [i, j],
                            len: last.len + 1,
                        }
                    }
                    _ => matches.push(Match {
                        start: [i, j],
                        len: 1,
                    }),
                }
                goes_on = true;
                continue;
            }
            goes_on = false;
            let cell = (i - 1) * self.b.len() + j - 1;
            match self.up[cell / 64] >> (cell % 64) & 1 {
                1 => i -= 1,
                _ => j -= 1,
            }
        }
        matches
    }

    /// The subsequence itself; needs the way.
    pub fn subsequence(&self) -> Vec<u8> {
        let matches = self.matches();
        let pieces = matches
            .iter()
            .rev()
            .map(|m| &self.a[m.start[0]..m.start[0] + m.len]);
        pieces.collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(a: &str, b: &str, keeps_way: bool) -> Table {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let mut table = Table::new(bytes(a), bytes(b), keeps_way);
        while table.fill(3) {}
        table
    }

    #[test]
    fn the_example_of_the_documentation() {
        let table = table("ohmytext", "mynewtext", true);
        assert_eq!(table.subsequence(), b"mytext");
        let expected = [
            Match {
                start: [4, 5],
                len: 4,
            },
            Match {
                start: [2, 0],
                len: 2,
            },
        ];
        assert_eq!(table.matches(), expected);
    }

    fn longest(a: &[u8], b: &[u8]) -> usize {
        match (a.split_first(), b.split_first()) {
            (Some((x, a)), Some((y, b))) if x == y => 1 + longest(a, b),
            (Some((_, rest_a)), Some((_, rest_b))) => longest(rest_a, b).max(longest(a, rest_b)),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn it_is_common_and_none_is_longer(a in "[ab]{0,9}", b in "[abc]{0,9}") {
            let filled = table(&a, &b, true);
            let common = filled.subsequence();
            prop_assert_eq!(common.len(), longest(a.as_bytes(), b.as_bytes()));
            prop_assert_eq!(filled.len(), common.len());
            prop_assert_eq!(table(&a, &b, false).len(), common.len());
            for text in [&a, &b] {
                let mut rest = text.bytes();
                prop_assert!(common.iter().all(|c| rest.any(|b| b == *c)));
            }
        }
    }
}
