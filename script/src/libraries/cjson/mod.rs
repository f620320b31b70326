//! `cjson`: JSON, as lua-cjson 2.1 reads and writes it.

mod decode;
mod encode;

use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value};

use crate::context::Context;
use crate::native::{Args, Body, Fault, Outcome, function, one};

/// Levels that cannot be exceeded, whatever a script sets: each takes its part
/// of the thread's stack.
const MAX_DEPTH: i64 = 1_000;

/// What scripts can set; it ends with the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonSettings {
    /// Lists with many holes become objects (otherwise an error).
    sparse_convert: bool,
    /// Many: more than this times as many as there are items. 0: never.
    sparse_ratio: i64,
    /// Lists up to this are lists whatever the holes.
    sparse_safe: i64,
    encode_depth: i64,
    decode_depth: i64,
    /// Infinities and nan: 0 an error, 1 as they are, 2 as null.
    encode_invalid: usize,
    decode_invalid: bool,
    keep_buffer: bool,
    /// Digits of a number.
    precision: i64,
}

impl Default for JsonSettings {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth: MAX_DEPTH,
            decode_depth: MAX_DEPTH,
            encode_invalid: 0,
            decode_invalid: true,
            keep_buffer: true,
            precision: 14,
        }
    }
}

/// The table.
pub(crate) fn table(lua: &Lua, context: &Arc<Context>) -> mlua::Result<Table> {
    let cjson = plain_table(lua, context)?;
    let shared = context.clone();
    // another table of the same functions: settings are the run's
    let new = function(lua, context, move |lua, _, _| {
        one(Value::Table(plain_table(lua, &shared)?))
    })?;
    cjson.raw_set("new", new)?;
    Ok(cjson)
}

fn plain_table(lua: &Lua, context: &Arc<Context>) -> mlua::Result<Table> {
    let cjson = lua.create_table()?;
    let functions: [(&str, Body); 9] = [
        ("encode", encode::encode),
        ("decode", decode::decode),
        ("encode_sparse_array", sparse),
        ("encode_max_depth", |lua, context, args| {
            depth(lua, context, &args, |settings| &mut settings.encode_depth)
        }),
        ("decode_max_depth", |lua, context, args| {
            depth(lua, context, &args, |settings| &mut settings.decode_depth)
        }),
        ("encode_number_precision", precision),
        ("encode_keep_buffer", |lua, context, args| {
            toggle(lua, context, &args, |settings| &mut settings.keep_buffer)
        }),
        ("decode_invalid_numbers", |lua, context, args| {
            toggle(lua, context, &args, |settings| &mut settings.decode_invalid)
        }),
        ("encode_invalid_numbers", invalid_numbers),
    ];
    for (name, body) in functions {
        cjson.raw_set(name, function(lua, context, body)?)?;
    }
    cjson.raw_set("null", Value::NULL)?;
    cjson.raw_set("_NAME", "cjson")?;
    cjson.raw_set("_VERSION", "2.1.0")?;
    Ok(cjson)
}

fn at_most(args: &Args, most: usize) -> Result<(), Fault> {
    if args.len() > most {
        return Err(Fault::Argument(most + 1, "found too many arguments".into()));
    }
    Ok(())
}

/// Sets a number if one is given.
fn set(
    lua: &Lua,
    args: &Args,
    number: usize,
    setting: &mut i64,
    min: i64,
    max: i64,
) -> Result<Value, Fault> {
    if !matches!(args.get(number), None | Some(Value::Nil)) {
        let value = args.integer(lua, number)?;
        if !(min..=max).contains(&value) {
            return Err(Fault::Argument(
                1,
                format!("expected integer between {min} and {max}"),
            ));
        }
        *setting = value;
    }
    Ok(Value::Integer(*setting))
}

/// Which of the options is given, if any: a truth value is one of the first two.
fn option(lua: &Lua, args: &Args, number: usize, options: &[&str]) -> Result<Option<usize>, Fault> {
    match args.get(number) {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::Boolean(truth)) => Ok(Some(usize::from(*truth))),
        Some(_) => {
            let given = args.string(lua, number)?;
            let index = options
                .iter()
                .position(|option| given.as_bytes() == option.as_bytes());
            let wrong = || {
                Fault::Argument(
                    number,
                    format!("invalid option '{}'", given.to_string_lossy()),
                )
            };
            index.map(Some).ok_or_else(wrong)
        }
    }
}

fn sparse(lua: &Lua, context: &Context, args: Args) -> Outcome {
    at_most(&args, 3)?;
    let mut settings = context.run().json;
    if let Some(chosen) = option(lua, &args, 1, &["off", "on"])? {
        settings.sparse_convert = chosen == 1;
    }
    let largest = i64::from(i32::MAX);
    let ratio = set(lua, &args, 2, &mut settings.sparse_ratio, 0, largest)?;
    let safe = set(lua, &args, 3, &mut settings.sparse_safe, 0, largest)?;
    context.run().json = settings;
    Ok(MultiValue::from_vec(vec![
        Value::Boolean(settings.sparse_convert),
        ratio,
        safe,
    ]))
}

fn depth(
    lua: &Lua,
    context: &Context,
    args: &Args,
    setting: fn(&mut JsonSettings) -> &mut i64,
) -> Outcome {
    at_most(args, 1)?;
    let mut settings = context.run().json;
    let value = set(lua, args, 1, setting(&mut settings), 1, i64::from(i32::MAX))?;
    context.run().json = settings;
    one(value)
}

fn precision(lua: &Lua, context: &Context, args: Args) -> Outcome {
    at_most(&args, 1)?;
    let mut settings = context.run().json;
    let value = set(lua, &args, 1, &mut settings.precision, 1, 14)?;
    context.run().json = settings;
    one(value)
}

fn toggle(
    lua: &Lua,
    context: &Context,
    args: &Args,
    setting: fn(&mut JsonSettings) -> &mut bool,
) -> Outcome {
    at_most(args, 1)?;
    let mut settings = context.run().json;
    if let Some(chosen) = option(lua, args, 1, &["off", "on"])? {
        *setting(&mut settings) = chosen == 1;
    }
    let value = *setting(&mut settings);
    context.run().json = settings;
    one(Value::Boolean(value))
}

fn invalid_numbers(lua: &Lua, context: &Context, args: Args) -> Outcome {
    at_most(&args, 1)?;
    let mut settings = context.run().json;
    if let Some(chosen) = option(lua, &args, 1, &["off", "on", "null"])? {
        settings.encode_invalid = chosen;
    }
    context.run().json = settings;
    one(match settings.encode_invalid {
        2 => Value::String(lua.create_string("null")?),
        other => Value::Boolean(other == 1),
    })
}
