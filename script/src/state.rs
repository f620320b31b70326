//! One Lua state: a sandbox, and the scripts that it has compiled.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bytes::Bytes;
use lru::LruCache;
use mlua::{Function, HookTriggers, Lua, LuaOptions, StdLib, Table, Value, VmState};

use crate::caller::Caller;
use crate::context::{Beginning, Context, Ending};
use crate::convert::{Returned, error_text};
use crate::native::Fault;
use crate::raw;
use crate::reply::Reply;
use crate::sandbox;
use crate::source::{Script, ScriptError, Sha1};
use crate::stop::Stop;

/// Instructions between two looks at the clock. Some (`table.insert` at the
/// front of a large table) take milliseconds.
const HOOK_INSTRUCTIONS: u32 = 1_000;
/// Compiled scripts of a state.
const COMPILED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// A script whose text is longer is compiled each time.
const LARGEST_COMPILED_BYTES: usize = 64 << 10;
/// A state that holds more than this beyond what it began with collects its
/// garbage after a run, and is given up if that does not help.
const IDLE_BYTES: usize = 4 << 20;

/// One run of a script.
pub(crate) struct Request<'a> {
    pub(crate) script: &'a Script,
    pub(crate) keys: &'a [Bytes],
    pub(crate) argv: &'a [Bytes],
    pub(crate) read_only: bool,
    pub(crate) stop: &'a Stop,
    pub(crate) deadline: Option<Instant>,
}

pub(crate) struct State {
    // dropped in this order: what Lua has refers to the context
    compiled: LruCache<Sha1, Function>,
    call: raw::ProtectedCall,
    globals: Table,
    lua: Lua,
    context: Arc<Context>,
    first_bytes: usize,
}

