//! The functions of Lua's string library whose time or stack a script could
//! make as large as it likes inside one call, where no instruction hook ends
//! it: find, match, gmatch, gsub (patterns that try everything) and rep.

use std::ffi::{CStr, c_int};

use mlua::ffi::{self, lua_Integer, lua_State};
use mlua::{Lua, Result, Table};

use super::{context_at, pointer_to, put, raise_at, string_at};
use crate::context::Context;
use crate::pattern::{Capture, Matcher, PatternError};

/// Replaces them in the real `string` table.
pub(crate) fn install_strings(lua: &Lua, string: &Table, context: &Context) -> Result<()> {
    let context = || vec![pointer_to(context)];
    put(lua, string, "find", find, context())?;
    put(lua, string, "match", match_, context())?;
    put(lua, string, "gmatch", gmatch, context())?;
    put(lua, string, "gsub", gsub, context())?;
    put(lua, string, "rep", rep, context())
}

/// Argument `index` as a string (numbers are converted in place).
unsafe fn argument<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    // SAFETY: raises an error unless it is a string afterwards; arguments stay
    // on the stack for the whole call.
    unsafe {
        ffi::luaL_checklstring(state, index, std::ptr::null_mut());
        string_at(state, index)
    }
}

unsafe fn push(state: *mut lua_State, text: &[u8]) {
    // SAFETY: Lua copies the bytes.
    unsafe { ffi::lua_pushlstring(state, text.as_ptr().cast(), text.len()) };
}

/// Raises what is wrong with a pattern.
unsafe fn raise(state: *mut lua_State, error: PatternError) -> c_int {
    // SAFETY: nothing has a destructor.
    unsafe {
        match error {
            PatternError::Malformed(what) => raise_at(state, what),
            // the handler says why
            PatternError::Stopped => raise_at(state, c"stopped"),
        }
    }
}

/// Pushes one capture, or the whole match if there is none.
unsafe fn push_capture(
    state: *mut lua_State,
    matcher: &Matcher<'_>,
    index: usize,
    found: (usize, usize),
) {
    // SAFETY: room was made by the caller.
    unsafe {
        match matcher.capture(index, found) {
            Ok(Capture::Text(text)) => push(state, text),
            Ok(Capture::Position(at)) => ffi::lua_pushinteger(state, at as lua_Integer),
            Err(error) => {
                raise(state, error);
            }
        }
    }
}

/// Pushes all captures; with none, the whole match if `whole`.
unsafe fn push_captures(
    state: *mut lua_State,
    matcher: &Matcher<'_>,
    found: (usize, usize),
    whole: bool,
) -> c_int {
    // SAFETY: at most 32 captures, and room is made.
    unsafe {
        let count = if matcher.captures() == 0 && whole {
            1
        } else {
            matcher.captures()
        };
        let pushed = c_int::try_from(count).unwrap_or_default();
        ffi::luaL_checkstack(state, pushed, c"too many captures".as_ptr());
        for index in 0..count {
            push_capture(state, matcher, index, found);
        }
        pushed
    }
}

unsafe extern "C-unwind" fn find(state: *mut lua_State) -> c_int {
    // SAFETY: see `search`.
    unsafe { search(state, true) }
}

unsafe extern "C-unwind" fn match_(state: *mut lua_State) -> c_int {
    // SAFETY: see `search`.
    unsafe { search(state, false) }
}

unsafe fn search(state: *mut lua_State, positions: bool) -> c_int {
    // SAFETY: the matcher has no destructor, the strings stay on the stack.
    unsafe {
        let text = argument(state, 1);
        let pattern = argument(state, 2);
        let from = first_position(ffi::luaL_optinteger(state, 3, 1) as i64, text.len());
        let context = context_at(state, 1);
        if positions && (ffi::lua_toboolean(state, 4) != 0 || !Matcher::has_specials(pattern)) {
            return match Matcher::plain(text, pattern, from, context) {
                Ok(Some(at)) => push_range(state, at, at + pattern.len()),
                Ok(None) => push_nil(state),
                Err(error) => raise(state, error),
            };
        }
        let mut matcher = Matcher::new(text, pattern, context);
        match matcher.search(from) {
            Ok(Some(found)) if positions => {
                push_range(state, found.0, found.1) + push_captures(state, &matcher, found, false)
            }
            Ok(Some(found)) => push_captures(state, &matcher, found, true),
            Ok(None) => push_nil(state),
            Err(error) => raise(state, error),
        }
    }
}

