//! SETBIT, BITFIELD and their relatives: strings as rows of bits.

use bytes::Bytes;
use scatterhoard_wire::limits::MAX_OBJECT_BYTES;

use super::args::{Args, choose, integer, is};
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};
use crate::resp::number::parse_i64;
use crate::strings::{
    bitfield::{Action, Format, Overflow, Step},
    bits::{BitRange, Operation, Unit},
};
use crate::value::Value;

/// A command about bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BitCommand {
    /// GETBIT, SETBIT, BITFIELD, BITFIELD_RO.
    Fields(Fields),
    /// BITCOUNT: how many bits are set.
    Count {
        /// Of this key.
        key: Bytes,
        /// Among these. What is wrong with it matters only if there is such a key.
        range: Result<BitRange, CommandError>,
    },
    /// BITPOS: the first bit that is so, or -1.
    Position {
        /// Of this key.
        key: Bytes,
        /// Set, or clear.
        bit: bool,
        /// Among these. What is wrong with it matters only if there is such a key.
        range: Result<BitRange, CommandError>,
    },
    /// BITOP: the length of what is stored.
    Combine {
        /// How.
        operation: Operation,
        /// The key that is overwritten.
        to: Bytes,
        /// At least one; just one for NOT.
        from: Vec<Bytes>,
    },
}

/// Integers in a value that are returned, overwritten, added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The key.
    pub key: Bytes,
    /// In order.
    pub steps: Vec<Step>,
    /// Whether the reply is the only step's number, and no array.
    pub is_single: bool,
}

const READ: &[&str] = &["RO", "access"];
const RW: &[&str] = &["RW", "access", "update"];

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::Bitmap, parse)
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    spec("setbit", 4, WRITE | DENYOOM, setbit)
        .keys(1, 1, RW)
        .doc("2.2.0", "Sets or clears one bit of a value."),
    spec("getbit", 3, READONLY | FAST, getbit)
        .keys(1, 1, READ)
        .doc("2.2.0", "Returns one bit of a value."),
    spec("bitcount", -2, READONLY, bitcount)
        .keys(1, 1, READ)
        .doc("2.6.0", "Counts the bits of a value that are set."),
    spec("bitpos", -3, READONLY, bitpos)
        .keys(1, 1, READ)
        .doc("2.8.7", "Finds the first bit that is set, or clear."),
    spec("bitop", -4, WRITE | DENYOOM, bitop)
        .keys(-1, 1, &["OW", "update"])
        .first_key(2)
        .second_key(READ)
        .doc(
            "2.6.0",
            "Combines values bit by bit, and stores the result.",
        ),
    spec("bitfield", -2, WRITE | DENYOOM, |args| {
        bitfield(args, false)
    })
    .keys(1, 1, &["RW", "access", "update", "variable_flags"])
    .keys_note("This command allows both access and modification of the key")
    .doc(
        "3.2.0",
        "Reads and changes integers of any width in a value.",
    ),
    spec("bitfield_ro", -2, READONLY | FAST, |args| {
        bitfield(args, true)
    })
    .keys(1, 1, READ)
    .doc("6.0.0", "Reads integers of any width in a value."),
];

fn command(command: BitCommand) -> Result<Command, CommandError> {
    Ok(Command::Bit(command))
}

fn fields(key: Bytes, steps: Vec<Step>, is_single: bool) -> Result<Command, CommandError> {
    command(BitCommand::Fields(Fields {
        key,
        steps,
        is_single,
    }))
}

/// A bit's place: `n`, or `#n` for the n-th integer of this width. The server may
/// allow fewer.
fn offset(text: &[u8], width: Option<u8>) -> Result<u64, CommandError> {
    let (digits, width) = match (text.split_first(), width) {
        (Some((b'#', digits)), Some(width)) => (digits, i64::from(width)),
        _ => (text, 1),
    };
    let place = parse_i64(digits).and_then(|n| n.checked_mul(width));
    let place = place.and_then(|n| u64::try_from(n).ok());
    let place = place.filter(|n| n / 8 < MAX_OBJECT_BYTES);
    place.ok_or(CommandError::BitOffset)
}

fn one_bit(offset: u64, action: Action) -> Vec<Step> {
    vec![Step {
        format: Format::BIT,
        offset,
        action,
        overflow: Overflow::Wrap,
    }]
}

fn getbit(mut args: Args) -> Result<Command, CommandError> {
    let (key, offset) = (args.key()?, offset(&args.token()?, None)?);
    fields(key, one_bit(offset, Action::Get), true)
}

fn setbit(mut args: Args) -> Result<Command, CommandError> {
    let (key, offset) = (args.key()?, offset(&args.token()?, None)?);
    let bit = parse_i64(&args.token()?).filter(|bit| matches!(bit, 0 | 1));
    let bit = bit.ok_or(CommandError::Bit)?;
    fields(key, one_bit(offset, Action::Set(bit)), true)
}

