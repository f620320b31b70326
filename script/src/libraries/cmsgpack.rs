//! `cmsgpack`: MessagePack.

use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value};

use crate::context::Context;
use crate::native::{Args, Body, Fault, Outcome, error, function, one};
use crate::raw;

/// Tables deeper than this are packed as nil.
const MAX_NESTING: usize = 16;
/// Tables unpacked deeper than this are refused.
const MAX_DEPTH: usize = 1_000;
/// Values of one call: see `raw`.
const MAX_RESULTS: usize = 4_000;
/// Values between two looks whether the script is to end.
const POLL: usize = 1_024;
const TOO_MANY: &str =
    "stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)";

/// The table.
pub(crate) fn table(lua: &Lua, context: &Arc<Context>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let functions: [(&str, Body); 4] = [
        ("pack", pack),
        ("unpack", unpack_all),
        ("unpack_one", unpack_one),
        ("unpack_limit", unpack_limit),
    ];
    for (name, body) in functions {
        library.raw_set(name, function(lua, context, body)?)?;
    }
    library.raw_set("_NAME", "cmsgpack")?;
    library.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    library.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    library.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(library)
}

fn pack(lua: &Lua, context: &Context, args: Args) -> Outcome {
    if args.len() == 0 {
        return Err(Fault::Argument(0, "MessagePack pack needs input.".into()));
    }
    let mut packer = Packer {
        out: Vec::new(),
        count: 0,
        context,
    };
    for value in &args.0 {
        packer.value(value, 0)?;
    }
    one(Value::String(lua.create_string(&packer.out)?))
}

struct Packer<'a> {
    out: Vec<u8>,
    count: usize,
    context: &'a Context,
}

impl Packer<'_> {
    fn value(&mut self, value: &Value, level: usize) -> Result<(), Fault> {
        self.count += 1;
        if self.out.len() > self.context.memory_bytes() {
            return Err(Fault::Memory);
        }
        if self.count.is_multiple_of(POLL) && self.context.should_end() {
            return Err(Fault::Ended);
        }
        match value {
            Value::String(text) => self.text(&text.as_bytes()),
            Value::Boolean(truth) => self.out.push(if *truth { 0xc3 } else { 0xc2 }),
            Value::Integer(number) => self.integer(*number),
            Value::Number(number) => self.number(*number),
            Value::Table(table) if level < MAX_NESTING => self.table(table, level)?,
            _ => self.out.push(0xc0),
        }
        Ok(())
    }

    fn head(&mut self, head: u8, rest: &[u8]) {
        self.out.push(head);
        self.out.extend_from_slice(rest);
    }

    fn text(&mut self, text: &[u8]) {
        let len = text.len();
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(len @ ..32), _) => self.out.push(0xa0 | len),
            (Ok(len), _) => self.head(0xd9, &[len]),
            (_, Ok(len)) => self.head(0xda, &len.to_be_bytes()),
            _ => self.head(0xdb, &(len as u32).to_be_bytes()),
        }
        self.out.extend_from_slice(text);
    }

    fn number(&mut self, number: f64) {
        let whole = number as i64;
        #[allow(clippy::cast_precision_loss, reason = "compares what C compares")]
        let same = whole as f64 == number && number < 9_223_372_036_854_775_808.0;
        let single = number as f32;
        if same {
            self.integer(whole);
        } else if f64::from(single) == number {
            self.head(0xca, &single.to_be_bytes());
        } else {
            self.head(0xcb, &number.to_be_bytes());
        }
    }

    fn integer(&mut self, number: i64) {
        if let Ok(number) = u64::try_from(number) {
            match (
                u8::try_from(number),
                u16::try_from(number),
                u32::try_from(number),
            ) {
                (Ok(number @ ..128), ..) => self.out.push(number),
                (Ok(number), ..) => self.head(0xcc, &[number]),
                (_, Ok(number), _) => self.head(0xcd, &number.to_be_bytes()),
                (.., Ok(number)) => self.head(0xce, &number.to_be_bytes()),
                _ => self.head(0xcf, &number.to_be_bytes()),
            }
            return;
        }
        match (
            i8::try_from(number),
            i16::try_from(number),
            i32::try_from(number),
        ) {
            (Ok(number @ -32..), ..) => self.out.push(number.cast_unsigned()),
            (Ok(number), ..) => self.head(0xd0, &number.to_be_bytes()),
            (_, Ok(number), _) => self.head(0xd1, &number.to_be_bytes()),
            (.., Ok(number)) => self.head(0xd2, &number.to_be_bytes()),
            _ => self.head(0xd3, &number.to_be_bytes()),
        }
    }

    /// The head of a list or a map, of which 15 entries fit into one byte.
    fn entries(&mut self, small: u8, large: u8, count: usize) {
        match (u8::try_from(count), u16::try_from(count)) {
            (Ok(count @ ..16), _) => self.out.push(small | count),
            (_, Ok(count)) => self.head(large, &count.to_be_bytes()),
            _ => self.head(large + 1, &(count as u32).to_be_bytes()),
        }
    }

    fn table(&mut self, table: &Table, level: usize) -> Result<(), Fault> {
        let table = &raw::behind(table)?;
        let (count, list) = shape(table)?;
        if list {
            self.entries(0x90, 0xdc, count);
            for index in 1..=count {
                self.value(&table.raw_get(index)?, level + 1)?;
            }
        } else {
            self.entries(0x80, 0xde, count);
            for pair in table.pairs::<Value, Value>() {
                let (key, value) = pair?;
                self.value(&key, level + 1)?;
                self.value(&value, level + 1)?;
            }
        }
        Ok(())
    }
}

