//! MONITOR, and what each request is shown as to those who said it.

use super::{Context, Outcome, Scope};
use crate::{
    clients::Client,
    command::{CommandError, CommandSpec, Named, table::flags},
    monitor::{self, Shown, Source},
    resp::Reply,
    value::Value,
};

/// MONITOR.
pub(super) fn enter(scope: Scope<'_>, client: &mut Client) -> Outcome {
    if scope.view.transaction().is_some() {
        return CommandError::MonitorInTransaction.into();
    }
    if client.monitoring.is_some() {
        // Redis says nothing to that
        return Outcome::Pushes(Vec::new());
    }
    let mailbox = client.mailbox.clone();
    client.monitoring = Some(scope.context.monitors.enter(client.entry.id(), mailbox));
    client.show();
    Reply::OK.into()
}

/// Whether a connection may have this carried out although it is told of all commands:
/// nothing that has to do with keys or messages, for Redis takes it for a replica.
pub(super) fn check(
    client: &Client,
    spec: &CommandSpec,
    request: &[Value],
) -> Result<(), CommandError> {
    if client.monitoring.is_none() {
        return Ok(());
    }
    match spec.is(flags::READONLY) || Named::of(request).waits_with_writes() {
        true => Err(CommandError::Monitoring),
        false => Ok(()),
    }
}

/// A request is about to be carried out: what it is shown as is put into words now.
pub fn begin(context: &Context, client: &mut Client, request: &[Value]) {
    client.shown = Shown::new(&context.monitors);
    if client.shown.is_none() {
        return;
    }
    let Ok(spec) = CommandSpec::of(request) else {
        return;
    };
    let peer = Source::Client(client.entry.peer());
    let words = before(client, peer, spec, request);
    if let Some(shown) = &mut client.shown {
        shown.stays();
        shown.words = words;
    }
}

/// The request is shown, if it was carried out and not refused.
pub fn end(client: &mut Client) {
    let shown = client.shown.take();
    let Some(mut shown) = shown.filter(|_| client.carried_out) else {
        return;
    };
    if let Some(words) = shown.words.take() {
        shown.add(client.db, Source::Client(client.entry.peer()), &words);
    }
    shown.tell();
}

/// What a command is to be shown as once it is carried out; one that is shown before
/// that is. Nothing if nobody is to be told.
pub(super) fn before(
    client: &mut Client,
    source: Source,
    spec: &CommandSpec,
    request: &[Value],
) -> Option<String> {
    let db = client.db;
    let shown = client.shown.as_mut().filter(|_| monitor::shows(spec))?;
    let words = monitor::arguments(request);
    if !monitor::shows_first(spec) {
        return Some(words);
    }
    shown.add(db, source, &words);
    None
}

/// It was carried out.
pub(super) fn after(client: &mut Client, source: Source, words: Option<String>) {
    if let (Some(shown), Some(words)) = (&mut client.shown, words) {
        shown.add(client.db, source, &words);
    }
}

/// What a transaction or a script did was for nothing: it begins anew, or is not done.
pub(super) fn forget(client: &mut Client) {
    if let Some(shown) = &mut client.shown {
        shown.forget();
    }
}
