//! Carries commands out on the store. A family of commands has one file, as in
//! `command`. Errors become replies here and nowhere else.

mod acl;
mod attempts;
mod bits;
mod cluster;
mod connection;
mod hashes;
mod info;
mod inspect;
mod intake;
mod keys;
mod lcs;
mod leftovers;
pub mod monitor;
mod moves;
mod multi;
mod numbers;
mod pieces;
pub mod pubsub;
mod ranges;
mod scripts;
mod server;
mod strings;
mod tracking;
mod update;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub use intake::{Intake, intake};
pub use scripts::Scripting;
pub use server::MAX_TRACKED;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    client_limits::ClientLimits,
    clients::{Client, Clients},
    clock,
    command::{Command, CommandError, CommandSpec, Named, ServerCommand, TransactionCommand},
    config::Config,
    monitor::Monitors,
    pubsub::{Classes, Hub, KeyEvent},
    resp::{Protocol, Reply},
    room::{Room, Rooms},
    slow_log::{SlowLog, Suspect},
    store::{Key, Lookup, ObjectReader, Pinned, ReadError, Store, View, WriteError},
    value::Value,
};

/// What all sessions share.
pub struct Context {
    /// The objects.
    pub store: Arc<Store>,
    /// Settings in force.
    pub config: Config,
    /// The connections.
    pub clients: Clients,
    /// What they may take.
    pub limits: Arc<ClientLimits>,
    /// Counters that INFO shows.
    pub stats: Stats,
    /// Scripts.
    pub scripting: Scripting,
    /// Who subscribes to what.
    pub hub: Arc<Hub>,
    /// Room for what clients have queued since MULTI.
    pub queues: Rooms,
    /// Room for replies that wait for EXEC's others.
    pub replies: Rooms,
    /// Room for values that are in memory as a whole though they are large, in KiB.
    pub wholes: Arc<Semaphore>,
    /// Turns for tables of LCS.
    pub tables: Semaphore,
    /// Commands that took long.
    pub slow_log: SlowLog,
    /// Who is told of all commands.
    pub monitors: Arc<Monitors>,
    /// When the server started.
    pub started: Instant,
    /// The same as the wall clock told it, since 1970.
    pub started_unix_ms: u64,
}

impl Context {
    /// That of a server without connections yet.
    pub fn new(store: Arc<Store>, config: Config) -> Self {
        store.notify(config.key_events);
        store
            .tracking()
            .set_most_keys(config.tracking_table_max_keys);
        Self {
            clients: Clients::default(),
            limits: Arc::new(ClientLimits::new(config.client_limits)),
            stats: Stats::default(),
            scripting: Scripting::new(config.script_limit),
            hub: store.events().hub().clone(),
            queues: Rooms::new(QUEUES_BYTES, QUEUE_BYTES),
            replies: Rooms::new(REPLIES_BYTES, QUEUE_BYTES),
            wholes: Arc::new(Semaphore::new(WHOLES_KIB as usize)),
            tables: Semaphore::new(1),
            slow_log: SlowLog::new(config.slow_log),
            monitors: Arc::default(),
            started: Instant::now(),
            started_unix_ms: clock::unix_ms(),
            store,
            config,
        }
    }

    /// A client's request took so long: an entry of the slow log, perhaps.
    pub fn took(&self, client: &Client, request: Option<Suspect>, took: Duration) {
        if let Some(request) = request.filter(|_| self.slow_log.takes(took)) {
            let (peer, name) = (client.entry.peer().to_string(), client.entry.name());
            let unix_s = clock::unix_ms() / 1000;
            self.slow_log.enter(request, took, unix_s, peer, name);
        }
    }
}

/// Where a command is carried out.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// What all sessions share.
    pub context: &'a Context,
    /// The client's database.
    pub db: u8,
    /// What it sees and changes.
    pub view: View<'a>,
}

impl<'a> Scope<'a> {
    /// The objects.
    pub fn store(&self) -> &'a Arc<Store> {
        &self.context.store
    }

    /// Tells those who want to know what a command did to a key: at once, or with the
    /// commit of the transaction that it is part of.
    fn notify(&self, class: Classes, name: &'static str, key: &Key) {
        if !self.store().events().wants(class) {
            return;
        }
        let event = KeyEvent {
            db: key.db,
            // copied: it outlives the request
            key: bytes::Bytes::copy_from_slice(&key.bytes),
            name,
        };
        match self.view.transaction() {
            Some(transaction) => transaction.tells(event),
            None => self.store().events().publish(&event),
        }
    }

    /// The same of a key that was written; Redis says before what was done to it
    /// whether it is new.
    fn notify_written(&self, class: Classes, name: &'static str, key: &Key, is_new: bool) {
        if is_new {
            self.notify(Classes::NEW, "new", key);
        }
        self.notify(class, name, key);
    }

    /// A command that reads found no such key.
    fn missed(&self, key: &Key) {
        self.notify(Classes::MISSED, "keymiss", key);
    }
}

