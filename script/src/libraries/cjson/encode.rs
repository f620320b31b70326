//! Lua values as JSON.

use mlua::{Lua, Table, Value};

use super::{JsonSettings, MAX_DEPTH};
use crate::context::Context;
use crate::native::{Args, Fault, Outcome, error, one, type_name};
use crate::number::general;
use crate::raw;

/// Values between two looks whether the script is to end.
const POLL: usize = 1_024;

pub(super) fn encode(lua: &Lua, context: &Context, args: Args) -> Outcome {
    let (1, Some(value)) = (args.len(), args.get(1)) else {
        return Err(Fault::Argument(1, "expected 1 argument".into()));
    };
    let settings = context.run().json;
    let mut encoder = Encoder {
        out: Vec::new(),
        count: 0,
        settings,
        context,
    };
    encoder.document(lua, value)?;
    one(Value::String(lua.create_string(&encoder.out)?))
}

/// Open tables are on a list of their own, not on the thread's stack.
struct Encoder<'a> {
    out: Vec<u8>,
    count: usize,
    settings: JsonSettings,
    context: &'a Context,
}

/// A table that is being written.
enum Open {
    List {
        table: Table,
        index: i64,
        length: i64,
    },
    Object {
        table: Table,
        key: Value,
    },
}

fn refuse<T>(kind: &str, reason: &str) -> Result<T, Fault> {
    error(format!("Cannot serialise {kind}: {reason}"))
}

impl Encoder<'_> {
    fn document(&mut self, lua: &Lua, value: &Value) -> Result<(), Fault> {
        let mut open: Vec<Open> = Vec::new();
        let mut value = value.clone();
        loop {
            if let Some(table) = self.value(&value, open.len() + 1)? {
                open.push(table);
            }
            match self.next(lua, &mut open)? {
                Some(next) => value = next,
                None => return Ok(()),
            }
        }
    }

    /// The next value to write, after the comma or the key before it; closes
    /// tables that have no more.
    fn next(&mut self, lua: &Lua, open: &mut Vec<Open>) -> Result<Option<Value>, Fault> {
        loop {
            match open.last_mut() {
                None => return Ok(None),
                Some(Open::List { index, length, .. }) if index == length => self.out.push(b']'),
                Some(Open::List { table, index, .. }) => {
                    if *index > 0 {
                        self.out.push(b',');
                    }
                    *index += 1;
                    return Ok(Some(table.raw_get(*index)?));
                }
                Some(Open::Object { table, key }) => {
                    let (next, value) = raw::next_pair(lua, table, key)?;
                    if !next.is_nil() {
                        if !key.is_nil() {
                            self.out.push(b',');
                        }
                        self.key(&next)?;
                        self.out.push(b':');
                        *key = next;
                        return Ok(Some(value));
                    }
                    self.out.push(b'}');
                }
            }
            open.pop();
        }
    }

    /// Writes a value, or opens the table that it is.
    fn value(&mut self, value: &Value, depth: usize) -> Result<Option<Open>, Fault> {
        self.count += 1;
        // what shares tables can be far larger than the script's memory
        if self.out.len() > self.context.memory_bytes() {
            return Err(Fault::Memory);
        }
        if self.count.is_multiple_of(POLL) && self.context.should_end() {
            return Err(Fault::Ended);
        }
        match value {
            Value::Nil => self.put("null"),
            null if *null == Value::NULL => self.put("null"),
            Value::Boolean(true) => self.put("true"),
            Value::Boolean(false) => self.put("false"),
            #[allow(clippy::cast_precision_loss, reason = "it was a double")]
            Value::Integer(number) => self.number(*number as f64)?,
            Value::Number(number) => self.number(*number)?,
            Value::String(text) => self.text(&text.as_bytes()),
            Value::Table(table) => return self.open(table, depth).map(Some),
            other => return refuse(type_name(other), "type not supported"),
        }
        Ok(None)
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: f64) -> Result<(), Fault> {
        if !number.is_finite() {
            match self.settings.encode_invalid {
                0 => return refuse("number", "must not be NaN or Inf"),
                1 if number.is_nan() => self.put("nan"),
                1 => self.put(&general(number, 14)),
                _ => self.put("null"),
            }
            return Ok(());
        }
        let precision = usize::try_from(self.settings.precision).unwrap_or(14);
        self.put(&general(number, precision));
        Ok(())
    }

    fn text(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for &byte in text {
            match byte {
                b'"' => self.put("\\\""),
                b'\\' => self.put("\\\\"),
                b'/' => self.put("\\/"),
                0x08 => self.put("\\b"),
                b'\t' => self.put("\\t"),
                b'\n' => self.put("\\n"),
                0x0c => self.put("\\f"),
                b'\r' => self.put("\\r"),
                0..0x20 | 0x7f => self.put(&format!("\\u{byte:04x}")),
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
    }

    fn open(&mut self, table: &Table, depth: usize) -> Result<Open, Fault> {
        let most = self.settings.encode_depth.min(MAX_DEPTH);
        if !i64::try_from(depth).is_ok_and(|depth| depth <= most) {
            return error(format!("Cannot serialise, excessive nesting ({depth})"));
        }
        let table = raw::behind(table)?;
        Ok(match self.list_length(&table)? {
            0 => {
                self.out.push(b'{');
                Open::Object {
                    table,
                    key: Value::Nil,
                }
            }
            length => {
                self.out.push(b'[');
                Open::List {
                    table,
                    index: 0,
                    length,
                }
            }
        })
    }

    /// The length of a table that is a list; 0 for what is an object.
    fn list_length(&self, table: &Table) -> Result<i64, Fault> {
        let (mut largest, mut items) = (0_i64, 0_i64);
        for pair in table.pairs::<Value, Value>() {
            match pair?.0 {
                Value::Integer(key @ 1..) => largest = largest.max(key),
                // too large for an integer, but whole
                Value::Number(key) if key >= 1.0 && key.fract() == 0.0 => largest = i64::MAX,
                _ => return Ok(0),
            }
            items += 1;
        }
        let settings = &self.settings;
        let sparse = settings.sparse_ratio > 0
            && largest > items.saturating_mul(settings.sparse_ratio)
            && largest > settings.sparse_safe;
        match (sparse, settings.sparse_convert) {
            (true, false) => refuse("table", "excessively sparse array"),
            (true, true) => Ok(0),
            _ => Ok(largest),
        }
    }

    fn key(&mut self, key: &Value) -> Result<(), Fault> {
        let number = match key {
            Value::String(text) => {
                self.text(&text.as_bytes());
                return Ok(());
            }
            #[allow(clippy::cast_precision_loss, reason = "it was a double")]
            Value::Integer(number) => *number as f64,
            Value::Number(number) => *number,
            other => return refuse(type_name(other), "table key must be a number or string"),
        };
        self.out.push(b'"');
        self.number(number)?;
        self.out.push(b'"');
        Ok(())
    }
}
