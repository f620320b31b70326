//! The script cache: which texts EVALSHA may name.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use crate::source::{Script, ScriptError, Sha1};

/// What an entry costs beside its text.
const OVERHEAD_BYTES: usize = 256;

/// The scripts that were loaded or evaluated, by name, within a number of bytes.
///
/// Loaded ones stay until [`flush`](Self::flush): who loads a script relies on
/// it. Evaluated ones go when there is no room, the longest unused first: those
/// who evaluate have the text.
pub struct Scripts {
    capacity_bytes: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    loaded: HashMap<Sha1, Arc<Script>>,
    loaded_bytes: usize,
    evaluated: LruCache<Sha1, Arc<Script>>,
    evaluated_bytes: usize,
}

fn cost(script: &Script) -> usize {
    script.source().len() + OVERHEAD_BYTES
}

impl Scripts {
    /// A cache for scripts of `capacity_bytes` together.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        let inner = Inner {
            loaded: HashMap::new(),
            loaded_bytes: 0,
            evaluated: LruCache::unbounded(),
            evaluated_bytes: 0,
        };
        Self {
            capacity_bytes,
            inner: Mutex::new(inner),
        }
    }

    /// Keeps a script until the next flush (SCRIPT LOAD). Check it with
    /// [`Engine::check`](crate::Engine::check) before: what does not compile is
    /// not to be kept. Fails when the loaded scripts would not fit.
    pub fn load(&self, script: Script) -> Result<Arc<Script>, ScriptError> {
        let mut inner = self.inner.lock();
        if let Some(known) = inner.loaded.get(&script.sha1()) {
            return Ok(known.clone());
        }
        let cost = cost(&script);
        if inner.loaded_bytes + cost > self.capacity_bytes {
            return Err(ScriptError::new(format!(
                "ERR Loaded scripts would take more than {} bytes. Use SCRIPT FLUSH to unload them all",
                self.capacity_bytes
            )));
        }
        let script = Arc::new(script);
        inner.forget(script.sha1());
        inner.loaded.insert(script.sha1(), script.clone());
        inner.loaded_bytes += cost;
        inner.make_room(self.capacity_bytes);
        Ok(script)
    }

    /// The script with this text, kept for a while (EVAL).
    pub fn evaluated(&self, source: Bytes) -> Result<Arc<Script>, ScriptError> {
        let sha1 = Sha1::of(&source);
        if let Some(known) = self.get(sha1) {
            return Ok(known);
        }
        let script = Arc::new(Script::named(sha1, source)?);
        let mut inner = self.inner.lock();
        inner.evaluated_bytes += cost(&script);
        if let Some((_, before)) = inner.evaluated.push(sha1, script.clone()) {
            inner.evaluated_bytes -= self::cost(&before);
        }
        inner.make_room(self.capacity_bytes);
        Ok(script)
    }

    /// The script of this name (EVALSHA).
    #[must_use]
    pub fn get(&self, sha1: Sha1) -> Option<Arc<Script>> {
        let mut inner = self.inner.lock();
        match inner.loaded.get(&sha1) {
            Some(script) => Some(script.clone()),
            None => inner.evaluated.get(&sha1).cloned(),
        }
    }

    /// Whether there is one of this name (SCRIPT EXISTS).
    #[must_use]
    pub fn contains(&self, sha1: Sha1) -> bool {
        let inner = self.inner.lock();
        inner.loaded.contains_key(&sha1) || inner.evaluated.contains(&sha1)
    }

    /// Forgets one that turned out not to compile.
    pub fn forget(&self, sha1: Sha1) {
        self.inner.lock().forget(sha1);
    }

    /// Forgets all (SCRIPT FLUSH).
    pub fn flush(&self) {
        let mut inner = self.inner.lock();
        inner.loaded.clear();
        inner.evaluated.clear();
        inner.loaded_bytes = 0;
        inner.evaluated_bytes = 0;
    }

    /// How many there are, and their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        let count = inner.loaded.len() + inner.evaluated.len();
        (count, inner.loaded_bytes + inner.evaluated_bytes)
    }
}

impl Inner {
    fn forget(&mut self, sha1: Sha1) {
        if let Some(script) = self.evaluated.pop(&sha1) {
            self.evaluated_bytes -= cost(&script);
        }
    }

    /// Drops evaluated scripts until all fit.
    fn make_room(&mut self, capacity_bytes: usize) {
        while self.loaded_bytes + self.evaluated_bytes > capacity_bytes {
            let Some((_, script)) = self.evaluated.pop_lru() else {
                break;
            };
            self.evaluated_bytes -= cost(&script);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: usize) -> Bytes {
        Bytes::from(format!("return {number:044}"))
    }

    fn script(number: usize) -> Script {
        Script::new(text(number)).unwrap()
    }

    #[test]
    fn evaluated_scripts_make_room_loaded_ones_do_not() {
        let each = cost(&script(0));
        let scripts = Scripts::new(4 * each);
        for number in 0..3 {
            scripts.load(script(number)).unwrap();
        }
        for number in 3..6 {
            scripts.evaluated(text(number)).unwrap();
        }
        assert_eq!(scripts.size(), (4, 4 * each));
        assert!(scripts.contains(script(0).sha1()));
        assert!(!scripts.contains(script(4).sha1()));
        assert!(scripts.get(script(5).sha1()).is_some());
        scripts.load(script(5)).unwrap();
        assert_eq!(scripts.size(), (4, 4 * each));
        let full = scripts.load(script(7)).unwrap_err();
        assert!(full.to_string().starts_with("ERR Loaded scripts"), "{full}");
        scripts.flush();
        assert_eq!(scripts.size(), (0, 0));
        scripts.evaluated(text(9)).unwrap();
        scripts.forget(script(9).sha1());
        assert_eq!(scripts.size(), (0, 0));
    }
}
