//! LCS, understood.

use bytes::Bytes;

use super::args::{Args, integer, is};
use super::{Command, CommandError, StringCommand};

/// The longest common subsequence of two values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lcs {
    /// Of these keys.
    pub keys: [Bytes; 2],
    /// What is returned. What is wrong with it matters only if both are strings.
    pub answer: Result<LcsAnswer, CommandError>,
}

/// What LCS returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LcsAnswer {
    /// The subsequence.
    Bytes,
    /// LEN: its length.
    Length,
    /// IDX: where it is in either value.
    Matches {
        /// MINMATCHLEN: shorter matches are left out.
        least: u64,
        /// WITHMATCHLEN: the length of each is told.
        with_lengths: bool,
    },
}

pub(super) fn lcs(mut args: Args) -> Result<Command, CommandError> {
    let keys = [args.key()?, args.key()?];
    let answer = answer(&mut args);
    Ok(Command::String(StringCommand::Lcs(Lcs { keys, answer })))
}

fn answer(args: &mut Args) -> Result<LcsAnswer, CommandError> {
    let (mut has_len, mut has_idx, mut with_lengths, mut least) = (false, false, false, 0);
    while let Some(option) = args.option()? {
        match &option[..] {
            o if is(o, "IDX") => has_idx = true,
            o if is(o, "LEN") => has_len = true,
            o if is(o, "WITHMATCHLEN") => with_lengths = true,
            o if is(o, "MINMATCHLEN") => {
                least = u64::try_from(integer(&args.operand()?)?).unwrap_or(0);
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(match (has_idx, has_len) {
        (true, true) => return Err(CommandError::LcsLengthAndMatches),
        (true, false) => LcsAnswer::Matches {
            least,
            with_lengths,
        },
        (false, true) => LcsAnswer::Length,
        (false, false) => LcsAnswer::Bytes,
    })
}