/// Room for what all clients have queued since MULTI, in bytes.
const QUEUES_BYTES: usize = 256 << 20;
/// The same for one of them.
const QUEUE_BYTES: u64 = 64 << 20;
/// Room for values that are in memory as a whole though they are large.
const WHOLES_KIB: u32 = 256 << 10;
/// Room for replies of transactions, in bytes.
const REPLIES_BYTES: usize = 256 << 20;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Commands carried out.
    pub commands: AtomicU64,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Commands refused for want of permission.
    pub denied: AtomicU64,
    /// Connections refused, for the limit or protected mode.
    pub rejected_connections: AtomicU64,
    /// Reads that found their key.
    pub hits: AtomicU64,
    /// Reads that did not.
    pub misses: AtomicU64,
}

impl Stats {
    /// Adds one.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// So many commands.
    pub fn count_commands(&self, commands: u64) {
        self.commands.fetch_add(commands, Ordering::Relaxed);
    }

    /// So many commands that read one key each, and found it or not.
    pub fn count_reads(&self, hits: u64, misses: u64) {
        self.count_commands(hits + misses);
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
    }

    /// Sets everything to zero (CONFIG RESETSTAT).
    pub fn reset(&self) {
        for counter in [
            &self.commands,
            &self.connections,
            &self.rejected_connections,
            &self.hits,
            &self.misses,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// What a session is to send.
pub enum Outcome {
    /// This.
    Reply(Reply),
    /// This, part of a large value; and the room that it takes until it is sent.
    Part(Reply, Arc<OwnedSemaphorePermit>),
    /// A value, to be read.
    Lookup(Lookup),
    /// Bytes of a value on nodes, to be read.
    Range(Pinned, Range<u64>),
    /// A value, streamed.
    Value(ValueReply),
    /// As many values as there are items, as an array.
    Values(Vec<Lookup>),
    /// These, one after the other: the end of subscriptions has several replies.
    Pushes(Vec<Reply>),
    /// Likewise, of their beginning: messages come behind these.
    Subscribed(Vec<Reply>),
    /// How many get this message of a transaction, which goes out with its commit.
    Publish(usize),
    /// What each of several commands came to, as an array; and the room it takes.
    Several(Vec<Outcome>, Room),
    /// This, and then the end of the connection.
    Close(Reply),
}

/// A value that is ready to be sent, or to be read piece by piece.
pub enum ValueReply {
    /// In memory.
    Whole(Reply),
    /// On nodes, of which d have confirmed their chunk.
    Stream {
        /// The first bytes.
        first: Vec<bytes::Bytes>,
        /// The rest.
        rest: Box<ObjectReader>,
    },
}

impl Outcome {
    /// Whether messages that have come meanwhile may belong to what it confirms,
    /// so that they have to follow it. Others were sent before it.
    pub fn begins_subscriptions(&self) -> bool {
        match self {
            Self::Subscribed(_) => true,
            Self::Several(outcomes, _) => outcomes.iter().any(Self::begins_subscriptions),
            _ => false,
        }
    }
}

impl Outcome {
    /// Whether the connection ends with it.
    pub fn ends(&self) -> bool {
        match self {
            Self::Close(_) => true,
            Self::Several(outcomes, _) => outcomes.iter().any(Self::ends),
            _ => false,
        }
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<CommandError> for Outcome {
    fn from(error: CommandError) -> Self {
        Self::Reply(error.into())
    }
}

/// The one place where errors of reading become replies.
impl From<ReadError> for Reply {
    fn from(error: ReadError) -> Self {
        match error {
            // a cache has lost it: a miss
            ReadError::Lost { .. } => Self::Null,
            ReadError::Unavailable { .. } | ReadError::Backing(_) => {
                Self::Error(format!("UNAVAILABLE {error}; try again").into())
            }
            ReadError::Codec(_) => Self::Error(format!("ERR internal error: {error}").into()),
        }
    }
}

/// The one place where errors of writing become replies.
impl From<WriteError> for Reply {
    fn from(error: WriteError) -> Self {
        let text = match error {
            WriteError::Full => {
                "OOM command not allowed when used memory > 'maxmemory'.".to_owned()
            }
            WriteError::TooLarge { .. } => format!("OOM {error}"),
            WriteError::Size(_) => format!("ERR {error}"),
            WriteError::Nodes(_)
            | WriteError::Quorum { .. }
            | WriteError::Stopping
            | WriteError::NotBacked(_) => {
                format!("UNAVAILABLE {error}; try again")
            }
            WriteError::Superseded => format!("READONLY {error}"),
            WriteError::Codec(_) => format!("ERR internal error: {error}"),
        };
        Self::Error(text.into())
    }
}

/// Carries a request out, and returns when the journal is as far as its policy
/// wants it before an acknowledgement. `named` is what the request names.
pub async fn carry_out(
    context: &Context,
    client: &mut Client,
    named: Named,
    request: Vec<Value>,
) -> Outcome {
    client.carried_out = false;
    let subscribed = client.protocol == Protocol::Resp2 && client.subscriptions.any();
    let is_queued = client.queue.is_some() && !named.is_transactional();
    let is_exec = named.is_exec();
    let writes = match &client.queue {
        Some(queue) if is_exec => queue.requests.iter().any(|r| Named::of(r).writes()),
        _ => named.writes(),
    };
    let journal = context.store.journal().filter(|_| writes);
    let refused = || {
        journal
            .and_then(|j| j.failure())
            .map(|why| journal_failed(&why))
    };
    let permission = match client.refusal.take() {
        // found out when one of its arguments was announced
        Some(error) => Err(error),
        None => named.spec(&request).and_then(|spec| {
            acl::check(context, client, spec, &request)?;
            cluster::check(context, client, spec, &request)?;
            monitor::check(client, spec, &request)?;
            refused_argument(&request).map_or(Ok(spec), Err)
        }),
    };
    if let Ok(spec) = permission {
        client.entry.update(|c| c.command = spec.name);
    }
    if is_queued {
        return multi::queue(client, permission, request, refused());
    }
    if writes {
        context.store.gate().pass().await;
    }
    if subscribed
        && !named.is_for_subscribers()
        && let Ok(spec) = permission
    {
        return CommandError::Subscribed(spec.name.to_owned()).into();
    }
    let spec = match permission {
        Ok(spec) => spec,
        Err(error) => return multi::refused(client, is_exec, error.into()).into(),
    };
    client.carried_out = refused().is_none();
    tracking::reads(context, client, spec, &request);
    let outcome = match (Command::parse_as(spec, request), refused()) {
        (Err(error), _) => multi::refused(client, is_exec, error.into()).into(),
        (_, Some(refusal)) => multi::refused(client, is_exec, refusal).into(),
        (Ok(Command::Transaction(command)), None) => {
            Box::pin(multi::apply(context, client, command)).await
        }
        (Ok(command), None) => apply(context, View::of(&context.store), client, command).await,
    };
    if let Some(tracked) = &mut client.tracking
        && client.queue.is_none()
        && !spec.name.starts_with("client|")
    {
        tracked.caching = false;
    }
    let Some(journal) = journal else {
        return outcome;
    };
    journal.settled().await;
    refused().map_or(outcome, Outcome::Reply)
}

/// Whether a request is for this proxy of the cluster.
pub fn is_here(context: &Context, client: &Client, request: &[Value]) -> bool {
    let spec = CommandSpec::of(request);
    spec.is_ok_and(|spec| cluster::check(context, client, spec, request).is_ok())
}

/// What is wrong with a request of which an argument was not taken in.
fn refused_argument(request: &[Value]) -> Option<CommandError> {
    let is_refused = |value: &Value| matches!(value, Value::Refused { .. });
    let is_refused = request.iter().any(is_refused);
    is_refused.then(|| Command::parse(request.to_vec()).err())?
}

/// What a write is answered when the journal takes nothing.
pub fn journal_failed(why: &str) -> Reply {
    let text = format!("MISCONF the journal cannot be written ({why}); writes are refused");
    Reply::Error(text.into())
}

async fn apply(
    context: &Context,
    view: View<'_>,
    client: &mut Client,
    command: Command,
) -> Outcome {
    let scope = Scope {
        context,
        db: client.db,
        view,
    };
    // boxed, but for the most usual: a connection would take their memory all the time
    match command {
        Command::String(command) => strings::apply(scope, client, command).await,
        Command::Hash(command) => Box::pin(hashes::apply(scope, command)).await,
        Command::Key(command) => Box::pin(keys::apply(scope, command)).await,
        Command::Bit(command) => Box::pin(bits::apply(scope, command)).await,
        Command::Inspect(command) => Box::pin(inspect::apply(scope, command)).await,
        Command::Connection(command) => connection::apply(context, client, command),
        Command::Script(command) => Box::pin(scripts::apply(scope, client, command)).await,
        Command::PubSub(command) => pubsub::apply(scope, client, command),
        Command::Acl(command) => acl::apply(context, client, command),
        Command::Cluster(command) => Box::pin(cluster::apply(scope, client, command)).await,
        Command::Server(ServerCommand::Monitor) => monitor::enter(scope, client),
        Command::Server(ServerCommand::SwapDb(pair)) => server::swap(scope, pair).into(),
        Command::Server(command) => server::apply(scope, command),
        // EXEC has forgotten them already
        Command::Transaction(TransactionCommand::Unwatch) => Reply::OK.into(),
        // never queued, and not for scripts
        Command::Transaction(_) => CommandError::NestedMulti.into(),
    }
}

/// Whether a value that is read waits for a share of the memory for values under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// It does.
    Shared,
    /// It does not: whoever has that memory may wait for who reads.
    Extra,
}

/// Makes a value ready to be sent: small ones are read whole, of others the
/// first cells, so that what is lost is noticed before a header goes out.
pub async fn ready(store: &Arc<Store>, lookup: Lookup) -> ValueReply {
    ready_in(store, lookup, Memory::Shared).await
}

async fn ready_in(store: &Arc<Store>, mut lookup: Lookup, memory: Memory) -> ValueReply {
    loop {
        let pinned = match lookup {
            Lookup::Missing => return ValueReply::Whole(Reply::Null),
            Lookup::Here(value) => return ValueReply::Whole(Reply::Bulk(value)),
            Lookup::There(pinned) => pinned,
        };
        let (key, write_id) = (pinned.key().clone(), pinned.object().write_id);
        let value = ready_on_nodes(store, pinned, memory).await;
        if !matches!(value, ValueReply::Whole(Reply::Null)) {
            return value;
        }
        // lost; but it may have been written anew meanwhile
        match store.look_up_named(key) {
            Some(looked) if looked.write_id != write_id => lookup = looked.lookup,
            _ => return value,
        }
    }
}

async fn ready_on_nodes(store: &Arc<Store>, pinned: Pinned, memory: Memory) -> ValueReply {
    if store.is_small(pinned.object()) {
        let again = store.again(&pinned);
        return ValueReply::Whole(match store.read_whole(pinned).await {
            Ok(value) => Reply::Bulk(value),
            Err(error) => {
                forget_if_lost(store, &again, &error);
                error.into()
            }
        });
    }
    let all = 0..pinned.object().size_bytes();
    match stream(store, pinned, all, memory).await {
        Ok(value) => value,
        Err(error) => ValueReply::Whole(error.into()),
    }
}

/// Makes a value ready whose turn has not come, as [`ready`] does, if there is
/// memory to spare; or gives the lookup back. Also after any error: nobody looks
/// after it while the value before is sent, which may outlast every deadline.
pub async fn ready_early(store: &Arc<Store>, lookup: Lookup) -> Result<ValueReply, Lookup> {
    let Lookup::There(pinned) = lookup else {
        return Ok(ready(store, lookup).await);
    };
    let again = store.again(&pinned);
    let value = if store.is_small(pinned.object()) {
        let value = store.read_whole(pinned).await;
        value.map(|value| ValueReply::Whole(Reply::Bulk(value)))
    } else {
        let reader = ObjectReader::early(pinned).map_err(Lookup::There)?;
        begin(store, reader).await
    };
    value.map_err(|_| Lookup::There(again))
}

/// Bytes of a value on nodes, the first of them confirmed.
async fn stream(
    store: &Arc<Store>,
    pinned: Pinned,
    bytes: Range<u64>,
    memory: Memory,
) -> Result<ValueReply, ReadError> {
    let reader = ObjectReader::range(pinned, bytes);
    let reader = match memory {
        Memory::Shared => reader,
        Memory::Extra => reader.unmetered(),
    };
    begin(store, reader).await
}

async fn begin(store: &Arc<Store>, reader: ObjectReader) -> Result<ValueReply, ReadError> {
    let mut rest = Box::new(reader);
    match rest.next_cells().await {
        Ok(Some(first)) => Ok(ValueReply::Stream { first, rest }),
        Ok(None) => Ok(ValueReply::Whole(Reply::Bulk(Value::Empty))),
        Err(error) => {
            forget_if_lost(store, rest.pinned(), &error);
            Err(error)
        }
    }
}

/// Makes bytes of a value ready to be sent. Of one that is lost there are none.
pub async fn range(store: &Arc<Store>, pinned: Pinned, bytes: Range<u64>) -> ValueReply {
    ranges::range_in(store, pinned, bytes, Memory::Shared).await
}

fn forget_if_lost(store: &Arc<Store>, pinned: &Pinned, error: &ReadError) {
    if let ReadError::Lost { .. } = error {
        store.forget_lost(pinned);
    }
}

fn key(db: u8, bytes: &bytes::Bytes) -> Key {
    Key {
        db,
        bytes: bytes.clone(),
    }
}
