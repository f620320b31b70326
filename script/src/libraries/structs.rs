//! `struct`: values as C's structures have them.

use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value};

use crate::context::Context;
use crate::native::{
    Args, Body, Fault, Outcome, as_number, error, function, one, truncated_unsigned,
};

/// Bytes of the largest whole number.
const MAX_INT: usize = 32;
/// What `!` aligns to without a number: a double.
const MAX_ALIGN: usize = 8;
/// Values of one call: see `raw`.
const MAX_RESULTS: usize = 4_000;

/// The table.
pub(crate) fn table(lua: &Lua, context: &Arc<Context>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let functions: [(&str, Body); 3] = [("pack", pack), ("unpack", unpack), ("size", size)];
    for (name, body) in functions {
        library.raw_set(name, function(lua, context, body)?)?;
    }
    Ok(library)
}

/// One item of a format.
struct Item {
    option: u8,
    /// Bytes that it takes; 0 where the value says it.
    size: usize,
    /// Bytes to skip before it.
    padding: usize,
}

/// Reads a format.
struct Format<'a> {
    rest: &'a [u8],
    big: bool,
    align: usize,
}

impl<'a> Format<'a> {
    fn new(format: &'a [u8]) -> Self {
        let end = format
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(format.len());
        Self {
            rest: &format[..end],
            big: cfg!(target_endian = "big"),
            align: 1,
        }
    }

    /// A number, or `default` if there is none.
    fn number(&mut self, default: usize) -> Result<usize, Fault> {
        let count = self
            .rest
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if count == 0 {
            return Ok(default);
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        let number = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse::<i32>().ok());
        match number.and_then(|number| usize::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => error("integral size overflow"),
        }
    }

    /// The next item for a value at `position`.
    fn next(&mut self, position: usize) -> Result<Option<Item>, Fault> {
        let Some((&option, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let size = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > MAX_INT {
                    return error(format!(
                        "integral size {size} is larger than limit of {MAX_INT}"
                    ));
                }
                size
            }
            _ => 0,
        };
        let padding = if size == 0 || option == b'c' {
            0
        } else {
            let align = size.min(self.align);
            align.wrapping_sub(position & align.wrapping_sub(1)) & align.wrapping_sub(1)
        };
        Ok(Some(Item {
            option,
            size,
            padding,
        }))
    }

    /// What is no value: byte order and alignment.
    fn control(&mut self, option: u8) -> Result<(), Fault> {
        match option {
            b' ' => {}
            b'>' => self.big = true,
            b'<' => self.big = false,
            b'!' => {
                let align = self.number(MAX_ALIGN)?;
                if !align.is_power_of_two() {
                    return error(format!("alignment {align} is not a power of 2"));
                }
                self.align = align;
            }
            other => {
                let other = char::from(other);
                return Err(Fault::Argument(
                    1,
                    format!("invalid format option '{other}'"),
                ));
            }
        }
        Ok(())
    }
}

/// Bytes in the order that is asked for, from the lowest first.
fn ordered(mut bytes: Vec<u8>, big: bool) -> Vec<u8> {
    if big {
        bytes.reverse();
    }
    bytes
}

fn pack(lua: &Lua, context: &Context, mut args: Args) -> Outcome {
    let format = args.string(lua, 1)?;
    // the first that is missing counts as nil
    args.0.push_back(Value::Nil);
    let format = format.as_bytes();
    let mut format = Format::new(&format);
    let mut out: Vec<u8> = Vec::new();
    let mut argument = 2;
    while let Some(item) = format.next(out.len())? {
        out.resize(out.len() + item.padding, 0);
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let number = args.number(lua, argument)?;
                let value = if number < 0.0 {
                    (number as i64).cast_unsigned()
                } else {
                    number as u64
                };
                let mut bytes = value.to_le_bytes().to_vec();
                bytes.resize(item.size, 0);
                out.extend(ordered(bytes, format.big));
                argument += 1;
            }
            b'x' => out.push(0),
            b'f' => {
                let number = args.number(lua, argument)? as f32;
                out.extend(ordered(number.to_le_bytes().to_vec(), format.big));
                argument += 1;
            }
            b'd' => {
                let number = args.number(lua, argument)?;
                out.extend(ordered(number.to_le_bytes().to_vec(), format.big));
                argument += 1;
            }
            b'c' | b's' => {
                let text = args.string(lua, argument)?;
                argument += 1;
                let text = text.as_bytes();
                let size = if item.size == 0 {
                    text.len()
                } else {
                    item.size
                };
                let Some(part) = text.get(..size) else {
                    return Err(Fault::Argument(argument, "string too short".into()));
                };
                if out.len() + size > context.memory_bytes() {
                    return Err(Fault::Memory);
                }
                out.extend_from_slice(part);
                if item.option == b's' {
                    out.push(0);
                }
            }
            other => format.control(other)?,
        }
    }
    one(Value::String(lua.create_string(&out)?))
}

