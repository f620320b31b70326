//! What scripts find in the global `redis`.

use std::sync::Arc;

use bytes::Bytes;
use mlua::{Lua, MultiValue, Table, Value};

use crate::caller::{Call, LogLevel};
use crate::context::Context;
use crate::convert::{to_lua, with_code};
use crate::native::{
    Args, Body, Fault, Outcome, as_number, command_function, error_table, function, one, truncated,
};
use crate::reply::Reply;
use crate::source::Sha1;

/// The Redis whose scripts these are.
const VERSION: &str = "7.0.15";
const VERSION_NUMBER: i64 = 0x0007_000f;

const NUMBERS: [(&str, i64); 10] = [
    ("REDIS_VERSION_NUM", VERSION_NUMBER),
    ("LOG_DEBUG", 0),
    ("LOG_VERBOSE", 1),
    ("LOG_NOTICE", 2),
    ("LOG_WARNING", 3),
    ("REPL_NONE", 0),
    ("REPL_AOF", 1),
    ("REPL_SLAVE", 2),
    ("REPL_REPLICA", 2),
    ("REPL_ALL", 3),
];

/// The table.
pub(crate) fn table(lua: &Lua, context: &Arc<Context>) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    redis.raw_set("REDIS_VERSION", VERSION)?;
    for (name, number) in NUMBERS {
        redis.raw_set(name, number)?;
    }
    let raising = command_function(lua, context, |lua, context, args| {
        call(lua, context, args, true)
    })?;
    redis.raw_set("call", raising)?;
    let returning = command_function(lua, context, |lua, context, args| {
        call(lua, context, args, false)
    })?;
    redis.raw_set("pcall", returning)?;
    redis.raw_set("acl_check_cmd", command_function(lua, context, may_call)?)?;
    let functions: [(&str, Body); 9] = [
        ("sha1hex", sha1hex),
        ("error_reply", error_reply),
        ("status_reply", status_reply),
        ("log", log),
        ("setresp", set_resp),
        ("set_repl", set_repl),
        ("replicate_commands", |_, _, _| one(Value::Boolean(true))),
        ("breakpoint", |_, _, _| one(Value::Boolean(false))),
        ("debug", |_, _, _| Ok(MultiValue::new())),
    ];
    for (name, body) in functions {
        redis.raw_set(name, function(lua, context, body)?)?;
    }
    Ok(redis)
}

fn refused<T>(text: &str) -> Result<T, Fault> {
    Err(Fault::Redis([b"ERR ", text.as_bytes()].concat()))
}

/// The arguments of a command, or what is wrong with them.
fn command(args: Option<Vec<Bytes>>) -> Result<Vec<Bytes>, &'static str> {
    match args {
        None => Err("Lua redis lib command arguments must be strings or integers"),
        Some(args) if args.is_empty() => {
            Err("Please specify at least one argument for this redis lib call")
        }
        Some(args) => Ok(args),
    }
}

/// `redis.call`, and `redis.pcall`, which returns errors.
fn call(lua: &Lua, context: &Context, args: Option<Vec<Bytes>>, raising: bool) -> Outcome {
    let args = match command(args) {
        Ok(args) => args,
        Err(text) if raising => return refused(text),
        Err(text) => {
            return one(Value::Table(error_table(
                lua,
                format!("ERR {text}").as_bytes(),
            )?));
        }
    };
    let (reply, resp3) = {
        let mut run = context.run();
        let (resp3, read_only) = (run.resp3, run.read_only);
        match run.caller.get() {
            Some(caller) => (
                caller.call(Call {
                    args,
                    resp3,
                    read_only,
                }),
                resp3,
            ),
            None => {
                return refused("redis.call/pcall can only be called inside a script invocation");
            }
        }
    };
    // it may have taken long
    if context.should_end() {
        return Err(Fault::Ended);
    }
    let raising = raising && matches!(reply, Reply::Error(_));
    let value = to_lua(lua, reply, resp3)?;
    if raising {
        Err(Fault::Value(value))
    } else {
        one(value)
    }
}

