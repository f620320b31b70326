//! The allocator of the program, and how long it keeps freed pages while it serves.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_eager_commit_delay, mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2, in ms: the crate has no name for it. In the enumeration of
/// `mimalloc.h` it is the next one, and its default value is tested.
const PURGE_DELAY: mi_option_t = mi_option_eager_commit_delay + 1;
/// As in mimalloc 3: docs/performance.md has what 10 ms, the default value of mimalloc 2, cost.
const PURGE_DELAY_MS: c_long = 1000;

/// Lets buffers be used again with the pages that they have: given back after 10 ms, every page was
/// faulted in and zeroed anew under several large SETs at once. Free memory goes back to the kernel
/// after a second, that of whole arenas after ten. `MIMALLOC_PURGE_DELAY` in the environment goes
/// before it. Not for nodes: their memory has a limit.
pub(crate) fn keep_freed_pages() {
    // SAFETY: it takes two numbers, and there is no other thread yet that could read the option
    #[allow(unsafe_code, reason = "a C function")]
    unsafe {
        mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS);
    }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    fn freed_pages_are_kept_for_a_second() {
        #[allow(unsafe_code, reason = "a C function")]
        // SAFETY: it takes a number, and no other test touches options
        let get = |option| unsafe { mi_option_get(option) };
        let neighbours = [PURGE_DELAY - 1, PURGE_DELAY + 1].map(get);
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert_eq!(get(PURGE_DELAY), 10, "another option has this number");
            keep_freed_pages();
            assert_eq!(get(PURGE_DELAY), PURGE_DELAY_MS);
        }
        assert_eq!([PURGE_DELAY - 1, PURGE_DELAY + 1].map(get), neighbours);
    }
}