impl State {
    /// A new sandbox whose scripts may use `memory_bytes` each.
    pub(crate) fn new(memory_bytes: usize, seeds: Arc<AtomicU64>) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(false))?;
        let context = Arc::new(Context::new(memory_bytes, seeds));
        let globals = sandbox::install(&lua, &context)?;
        let call = raw::protected_call(&lua, &context)?;
        let watched = context.clone();
        lua.set_global_hook(
            HookTriggers::new().every_nth_instruction(HOOK_INSTRUCTIONS),
            move |_, _| {
                if watched.should_end() {
                    return Err(mlua::Error::runtime("ended"));
                }
                Ok(VmState::Continue)
            },
        )?;
        lua.gc_collect()?;
        let first_bytes = lua.used_memory();
        Ok(Self {
            compiled: LruCache::new(COMPILED),
            call,
            globals,
            lua,
            context,
            first_bytes,
        })
    }

    /// Whether the next run may have it. Gives up garbage, and then compiled
    /// scripts, if it holds too much.
    pub(crate) fn make_reusable(&mut self) -> bool {
        if self.context.is_poisoned() {
            return false;
        }
        let limit = self.first_bytes + IDLE_BYTES;
        let collected = |lua: &Lua| lua.gc_collect().is_ok() && lua.used_memory() <= limit;
        if self.lua.used_memory() <= limit || collected(&self.lua) {
            return true;
        }
        self.compiled.clear();
        collected(&self.lua)
    }

    /// Compiles, and keeps what came out.
    pub(crate) fn compile(&mut self, script: &Script) -> Result<Function, ScriptError> {
        if let Some(function) = self.compiled.get(&script.sha1()) {
            return Ok(function.clone());
        }
        let refused = |what: &[u8]| {
            ScriptError::new([b"ERR Error compiling script (new function): ", what].concat())
        };
        self.limit_memory()
            .map_err(|_| refused(b"not enough memory"))?;
        let loaded = raw::compile(&self.lua, script.code());
        let function = match loaded {
            Ok(Ok(function)) => function,
            Ok(Err(message)) => return Err(refused(&message)),
            Err(error) => {
                self.context.poison();
                return Err(refused(error.to_string().as_bytes()));
            }
        };
        if script.source().len() <= LARGEST_COMPILED_BYTES {
            self.compiled.put(script.sha1(), function.clone());
        }
        Ok(function)
    }

    /// What is there now counts as the state's own, not as the script's.
    fn limit_memory(&self) -> mlua::Result<()> {
        let limit = self
            .lua
            .used_memory()
            .saturating_add(self.context.memory_bytes());
        self.lua.set_memory_limit(limit).map(|_| ())
    }

    /// Runs a script, and replies as it returned or failed.
    pub(crate) fn run(&mut self, request: &Request<'_>, caller: &mut dyn Caller) -> Reply {
        let function = match self.compile(request.script) {
            Ok(function) => function,
            Err(ScriptError(text)) => return Reply::Error(error_text(&text)),
        };
        let context = self.context.clone();
        let _running = context.begin(Beginning {
            caller,
            read_only: request.read_only,
            stop: request.stop,
            deadline: request.deadline,
        });
        let outcome = self.limit_memory().map_err(Fault::from).and_then(|()| {
            self.set_list("KEYS", request.keys)?;
            self.set_list("ARGV", request.argv)?;
            self.execute(&function, request.script.sha1())
        });
        match outcome {
            Ok(reply) => reply,
            Err(fault) => self.failure(&fault),
        }
    }

    fn set_list(&self, name: &str, items: &[Bytes]) -> Result<(), Fault> {
        let table = self.lua.create_table_with_capacity(items.len(), 0)?;
        for (index, item) in items.iter().enumerate() {
            table.raw_set(index + 1, self.lua.create_string(item)?)?;
        }
        Ok(self.globals.raw_set(name, table)?)
    }

    fn execute(&self, function: &Function, sha1: Sha1) -> Result<Reply, Fault> {
        let (status, value): (i64, Value) = self.call.call(function)?;
        if raw::is_memory_error(status) {
            return Err(Fault::Memory);
        }
        if status == 0 && self.context.ending().is_none() {
            let resp3 = self.context.run().resp3;
            return Returned::new(&self.context, resp3).reply(&value);
        }
        Ok(match value {
            Value::Table(error) => report(&error, sha1)?,
            // Lua had no room to describe it
            other => {
                self.context.poison();
                let mut text = format!("ERR Error running script {sha1}, ").into_bytes();
                text.extend_from_slice(&raw::plain_text(&other));
                Reply::Error(error_text(&text))
            }
        })
    }

    /// What failed outside of the script's own code.
    fn failure(&self, fault: &Fault) -> Reply {
        self.context.poison();
        Reply::error(match fault {
            Fault::Ended => self
                .context
                .ending()
                .unwrap_or(Ending::Killed)
                .text()
                .to_owned(),
            Fault::Memory => format!(
                "ERR Script ended because it needs more than {} bytes of memory",
                self.context.memory_bytes()
            ),
            other => format!("ERR Error running script: {other:?}"),
        })
    }
}

/// An error of a script, with the place where it was raised.
fn report(error: &Table, sha1: Sha1) -> Result<Reply, Fault> {
    let mut text = match error.raw_get("err")? {
        Value::String(message) => message.as_bytes().to_vec(),
        other => raw::plain_text(&other),
    };
    if let (Value::String(source), Some(line)) = (
        error.raw_get("source")?,
        error.raw_get::<Option<i64>>("line")?,
    ) {
        text.extend_from_slice(format!(" script: {sha1}, on ").as_bytes());
        text.extend_from_slice(&source.as_bytes());
        text.extend_from_slice(format!(":{line}.").as_bytes());
    }
    Ok(Reply::Error(error_text(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn a_state_stays_small() {
        let seeds = Arc::new(AtomicU64::new(random::FIRST));
        let mut state = State::new(16 << 20, seeds).unwrap();
        assert!(state.first_bytes < 128 << 10, "{} bytes", state.first_bytes);
        // large scripts, more than it keeps
        for number in 0..2_000 {
            let source = format!(
                "return {{{}}}",
                "'text', ".repeat(1_000) + &number.to_string()
            );
            state
                .compile(&Script::new(Bytes::from(source)).unwrap())
                .unwrap();
            assert!(state.make_reusable());
            assert!(state.lua.used_memory() < IDLE_BYTES + (1 << 20));
        }
    }
}
