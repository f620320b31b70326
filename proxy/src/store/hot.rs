//! Values that are answered from the index as they lie there.

use std::sync::Arc;

use super::{IndexGuard, Store};
use crate::{clock, keyspace::KeyRef};

/// The hot tier, with the index locked.
pub struct HotStrings<'a> {
    now_ms: u64,
    index: IndexGuard<'a>,
}

impl HotStrings<'_> {
    /// The string that a key means, if it is in memory. Counts as a use.
    pub fn get(&mut self, key: KeyRef<'_>) -> Option<&Arc<[u8]>> {
        self.index.hot_string(key, self.now_ms)
    }
}

impl Store {
    /// Strings of the hot tier, for as long as what is returned lives: the index is locked.
    pub fn hot_strings(&self) -> HotStrings<'_> {
        HotStrings {
            now_ms: clock::unix_ms(),
            index: self.index(),
        }
    }
}