/// How many entries a table has, and whether its keys are 1 to that number.
fn shape(table: &Table) -> Result<(usize, bool), Fault> {
    let (mut count, mut largest, mut list) = (0_usize, 0, true);
    for pair in table.pairs::<Value, Value>() {
        count += 1;
        match pair?.0 {
            Value::Integer(key @ 1..=0x7fff_ffff) => largest = largest.max(key),
            _ => list = false,
        }
    }
    Ok((count, list && usize::try_from(largest) == Ok(count)))
}

fn unpack_all(lua: &Lua, context: &Context, args: Args) -> Outcome {
    unpack(lua, context, &args, 0, 0)
}

fn unpack_one(lua: &Lua, context: &Context, args: Args) -> Outcome {
    let offset = args.integer_or(lua, 2, 0)?;
    unpack(lua, context, &args, 1, offset)
}

fn unpack_limit(lua: &Lua, context: &Context, args: Args) -> Outcome {
    let limit = args.integer(lua, 2)?;
    let offset = args.integer_or(lua, 3, 0)?;
    unpack(lua, context, &args, limit, offset)
}

fn unpack(lua: &Lua, context: &Context, args: &Args, limit: i64, offset: i64) -> Outcome {
    let input = args.string(lua, 1)?;
    let input = input.as_bytes();
    let len = input.len();
    let (Ok(limit), Ok(start)) = (usize::try_from(limit), usize::try_from(offset)) else {
        return error(format!(
            "Invalid request to unpack with offset of {offset} and limit of {len}."
        ));
    };
    if start > len {
        return error(format!(
            "Start offset {offset} greater than input length {len}."
        ));
    }
    let all = limit == 0 && start == 0;
    let mut unpacker = Unpacker {
        rest: &input[start..],
        count: 0,
        context,
    };
    let mut results = Vec::new();
    while !unpacker.rest.is_empty() && (all || results.len() < limit) {
        if results.len() >= MAX_RESULTS {
            return error(TOO_MANY);
        }
        results.push(unpacker.value(lua)?);
    }
    let mut results = MultiValue::from_vec(results);
    if !all {
        let next = if unpacker.rest.is_empty() {
            -1
        } else {
            i64::try_from(len - unpacker.rest.len()).unwrap_or(-1)
        };
        results.push_front(Value::Integer(next));
    }
    Ok(results)
}

/// A table that is being filled.
struct Open {
    table: Table,
    left: usize,
    /// In a map, the key whose value is next.
    key: Option<Value>,
    map: bool,
    index: usize,
}

/// A value, or the beginning of a list or a map of so many entries.
enum Token {
    Value(Value),
    List(usize),
    Map(usize),
}

struct Unpacker<'a> {
    rest: &'a [u8],
    count: usize,
    context: &'a Context,
}

