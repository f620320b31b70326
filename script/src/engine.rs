//! Runs scripts: a pool of Lua states.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::caller::Caller;
use crate::random;
use crate::reply::Reply;
use crate::source::{Script, ScriptError};
use crate::state::{Request, State};
use crate::stop::Stop;

/// What scripts may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory of one script, beside its sandbox. The same again may be taken by
    /// what it returns.
    pub memory_bytes: usize,
    /// How long a script may run, commands included. `None`: as long as it likes.
    pub time: Option<Duration>,
    /// Lua states kept for the next scripts, of 4 MiB each at most. More
    /// scripts may run at a time: they make states of their own.
    pub idle_states: usize,
}

/// 64 MiB, no time limit, 8 states.
impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            time: None,
            idle_states: 8,
        }
    }
}

/// One run of a script.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// What runs.
    pub script: &'a Script,
    /// `KEYS`
    pub keys: &'a [Bytes],
    /// `ARGV`
    pub argv: &'a [Bytes],
    /// The script came with a command that does not write (EVAL_RO, EVALSHA_RO).
    pub read_only: bool,
    /// Ends it early.
    pub stop: &'a Stop,
}

/// Runs scripts, each in a Lua state that no other uses at the time. States are
/// used again: nothing that a script does is seen by another.
pub struct Engine {
    limits: Limits,
    idle: Mutex<Vec<State>>,
    /// Where the random numbers of all scripts stand.
    seeds: Arc<AtomicU64>,
}

impl Engine {
    /// An engine without states: they are made as scripts need them.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let seeds = Arc::new(AtomicU64::new(random::FIRST));
        Self {
            limits,
            idle: Mutex::new(Vec::new()),
            seeds,
        }
    }

    /// Whether Lua understands the script (SCRIPT LOAD).
    pub fn check(&self, script: &Script) -> Result<(), ScriptError> {
        let mut state = self
            .state()
            .map_err(|error| ScriptError::new(no_state(&error)))?;
        let checked = state.compile(script).map(|_| ());
        self.put_back(state);
        checked
    }

    /// Runs a script to its end on this thread, and replies as it returned or
    /// failed. Commands go to `caller`. Takes up to 1 MiB of the thread's stack
    /// (measured without optimisation), beside what `caller` takes.
    pub fn run(&self, run: Run<'_>, caller: &mut dyn Caller) -> Reply {
        let flags = run.script.flags();
        if run.read_only && flags.declared && !flags.no_writes {
            return Reply::error(
                "ERR Can not execute a script with write flag using *_ro command.",
            );
        }
        let mut state = match self.state() {
            Ok(state) => state,
            Err(error) => return Reply::error(no_state(&error)),
        };
        let request = Request {
            script: run.script,
            keys: run.keys,
            argv: run.argv,
            read_only: run.read_only || flags.no_writes,
            stop: run.stop,
            deadline: self
                .limits
                .time
                .and_then(|time| Instant::now().checked_add(time)),
        };
        let reply = state.run(&request, caller);
        self.put_back(state);
        reply
    }

    fn state(&self) -> mlua::Result<State> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(state) => Ok(state),
            None => State::new(self.limits.memory_bytes, self.seeds.clone()),
        }
    }

    /// Keeps the state, unless something went wrong in it or there are enough.
    fn put_back(&self, mut state: State) {
        if !state.make_reusable() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.limits.idle_states {
            idle.push(state);
        }
    }
}

fn no_state(error: &mlua::Error) -> String {
    format!("ERR Cannot start a script: {error}")
}
