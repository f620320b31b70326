//! `bit`: 32-bit operations.

use std::sync::Arc;

use mlua::{Lua, Table, Value};

use crate::context::Context;
use crate::native::{Args, Body, Fault, Outcome, function, one};

/// Adding it leaves the number's low 32 bits in the low bits of the mantissa,
/// rounded to the nearest even: 2^52 + 2^51.
const SHIFT: f64 = 6_755_399_441_055_744.0;

/// The table.
pub(crate) fn table(lua: &Lua, context: &Arc<Context>) -> mlua::Result<Table> {
    let bit = lua.create_table()?;
    let functions: [(&str, Body); 12] = [
        ("tobit", |lua, _, args| signed(bits(&args, lua, 1)?)),
        ("bnot", |lua, _, args| signed(!bits(&args, lua, 1)?)),
        ("band", |lua, _, args| {
            all(lua, &args, |left, right| left & right)
        }),
        ("bor", |lua, _, args| {
            all(lua, &args, |left, right| left | right)
        }),
        ("bxor", |lua, _, args| {
            all(lua, &args, |left, right| left ^ right)
        }),
        ("lshift", |lua, _, args| {
            shift(lua, &args, |bits, by| bits << by)
        }),
        ("rshift", |lua, _, args| {
            shift(lua, &args, |bits, by| bits >> by)
        }),
        ("arshift", |lua, _, args| {
            shift(lua, &args, |bits, by| {
                (bits.cast_signed() >> by).cast_unsigned()
            })
        }),
        ("rol", |lua, _, args| shift(lua, &args, u32::rotate_left)),
        ("ror", |lua, _, args| shift(lua, &args, u32::rotate_right)),
        ("bswap", |lua, _, args| {
            signed(bits(&args, lua, 1)?.swap_bytes())
        }),
        ("tohex", hex),
    ];
    for (name, body) in functions {
        bit.raw_set(name, function(lua, context, body)?)?;
    }
    Ok(bit)
}

fn bits(args: &Args, lua: &Lua, number: usize) -> Result<u32, Fault> {
    let shifted = args.number(lua, number)? + SHIFT;
    // the low half
    Ok(shifted.to_bits() as u32)
}

fn signed(bits: u32) -> Outcome {
    one(Value::Integer(bits.cast_signed().into()))
}

fn all(lua: &Lua, args: &Args, combine: fn(u32, u32) -> u32) -> Outcome {
    let mut result = bits(args, lua, 1)?;
    for number in (2..=args.len()).rev() {
        result = combine(result, bits(args, lua, number)?);
    }
    signed(result)
}

fn shift(lua: &Lua, args: &Args, by: fn(u32, u32) -> u32) -> Outcome {
    signed(by(bits(args, lua, 1)?, bits(args, lua, 2)? & 31))
}

fn hex(lua: &Lua, _: &Context, args: Args) -> Outcome {
    let value = bits(&args, lua, 1)?;
    let digits = if args.len() < 2 {
        8
    } else {
        bits(&args, lua, 2)?.cast_signed()
    };
    let count = digits.unsigned_abs().min(8) as usize;
    let all = if digits < 0 {
        format!("{value:08X}")
    } else {
        format!("{value:08x}")
    };
    one(Value::String(lua.create_string(&all[8 - count..])?))
}
