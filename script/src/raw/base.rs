//! The functions of Lua's base library that catch errors, that read or change
//! any table, or that compile: in a sandbox they do a little less.

use std::ffi::{CStr, c_int};

use mlua::ffi::{self, lua_State};
use mlua::{Lua, Result, Table, Value};

use super::{context_at, pointer_to, protected, put, raise_at, sort, string_at};
use crate::context::Context;

/// What Redis says to who would change a protected table.
const READONLY: &CStr = c"Attempt to modify a readonly table";
/// The first byte of compiled code, which could do anything to the interpreter.
const BYTECODE: u8 = 0x1b;

/// Replaces them in `globals` (the real table of globals, not the protected one).
pub(crate) fn install_base(lua: &Lua, globals: &Table, context: &Context) -> Result<()> {
    let of = |table: &Table, name: &str| table.raw_get::<Value>(name);
    let context = || pointer_to(context);
    put(lua, globals, "pcall", pcall, vec![context()])?;
    put(lua, globals, "xpcall", xpcall, vec![context()])?;
    put(lua, globals, "load", load, vec![context()])?;
    let original = of(globals, "loadstring")?;
    put(lua, globals, "loadstring", loadstring, vec![original])?;
    put(lua, globals, "next", next, vec![])?;
    let next = of(globals, "next")?;
    put(lua, globals, "pairs", pairs, vec![next])?;
    put(lua, globals, "rawget", rawget, vec![])?;
    let original = of(globals, "rawset")?;
    put(lua, globals, "rawset", changing, vec![original, context()])?;
    let original = of(globals, "setmetatable")?;
    put(
        lua,
        globals,
        "setmetatable",
        setmetatable,
        vec![original, context()],
    )?;
    let original = of(globals, "collectgarbage")?;
    put(
        lua,
        globals,
        "collectgarbage",
        collectgarbage,
        vec![original, context()],
    )?;

    let coroutine: Table = globals.raw_get("coroutine")?;
    let original = of(&coroutine, "resume")?;
    put(lua, &coroutine, "resume", resume, vec![original, context()])?;
    let table: Table = globals.raw_get("table")?;
    let original = of(&table, "sort")?;
    put(lua, &table, "sort", sort::sort, vec![original, context()])?;
    for name in ["insert", "remove"] {
        let original = of(&table, name)?;
        put(lua, &table, name, changing, vec![original, context()])?;
    }
    for name in ["foreach", "maxn"] {
        let original = of(&table, name)?;
        put(lua, &table, name, reading, vec![original])?;
    }
    Ok(())
}

/// Runs the C function in upvalue 1 in this very frame, so that its errors name
/// the function as the script called it.
pub(super) unsafe fn original(state: *mut lua_State) -> c_int {
    // SAFETY: upvalue 1 is a C function without upvalues of its own.
    unsafe {
        match ffi::lua_tocfunction(state, ffi::lua_upvalueindex(1)) {
            Some(function) => function(state),
            None => raise_at(state, c"not available"),
        }
    }
}

/// Ends the script if it is to end, before a function that may take long: the
/// instruction hook looks only once in a thousand of them.
pub(super) unsafe fn end_if_due(state: *mut lua_State, context: &Context) {
    // SAFETY: the handler says why; the text is for no one.
    unsafe {
        if context.should_end() {
            raise_at(state, c"ended");
        }
    }
}

/// Tables with more items than this take long to change in the middle.
const LARGE: usize = 10_000;

/// A function whose first argument is a table that it changes. Upvalues: Lua's
/// own function, the context.
pub(super) unsafe extern "C-unwind" fn changing(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors.
    unsafe {
        if ffi::lua_type(state, 1) == ffi::LUA_TTABLE {
            if protected(state, 1, false) {
                ffi::lua_pushstring(state, READONLY.as_ptr());
                ffi::lua_error(state)
            }
            if ffi::lua_objlen(state, 1) > LARGE {
                end_if_due(state, context_at(state, 2));
            }
        }
        original(state)
    }
}

/// What is wrong with the arguments is found out first, as in Redis.
unsafe extern "C-unwind" fn setmetatable(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors.
    unsafe {
        match ffi::lua_type(state, 2) {
            ffi::LUA_TNIL | ffi::LUA_TTABLE => changing(state),
            _ => original(state),
        }
    }
}

/// A function whose first argument is a table that it reads without metamethods.
unsafe extern "C-unwind" fn reading(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors.
    unsafe {
        if ffi::lua_type(state, 1) == ffi::LUA_TTABLE {
            protected(state, 1, true);
        }
        original(state)
    }
}

unsafe extern "C-unwind" fn next(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::lua_settop(state, 2);
        protected(state, 1, true);
        if ffi::lua_next(state, 1) == 0 {
            ffi::lua_pushnil(state);
            return 1;
        }
        2
    }
}

unsafe extern "C-unwind" fn pairs(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushnil(state);
        3
    }
}

unsafe extern "C-unwind" fn rawget(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::luaL_checkany(state, 2);
        ffi::lua_settop(state, 2);
        protected(state, 1, true);
        ffi::lua_rawget(state, 1);
        1
    }
}

