//! What the functions of a sandbox share: the run that is going on, and whether
//! it is to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::caller::Caller;
use crate::libraries::cjson::JsonSettings;
use crate::random::Random;
use crate::raw::CallerSlot;
use crate::stop::Stop;

/// Why a script is made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Somebody asked for it.
    Killed,
    /// It took longer than it may.
    TooLong,
}

impl Ending {
    /// What the client is told, before the place in the script.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Killed => "ERR Script killed by user with SCRIPT KILL...",
            Self::TooLong => "ERR Script ended because it ran longer than its time limit",
        }
    }
}

/// Belongs to one Lua state. Only one thread at a time runs that state.
pub(crate) struct Context {
    memory_bytes: usize,
    ending: AtomicU8,
    poisoned: AtomicBool,
    args: Mutex<Option<Vec<Bytes>>>,
    run: Mutex<Run>,
}

/// What a run has of its own.
pub(crate) struct Run {
    pub(crate) caller: CallerSlot,
    pub(crate) resp3: bool,
    pub(crate) read_only: bool,
    pub(crate) random: Random,
    pub(crate) json: JsonSettings,
    stop: Stop,
    deadline: Option<Instant>,
}

/// What a run begins with.
pub(crate) struct Beginning<'a> {
    pub(crate) caller: &'a mut dyn Caller,
    pub(crate) read_only: bool,
    pub(crate) stop: &'a Stop,
    pub(crate) deadline: Option<Instant>,
}

/// Ends the loan of the caller when the run is over.
pub(crate) struct Running<'a>(&'a Context);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.run.lock().caller.clear();
    }
}

impl Context {
    pub(crate) fn new(memory_bytes: usize, seeds: Arc<AtomicU64>) -> Self {
        Self {
            memory_bytes,
            ending: AtomicU8::new(0),
            poisoned: AtomicBool::new(false),
            args: Mutex::new(None),
            run: Mutex::new(Run {
                caller: CallerSlot::default(),
                resp3: false,
                read_only: false,
                random: Random::new(seeds),
                json: JsonSettings::default(),
                stop: Stop::new(),
                deadline: None,
            }),
        }
    }

    /// A run begins; it lasts until the result is dropped.
    pub(crate) fn begin<'a>(&'a self, beginning: Beginning<'a>) -> Running<'a> {
        self.ending.store(0, Ordering::Relaxed);
        let mut run = self.run.lock();
        run.caller.lend(beginning.caller);
        run.resp3 = false;
        run.read_only = beginning.read_only;
        run.random.forget_seed();
        run.json = JsonSettings::default();
        run.stop = beginning.stop.clone();
        run.deadline = beginning.deadline;
        Running(self)
    }

    /// The run that is going on.
    pub(crate) fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock()
    }

    /// What one script may use.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether the script was found to have to end, and why.
    pub(crate) fn ending(&self) -> Option<Ending> {
        match self.ending.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Ending::Killed),
            _ => Some(Ending::TooLong),
        }
    }

    /// Looks whether the script is to end. Once it is, it stays so.
    pub(crate) fn should_end(&self) -> bool {
        if self.ending().is_some() {
            return true;
        }
        let run = self.run.lock();
        let ending = if run.stop.is_killed() {
            1
        } else if run
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            2
        } else {
            return false;
        };
        self.ending.store(ending, Ordering::Relaxed);
        true
    }

    /// An allocation failed: the state is not to be used again.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Whether an allocation failed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }

    /// Hands the arguments of a command to the function that runs it; `None` if
    /// one of them is neither string nor number.
    pub(crate) fn take_args(&self, args: Option<Vec<Bytes>>) {
        *self.args.lock() = args;
    }

    /// The arguments handed over.
    pub(crate) fn args(&self) -> Option<Vec<Bytes>> {
        self.args.lock().take()
    }
}
