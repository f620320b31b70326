//! EVAL, SCRIPT and their relatives. A script runs on a transaction, and again if
//! what it read has changed meanwhile: others never wait for it. What is killed, or
//! takes too long, leaves nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use scatterhoard_script::{
    Call, Caller, Engine, Limits, LogLevel, Reply as Said, Run, Script, Scripts, Sha1, Stop,
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
};

use super::{
    Context, Memory, Outcome, Scope, ValueReply, acl, apply as apply_one, attempts::Attempts,
    cluster, key, monitor, ranges::range_in, ready_in, tracking,
};
use crate::{
    clients::Client,
    command::{
        Command, CommandError, CommandSpec, ScriptCommand, describe, scripts::Eval, table::flags,
    },
    log_rate::{self, LogRate},
    monitor::Source,
    resp::Reply,
    store::{Key, Lookup, Transaction, Uncommitted, View},
    value::Value,
};

/// Texts of all scripts that are kept, in bytes.
const KEPT_BYTES: usize = 64 << 20;
/// Scripts that run at once; more wait.
const AT_ONCE: usize = 16;
/// Longest value that a command gives to a script, or all of one MGET together, in
/// bytes.
const MAX_VALUE_BYTES: u64 = 32 << 20;

/// What all scripts share.
pub struct Scripting {
    engine: Engine,
    kept: Scripts,
    room: Semaphore,
    limit: Duration,
    running: Mutex<BTreeMap<u64, Stop>>,
    last: AtomicU64,
}

impl Scripting {
    /// Scripts may run for so long.
    pub fn new(limit: Duration) -> Self {
        let limits = Limits {
            time: Some(limit),
            ..Limits::default()
        };
        Self {
            engine: Engine::new(limits),
            kept: Scripts::new(KEPT_BYTES),
            room: Semaphore::new(AT_ONCE),
            limit,
            running: Mutex::default(),
            last: AtomicU64::new(0),
        }
    }
}

/// A script that runs; noted until dropped.
struct Running<'a> {
    scripting: &'a Scripting,
    number: u64,
    stop: Stop,
}