/// Where a search begins: from 1, negative from the end.
fn first_position(given: i64, len: usize) -> usize {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from = if given < 0 {
        given.saturating_add(len)
    } else {
        given - 1
    };
    usize::try_from(from.clamp(0, len)).unwrap_or_default()
}

unsafe fn push_nil(state: *mut lua_State) -> c_int {
    // SAFETY: room for one.
    unsafe { ffi::lua_pushnil(state) };
    1
}

/// From the first byte (counted from 1) to the last.
unsafe fn push_range(state: *mut lua_State, start: usize, end: usize) -> c_int {
    // SAFETY: room for two.
    unsafe {
        ffi::lua_pushinteger(state, (start + 1) as lua_Integer);
        ffi::lua_pushinteger(state, end as lua_Integer);
    }
    2
}

unsafe extern "C-unwind" fn gmatch(state: *mut lua_State) -> c_int {
    // SAFETY: both arguments and the context become upvalues.
    unsafe {
        argument(state, 1);
        argument(state, 2);
        ffi::lua_settop(state, 2);
        ffi::lua_pushinteger(state, 0);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_pushcclosure(state, gmatch_next, 4);
        1
    }
}

/// Upvalues: text, pattern, where to go on, the context.
unsafe extern "C-unwind" fn gmatch_next(state: *mut lua_State) -> c_int {
    // SAFETY: the upvalues keep the strings alive.
    unsafe {
        let text = string_at(state, ffi::lua_upvalueindex(1));
        let pattern = string_at(state, ffi::lua_upvalueindex(2));
        let from = ffi::lua_tointeger(state, ffi::lua_upvalueindex(3));
        let mut matcher = Matcher::new_unanchored(text, pattern, context_at(state, 4));
        match matcher.search(usize::try_from(from).unwrap_or_default()) {
            Ok(Some(found)) => {
                // an empty match would be found again
                let next = found.1 + usize::from(found.1 == found.0);
                ffi::lua_pushinteger(state, next as lua_Integer);
                ffi::lua_replace(state, ffi::lua_upvalueindex(3));
                push_captures(state, &matcher, found, true)
            }
            Ok(None) => 0,
            Err(error) => raise(state, error),
        }
    }
}

unsafe extern "C-unwind" fn gsub(state: *mut lua_State) -> c_int {
    // SAFETY: the matcher has no destructor. The buffer is a userdata that stays
    // on the stack; its pieces follow it, and what is pushed above them is added
    // or popped.
    unsafe {
        let text = argument(state, 1);
        let pattern = argument(state, 2);
        let kind = ffi::lua_type(state, 3);
        if !matches!(
            kind,
            ffi::LUA_TNUMBER | ffi::LUA_TSTRING | ffi::LUA_TFUNCTION | ffi::LUA_TTABLE
        ) {
            return ffi::luaL_argerror(state, 3, c"string/function/table expected".as_ptr());
        }
        if kind == ffi::LUA_TNUMBER {
            argument(state, 3);
        }
        let most = ffi::luaL_optinteger(state, 4, (text.len() + 1) as lua_Integer);
        let mut matcher = Matcher::new(text, pattern, context_at(state, 1));
        // of 8 KB, and replacements may call gsub again: not on the thread's stack
        let buffer = ffi::lua_newuserdata(state, size_of::<ffi::luaL_Buffer>());
        let buffer = buffer.cast::<ffi::luaL_Buffer>();
        ffi::luaL_buffinit(state, buffer);
        let (mut at, mut done) = (0, 0);
        while done < most {
            let end = match matcher.at(at) {
                Ok(end) => end,
                Err(error) => return raise(state, error),
            };
            if let Some(end) = end {
                done += 1;
                add_replacement(state, &matcher, buffer, (at, end));
            }
            match end {
                Some(end) if end > at => at = end,
                _ if at < text.len() => {
                    ffi::luaL_addlstring(buffer, text.as_ptr().add(at).cast(), 1);
                    at += 1;
                }
                _ => break,
            }
            if matcher.anchored() {
                break;
            }
        }
        ffi::luaL_addlstring(buffer, text.as_ptr().add(at).cast(), text.len() - at);
        ffi::luaL_pushresult(buffer);
        ffi::lua_pushinteger(state, done);
        2
    }
}