/// A whole number of any of the sizes; of more than 8 bytes, the lowest count.
#[allow(clippy::cast_precision_loss, reason = "Lua 5.1 has doubles only")]
fn integer(bytes: &[u8], big: bool, signed: bool) -> f64 {
    let push = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
    let value = if big {
        bytes.iter().fold(0, push)
    } else {
        bytes.iter().rev().fold(0, push)
    };
    if !signed {
        return value as f64;
    }
    let bits = u32::try_from(bytes.len() * 8).unwrap_or_default();
    let sign = u64::MAX.wrapping_shl(bits.wrapping_sub(1));
    let value = if value & sign == 0 {
        value
    } else {
        value | sign
    };
    value.cast_signed() as f64
}

fn unpack(lua: &Lua, _: &Context, args: Args) -> Outcome {
    let format = args.string(lua, 1)?;
    let format = format.as_bytes();
    let data = args.string(lua, 2)?;
    let data = data.as_bytes();
    let from = args.integer_or(lua, 3, 1)?;
    let mut format = Format::new(&format);
    if from == 0 {
        return Err(Fault::Argument(3, "offset must be 1 or greater".into()));
    }
    // before the beginning is behind any end
    let mut position = usize::try_from(from).map_or(usize::MAX, |from| from - 1);
    let mut results = Vec::new();
    while let Some(item) = format.next(position)? {
        position = position.saturating_add(item.padding);
        let part = |size: usize| {
            let end = position.checked_add(size);
            let part = end.and_then(|end| data.get(position..end));
            part.ok_or_else(|| Fault::Argument(2, "data string too short".into()))
        };
        let bytes = part(item.size)?;
        let mut size = item.size;
        if results.len() >= MAX_RESULTS {
            return error("stack overflow (too many results)");
        }
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let signed = item.option.is_ascii_lowercase();
                results.push(Value::Number(integer(bytes, format.big, signed)));
            }
            b'x' => {}
            b'f' => {
                let bytes = ordered(bytes.to_vec(), format.big)
                    .try_into()
                    .unwrap_or_default();
                results.push(Value::Number(f32::from_le_bytes(bytes).into()));
            }
            b'd' => {
                let bytes = ordered(bytes.to_vec(), format.big)
                    .try_into()
                    .unwrap_or_default();
                results.push(Value::Number(f64::from_le_bytes(bytes)));
            }
            b'c' => {
                if size == 0 {
                    let before = results
                        .last()
                        .map(|value| as_number(lua, value))
                        .transpose()?;
                    let Some(Some(before)) = before else {
                        return error("format 'c0' needs a previous size");
                    };
                    results.pop();
                    size = usize::try_from(truncated_unsigned(before)).unwrap_or(usize::MAX);
                }
                results.push(Value::String(lua.create_string(part(size)?)?));
            }
            b's' => {
                let rest = data.get(position..).unwrap_or_default();
                let Some(end) = rest.iter().position(|&byte| byte == 0) else {
                    return error("unfinished string in data");
                };
                size = end + 1;
                results.push(Value::String(lua.create_string(&rest[..end])?));
            }
            other => format.control(other)?,
        }
        position = position.saturating_add(size);
    }
    results.push(Value::Integer(
        i64::try_from(position.saturating_add(1)).unwrap_or(i64::MAX),
    ));
    Ok(MultiValue::from_vec(results))
}

fn size(lua: &Lua, _: &Context, args: Args) -> Outcome {
    let format = args.string(lua, 1)?;
    let format = format.as_bytes();
    let mut format = Format::new(&format);
    let mut position = 0_usize;
    while let Some(item) = format.next(position)? {
        match item.option {
            b's' => return Err(Fault::Argument(1, "option 's' has no fixed size".into())),
            b'c' if item.size == 0 => {
                return Err(Fault::Argument(1, "option 'c0' has no fixed size".into()));
            }
            other if !other.is_ascii_alphanumeric() => format.control(other)?,
            _ => {}
        }
        position = position
            .saturating_add(item.padding)
            .saturating_add(item.size);
    }
    one(Value::Integer(i64::try_from(position).unwrap_or(i64::MAX)))
}