impl<'a> Running<'a> {
    fn new(scripting: &'a Scripting) -> Self {
        let number = scripting.last.fetch_add(1, Ordering::Relaxed);
        let stop = Stop::new();
        scripting.running.lock().insert(number, stop.clone());
        Self {
            scripting,
            number,
            stop,
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.scripting.running.lock().remove(&self.number);
    }
}

pub(super) async fn apply(
    scope: Scope<'_>,
    client: &mut Client,
    command: ScriptCommand,
) -> Outcome {
    let scripting = &scope.context.scripting;
    let reply = match command {
        ScriptCommand::Eval(eval) => return run(scope, client, eval).await,
        ScriptCommand::Load { source } => {
            // copied: it outlives the request
            match load(scripting, Bytes::copy_from_slice(&source)) {
                Ok(sha1) => Reply::Bulk(Value::from(Bytes::from(sha1.to_string()))),
                Err(error) => said(Said::Error(error.0)),
            }
        }
        ScriptCommand::Exists { names } => {
            let is_there = |name: &Bytes| {
                let sha1 = Sha1::parse(name);
                Reply::Integer(sha1.is_some_and(|s| scripting.kept.contains(s)).into())
            };
            Reply::Array(names.iter().map(is_there).collect())
        }
        ScriptCommand::Flush => {
            scripting.kept.flush();
            Reply::OK
        }
        ScriptCommand::Kill => {
            let running = scripting.running.lock();
            running.values().for_each(Stop::kill);
            match running.is_empty() {
                true => Reply::Error("NOTBUSY No scripts in execution right now.".into()),
                false => Reply::OK,
            }
        }
        ScriptCommand::Debug => Reply::Error("ERR there is no debugger".into()),
        ScriptCommand::Help => describe::help("script"),
    };
    reply.into()
}

fn load(scripting: &Scripting, source: Bytes) -> Result<Sha1, scatterhoard_script::ScriptError> {
    let script = Script::new(source)?;
    scripting.engine.check(&script)?;
    scripting.kept.load(script).map(|script| script.sha1())
}

fn script_of(scripting: &Scripting, eval: &Eval) -> Result<Arc<Script>, Reply> {
    if eval.by_name {
        let script = Sha1::parse(&eval.script).and_then(|sha1| scripting.kept.get(sha1));
        return script.ok_or_else(|| CommandError::NoScript.into());
    }
    let sha1 = Sha1::of(&eval.script);
    if let Some(script) = scripting.kept.get(sha1) {
        return Ok(script);
    }
    // copied: it outlives the request
    let source = Bytes::copy_from_slice(&eval.script);
    let refused = |error: scatterhoard_script::ScriptError| said(Said::Error(error.0));
    let script = Script::named(sha1, source.clone()).map_err(refused)?;
    // what does not compile is not kept
    scripting.engine.check(&script).map_err(refused)?;
    scripting.kept.evaluated(source).map_err(refused)
}

async fn run(scope: Scope<'_>, client: &mut Client, eval: Eval) -> Outcome {
    if let Some(transaction) = scope.view.transaction() {
        return match attempt(scope, client, &eval).await {
            Ok(reply) => reply.into(),
            Err(reply) => {
                // nothing of what it is part of may stay
                if let Reply::Error(text) = &reply {
                    transaction.refuse(text.clone().into_owned());
                }
                reply.into()
            }
        };
    }
    let store = scope.store();
    let keys: Vec<Key> = eval.keys.iter().map(|k| key(scope.db, k)).collect();
    let _turns = store.edit_turns(keys.iter()).await;
    let mut attempts = Attempts::new(store);
    loop {
        if let Err(refusal) = attempts.next().await {
            return refusal.into();
        }
        monitor::forget(client);
        let transaction = Transaction::default();
        let within = Scope {
            view: View::within(store, &transaction),
            ..scope
        };
        let reply = match attempt(within, client, &eval).await {
            Ok(reply) => reply,
            // nothing of it stays
            Err(reply) => return reply.into(),
        };
        let announce = |messages| super::multi::send(scope.context, messages);
        match transaction.commit(store, [].iter(), announce).await {
            Ok(_) => return reply.into(),
            Err(Uncommitted::Write(error)) => return Reply::from(error).into(),
            Err(Uncommitted::Conflict(_) | Uncommitted::Watched) => {}
        }
    }
}

/// Runs the script once, when there is room; an error if nothing of it may stay.
async fn attempt(scope: Scope<'_>, client: &mut Client, eval: &Eval) -> Result<Reply, Reply> {
    let scripting = &scope.context.scripting;
    // within a program: there is nobody else who could carry out what the script calls
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        let text = "ERR scripts need a tokio runtime with several threads";
        return Ok(Reply::Error(text.into()));
    }
    // never closed; whoever has room waits for nobody who wants it
    let _room = scripting.room.acquire().await;
    let script = match script_of(scripting, eval) {
        Ok(script) => script,
        // as any command that fails
        Err(reply) => return Ok(reply),
    };
    let (running, db, began) = (Running::new(scripting), client.db, Instant::now());
    let mut commands = Commands {
        scope,
        client,
        handle: Handle::current(),
        until: began + scripting.limit,
        stop: running.stop.clone(),
        refusal: None,
    };
    // others of this worker go on elsewhere
    let reply = tokio::task::block_in_place(|| {
        let run = Run {
            script: &script,
            keys: &eval.keys,
            argv: &eval.argv,
            read_only: eval.read_only,
            stop: &running.stop,
        };
        scripting.engine.run(run, &mut commands)
    });
    let refusal = commands.refusal.take();
    client.db = db;
    if let Some(text) = refusal {
        return Err(Reply::Error(text.into()));
    }
    let ended = running.stop.is_killed() || began.elapsed() >= scripting.limit;
    match (ended, said(reply)) {
        (true, reply @ Reply::Error(_)) => Err(reply),
        (_, reply) => Ok(reply),
    }
}

/// Carries out what a script calls.
struct Commands<'a, 'c> {
    scope: Scope<'a>,
    client: &'c mut Client,
    handle: Handle,
    until: Instant,
    stop: Stop,
    /// Why nothing of the script may stay, whatever it makes of it.
    refusal: Option<String>,
}

