//! What has to be a C function: whatever catches errors, raises them, or looks
//! at Lua's call stack.
//!
//! mlua's own functions raise errors as userdata and hand table-valued errors
//! on as text, and a wrapper written in Lua would take the place of the
//! script's frame in `return redis.call(..)`, and with it the line of an error.
//! So functions of the sandbox are [`native`]: a C function around a Rust one
//! that says how to raise what went wrong.
//!
//! The rule that makes this sound: Lua's errors are jumps, so no function here
//! holds anything with a destructor while it calls Lua.

#![allow(
    unsafe_code,
    reason = "Lua's C interface; each block says what it relies on"
)]

mod base;
mod error;
mod slot;
mod sort;
mod strings;

use std::ffi::{CStr, c_int, c_void};

use bytes::Bytes;
use mlua::ffi::{self, lua_State};
use mlua::{Function, Lua, MultiValue, Result, Table, Value};

use crate::context::Context;
pub(crate) use base::install_base;
pub(crate) use error::{ProtectedCall, compile, is_memory_error, plain_text, protected_call};
pub(crate) use slot::CallerSlot;
pub(crate) use strings::install_strings;

/// How a native function ended: the first of its values.
pub(crate) mod code {
    /// The other values are the results.
    pub(crate) const DONE: i64 = 0;
    /// The next value is raised as it is.
    pub(crate) const RAISE: i64 = 1;
    /// The next value is a text, raised with the caller's line in front.
    pub(crate) const RAISE_AT: i64 = 2;
    /// An argument's number and what is wrong with it.
    pub(crate) const ARGUMENT: i64 = 3;
}

/// More arguments than this are refused: mlua has room for 8,000 values.
const MAX_ARGUMENTS: c_int = 4_000;

/// Its address is the key under which a protected table's metatable has the
/// table that it stands for.
static PROTECTED: u8 = 0;

fn protected_key() -> *mut c_void {
    (&raw const PROTECTED).cast_mut().cast()
}

/// The light userdata under which [`protect`](crate::sandbox) keeps the table
/// behind a protected one. Scripts cannot make one.
pub(crate) fn protected_mark() -> Value {
    Value::LightUserData(mlua::LightUserData(protected_key()))
}

/// Makes a C function of a Rust one whose first result is a [`code`].
pub(crate) fn native(lua: &Lua, function: Function) -> Result<Function> {
    // SAFETY: one value is on the stack and becomes the closure's upvalue.
    unsafe {
        lua.exec_raw(function, |state| {
            ffi::lua_pushcclosure(state, run_native, 1)
        })
    }
}

/// As [`native`], for commands: the arguments become bytes in `context.args`,
/// however many they are, and the Rust function gets none.
pub(crate) fn native_command(lua: &Lua, context: &Context, function: Function) -> Result<Function> {
    // SAFETY: two values become upvalues. The context outlives the Lua state
    // (`State` holds both, and drops Lua first).
    unsafe {
        lua.exec_raw((function, pointer_to(context)), |state| {
            ffi::lua_pushcclosure(state, run_command, 2);
        })
    }
}

fn pointer_to(context: &Context) -> Value {
    let pointer = std::ptr::from_ref(context).cast_mut().cast();
    Value::LightUserData(mlua::LightUserData(pointer))
}

/// The context that the running closure has as its upvalue `index`.
unsafe fn context_at<'a>(state: *mut lua_State, index: c_int) -> &'a Context {
    // SAFETY: closures with a context are made with `pointer_to`, and the
    // context outlives the state.
    unsafe { &*ffi::lua_touserdata(state, ffi::lua_upvalueindex(index)).cast::<Context>() }
}

/// Runs the Rust function in upvalue 1 and raises what it says.
unsafe extern "C-unwind" fn run_native(state: *mut lua_State) -> c_int {
    // SAFETY: nothing here has a destructor.
    unsafe {
        let given = ffi::lua_gettop(state);
        if given > MAX_ARGUMENTS {
            return raise_at(state, c"too many arguments");
        }
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, given, ffi::LUA_MULTRET);
        conclude(state)
    }
}

unsafe fn conclude(state: *mut lua_State) -> c_int {
    // SAFETY: the values of a native function are on the stack.
    unsafe {
        let code = ffi::lua_tointeger(state, 1) as i64;
        ffi::lua_remove(state, 1);
        match code {
            code::DONE => ffi::lua_gettop(state),
            code::RAISE_AT => {
                ffi::luaL_where(state, 1);
                ffi::lua_insert(state, 1);
                ffi::lua_concat(state, 2);
                ffi::lua_error(state)
            }
            code::ARGUMENT => {
                let argument = ffi::lua_tointeger(state, 1) as c_int;
                ffi::luaL_argerror(state, argument, ffi::lua_tostring(state, 2))
            }
            _ => {
                ffi::lua_settop(state, 1);
                ffi::lua_error(state)
            }
        }
    }
}

