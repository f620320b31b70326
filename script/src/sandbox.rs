//! The globals that scripts see, and why nothing that a script does to them
//! lasts.
//!
//! Redis marks the tables of its libraries read-only inside a patched Lua. Here
//! a script never has such a table in hand: it has an empty one in its place,
//! whose metatable finds everything in the real one and refuses assignments.
//! `next`, `pairs` and `rawget` look behind it, `rawset`, `setmetatable` and
//! `table.insert` refuse it (`raw/base`). The real tables are reachable through
//! metatables only, which scripts cannot get (`__metatable`).

use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value};

use crate::api;
use crate::context::Context;
use crate::libraries::{bits, cjson, cmsgpack, math, structs};
use crate::native::{Args, Fault, Outcome, error, function};
use crate::raw;

/// What of Lua's own globals scripts may use.
const ALLOWED: [&str; 24] = [
    "_VERSION",
    "assert",
    "collectgarbage",
    "coroutine",
    "error",
    "gcinfo",
    "getmetatable",
    "ipairs",
    "load",
    "loadstring",
    "math",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawset",
    "select",
    "setmetatable",
    "string",
    "table",
    "tonumber",
    "tostring",
    "type",
];
const ALSO_ALLOWED: [&str; 2] = ["unpack", "xpcall"];

/// Builds the globals in a Lua state that has base, string, table, math and
/// coroutines, and makes them those of code loaded from now on. Returns the real
/// table of globals, for `KEYS` and `ARGV`; scripts see another.
pub(crate) fn install(lua: &Lua, context: &Arc<Context>) -> mlua::Result<Table> {
    let original = lua.globals();
    raw::install_base(lua, &original, context)?;
    raw::install_strings(lua, &original.raw_get("string")?, context)?;
    math::install(lua, &original.raw_get("math")?, context)?;

    let refuse = function(lua, context, refuse_assignment)?;
    let protect = |real: &Table| -> mlua::Result<Table> { protect(lua, real, &refuse, None) };
    let real = lua.create_table()?;
    for name in ALLOWED.into_iter().chain(ALSO_ALLOWED) {
        let value = match original.raw_get::<Value>(name)? {
            Value::Table(library) => Value::Table(protect(&library)?),
            other => other,
        };
        real.raw_set(name, value)?;
    }
    for (name, library) in [
        ("redis", api::table(lua, context)?),
        ("cjson", cjson::table(lua, context)?),
        ("cmsgpack", cmsgpack::table(lua, context)?),
        ("struct", structs::table(lua, context)?),
        ("bit", bits::table(lua, context)?),
    ] {
        real.raw_set(name, protect(&library)?)?;
    }

    // what is not there is an error
    let missing = function(lua, context, missing_global)?;
    let metatable = lua.create_table()?;
    metatable.raw_set("__index", missing)?;
    let shown = protect(&metatable)?;
    real.set_metatable(Some(metatable))?;
    let seen = self::protect(lua, &real, &refuse, Some(shown))?;
    real.raw_set("_G", &seen)?;

    // methods of strings are found in the real table; scripts see a protected one
    let methods = lua.create_table()?;
    methods.raw_set("__index", original.raw_get::<Table>("string")?)?;
    let shown = lua.create_table()?;
    shown.raw_set("__index", real.raw_get::<Table>("string")?)?;
    methods.raw_set("__metatable", protect(&shown)?)?;
    lua.set_type_metatable::<mlua::LuaString>(Some(methods));

    lua.set_globals(seen)?;
    Ok(real)
}

/// An empty table in the place of `real`. `shown` is its metatable to scripts:
/// without one, they find none.
fn protect(
    lua: &Lua,
    real: &Table,
    refuse: &mlua::Function,
    shown: Option<Table>,
) -> mlua::Result<Table> {
    let metatable = lua.create_table()?;
    metatable.raw_set("__index", real)?;
    metatable.raw_set("__newindex", refuse)?;
    metatable.raw_set(
        "__metatable",
        shown.map_or(Value::Boolean(false), Value::Table),
    )?;
    metatable.raw_set(raw::protected_mark(), real)?;
    let seen = lua.create_table()?;
    seen.set_metatable(Some(metatable))?;
    Ok(seen)
}

fn refuse_assignment(_: &Lua, _: &Context, _: Args) -> Outcome {
    error("Attempt to modify a readonly table")
}

fn missing_global(lua: &Lua, _: &Context, args: Args) -> Outcome {
    let Ok(name) = args.string(lua, 2) else {
        return error("Second argument to luaProtectedTableError must be a string or number");
    };
    let mut text = b"Script attempted to access nonexistent global variable '".to_vec();
    text.extend_from_slice(&name.as_bytes());
    text.push(b'\'');
    Err::<MultiValue, _>(Fault::Error(text))
}
