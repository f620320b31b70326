//! INFO: Redis's sections and field names for what exists here, and a section
//! of our own about the pool.

use std::{fmt::Write, sync::atomic::Ordering};

use super::Context;
use crate::{keyspace::DATABASES, pool::lifecycle::Phase};

/// The version of Redis whose behaviour we follow; clients look at it.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// How Redis would call the way it runs.
pub(super) fn mode(context: &Context) -> &'static str {
    match context.config.cluster {
        Some(_) => "cluster",
        None => "standalone",
    }
}

type Section = (&'static str, fn(&Context, &mut String) -> std::fmt::Result);

const SECTIONS: &[Section] = &[
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("pool", pool),
    ("cluster", cluster),
    ("keyspace", keyspace),
];

pub(super) fn text(context: &Context, sections: &[String]) -> String {
    let everything = sections.is_empty()
        || sections
            .iter()
            .any(|s| matches!(s.as_str(), "all" | "default" | "everything"));
    let mut out = String::new();
    for (name, write) in SECTIONS {
        if everything || sections.iter().any(|s| s == name) {
            if !out.is_empty() {
                out.push_str("\r\n");
            }
            let title = name[..1].to_uppercase() + &name[1..];
            // writing to a string cannot fail
            let _ = write!(out, "# {title}\r\n");
            let _ = write(context, &mut out);
        }
    }
    out
}

macro_rules! fields {
    ($out:expr, $($name:literal => $value:expr),+ $(,)?) => {{
        $(write!($out, concat!($name, ":{}\r\n"), $value)?;)+
        Ok(())
    }};
}

fn server(context: &Context, out: &mut String) -> std::fmt::Result {
    let uptime = context.started.elapsed().as_secs();
    fields!(out,
        "redis_version" => REDIS_VERSION,
        "redis_mode" => mode(context),
        "scatterhoard_version" => env!("CARGO_PKG_VERSION"),
        "os" => std::env::consts::OS,
        "arch_bits" => usize::BITS,
        "process_id" => std::process::id(),
        "tcp_port" => context.config.listen.port(),
        "uptime_in_seconds" => uptime,
        "uptime_in_days" => uptime / 86_400,
    )
}

fn clients(context: &Context, out: &mut String) -> std::fmt::Result {
    fields!(out,
        "connected_clients" => context.clients.len(),
        "maxclients" => context.config.max_clients,
        "blocked_clients" => 0,
        "tracking_clients" => context.store.tracking().counts().0,
    )
}

fn memory(context: &Context, out: &mut String) -> std::fmt::Result {
    let views = context.store.pool().active().filter_map(|n| n.view().held);
    let (used, budget) = views.fold((0_u64, 0_u64), |(u, b), h| {
        (u.saturating_add(h.bytes), b.saturating_add(h.budget_bytes))
    });
    fields!(out,
        "used_memory" => used,
        "maxmemory" => budget,
        "maxmemory_policy" => context.store.settings().eviction.name(),
        "used_memory_dataset" => context.store.index().bytes(),
        "dirty_values" => context.store.dirty_values(),
        "hot_tier_bytes" => context.store.hot_bytes(),
    )
}

fn persistence(context: &Context, out: &mut String) -> std::fmt::Result {
    let fields: std::fmt::Result =
        fields!(out, "loading" => 0, "rdb_changes_since_last_save" => 0, "aof_enabled" => 0);
    let Some(backing) = context.store.backing() else {
        return fields;
    };
    let (uploads, bytes, deletions) = backing.waiting();
    fields!(out,
        "backing_store" => backing.location(),
        "backing_answers" => u8::from(backing.answers()),
        "backing_waiting_uploads" => uploads,
        "backing_waiting_bytes" => bytes,
        "backing_waiting_deletions" => deletions,
    )
}

fn stats(context: &Context, out: &mut String) -> std::fmt::Result {
    let stats = &context.stats;
    let expired = context.store.index().expired_total();
    fields!(out,
        "total_connections_received" => stats.connections.load(Ordering::Relaxed),
        "total_commands_processed" => stats.commands.load(Ordering::Relaxed),
        "rejected_connections" => stats.rejected_connections.load(Ordering::Relaxed),
        "expired_keys" => expired,
        "keyspace_hits" => stats.hits.load(Ordering::Relaxed),
        "keyspace_misses" => stats.misses.load(Ordering::Relaxed),
        "tracking_total_keys" => context.store.tracking().counts().1,
    )
}

fn replication(_: &Context, out: &mut String) -> std::fmt::Result {
    fields!(out, "role" => "master", "connected_slaves" => 0)
}

fn pool(context: &Context, out: &mut String) -> std::fmt::Result {
    let views: Vec<_> = context.store.pool().members().map(|n| n.view()).collect();
    let count = |wanted: fn(&Phase) -> bool| views.iter().filter(|v| wanted(&v.phase)).count();
    fields!(out,
        "nodes" => views.len(),
        "nodes_draining" => views.iter().filter(|v| v.state.is_draining()).count(),
        "nodes_asleep" => count(|p| matches!(p, Phase::Asleep | Phase::Pinging { .. })),
        "nodes_active" => count(|p| matches!(p, Phase::Active { .. })),
        "nodes_waking" => count(|p| matches!(p, Phase::Waking { .. })),
        "nodes_returning" => count(|p| matches!(p, Phase::Returning { .. })),
        "nodes_unreachable" => count(|p| matches!(p, Phase::Unreachable { .. })),
        "chunks" => views.iter().filter_map(|v| v.held).map(|h| u64::from(h.chunks)).sum::<u64>(),
        "data_parity" => context.store.settings().geometry.full,
    )
}

fn cluster(context: &Context, out: &mut String) -> std::fmt::Result {
    fields!(out, "cluster_enabled" => u8::from(context.config.cluster.is_some()))
}

fn keyspace(context: &Context, out: &mut String) -> std::fmt::Result {
    let index = context.store.index();
    for db in 0..DATABASES as u8 {
        let (keys, expires) = (index.len(db), index.volatile(db));
        if keys > 0 {
            write!(out, "db{db}:keys={keys},expires={expires},avg_ttl=0\r\n")?;
        }
    }
    Ok(())
}
