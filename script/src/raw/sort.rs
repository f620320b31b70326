//! `table.sort` of numbers, or of strings, by their own order. Lua's quicksort
//! can be made to take quadratic time, and with nothing of the script called
//! back, no instruction hook would end it.

use std::ffi::c_int;

use mlua::ffi::{self, lua_Integer, lua_State};

use super::base::changing;
use super::{protected, string_at};

pub(super) unsafe extern "C-unwind" fn sort(state: *mut lua_State) -> c_int {
    // SAFETY: what `own_order` holds is gone before Lua's own function, which
    // may raise an error, runs.
    unsafe {
        let plain = ffi::lua_type(state, 1) == ffi::LUA_TTABLE
            && matches!(ffi::lua_type(state, 2), ffi::LUA_TNONE | ffi::LUA_TNIL)
            && !protected(state, 1, false);
        if plain && own_order(state) {
            0
        } else {
            changing(state)
        }
    }
}

/// Sorts the table at 1 if all its items are numbers, or all are strings.
unsafe fn own_order(state: *mut lua_State) -> bool {
    // SAFETY: a C function has room for more than the two values pushed.
    unsafe {
        let count = ffi::lua_objlen(state, 1);
        ffi::lua_rawgeti(state, 1, 1);
        let kind = ffi::lua_type(state, -1);
        ffi::lua_pop(state, 1);
        if !matches!(kind, ffi::LUA_TNUMBER | ffi::LUA_TSTRING) {
            return false;
        }
        for index in 1..=count {
            ffi::lua_rawgeti(state, 1, index as lua_Integer);
            let other = ffi::lua_type(state, -1);
            ffi::lua_pop(state, 1);
            if other != kind {
                return false;
            }
        }
        if kind == ffi::LUA_TNUMBER {
            numbers(state, count)
        } else {
            strings(state, count)
        }
        true
    }
}

unsafe fn numbers(state: *mut lua_State, count: usize) {
    // SAFETY: reading items and replacing them allocates nothing, so no error
    // jumps over the list.
    unsafe {
        let mut items: Vec<f64> = Vec::with_capacity(count);
        for index in 1..=count {
            ffi::lua_rawgeti(state, 1, index as lua_Integer);
            items.push(ffi::lua_tonumber(state, -1));
            ffi::lua_pop(state, 1);
        }
        items.sort_unstable_by(f64::total_cmp);
        for (index, item) in items.into_iter().enumerate() {
            ffi::lua_pushnumber(state, item);
            ffi::lua_rawseti(state, 1, (index + 1) as lua_Integer);
        }
    }
}

unsafe fn strings(state: *mut lua_State, count: usize) {
    // SAFETY: as in `numbers`. The table keeps the strings alive while they are
    // compared; as they change places, each is in the table or on the stack.
    unsafe {
        let mut items: Vec<(&[u8], usize)> = Vec::with_capacity(count);
        for index in 1..=count {
            ffi::lua_rawgeti(state, 1, index as lua_Integer);
            items.push((string_at(state, -1), index));
            ffi::lua_pop(state, 1);
        }
        items.sort_unstable();
        let mut from: Vec<usize> = items.into_iter().map(|(_, index)| index).collect();
        // along each circle of places, the first waits on the stack
        for start in 1..=count {
            if from[start - 1] == start {
                continue;
            }
            ffi::lua_rawgeti(state, 1, start as lua_Integer);
            let mut place = start;
            loop {
                let source = std::mem::replace(&mut from[place - 1], place);
                if source == start {
                    break;
                }
                ffi::lua_rawgeti(state, 1, source as lua_Integer);
                ffi::lua_rawseti(state, 1, place as lua_Integer);
                place = source;
            }
            ffi::lua_rawseti(state, 1, place as lua_Integer);
        }
    }
}