impl Unpacker<'_> {
    /// One value, however deep: open tables are on a list of their own, not on
    /// the thread's stack.
    fn value(&mut self, lua: &Lua) -> Result<Value, Fault> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.count += 1;
            if self.count.is_multiple_of(POLL) && self.context.should_end() {
                return Err(Fault::Ended);
            }
            let (map, left) = match self.token(lua)? {
                Token::Value(value) => match attach(lua, &mut open, value)? {
                    Some(whole) => return Ok(whole),
                    None => continue,
                },
                Token::List(count) => (false, count),
                Token::Map(count) => (true, count),
            };
            let table = lua.create_table()?;
            if left == 0 {
                match attach(lua, &mut open, Value::Table(table))? {
                    Some(whole) => return Ok(whole),
                    None => continue,
                }
            }
            if open.len() == MAX_DEPTH {
                return error(TOO_MANY);
            }
            open.push(Open {
                table,
                left,
                key: None,
                map,
                index: 1,
            });
        }
    }

    fn bytes(&mut self, count: usize) -> Result<&[u8], Fault> {
        match self.rest.split_at_checked(count) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => error("Missing bytes in input."),
        }
    }

    /// A big-endian number of `count` bytes.
    fn unsigned(&mut self, count: usize) -> Result<u64, Fault> {
        Ok(self
            .bytes(count)?
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    fn signed(&mut self, count: usize) -> Result<i64, Fault> {
        let unused = 64 - 8 * count;
        Ok((self.unsigned(count)? << unused).cast_signed() >> unused)
    }

    fn len(&mut self, count: usize) -> Result<usize, Fault> {
        Ok(usize::try_from(self.unsigned(count)?).unwrap_or(usize::MAX))
    }

    fn text(&mut self, lua: &Lua, len: usize) -> Result<Value, Fault> {
        Ok(Value::String(lua.create_string(self.bytes(len)?)?))
    }

    #[allow(clippy::cast_precision_loss, reason = "Lua 5.1 has doubles only")]
    fn token(&mut self, lua: &Lua) -> Result<Token, Fault> {
        let number = |number: i64| Value::Number(number as f64);
        let head = self.bytes(1)?[0];
        Ok(Token::Value(match head {
            0x00..=0x7f => number(head.into()),
            0x80..=0x8f => return Ok(Token::Map((head & 0xf).into())),
            0x90..=0x9f => return Ok(Token::List((head & 0xf).into())),
            0xa0..=0xbf => self.text(lua, (head & 0x1f).into())?,
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Boolean(head == 0xc3),
            0xca => Value::Number(f32::from_bits(self.unsigned(4)? as u32).into()),
            0xcb => Value::Number(f64::from_bits(self.unsigned(8)?)),
            0xcc => number(self.unsigned(1)?.cast_signed()),
            0xcd => number(self.unsigned(2)?.cast_signed()),
            0xce => number(self.unsigned(4)?.cast_signed()),
            // beyond 2^63, negative, as in Redis
            0xcf => number(self.unsigned(8)?.cast_signed()),
            0xd0 => number(self.signed(1)?),
            0xd1 => number(self.signed(2)?),
            0xd2 => number(self.signed(4)?),
            0xd3 => number(self.signed(8)?),
            0xd9..=0xdb => {
                let len = self.len(1 << (head - 0xd9))?;
                self.text(lua, len)?
            }
            0xdc | 0xdd => return Ok(Token::List(self.len(2 << (head - 0xdc))?)),
            0xde | 0xdf => return Ok(Token::Map(self.len(2 << (head - 0xde))?)),
            0xe0..=0xff => number(head.cast_signed().into()),
            _ => return error("Bad data format in input."),
        }))
    }
}

/// Puts a value into the innermost open table, and closes what is full.
fn attach(lua: &Lua, open: &mut Vec<Open>, mut value: Value) -> Result<Option<Value>, Fault> {
    loop {
        let Some(innermost) = open.last_mut() else {
            return Ok(Some(value));
        };
        if innermost.map && innermost.key.is_none() {
            innermost.key = Some(value);
            return Ok(None);
        }
        match innermost.key.take() {
            Some(Value::Nil) => return no_key(lua, "table index is nil"),
            Some(Value::Number(key)) if key.is_nan() => return no_key(lua, "table index is NaN"),
            Some(key) => innermost.table.raw_set(key, value)?,
            None => innermost.table.raw_set(innermost.index, value)?,
        }
        innermost.index += 1;
        innermost.left -= 1;
        if innermost.left > 0 {
            return Ok(None);
        }
        let Some(full) = open.pop() else {
            return Ok(None);
        };
        value = Value::Table(full.table);
    }
}

/// Lua's own error, which has no place in it.
fn no_key<T>(lua: &Lua, text: &str) -> Result<T, Fault> {
    Err(Fault::Value(Value::String(lua.create_string(text)?)))
}
