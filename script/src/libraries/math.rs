//! `math.random` and `math.randomseed`.

use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value};

use crate::context::Context;
use crate::native::{Args, Fault, Outcome, error, function, number_value, one};

/// Replaces them in the real table.
pub(crate) fn install(lua: &Lua, math: &Table, context: &Arc<Context>) -> mlua::Result<()> {
    math.raw_set("random", function(lua, context, random)?)?;
    math.raw_set("randomseed", function(lua, context, seed)?)
}

/// A whole number as C's int has it.
fn int(args: &Args, lua: &Lua, number: usize) -> Result<i32, Fault> {
    let whole = args.integer(lua, number)?;
    // what C keeps of it
    Ok(whole as i32)
}

fn random(lua: &Lua, context: &Context, args: Args) -> Outcome {
    let drawn = context.run().random.next();
    let (low, high) = match args.len() {
        0 => return one(Value::Number(drawn)),
        1 => (1, int(&args, lua, 1)?),
        2 => (int(&args, lua, 1)?, int(&args, lua, 2)?),
        _ => return error("wrong number of arguments"),
    };
    if low > high {
        return Err(Fault::Argument(args.len(), "interval is empty".into()));
    }
    let span = f64::from(high) - f64::from(low) + 1.0;
    one(number_value((drawn * span).floor() + f64::from(low)))
}

fn seed(lua: &Lua, context: &Context, args: Args) -> Outcome {
    let seed = int(&args, lua, 1)?;
    context.run().random.seed(seed);
    Ok(MultiValue::new())
}