fn refused(text: &str) -> Said {
    Said::Error(Bytes::copy_from_slice(text.as_bytes()))
}

impl Caller for Commands<'_, '_> {
    fn call(&mut self, call: Call) -> Said {
        let request: Vec<Value> = call.args.into_iter().map(Value::from).collect();
        let context = self.scope.context;
        let spec = match CommandSpec::of(&request) {
            Ok(spec) => spec,
            Err(CommandError::Arity { .. } | CommandError::ExecArity) => {
                return refused("ERR Wrong number of args calling Redis command from script");
            }
            Err(CommandError::UnknownSubcommand { .. } | CommandError::UnknownCommand { .. }) => {
                return refused("ERR Unknown Redis command called from script");
            }
            Err(error) => return refused(&error.to_string()),
        };
        if spec.is(flags::NOSCRIPT) {
            return refused("ERR This Redis command is not allowed from script");
        }
        if call.read_only && spec.is(flags::WRITE) {
            return refused("ERR Write commands are not allowed from read-only scripts.");
        }
        if acl::check(context, self.client, spec, &request).is_err() {
            return refused(
                "ERR The user executing the script can't run this command or subcommand",
            );
        }
        if cluster::check(context, self.client, spec, &request).is_err() {
            return refused("ERR Script attempted to access a non local key in a cluster node");
        }
        if spec.is(flags::WRITE)
            && let Some(why) = context.store.refusal()
        {
            return refused(&format!(
                "MISCONF the journal cannot be written ({why}); writes are refused"
            ));
        }
        tracking::reads(context, self.client, spec, &request);
        let words = monitor::before(self.client, Source::Script, spec, &request);
        let command = match Command::parse(request) {
            Ok(command) => command,
            Err(error) => {
                monitor::after(self.client, Source::Script, words);
                return refused(&error.to_string());
            }
        };
        let outcome = async {
            let outcome = apply_one(context, self.scope.view, self.client, command).await;
            reply_of(context, outcome).await
        };
        let until = tokio::time::Instant::from_std(self.until);
        let outcome = self.handle.block_on(async {
            // what takes longer than the script may is given up
            tokio::time::timeout_at(until, outcome).await
        });
        monitor::after(self.client, Source::Script, words);
        if let Some(refusal) = self.scope.view.transaction().and_then(|t| t.refusal()) {
            // it ends with its next step
            self.stop.kill();
            self.refusal = Some(refusal.clone());
            return refused(&refusal);
        }
        match outcome {
            Ok(Ok(reply)) => given(reply),
            Ok(Err(text)) => refused(&text),
            Err(_) => refused("ERR the script took too long"),
        }
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        static LINES: LogRate = LogRate::new(20);
        let Some(left_out) = LINES.admits() else {
            return;
        };
        let text = log_rate::printable(text);
        match level {
            LogLevel::Debug | LogLevel::Verbose => tracing::debug!(left_out, "script: {text}"),
            LogLevel::Notice => tracing::info!(left_out, "script: {text}"),
            LogLevel::Warning => tracing::warn!(left_out, "script: {text}"),
        }
    }

    fn may_call(&mut self, args: &[Bytes]) -> Option<bool> {
        let request: Vec<Value> = args.iter().cloned().map(Value::from).collect();
        let spec = CommandSpec::of(&request).ok()?;
        Some(acl::check(self.scope.context, self.client, spec, &request).is_ok())
    }
}