/// Takes the arguments of a command out of Lua's stack, then as [`run_native`].
unsafe extern "C-unwind" fn run_command(state: *mut lua_State) -> c_int {
    // SAFETY: `take_arguments` calls nothing that raises an error, and what it
    // made is in the context before Lua is called again.
    unsafe {
        let context = context_at(state, 2);
        take_arguments(state, context);
        ffi::lua_settop(state, 0);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_call(state, 0, ffi::LUA_MULTRET);
        conclude(state)
    }
}

unsafe fn take_arguments(state: *mut lua_State, context: &Context) {
    // SAFETY: strings are read in place: only numbers would be converted, and
    // those are written out by us.
    unsafe {
        let given = ffi::lua_gettop(state);
        let mut args = Vec::with_capacity(usize::try_from(given).unwrap_or_default());
        for index in 1..=given {
            match ffi::lua_type(state, index) {
                ffi::LUA_TNUMBER => {
                    let number = ffi::lua_tonumber(state, index);
                    args.push(Bytes::from(crate::number::general(number, 17)));
                }
                ffi::LUA_TSTRING => args.push(Bytes::copy_from_slice(string_at(state, index))),
                _ => {
                    context.take_args(None);
                    return;
                }
            }
        }
        context.take_args(Some(args));
    }
}

/// The bytes of the string at `index`, which must be one, for as long as it
/// stays on the stack.
unsafe fn string_at<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    // SAFETY: for a string the call converts nothing, and Lua moves no string.
    unsafe {
        let mut len = 0;
        let start = ffi::lua_tolstring(state, index, &raw mut len);
        if start.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(start.cast(), len)
        }
    }
}

/// Raises `text` with the caller's line in front.
unsafe fn raise_at(state: *mut lua_State, text: &CStr) -> c_int {
    // SAFETY: there is always room for two values in a C function.
    unsafe {
        ffi::luaL_where(state, 1);
        ffi::lua_pushstring(state, text.as_ptr());
        ffi::lua_concat(state, 2);
        ffi::lua_error(state)
    }
}

/// Whether the table at `index` (absolute) is protected; if so, and `replace`
/// says it, the table behind it takes its place.
unsafe fn protected(state: *mut lua_State, index: c_int, replace: bool) -> bool {
    // SAFETY: what is pushed is popped.
    unsafe {
        if ffi::lua_getmetatable(state, index) == 0 {
            return false;
        }
        ffi::lua_pushlightuserdata(state, protected_key());
        ffi::lua_rawget(state, -2);
        let found = ffi::lua_type(state, -1) == ffi::LUA_TTABLE;
        if found && replace {
            ffi::lua_pushvalue(state, -1);
            ffi::lua_replace(state, index);
        }
        ffi::lua_pop(state, 2);
        found
    }
}

/// Makes a C closure with these upvalues, and puts it into `table`.
fn put(
    lua: &Lua,
    table: &Table,
    name: &str,
    function: ffi::lua_CFunction,
    upvalues: Vec<Value>,
) -> Result<()> {
    let count = c_int::try_from(upvalues.len()).unwrap_or_default();
    // SAFETY: exactly the upvalues are on the stack.
    let function: Function = unsafe {
        lua.exec_raw(MultiValue::from_vec(upvalues), |state| {
            ffi::lua_pushcclosure(state, function, count);
        })?
    };
    table.raw_set(name, function)
}

/// The table that a protected one stands for, or the table itself.
pub(crate) fn behind(table: &Table) -> Result<Table> {
    match table.metatable() {
        Some(metatable) => match metatable.raw_get(protected_mark())? {
            Value::Table(real) => Ok(real),
            _ => Ok(table.clone()),
        },
        None => Ok(table.clone()),
    }
}

/// The pair behind `key` (nil: the first one), without metamethods; nil and nil
/// behind the last.
pub(crate) fn next_pair(lua: &Lua, table: &Table, key: &Value) -> Result<(Value, Value)> {
    // SAFETY: table and key are on the stack, and nothing else.
    unsafe {
        lua.exec_raw((table, key), |state| {
            if ffi::lua_next(state, 1) == 0 {
                ffi::lua_pushnil(state);
                ffi::lua_pushnil(state);
            }
            ffi::lua_remove(state, 1);
        })
    }
}
