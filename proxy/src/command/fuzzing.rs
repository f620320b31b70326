//! What must hold for any request: called by property tests and by `fuzz/`.

use bytes::Bytes;

use super::describe::CommandQuery;
use super::table::{CommandSpec, MAX_KEY_BYTES, commands};
use super::{Command, ServerCommand, StringCommand};
use crate::resp::fuzzing::{LIMITS, drain, parse};
use crate::resp::{Limits, OutBuffer, Protocol, Reply};
use crate::value::Value;

/// Words that get a request past the first check.
pub const WORDS: &[&str] = &[
    "NX",
    "xx",
    "GT",
    "lt",
    "EX",
    "px",
    "EXAT",
    "pxat",
    "KEEPTTL",
    "get",
    "PERSIST",
    "0",
    "1",
    "-1",
    "10",
    "-0",
    "+1",
    "01",
    "1.5",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "9223372036854775",
    "9223372036854776",
    "MATCH",
    "count",
    "TYPE",
    "*",
    "",
    "k",
    "v",
    "string",
    "3",
    "AUTH",
    "SETNAME",
    "FILTERBY",
    "PATTERN",
    "module",
    "ACLCAT",
    "ID",
    "LIST",
    "INFO",
    "normal",
    "replica",
    "on",
    "OFF",
    "SKIP",
    "ASYNC",
    "sync",
    "two words",
    "line\r\nend",
    "nul\0byte",
    "default",
    "NOT",
    "xor",
    "SET",
    "incrby",
    "OVERFLOW",
    "sat",
    "i8",
    "u63",
    "u64",
    "#2",
    "BIT",
    "LEN",
    "IDX",
    "minmatchlen",
    "SAMPLES",
];

/// A request of known words: the first byte chooses the command, the second
/// perhaps its subcommand, every other an argument.
pub fn any_request(data: &[u8]) -> Vec<Value> {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let spec = commands()[usize::from(*first) % commands().len()];
    let mut request: Vec<Value> = vec![spec.name.into()];
    let mut rest = rest.iter();
    if !spec.subcommands.is_empty() {
        let sub = usize::from(*rest.next().unwrap_or(&0)) % (spec.subcommands.len() + 1);
        request.extend(
            spec.subcommands
                .get(sub)
                .map(|sub| Value::from(sub.short_name())),
        );
    }
    let word = |byte: &u8| Value::from(WORDS[usize::from(*byte) % WORDS.len()]);
    request.extend(rest.map(word));
    request
}

/// Parsing never panics, keeps to its limits, and every outcome can be told to
/// the client.
pub fn check_command(data: &[u8]) {
    check_one(any_request(data));
    let limits = Limits {
        max_small_bytes: usize::MAX,
        ..LIMITS
    };
    parse([data], limits)
        .requests
        .into_iter()
        .for_each(check_one);
}

fn check_one(request: Vec<Value>) {
    let spec = CommandSpec::of(&request);
    let error = match Command::parse(request) {
        Ok(command) => {
            assert!(spec.is_ok());
            return check_understood(&command);
        }
        Err(error) => error,
    };
    let mut out = OutBuffer::new();
    Reply::from(error).encode(Protocol::Resp2, &mut out);
    let line = drain(out);
    assert!(line.starts_with(b"-") && line.ends_with(b"\r\n"));
    assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
    assert!(line.len() < 1024, "an error quotes little: {}", line.len());
}

fn check_understood(command: &Command) {
    match command {
        Command::Server(ServerCommand::Command(query)) => check_query(query),
        Command::String(StringCommand::MGet { keys }) => keys.iter().for_each(check_key),
        Command::String(StringCommand::Set(set)) => {
            check_key(&set.key);
            // with any clock of ours, a time that Redis could hold
            let deadline = set.expiry.deadline(1 << 45, None);
            assert!(deadline.is_none_or(|at| i64::try_from(at).is_ok()));
        }
        _ => {}
    }
}

fn check_key(key: &Bytes) {
    assert!(key.len() <= MAX_KEY_BYTES);
}

fn check_query(query: &CommandQuery) {
    let Ok(reply) = query.answer() else { return };
    let mut out = OutBuffer::new();
    reply.encode(Protocol::Resp3, &mut out);
    assert!(!out.is_empty());
}
