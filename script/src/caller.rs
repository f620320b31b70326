//! What a script needs from whoever runs it.

use bytes::Bytes;

use crate::reply::Reply;

/// One command that a script runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The command's name and its arguments; never empty.
    pub args: Vec<Bytes>,
    /// The script asked for RESP3 (`redis.setresp(3)`). Without it, RESP3 kinds
    /// in the reply are given to the script as RESP2 has them.
    pub resp3: bool,
    /// The script may not write: commands that do are to be refused with Redis's
    /// `ERR Write commands are not allowed from read-only scripts.`
    pub read_only: bool,
}

/// How important a line is that a script logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `redis.LOG_DEBUG`
    Debug,
    /// `redis.LOG_VERBOSE`
    Verbose,
    /// `redis.LOG_NOTICE`
    Notice,
    /// `redis.LOG_WARNING`
    Warning,
}

/// Runs commands on behalf of a script, on the script's own thread; may block.
pub trait Caller {
    /// Runs a command. What it refuses (unknown, wrong number of arguments, not
    /// allowed in scripts) is a [`Reply::Error`] too, in Redis's words.
    fn call(&mut self, call: Call) -> Reply;

    /// The script logs a line.
    fn log(&mut self, level: LogLevel, text: &[u8]);

    /// Whether the user may run the command with these arguments; `None` if
    /// there is no such command.
    fn may_call(&mut self, _args: &[Bytes]) -> Option<bool> {
        Some(true)
    }
}
