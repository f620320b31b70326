//! Runs Lua scripts as Redis 7.0 does (EVAL, EVALSHA), and knows nothing of
//! sessions, keys or stores: commands go to a [`Caller`].
//!
//! A script runs in a sandbox of Lua 5.1 with Redis's libraries, within bounds
//! of memory and time, and leaves nothing behind that another could see. What
//! differs from Redis:
//! - `table.sort` of numbers or of strings alone, string patterns and
//!   `string.rep` are our own, since a script could make Lua's run for ever;
//!   patterns nest 400 deep.
//! - Settings of cjson and `math.randomseed` end with the script, as does what
//!   `collectgarbage` would change (it only collects and counts).
//! - Lists nest 200 deep, in replies of commands and of scripts.
//! - There is no `__redis__err__handler`, and no debugger. `getfenv`, `setfenv`
//!   and `newproxy` are not there either, as in the patched 7.0.15 of Debian.
//! - Lua hashes long strings (32 bytes and more) as it always did, Redis's Lua all
//!   of their bytes: tables with such keys may be walked in another order.
//! - Errors without a message, of which Redis dies, are reported.
//! - The words of a `#!lua` line cannot be quoted.

mod api;
mod caller;
mod context;
mod convert;
mod engine;
mod libraries;
mod native;
mod number;
mod pattern;
mod random;
mod raw;
mod reply;
mod sandbox;
mod scripts;
mod source;
mod state;
mod stop;

pub use caller::{Call, Caller, LogLevel};
pub use engine::{Engine, Limits, Run};
pub use reply::Reply;
pub use scripts::Scripts;
pub use source::{Script, ScriptError, ScriptFlags, Sha1};
pub use stop::Stop;