/// What a command came to, in memory.
async fn reply_of(context: &Context, outcome: Outcome) -> Result<Reply, String> {
    let value = match outcome {
        Outcome::Reply(reply) | Outcome::Close(reply) | Outcome::Part(reply, _) => {
            return Ok(reply);
        }
        Outcome::Lookup(lookup) => ready_in(&context.store, lookup, Memory::Extra).await,
        Outcome::Value(value) => value,
        Outcome::Range(pinned, bytes) => {
            range_in(&context.store, pinned, bytes, Memory::Extra).await
        }
        Outcome::Values(lookups) => {
            let bytes = lookups.iter().map(Lookup::len).sum();
            if bytes > MAX_VALUE_BYTES {
                return Err(too_long(bytes));
            }
            let mut replies = Vec::with_capacity(lookups.len());
            for lookup in lookups {
                let value = ready_in(&context.store, lookup, Memory::Extra).await;
                // an array of values has no place for an error: a miss
                replies.push(match whole(value).await? {
                    Reply::Error(_) => Reply::Null,
                    reply => reply,
                });
            }
            return Ok(Reply::Array(replies));
        }
        // not before the commit
        Outcome::Publish(_) => return Ok(Reply::Integer(0)),
        Outcome::Pushes(_) | Outcome::Subscribed(_) | Outcome::Several(..) => {
            return Err("ERR This Redis command is not allowed from script".into());
        }
    };
    whole(value).await
}

async fn whole(value: ValueReply) -> Result<Reply, String> {
    let (first, mut rest) = match value {
        ValueReply::Whole(reply) => return Ok(reply),
        ValueReply::Stream { first, rest } => (first, rest),
    };
    if rest.len_bytes() > MAX_VALUE_BYTES {
        return Err(too_long(rest.len_bytes()));
    }
    let mut segments = first;
    loop {
        match rest.next_cells().await {
            Ok(Some(cells)) => segments.extend(cells),
            Ok(None) => return Ok(Reply::Bulk(Value::from_segments(segments))),
            Err(error) => return Err(format!("UNAVAILABLE {error}; try again")),
        }
    }
}

fn too_long(bytes: u64) -> String {
    format!("ERR a value of {bytes} bytes is too long for scripts")
}

/// A command's reply, as scripts get it.
fn given(reply: Reply) -> Said {
    let all = |replies: Vec<Reply>| replies.into_iter().map(given).collect();
    let text = |text: crate::resp::reply::Text| Bytes::from(text.into_owned());
    match reply {
        Reply::Simple(status) => Said::Status(text(status)),
        Reply::Error(error) => Said::Error(text(error)),
        Reply::Integer(number) => Said::Integer(number),
        Reply::Bulk(value) => Said::Bulk(value.into_contiguous()),
        Reply::Null | Reply::NullArray => Said::Nil,
        Reply::Array(items) | Reply::Push(items) => Said::Array(all(items)),
        Reply::Set(items) => Said::Set(all(items)),
        Reply::Map(pairs) => Said::Map(
            pairs
                .into_iter()
                .map(|(k, v)| (given(k), given(v)))
                .collect(),
        ),
        Reply::Pairs(pairs) => {
            let flat = pairs.into_iter().flat_map(|(k, v)| [given(k), given(v)]);
            Said::Array(flat.collect())
        }
        Reply::Double(number) => Said::Double(number),
        Reply::Boolean(truth) => Said::Bool(truth),
        Reply::BigNumber(digits) => Said::BigNumber(text(digits)),
        Reply::Verbatim(words) => Said::Verbatim {
            format: *b"txt",
            text: text(words),
        },
    }
}

/// What a script returned, as clients get it.
fn said(reply: Said) -> Reply {
    let all = |replies: Vec<Said>| replies.into_iter().map(said).collect();
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned().into();
    match reply {
        Said::Nil => Reply::Null,
        Said::Integer(number) => Reply::Integer(number),
        Said::Bulk(bytes) => Reply::Bulk(Value::from(bytes)),
        Said::Status(status) => Reply::Simple(text(status)),
        Said::Error(error) => Reply::Error(text(error)),
        Said::Array(items) => Reply::Array(all(items)),
        Said::Double(number) => Reply::Double(number),
        Said::Bool(truth) => Reply::Boolean(truth),
        Said::Map(pairs) => {
            Reply::Map(pairs.into_iter().map(|(k, v)| (said(k), said(v))).collect())
        }
        Said::Set(items) => Reply::Set(all(items)),
        Said::BigNumber(digits) => Reply::BigNumber(text(digits)),
        Said::Verbatim { text: words, .. } => Reply::Verbatim(text(words)),
    }
}