/// What changes how the collector works would outlast the script.
unsafe extern "C-unwind" fn collectgarbage(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors; the option is read only if it is a string.
    unsafe {
        end_if_due(state, context_at(state, 2));
        if ffi::lua_type(state, 1) == ffi::LUA_TSTRING {
            let option = string_at(state, 1);
            if [&b"stop"[..], b"restart", b"setpause", b"setstepmul"].contains(&option) {
                ffi::lua_pushinteger(state, 0);
                return 1;
            }
        }
        original(state)
    }
}

/// The error at the top goes on up if the script is to end: a script that
/// catches it in a loop must die all the same.
unsafe fn end_or_note(state: *mut lua_State, context: &Context, status: c_int) {
    // SAFETY: the error is at the top of the stack.
    unsafe {
        if status == ffi::LUA_ERRMEM {
            context.poison();
        }
        if context.ending().is_some() {
            ffi::lua_error(state);
        }
    }
}

unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors.
    unsafe {
        ffi::luaL_checkany(state, 1);
        let given = ffi::lua_gettop(state);
        ffi::lua_pushboolean(state, 1);
        ffi::lua_insert(state, 1);
        let status = ffi::lua_pcall(state, given - 1, ffi::LUA_MULTRET, 0);
        if status == 0 {
            return ffi::lua_gettop(state);
        }
        end_or_note(state, context_at(state, 1), status);
        ffi::lua_remove(state, 1);
        // to a script, an error of ours is its text, as before Redis 7
        if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
            ffi::lua_getfield(state, -1, c"err".as_ptr());
            if ffi::lua_isstring(state, -1) != 0 {
                ffi::lua_replace(state, -2);
            }
        }
        ffi::lua_pushboolean(state, 0);
        ffi::lua_insert(state, 1);
        ffi::lua_gettop(state)
    }
}

unsafe extern "C-unwind" fn xpcall(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors.
    unsafe {
        ffi::luaL_checkany(state, 2);
        ffi::lua_settop(state, 2);
        // function, context, the script's handler
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 2);
        ffi::lua_pushcclosure(state, handle, 2);
        ffi::lua_insert(state, 1);
        let status = ffi::lua_pcall(state, 0, ffi::LUA_MULTRET, 1);
        if status != 0 {
            end_or_note(state, context_at(state, 1), status);
        }
        ffi::lua_pushboolean(state, c_int::from(status == 0));
        ffi::lua_replace(state, 1);
        ffi::lua_gettop(state)
    }
}

/// A script's own error handler. It runs inside the instruction hook when the
/// script is to end, where no hook would end it: so then it does not run.
unsafe extern "C-unwind" fn handle(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors. Upvalues: the context, the handler.
    unsafe {
        if context_at(state, 1).ending().is_some() {
            return 1;
        }
        ffi::lua_settop(state, 1);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, 1, 1);
        1
    }
}

unsafe extern "C-unwind" fn resume(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors. The results are the last `returned` values.
    unsafe {
        let returned = original(state);
        let context = context_at(state, 2);
        if context.ending().is_some() && ffi::lua_toboolean(state, -returned) == 0 {
            ffi::lua_error(state)
        }
        returned
    }
}

unsafe extern "C-unwind" fn loadstring(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors; the check converts a number in place.
    unsafe {
        ffi::luaL_checklstring(state, 1, std::ptr::null_mut());
        if string_at(state, 1).first() == Some(&BYTECODE) {
            return refuse_bytecode(state);
        }
        original(state)
    }
}

unsafe fn refuse_bytecode(state: *mut lua_State) -> c_int {
    // SAFETY: room for two values.
    unsafe {
        ffi::lua_pushnil(state);
        ffi::lua_pushstring(state, c"compiled code is not accepted".as_ptr());
        2
    }
}

/// Puts the pieces together before it compiles them, so that the first byte is
/// known.
unsafe extern "C-unwind" fn load(state: *mut lua_State) -> c_int {
    // SAFETY: no destructors.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TFUNCTION);
        ffi::luaL_optlstring(state, 2, c"=(load)".as_ptr(), std::ptr::null_mut());
        ffi::lua_settop(state, 2);
        ffi::lua_pushstring(state, c"".as_ptr());
        loop {
            ffi::lua_pushvalue(state, 1);
            let status = ffi::lua_pcall(state, 0, 1, 0);
            if status != 0 {
                end_or_note(state, context_at(state, 1), status);
                ffi::lua_pushnil(state);
                ffi::lua_insert(state, -2);
                return 2;
            }
            match ffi::lua_type(state, 4) {
                ffi::LUA_TNIL => break,
                ffi::LUA_TSTRING if !string_at(state, 4).is_empty() => ffi::lua_concat(state, 2),
                ffi::LUA_TSTRING => break,
                ffi::LUA_TNUMBER => ffi::lua_concat(state, 2),
                _ => {
                    ffi::lua_pushnil(state);
                    ffi::lua_pushstring(state, c"reader function must return a string".as_ptr());
                    return 2;
                }
            }
        }
        let source = string_at(state, 3);
        if source.first() == Some(&BYTECODE) {
            return refuse_bytecode(state);
        }
        let name = match ffi::lua_tostring(state, 2) {
            name if name.is_null() => c"=(load)".as_ptr(),
            name => name,
        };
        if ffi::luaL_loadbuffer(state, source.as_ptr().cast(), source.len(), name) == 0 {
            return 1;
        }
        ffi::lua_pushnil(state);
        ffi::lua_insert(state, -2);
        2
    }
}