fn may_call(_: &Lua, context: &Context, args: Option<Vec<Bytes>>) -> Outcome {
    let args = command(args).or_else(refused)?;
    let allowed = context
        .run()
        .caller
        .get()
        .and_then(|caller| caller.may_call(&args));
    match allowed {
        Some(allowed) => one(Value::Boolean(allowed)),
        None => refused("Invalid command passed to redis.acl_check_cmd()"),
    }
}

fn sha1hex(lua: &Lua, _: &Context, args: Args) -> Outcome {
    if args.len() != 1 {
        return refused("wrong number of arguments");
    }
    // anything but text counts as none
    let sha1 = match args.string(lua, 1) {
        Ok(text) => Sha1::of(&text.as_bytes()),
        Err(_) => Sha1::of(b""),
    };
    one(Value::String(lua.create_string(sha1.to_string())?))
}

/// The one argument, if it is a string.
fn only_string(args: &Args) -> Option<&mlua::LuaString> {
    match (args.len(), args.get(1)) {
        (1, Some(Value::String(text))) => Some(text),
        _ => None,
    }
}

const WRONG_ARGUMENTS: &[u8] = b"ERR wrong number or type of arguments";

fn error_reply(lua: &Lua, _: &Context, args: Args) -> Outcome {
    let text = match only_string(&args) {
        Some(text) => with_code(&text.as_bytes()),
        None => WRONG_ARGUMENTS.to_vec(),
    };
    one(Value::Table(error_table(lua, &text)?))
}

fn status_reply(lua: &Lua, _: &Context, args: Args) -> Outcome {
    let Some(text) = only_string(&args) else {
        return one(Value::Table(error_table(lua, WRONG_ARGUMENTS)?));
    };
    let table = lua.create_table()?;
    table.raw_set("ok", text)?;
    one(Value::Table(table))
}

fn log(lua: &Lua, context: &Context, args: Args) -> Outcome {
    if args.len() < 2 {
        return refused("redis.log() requires two arguments or more.");
    }
    let level = match args.get(1).map(|level| as_number(lua, level)) {
        Some(Ok(Some(level))) => truncated(level),
        _ => return refused("First argument must be a number (log level)."),
    };
    let level = match level {
        0 => LogLevel::Debug,
        1 => LogLevel::Verbose,
        2 => LogLevel::Notice,
        3 => LogLevel::Warning,
        _ => return refused("Invalid debug level."),
    };
    let mut line = Vec::new();
    for number in 2..=args.len() {
        // what is no text is left out
        if let Ok(text) = args.string(lua, number) {
            if number > 2 {
                line.push(b' ');
            }
            line.extend_from_slice(&text.as_bytes());
        }
    }
    if let Some(caller) = context.run().caller.get() {
        caller.log(level, &line);
    }
    Ok(MultiValue::new())
}

fn set_resp(lua: &Lua, context: &Context, args: Args) -> Outcome {
    let [Some(version)] = [args.get(1).filter(|_| args.len() == 1)] else {
        return refused("redis.setresp() requires one argument.");
    };
    let version = as_number(lua, version)?.map(truncated);
    let (Some(2) | Some(3)) = version else {
        return refused("RESP version must be 2 or 3.");
    };
    context.run().resp3 = version == Some(3);
    Ok(MultiValue::new())
}

/// There is no replication: what it asks for is checked, no more.
fn set_repl(lua: &Lua, _: &Context, args: Args) -> Outcome {
    let [Some(flags)] = [args.get(1).filter(|_| args.len() == 1)] else {
        return refused("redis.set_repl() requires two arguments.");
    };
    match as_number(lua, flags)?.map_or(0, truncated) {
        0..=3 => Ok(MultiValue::new()),
        _ => {
            refused("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
        }
    }
}
