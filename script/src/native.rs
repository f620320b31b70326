//! Functions of the sandbox that are written in Rust: their arguments, and how
//! they fail.

use std::sync::Arc;

use mlua::{Function, Lua, LuaString, MultiValue, Table, Value};

use crate::context::Context;
use crate::raw::{self, code};

/// Why a function raises an error.
#[derive(Debug)]
pub(crate) enum Fault {
    /// With this text, and the caller's line in front of it.
    Error(Vec<u8>),
    /// Something is wrong with the argument of this number.
    Argument(usize, String),
    /// With a table that has this text in `err`, as Redis's functions do.
    Redis(Vec<u8>),
    /// With this value.
    Value(Value),
    /// The script is to end.
    Ended,
    /// There is no more memory for it.
    Memory,
    /// The interpreter refused something.
    Lua(mlua::Error),
}

impl From<mlua::Error> for Fault {
    fn from(error: mlua::Error) -> Self {
        match error {
            mlua::Error::MemoryError(_) => Self::Memory,
            other => Self::Lua(other),
        }
    }
}

/// With the caller's line in front.
pub(crate) fn error<T>(text: impl Into<Vec<u8>>) -> Result<T, Fault> {
    Err(Fault::Error(text.into()))
}

/// What a function returns.
pub(crate) type Outcome = Result<MultiValue, Fault>;

/// What a function does.
pub(crate) type Body = fn(&Lua, &Context, Args) -> Outcome;

/// One value returned.
pub(crate) fn one(value: Value) -> Outcome {
    Ok(MultiValue::from_vec(vec![value]))
}

/// Makes a function for scripts.
pub(crate) fn function(
    lua: &Lua,
    context: &Arc<Context>,
    body: impl Fn(&Lua, &Context, Args) -> Outcome + Send + 'static,
) -> mlua::Result<Function> {
    let shared = context.clone();
    let inner = lua.create_function(move |lua, args: MultiValue| {
        // each may take long
        if shared.should_end() {
            return conclude(lua, &shared, Err(Fault::Ended));
        }
        conclude(lua, &shared, body(lua, &shared, Args(args)))
    })?;
    raw::native(lua, inner)
}

/// Makes a function for scripts whose arguments are a command: strings and
/// numbers. `None` if there is something else among them.
pub(crate) fn command_function(
    lua: &Lua,
    context: &Arc<Context>,
    body: impl Fn(&Lua, &Context, Option<Vec<bytes::Bytes>>) -> Outcome + Send + 'static,
) -> mlua::Result<Function> {
    let shared = context.clone();
    let inner = lua.create_function(move |lua, ()| {
        let args = shared.args();
        conclude(lua, &shared, body(lua, &shared, args))
    })?;
    raw::native_command(lua, context, inner)
}

/// How `raw` is told: a code first. Never an error of mlua's, which a script
/// would see as a userdata.
fn conclude(lua: &Lua, context: &Context, outcome: Outcome) -> mlua::Result<MultiValue> {
    let text = |text: &[u8]| lua.create_string(text).map(Value::String);
    let mut values = match outcome {
        Ok(values) => {
            let mut values = values;
            values.push_front(Value::Integer(code::DONE));
            return Ok(values);
        }
        Err(Fault::Error(message)) => vec![Value::Integer(code::RAISE_AT), text(&message)?],
        Err(Fault::Argument(number, message)) => {
            let number = i64::try_from(number).unwrap_or_default();
            vec![
                Value::Integer(code::ARGUMENT),
                Value::Integer(number),
                text(message.as_bytes())?,
            ]
        }
        Err(Fault::Redis(message)) => {
            vec![
                Value::Integer(code::RAISE),
                Value::Table(error_table(lua, &message)?),
            ]
        }
        Err(Fault::Value(value)) => vec![Value::Integer(code::RAISE), value],
        // the error handler says why
        Err(Fault::Ended) => vec![Value::Integer(code::RAISE), Value::Boolean(false)],
        Err(Fault::Memory) => {
            context.poison();
            vec![Value::Integer(code::RAISE), text(b"not enough memory")?]
        }
        Err(Fault::Lua(error)) => {
            vec![
                Value::Integer(code::RAISE_AT),
                text(error.to_string().as_bytes())?,
            ]
        }
    };
    Ok(MultiValue::from_vec(std::mem::take(&mut values)))
}

/// An error as scripts see it: a table with the text in `err`. Texts that have
/// no code get `ERR`.
pub(crate) fn error_table(lua: &Lua, message: &[u8]) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string(message)?)?;
    Ok(table)
}

/// Arguments, numbered from 1.
pub(crate) struct Args(pub(crate) MultiValue);

impl Args {
    /// How many were given.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What was given, if so.
    pub(crate) fn get(&self, number: usize) -> Option<&Value> {
        self.0.get(number - 1)
    }

    fn wrong<T>(&self, number: usize, expected: &str) -> Result<T, Fault> {
        let given = self.get(number).map_or("no value", type_name);
        Err(Fault::Argument(
            number,
            format!("{expected} expected, got {given}"),
        ))
    }

    /// A string, or a number as one.
    pub(crate) fn string(&self, lua: &Lua, number: usize) -> Result<LuaString, Fault> {
        match self.get(number) {
            Some(Value::String(string)) => Ok(string.clone()),
            Some(value @ (Value::Integer(_) | Value::Number(_))) => {
                match lua.coerce_string(value.clone())? {
                    Some(string) => Ok(string),
                    None => self.wrong(number, "string"),
                }
            }
            _ => self.wrong(number, "string"),
        }
    }

    /// A number, or a string that reads as one.
    pub(crate) fn number(&self, lua: &Lua, number: usize) -> Result<f64, Fault> {
        let Some(value) = self.get(number) else {
            return self.wrong(number, "number");
        };
        match as_number(lua, value)? {
            Some(found) => Ok(found),
            None => self.wrong(number, "number"),
        }
    }

    /// A whole number; fractions are cut off.
    pub(crate) fn integer(&self, lua: &Lua, number: usize) -> Result<i64, Fault> {
        // as C does, beyond what fits
        self.number(lua, number).map(truncated)
    }

    /// A whole number, or `default` if none is given.
    pub(crate) fn integer_or(&self, lua: &Lua, number: usize, default: i64) -> Result<i64, Fault> {
        match self.get(number) {
            None | Some(Value::Nil) => Ok(default),
            Some(_) => self.integer(lua, number),
        }
    }
}

/// The number that a value is, or reads as.
pub(crate) fn as_number(lua: &Lua, value: &Value) -> Result<Option<f64>, Fault> {
    Ok(match value {
        #[allow(
            clippy::cast_precision_loss,
            reason = "Lua 5.1 has doubles only: it was one"
        )]
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::String(_) => lua.coerce_number(value.clone())?,
        _ => None,
    })
}

/// A double as C on x86-64 makes an integer of it: beyond what fits, the
/// smallest.
pub(crate) fn truncated(number: f64) -> i64 {
    // 2^63, exactly
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) {
        number as i64
    } else {
        i64::MIN
    }
}

/// The same without a sign: from 2^64 on it is 0, below 0 it wraps, and below -2^63 (or if
/// it is no number) it is 2^63.
pub(crate) fn truncated_unsigned(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if number >= HALF {
        (truncated(number - HALF) ^ i64::MIN).cast_unsigned()
    } else {
        truncated(number).cast_unsigned()
    }
}

/// A number's value.
pub(crate) fn number_value(number: f64) -> Value {
    Value::Number(number)
}

/// What Lua calls the type of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        _ => "userdata",
    }
}