const UNITS: [(&str, Unit); 2] = [("BIT", Unit::Bit), ("BYTE", Unit::Byte)];

fn bitcount(mut args: Args) -> Result<Command, CommandError> {
    let key = args.key()?;
    let range = counted(&mut args);
    command(BitCommand::Count { key, range })
}

fn counted(args: &mut Args) -> Result<BitRange, CommandError> {
    let rest = args.tokens()?;
    let (start, end, unit) = match &rest[..] {
        [] => return Ok(BitRange::ALL),
        [start, end] => (start, end, None),
        [start, end, unit] => (start, end, Some(unit)),
        _ => return Err(CommandError::Syntax),
    };
    let (start, end) = (integer(start)?, integer(end)?);
    if start < 0 && end < 0 && start > end {
        // whatever the unit is
        return Ok(NOTHING);
    }
    let unit = match unit {
        Some(unit) => choose(unit, &UNITS).ok_or(CommandError::Syntax)?,
        None => Unit::Byte,
    };
    let end = Some(end);
    Ok(BitRange { start, end, unit })
}

/// Ends before it begins, in values of any length.
const NOTHING: BitRange = BitRange {
    start: i64::MAX,
    end: Some(0),
    unit: Unit::Byte,
};

fn bitpos(mut args: Args) -> Result<Command, CommandError> {
    let (key, bit) = (args.key()?, args.integer()?);
    let bit = match bit {
        0 => false,
        1 => true,
        _ => return Err(CommandError::BitWanted),
    };
    let range = searched(&mut args);
    command(BitCommand::Position { key, bit, range })
}

fn searched(args: &mut Args) -> Result<BitRange, CommandError> {
    let rest = args.tokens()?;
    if rest.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let start = rest.first().map_or(Ok(0), |start| integer(start))?;
    let unit = match rest.get(2) {
        Some(unit) => choose(unit, &UNITS).ok_or(CommandError::Syntax)?,
        None => Unit::Byte,
    };
    let end = rest.get(1).map(|end| integer(end)).transpose()?;
    Ok(BitRange { start, end, unit })
}

fn bitop(mut args: Args) -> Result<Command, CommandError> {
    let operation = args.one_of(&[
        ("AND", Operation::And),
        ("OR", Operation::Or),
        ("XOR", Operation::Xor),
        ("NOT", Operation::Not),
    ])?;
    if operation == Operation::Not && args.len() != 2 {
        return Err(CommandError::BitopNot);
    }
    let (to, from) = (args.key()?, args.keys()?);
    command(BitCommand::Combine {
        operation,
        to,
        from,
    })
}

/// Whether BITFIELD changes nothing, as Redis finds out for its ACLs.
pub(super) fn only_reads(request: &[Value]) -> bool {
    let mut rest = request.get(2..).unwrap_or_default();
    while let [word, more @ ..] = rest {
        let [word] = word.segments() else {
            return false;
        };
        rest = match more {
            [_, _, rest @ ..] if is(word, "GET") => rest,
            [_, rest @ ..] if is(word, "OVERFLOW") => rest,
            _ => return false,
        };
    }
    true
}

fn bitfield(mut args: Args, reads_only: bool) -> Result<Command, CommandError> {
    let key = args.key()?;
    let (mut steps, mut overflow) = (Vec::new(), Overflow::Wrap);
    while let Some(word) = args.option()? {
        // an operation that misses an argument is none
        let has = |more| args.len() >= more;
        if is(&word, "OVERFLOW") && has(1) {
            let choices = [
                ("WRAP", Overflow::Wrap),
                ("SAT", Overflow::Saturate),
                ("FAIL", Overflow::Fail),
            ];
            overflow = choose(&args.token()?, &choices).ok_or(CommandError::OverflowType)?;
            continue;
        }
        let action: fn(i64) -> Action = match () {
            () if is(&word, "GET") && has(2) => |_| Action::Get,
            () if is(&word, "SET") && has(3) => Action::Set,
            () if is(&word, "INCRBY") && has(3) => Action::Add,
            () => return Err(CommandError::Syntax),
        };
        let format = Format::parse(&args.token()?).ok_or(CommandError::BitfieldType)?;
        let offset = offset(&args.token()?, Some(format.bits))?;
        let number = match action(0) {
            Action::Get => 0,
            Action::Set(_) | Action::Add(_) => args.integer()?,
        };
        steps.push(Step {
            format,
            offset,
            action: action(number),
            overflow,
        });
    }
    if reads_only && steps.iter().any(Step::writes) {
        return Err(CommandError::BitfieldReadOnly);
    }
    fields(key, steps, false)
}
