//! Who runs commands for the script that is running.

use crate::caller::Caller;

/// Holds a borrowed [`Caller`] for as long as a run lasts: functions that live
/// as long as the Lua state cannot name a shorter lifetime.
#[derive(Default)]
pub(crate) struct CallerSlot(Option<*mut (dyn Caller + 'static)>);

// SAFETY: the pointer is set, used and cleared by the one thread that runs the
// script; between runs, when states go from thread to thread, there is none.
unsafe impl Send for CallerSlot {}

impl CallerSlot {
    /// Lends the caller. Whoever lends must [`clear`](Self::clear) before the
    /// borrow ends: `Context::begin` returns a guard that does.
    pub(crate) fn lend(&mut self, caller: &mut dyn Caller) {
        let caller: *mut (dyn Caller + '_) = caller;
        // SAFETY: only the lifetime changes.
        let caller: *mut (dyn Caller + 'static) = unsafe { std::mem::transmute(caller) };
        self.0 = Some(caller);
    }

    /// The borrow ends.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// The caller, during a run.
    pub(crate) fn get(&mut self) -> Option<&mut dyn Caller> {
        // SAFETY: lent and not yet cleared, so the borrow lasts; `&mut self`
        // makes this the only reference.
        self.0
            .map(|caller| unsafe { &mut *caller as &mut dyn Caller })
    }
}
