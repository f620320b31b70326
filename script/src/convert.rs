//! Replies to Lua values, and back.

use bytes::Bytes;
use mlua::{Lua, Table, Value};

use crate::context::Context;
use crate::native::{Fault, error_table, truncated};
use crate::number::general;
use crate::reply::Reply;

/// Levels of lists within lists, in both directions.
const MAX_DEPTH: usize = 200;
/// What a script returns costs at least this for each value.
const VALUE_BYTES: usize = 32;

/// What a script gets for a reply. Without RESP3, what only RESP3 has becomes
/// what RESP2 has in its place.
pub(crate) fn to_lua(lua: &Lua, reply: Reply, resp3: bool) -> Result<Value, Fault> {
    value_of(lua, reply, resp3, 0)
}

fn value_of(lua: &Lua, reply: Reply, resp3: bool, depth: usize) -> Result<Value, Fault> {
    if depth > MAX_DEPTH {
        return Err(Fault::Redis(b"ERR reply with too many levels".to_vec()));
    }
    let string = |bytes: &[u8]| lua.create_string(bytes).map(Value::String);
    let tagged = |key: &str, value: Value| -> Result<Value, Fault> {
        let table = lua.create_table()?;
        table.raw_set(key, value)?;
        Ok(Value::Table(table))
    };
    Ok(match reply {
        Reply::Nil if resp3 => Value::Nil,
        Reply::Nil => Value::Boolean(false),
        #[allow(clippy::cast_precision_loss, reason = "Lua 5.1 has doubles only")]
        Reply::Integer(number) => Value::Number(number as f64),
        Reply::Bulk(bytes) => string(&bytes)?,
        Reply::Status(text) => tagged("ok", string(&text)?)?,
        Reply::Error(text) => Value::Table(command_error(lua, &text)?),
        Reply::Array(items) => Value::Table(list(lua, items, resp3, depth)?),
        Reply::Set(items) if !resp3 => Value::Table(list(lua, items, resp3, depth)?),
        Reply::Map(pairs) if !resp3 => {
            let flat = pairs
                .into_iter()
                .flat_map(|(key, value)| [key, value])
                .collect();
            Value::Table(list(lua, flat, resp3, depth)?)
        }
        Reply::Double(number) if !resp3 => string(general(number, 17).as_bytes())?,
        Reply::Bool(truth) if !resp3 => Value::Integer(truth.into()),
        Reply::BigNumber(text) | Reply::Verbatim { text, .. } if !resp3 => string(&text)?,
        Reply::Double(number) => tagged("double", Value::Number(number))?,
        Reply::Bool(truth) => Value::Boolean(truth),
        Reply::BigNumber(text) => tagged("big_number", string(&text)?)?,
        Reply::Verbatim { format, text } => {
            let table = lua.create_table()?;
            table.raw_set("string", string(&text)?)?;
            table.raw_set("format", string(&format)?)?;
            tagged("verbatim_string", Value::Table(table))?
        }
        Reply::Map(pairs) => {
            let table = lua.create_table()?;
            for (key, value) in pairs {
                let key = value_of(lua, key, resp3, depth + 1)?;
                set(&table, key, value_of(lua, value, resp3, depth + 1)?)?;
            }
            tagged("map", Value::Table(table))?
        }
        Reply::Set(items) => {
            let table = lua.create_table()?;
            for item in items {
                set(
                    &table,
                    value_of(lua, item, resp3, depth + 1)?,
                    Value::Boolean(true),
                )?;
            }
            tagged("set", Value::Table(table))?
        }
    })
}

/// What cannot be a key (nil, nan) is left out.
fn set(table: &Table, key: Value, value: Value) -> Result<(), Fault> {
    let impossible = match &key {
        Value::Nil => true,
        Value::Number(number) => number.is_nan(),
        _ => false,
    };
    if impossible {
        Ok(())
    } else {
        Ok(table.raw_set(key, value)?)
    }
}

fn list(lua: &Lua, items: Vec<Reply>, resp3: bool, depth: usize) -> Result<Table, Fault> {
    let table = lua.create_table_with_capacity(items.len(), 0)?;
    for (index, item) in items.into_iter().enumerate() {
        table.raw_set(index + 1, value_of(lua, item, resp3, depth + 1)?)?;
    }
    Ok(table)
}

/// The error of a command. A text of one word gets a code before it.
pub(crate) fn command_error(lua: &Lua, text: &[u8]) -> mlua::Result<Table> {
    let table = error_table(lua, &with_code(text))?;
    // Redis's mark that the command has counted the error already
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(table)
}

/// `CODE message` for a text that may lack the code, or have a minus before it.
pub(crate) fn with_code(text: &[u8]) -> Vec<u8> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (code, message) = match text.iter().position(|&byte| byte == b' ') {
        Some(space) => (&text[..space], &text[space + 1..]),
        None => (&b"ERR"[..], text),
    };
    [code, b" ", trimmed(message)].concat()
}