unsafe fn add_replacement(
    state: *mut lua_State,
    matcher: &Matcher<'_>,
    buffer: *mut ffi::luaL_Buffer,
    found: (usize, usize),
) {
    // SAFETY: as in `gsub`.
    unsafe {
        match ffi::lua_type(state, 3) {
            ffi::LUA_TFUNCTION => {
                ffi::lua_pushvalue(state, 3);
                let given = push_captures(state, matcher, found, true);
                ffi::lua_call(state, given, 1);
            }
            ffi::LUA_TTABLE => {
                push_capture(state, matcher, 0, found);
                ffi::lua_gettable(state, 3);
            }
            _ => return add_text(state, matcher, buffer, found),
        }
        if ffi::lua_toboolean(state, -1) == 0 {
            ffi::lua_pop(state, 1);
            push(state, matcher.text(found));
        } else if ffi::lua_isstring(state, -1) == 0 {
            let kind = ffi::lua_typename(state, ffi::lua_type(state, -1));
            ffi::luaL_where(state, 1);
            ffi::lua_pushstring(state, c"invalid replacement value (a ".as_ptr());
            ffi::lua_pushstring(state, kind);
            ffi::lua_pushstring(state, c")".as_ptr());
            ffi::lua_concat(state, 4);
            ffi::lua_error(state);
        }
        ffi::luaL_addvalue(buffer);
    }
}

/// A replacement text, in which `%1` is the first capture and `%0` the match.
unsafe fn add_text(
    state: *mut lua_State,
    matcher: &Matcher<'_>,
    buffer: *mut ffi::luaL_Buffer,
    found: (usize, usize),
) {
    // SAFETY: as in `gsub`.
    unsafe {
        let with = string_at(state, 3);
        let mut at = 0;
        while at < with.len() {
            let plain = with[at..]
                .iter()
                .position(|&byte| byte == b'%')
                .unwrap_or(with.len() - at);
            if plain > 0 {
                ffi::luaL_addlstring(buffer, with.as_ptr().add(at).cast(), plain);
                at += plain;
                continue;
            }
            let escaped = with.get(at + 1).copied().unwrap_or(0);
            at += 2;
            match escaped {
                b'0' => {
                    let whole = matcher.text(found);
                    ffi::luaL_addlstring(buffer, whole.as_ptr().cast(), whole.len());
                }
                b'1'..=b'9' => {
                    push_capture(state, matcher, usize::from(escaped - b'1'), found);
                    ffi::luaL_addvalue(buffer);
                }
                _ => ffi::luaL_addlstring(buffer, (&raw const escaped).cast(), 1),
            }
        }
    }
}

/// What Lua says when an allocation fails.
const NO_MEMORY: &CStr = c"not enough memory";

unsafe extern "C-unwind" fn rep(state: *mut lua_State) -> c_int {
    // SAFETY: the userdata is a buffer of `total` bytes that stays on the stack
    // until the string is made of it.
    unsafe {
        let text = argument(state, 1);
        let times = usize::try_from(ffi::luaL_checkinteger(state, 2)).unwrap_or(0);
        let context = context_at(state, 1);
        let Some(total) = text
            .len()
            .checked_mul(times)
            .filter(|&total| total <= context.memory_bytes())
        else {
            context.poison();
            return raise_at(state, NO_MEMORY);
        };
        if total == 0 {
            push(state, b"");
            return 1;
        }
        let buffer = ffi::lua_newuserdata(state, total).cast::<u8>();
        std::ptr::copy_nonoverlapping(text.as_ptr(), buffer, text.len());
        let mut filled = text.len();
        while filled < total {
            let more = filled.min(total - filled);
            std::ptr::copy_nonoverlapping(buffer, buffer.add(filled), more);
            filled += more;
        }
        ffi::lua_pushlstring(state, buffer.cast(), total);
        1
    }
}
