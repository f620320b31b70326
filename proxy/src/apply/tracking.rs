//! CLIENT TRACKING and CACHING, and what is remembered of who reads.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::Context;
use crate::{
    clients::{Client, Tracked},
    command::{
        CommandError, CommandSpec,
        connection::{Consent, TrackingOptions},
        table::flags,
    },
    resp::Reply,
    tracking::{Redirect, Wish},
    value::Value,
};

/// Prefixes of one client.
const MAX_PREFIXES: usize = 1024;

/// A client is about to read keys: it may want to be told when they change.
pub(super) fn reads(
    context: &Context,
    client: &mut Client,
    spec: &'static CommandSpec,
    request: &[Value],
) {
    let Some(tracked) = &client.tracking else {
        return;
    };
    let wants = match tracked.consent {
        Consent::Always => true,
        Consent::OptIn => tracked.caching,
        Consent::OptOut => !tracked.caching,
    };
    if !spec.is(flags::READONLY) || tracked.wish.broadcast || !wants {
        return;
    }
    let at = |place: usize| request.get(place).cloned().map(Value::into_contiguous);
    let keys = spec.keys.places(request).filter_map(at);
    context.store.tracking().remember(client.entry.id(), keys);
    client.has_remembered = true;
}

pub(super) fn on(
    context: &Context,
    client: &mut Client,
    options: TrackingOptions,
) -> Result<Reply, CommandError> {
    let TrackingOptions {
        redirect,
        broadcast,
        no_loop,
        prefixes,
        consent,
    } = options;
    let redirect = match redirect {
        None => None,
        Some(id) => {
            let mailbox = context
                .clients
                .mailbox(id)
                .ok_or(CommandError::NoRedirect)?;
            Some(Redirect {
                id,
                mailbox: Arc::downgrade(&mailbox),
            })
        }
    };
    if !broadcast && !prefixes.is_empty() {
        return Err(CommandError::PrefixWithoutBcast);
    }
    let before = client.tracking.as_ref();
    if before.is_some_and(|b| b.wish.broadcast != broadcast) {
        return Err(CommandError::SwitchesBcast);
    }
    let consent = match consent[..] {
        [] => Consent::Always,
        [one] => one,
        _ => return Err(CommandError::OptInAndOut),
    };
    let switches = |b: &Tracked| {
        let pair = [b.consent, consent];
        b.consent != consent && !pair.contains(&Consent::Always)
    };
    if before.is_some_and(switches) {
        return Err(CommandError::SwitchesOptIn);
    }
    if broadcast && consent != Consent::Always {
        return Err(CommandError::OptInOfBcast);
    }
    let mut all: BTreeSet<Bytes> = before.map(|b| b.wish.prefixes.clone()).unwrap_or_default();
    check_prefixes(&all, &prefixes)?;
    if broadcast {
        match prefixes.is_empty() {
            true => {
                all.insert(Bytes::new());
            }
            // copied: they outlive the request
            false => all.extend(prefixes.iter().map(|p| Bytes::copy_from_slice(p))),
        }
    }
    let caching = before.is_some_and(|b| b.caching);
    let wish = Wish {
        broadcast,
        no_loop,
        prefixes: all,
    };
    let (id, mailbox) = (client.entry.id(), client.mailbox.clone());
    let redirect_id = redirect.as_ref().map_or(0, |r| r.id);
    let registration = context.store.track(id, wish.clone(), mailbox, redirect);
    // the one before ends first, if there is one
    if let Some(before) = client.tracking.take() {
        before.registration.replaced();
    }
    client.tracking = Some(Tracked {
        wish,
        consent,
        caching,
        redirect: redirect_id,
        registration,
    });
    Ok(Reply::OK)
}

fn check_prefixes(existing: &BTreeSet<Bytes>, given: &[Bytes]) -> Result<(), CommandError> {
    if existing.len() + given.len() > MAX_PREFIXES {
        return Err(CommandError::TooManyPrefixes);
    }
    let overlap = |a: &Bytes, b: &Bytes| a.starts_with(b) || b.starts_with(a);
    let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
    for (i, prefix) in given.iter().enumerate() {
        if let Some(other) = existing.iter().find(|other| overlap(prefix, other)) {
            return Err(CommandError::PrefixOverlaps {
                prefix: text(prefix),
                which: "an existing",
                other: text(other),
            });
        }
        if let Some(other) = given[i + 1..].iter().find(|other| overlap(prefix, other)) {
            return Err(CommandError::PrefixOverlaps {
                prefix: text(prefix),
                which: "another provided",
                other: text(other),
            });
        }
    }
    Ok(())
}

/// CLIENT CACHING.
pub(super) fn caching(client: &mut Client, yes: Option<bool>) -> Reply {
    let reply = match (client.tracking.as_ref().map(|t| t.consent), yes) {
        (None, _) => Err(CommandError::CachingWithoutTracking),
        (Some(_), None) => Err(CommandError::Syntax),
        (Some(Consent::OptIn), Some(true)) => Ok(Reply::OK),
        (Some(Consent::OptOut), Some(false)) => Ok(Reply::OK),
        (Some(_), Some(true)) => Err(CommandError::CachingYes),
        (Some(_), Some(false)) => Err(CommandError::CachingNo),
    };
    if let (Ok(_), Some(tracked)) = (&reply, &mut client.tracking) {
        tracked.caching = true;
    }
    reply.unwrap_or_else(Reply::from)
}

/// CLIENT TRACKINGINFO.
pub(super) fn info(context: &Context, client: &Client) -> Reply {
    let text = |text: &'static str| Reply::Bulk(text.into());
    let (mut words, mut redirect, mut prefixes) = (Vec::new(), -1, Vec::new());
    match &client.tracking {
        None => words.push("off"),
        Some(tracked) => {
            let is = |consent| tracked.consent == consent;
            let broken = context.store.tracking().is_broken(client.entry.id());
            let said = [
                ("on", true),
                ("bcast", tracked.wish.broadcast),
                ("optin", is(Consent::OptIn)),
                ("caching-yes", is(Consent::OptIn) && tracked.caching),
                ("optout", is(Consent::OptOut)),
                ("caching-no", is(Consent::OptOut) && tracked.caching),
                ("noloop", tracked.wish.no_loop),
                ("broken_redirect", broken),
            ];
            words.extend(said.iter().filter(|(_, so)| *so).map(|(word, _)| *word));
            redirect = tracked.redirect.cast_signed();
            let prefix = |p: &Bytes| Reply::Bulk(Value::from(p.clone()));
            prefixes.extend(tracked.wish.prefixes.iter().map(prefix));
        }
    }
    Reply::Map(vec![
        (
            text("flags"),
            Reply::Set(words.into_iter().map(text).collect()),
        ),
        (text("redirect"), Reply::Integer(redirect)),
        (text("prefixes"), Reply::Array(prefixes)),
    ])
}
