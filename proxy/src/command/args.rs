//! A cursor over the arguments of one command, behind its name.

use bytes::Bytes;

use super::table::{CommandSpec, MAX_KEY_BYTES};
use super::{Command, CommandError, glob};
use crate::resp::number::parse_i64;
use crate::value::Value;

/// The longest argument that can be an option, a number or a name. Above it,
/// none is made contiguous only to be refused.
const MAX_TOKEN_BYTES: u64 = MAX_KEY_BYTES as u64;

/// The arguments not looked at yet.
#[derive(Debug)]
pub struct Args {
    spec: &'static CommandSpec,
    subcommand: Value,
    rest: std::vec::IntoIter<Value>,
}

impl Args {
    /// Begins behind the name of the command, or of the subcommand.
    pub(super) fn new(spec: &'static CommandSpec, request: Vec<Value>) -> Self {
        let mut rest = request.into_iter();
        rest.next();
        let subcommand = match spec.name.contains('|') {
            true => rest.next(),
            false => None,
        };
        Self {
            spec,
            subcommand: subcommand.unwrap_or_default(),
            rest,
        }
    }

    /// Parses a container that got no subcommand (which its arity forbids).
    pub(super) fn incomplete(self) -> Result<Command, CommandError> {
        Err(self.wrong_number())
    }

    /// How many are left.
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    /// The subcommand's name, as it was sent.
    pub(super) fn subcommand(&self) -> &Value {
        &self.subcommand
    }

    /// Too few, too many, or not in pairs.
    pub(super) fn wrong_number(&self) -> CommandError {
        CommandError::Arity {
            command: self.spec.name,
        }
    }

    pub(super) fn invalid_expire(&self) -> CommandError {
        CommandError::InvalidExpire {
            command: self.spec.name,
        }
    }

    /// The same, as commands with subcommands say it.
    pub(super) fn wrong_subcommand(&self) -> CommandError {
        let (command, name) = self.spec.name.split_once('|').unwrap_or_default();
        let name = name.to_owned();
        CommandError::SubcommandArity { command, name }
    }

    /// The same, with the subcommand as it was sent.
    pub(super) fn wrong_subcommand_as_sent(&self) -> CommandError {
        let (command, _) = self.spec.name.split_once('|').unwrap_or_default();
        let name = excerpt(&self.subcommand, 128);
        CommandError::SubcommandArity { command, name }
    }

    /// The next one, whatever it is.
    pub(super) fn value(&mut self) -> Result<Value, CommandError> {
        self.rest.next().ok_or_else(|| self.wrong_number())
    }

    /// The next one is a key.
    pub(super) fn key(&mut self) -> Result<Bytes, CommandError> {
        let key = self.value()?;
        if key.len() > MAX_KEY_BYTES as u64 {
            return Err(CommandError::KeyTooLong);
        }
        Ok(key.into_contiguous())
    }

    /// All that are left are keys.
    pub(super) fn keys(&mut self) -> Result<Vec<Bytes>, CommandError> {
        (0..self.len()).map(|_| self.key()).collect()
    }

    /// The next one, in one piece.
    pub(super) fn bytes(&mut self) -> Result<Bytes, CommandError> {
        self.value().map(Value::into_contiguous)
    }

    /// All that are left, each in one piece.
    pub(super) fn all_bytes(&mut self) -> Vec<Bytes> {
        self.rest.by_ref().map(Value::into_contiguous).collect()
    }

    /// The next one is a word: an option, a name, a pattern.
    pub(super) fn token(&mut self) -> Result<Bytes, CommandError> {
        let value = self.value()?;
        if value.len() > MAX_TOKEN_BYTES {
            Err(CommandError::Syntax)
        } else {
            Ok(value.into_contiguous())
        }
    }

    /// The next one is a glob.
    pub(super) fn pattern(&mut self) -> Result<Bytes, CommandError> {
        let pattern = self.token()?;
        match glob::is_sane(&pattern) {
            true => Ok(pattern),
            false => Err(CommandError::PatternTooLong),
        }
    }

    /// All that are left are words.
    pub(super) fn tokens(&mut self) -> Result<Vec<Bytes>, CommandError> {
        (0..self.len()).map(|_| self.token()).collect()
    }

    /// All that are left.
    pub(super) fn values(&mut self) -> Vec<Value> {
        self.rest.by_ref().collect()
    }

    /// The next word, if there is one.
    pub(super) fn option(&mut self) -> Result<Option<Bytes>, CommandError> {
        if self.len() == 0 {
            Ok(None)
        } else {
            self.token().map(Some)
        }
    }

    /// The word that belongs to the option before it.
    pub(super) fn operand(&mut self) -> Result<Bytes, CommandError> {
        self.option()?.ok_or(CommandError::Syntax)
    }

    /// The next one is a number.
    pub(super) fn integer(&mut self) -> Result<i64, CommandError> {
        integer(&self.token()?)
    }

    /// The next one is one of these words; returns what belongs to it.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, CommandError> {
        let word = self.operand()?;
        choose(&word, choices).ok_or(CommandError::Syntax)
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), CommandError> {
        if self.len() == 0 {
            Ok(())
        } else {
            Err(CommandError::Syntax)
        }
    }
}

/// A number as Redis takes it: plain digits, no plus, no blanks.
pub(super) fn integer(digits: &[u8]) -> Result<i64, CommandError> {
    parse_i64(digits).ok_or(CommandError::NotAnInteger)
}

/// Whether the argument is this word, in any case.
pub(super) fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// What belongs to the word.
pub(super) fn choose<T: Copy>(word: &[u8], choices: &[(&str, T)]) -> Option<T> {
    choices
        .iter()
        .find(|(name, _)| is(word, name))
        .map(|(_, chosen)| *chosen)
}

/// The first bytes of an argument, to be quoted in an error. Like Redis, ends
/// before a zero byte; unlike Redis, is always valid UTF-8, because clients
/// decode errors as text.
pub(super) fn excerpt(arg: &Value, max_bytes: usize) -> String {
    let bytes: Vec<u8> = arg
        .segments()
        .iter()
        .flat_map(|s| s.iter().copied())
        .take(max_bytes)
        .take_while(|b| *b != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
