//! Running a script so that what it raises comes out as Redis reports it.

use std::ffi::{CStr, c_int};

use mlua::ffi::{self, lua_State};
use mlua::{Function, Lua, Result, Value};

use super::{context_at, pointer_to, protected};
use crate::context::Context;

/// Calls a function, and tells how it ended.
pub(crate) type ProtectedCall = Function;

/// A function that takes another, calls it, and returns Lua's status (0: done)
/// and the value or the error. Errors are tables with `err`, and with `source`
/// and `line` where they are known.
pub(crate) fn protected_call(lua: &Lua, context: &Context) -> Result<ProtectedCall> {
    // SAFETY: the context is the handler's upvalue, the handler the caller's.
    unsafe {
        lua.exec_raw(pointer_to(context), |state| {
            ffi::lua_pushcclosure(state, describe, 1);
            ffi::lua_pushcclosure(state, run, 1);
        })
    }
}

unsafe extern "C-unwind" fn run(state: *mut lua_State) -> c_int {
    // SAFETY: the stack is the function to call, and nothing else.
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        let status = ffi::lua_pcall(state, 0, 1, 1);
        ffi::lua_pushinteger(state, status as ffi::lua_Integer);
        ffi::lua_insert(state, -2);
        2
    }
}

/// The error handler: it runs on top of the frame that raised the error, so it
/// is the only one that can tell the line. It never changes the error's table,
/// which may be one that cannot be changed, or that the script goes on using.
unsafe extern "C-unwind" fn describe(state: *mut lua_State) -> c_int {
    // SAFETY: all values that are pushed have room: a handler begins with 20
    // free slots.
    unsafe {
        let context = context_at(state, 1);
        ffi::lua_settop(state, 1);
        ffi::lua_createtable(state, 0, 3);
        if let Some(why) = context.ending() {
            let why = why.text();
            ffi::lua_pushlstring(state, why.as_ptr().cast(), why.len());
            ffi::lua_setfield(state, 2, c"err".as_ptr());
        } else {
            push_message(state);
        }
        let mut frame: ffi::lua_Debug = std::mem::zeroed();
        if raising_frame(state, &raw mut frame) {
            ffi::lua_pushstring(state, frame.source);
            ffi::lua_setfield(state, 2, c"source".as_ptr());
            ffi::lua_pushinteger(state, frame.currentline as ffi::lua_Integer);
            ffi::lua_setfield(state, 2, c"line".as_ptr());
        }
        1
    }
}

/// Copies the text of the error at 1 into the table at 2.
unsafe fn push_message(state: *mut lua_State) {
    // SAFETY: as in `describe`; raw access calls no metamethod.
    unsafe {
        match ffi::lua_type(state, 1) {
            ffi::LUA_TTABLE if !protected(state, 1, false) => {
                ffi::lua_pushstring(state, c"err".as_ptr());
                ffi::lua_rawget(state, 1);
                if ffi::lua_isstring(state, -1) == 0 {
                    ffi::lua_pop(state, 1);
                    ffi::lua_pushstring(state, c"ERR error object without a message".as_ptr());
                }
            }
            ffi::LUA_TSTRING | ffi::LUA_TNUMBER => {
                ffi::lua_pushstring(state, c"ERR ".as_ptr());
                ffi::lua_pushvalue(state, 1);
                ffi::lua_concat(state, 2);
            }
            ffi::LUA_TNIL => {
                ffi::lua_pushstring(state, c"ERR nil".as_ptr());
            }
            ffi::LUA_TBOOLEAN => {
                let truth = ffi::lua_toboolean(state, 1) != 0;
                let text = if truth { c"ERR true" } else { c"ERR false" };
                ffi::lua_pushstring(state, text.as_ptr());
            }
            kind => {
                ffi::lua_pushstring(state, c"ERR error object is a ".as_ptr());
                ffi::lua_pushstring(state, ffi::lua_typename(state, kind));
                ffi::lua_concat(state, 2);
            }
        }
        ffi::lua_setfield(state, 2, c"err".as_ptr());
    }
}

/// The frame that an error is reported for: the one that raised it, or its
/// caller if that is a C function.
unsafe fn raising_frame(state: *mut lua_State, frame: *mut ffi::lua_Debug) -> bool {
    // SAFETY: `frame` is filled by lua_getstack before lua_getinfo reads it.
    unsafe {
        if ffi::lua_getstack(state, 1, frame) == 0 {
            return false;
        }
        ffi::lua_getinfo(state, c"nSl".as_ptr(), frame);
        if CStr::from_ptr((*frame).what) == c"C" {
            if ffi::lua_getstack(state, 2, frame) == 0 {
                return false;
            }
            ffi::lua_getinfo(state, c"nSl".as_ptr(), frame);
        }
        true
    }
}

/// The status of a call that ran out of memory.
pub(crate) fn is_memory_error(status: i64) -> bool {
    status == i64::from(ffi::LUA_ERRMEM)
}

/// The text of an error that has no table, since memory ran out.
pub(crate) fn plain_text(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        other => other.type_name().as_bytes().to_vec(),
    }
}

/// Compiles a script's text under the name that Redis gives it. The inner error
/// is what Lua says of the text.
pub(crate) fn compile(lua: &Lua, code: &[u8]) -> Result<std::result::Result<Function, Vec<u8>>> {
    if code.first() == Some(&0x1b) {
        return Ok(Err(b"compiled code is not accepted".to_vec()));
    }
    // SAFETY: Lua copies what it needs of the text; one value is left on the
    // stack, the function or the message.
    let result: Value = unsafe {
        lua.exec_raw((), |state| {
            ffi::luaL_loadbuffer(
                state,
                code.as_ptr().cast(),
                code.len(),
                c"@user_script".as_ptr(),
            );
        })?
    };
    Ok(match result {
        Value::Function(function) => Ok(function),
        other => Err(plain_text(&other)),
    })
}