/// Without line ends around it.
fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

/// A text as one line, up to its first zero byte.
fn one_line(text: &[u8]) -> Bytes {
    let end = text
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(text.len());
    text[..end]
        .iter()
        .map(|&byte| {
            if byte == b'\r' || byte == b'\n' {
                b' '
            } else {
                byte
            }
        })
        .collect()
}

/// The text of an error as it goes to a client.
pub(crate) fn error_text(text: &[u8]) -> Bytes {
    let end = text
        .iter()
        .rposition(|byte| !b"\r\n".contains(byte))
        .map_or(0, |last| last + 1);
    one_line(&text[..end])
}

/// Makes replies of what scripts return.
pub(crate) struct Returned<'a> {
    context: &'a Context,
    resp3: bool,
    bytes_left: usize,
}

impl<'a> Returned<'a> {
    /// For a script that ended with RESP3 or without.
    pub(crate) fn new(context: &'a Context, resp3: bool) -> Self {
        Self {
            context,
            resp3,
            bytes_left: context.memory_bytes(),
        }
    }

    /// The reply. What shares tables can be far larger than the script's memory:
    /// that is refused.
    pub(crate) fn reply(&mut self, value: &Value) -> Result<Reply, Fault> {
        self.convert(value, 0)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.bytes_left.checked_sub(bytes + VALUE_BYTES) {
            Some(left) => self.bytes_left = left,
            None => return Err(Fault::Memory),
        }
        if self.context.should_end() {
            Err(Fault::Ended)
        } else {
            Ok(())
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Bytes, Fault> {
        self.spend(bytes.len())?;
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn convert(&mut self, value: &Value, depth: usize) -> Result<Reply, Fault> {
        if depth > MAX_DEPTH {
            return Ok(Reply::error("ERR reached lua stack limit"));
        }
        Ok(match value {
            Value::String(string) => Reply::Bulk(self.bytes(&string.as_bytes())?),
            Value::Boolean(truth) if self.resp3 => Reply::Bool(*truth),
            Value::Boolean(true) => Reply::Integer(1),
            Value::Integer(number) => Reply::Integer(*number),
            Value::Number(number) => Reply::Integer(truncated(*number)),
            Value::Table(table) => self.table(table, depth)?,
            _ => Reply::Nil,
        })
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<Reply, Fault> {
        self.spend(0)?;
        if let Some(reply) = self.tagged(table, depth)? {
            return Ok(reply);
        }
        let mut items = Vec::new();
        loop {
            let item: Value = table.raw_get(items.len() + 1)?;
            if item.is_nil() {
                return Ok(Reply::Array(items));
            }
            self.spend(0)?;
            items.push(self.convert(&item, depth + 1)?);
        }
    }

    /// Tables with one of the keys that say what they are.
    fn tagged(&mut self, table: &Table, depth: usize) -> Result<Option<Reply>, Fault> {
        if let Value::String(text) = table.raw_get("err")? {
            return Ok(Some(Reply::Error(error_text(&text.as_bytes()))));
        }
        if let Value::String(text) = table.raw_get("ok")? {
            return Ok(Some(Reply::Status(one_line(&text.as_bytes()))));
        }
        match table.raw_get("double")? {
            #[allow(clippy::cast_precision_loss, reason = "it was a double")]
            Value::Integer(number) => return Ok(Some(Reply::Double(number as f64))),
            Value::Number(number) => return Ok(Some(Reply::Double(number))),
            _ => {}
        }
        if let Value::String(text) = table.raw_get("big_number")? {
            let text = text
                .as_bytes()
                .iter()
                .map(|&byte| if b"\r\n".contains(&byte) { b' ' } else { byte })
                .collect();
            return Ok(Some(Reply::BigNumber(text)));
        }
        if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
            && let Value::String(format) = verbatim.raw_get("format")?
            && let Value::String(text) = verbatim.raw_get("string")?
        {
            let mut letters = [b' '; 3];
            for (letter, given) in letters.iter_mut().zip(format.as_bytes().iter()) {
                *letter = *given;
            }
            return Ok(Some(Reply::Verbatim {
                format: letters,
                text: self.bytes(&text.as_bytes())?,
            }));
        }
        if let Value::Table(map) = table.raw_get("map")? {
            let mut pairs = Vec::new();
            for pair in map.pairs::<Value, Value>() {
                let (key, value) = pair?;
                self.spend(0)?;
                pairs.push((
                    self.convert(&key, depth + 1)?,
                    self.convert(&value, depth + 1)?,
                ));
            }
            return Ok(Some(Reply::Map(pairs)));
        }
        if let Value::Table(set) = table.raw_get("set")? {
            let mut items = Vec::new();
            for pair in set.pairs::<Value, Value>() {
                self.spend(0)?;
                items.push(self.convert(&pair?.0, depth + 1)?);
            }
            return Ok(Some(Reply::Set(items)));
        }
        Ok(None)
    }
}
