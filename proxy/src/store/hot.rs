//! Values that are answered from the index as they lie there.

use super::{IndexGuard, Store};
use crate::{
    clock,
    keyspace::{HotString, KeyRef},
};

/// The hot tier, with the index locked.
pub struct HotStrings<'a> {
    now_ms: u64,
    index: IndexGuard<'a>,
}

impl HotStrings<'_> {
    /// The string that a key means, if it is in memory: counts as a use then.
    pub fn get(&mut self, key: KeyRef<'_>) -> HotString<'_> {
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
