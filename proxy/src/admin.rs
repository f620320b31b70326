//! The admin port: health, metrics, and the local pool's instances.

mod nodes;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{
        HeaderMap, StatusCode,
        header::{HOST, ORIGIN},
    },
    response::IntoResponse,
    routing::{get, post},
};
use local_lambda::{Handle, Reclaim};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{apply::Context, elastic::Elastic, pool::lifecycle::Phase};

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    context: Arc<Context>,
    metrics: PrometheusHandle,
    local: Option<Handle>,
    elastic: Arc<Elastic>,
}

#[derive(Deserialize)]
struct ReclaimQuery {
    function: Option<String>,
    count: Option<usize>,
    seed: Option<u64>,
}

impl Admin {
    /// An admin port over a running server; `local` in local-pool mode only.
    pub fn new(
        context: Arc<Context>,
        metrics: PrometheusHandle,
        local: Option<Handle>,
        elastic: Arc<Elastic>,
    ) -> Self {
        Self {
            context,
            metrics,
            local,
            elastic,
        }
    }

    /// Serves until stopped.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let router = Router::new()
            .route("/", get(index))
            .route("/healthz", get(healthz))
            .route("/metrics", get(render))
            .route("/pool/instances", get(instances))
            .route("/pool/reclaim", post(reclaim))
            .merge(nodes::routes())
            .with_state(self);
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "admin port failed");
        }
    }
}

async fn index() -> &'static str {
    "scatterhoard\n\nGET  /healthz\nGET  /metrics\nGET  /pool\nPOST /pool/add?count=N or ?nodes=I,J\nPOST /pool/drain?count=N or ?nodes=I,J[&force=true]\nPOST /pool/cancel[?nodes=I,J]\nGET  /pool/instances\nPOST /pool/reclaim?count=N[&seed=S] or ?function=NAME\n"
}

/// Healthy as long as enough nodes can be reached to read and write.
async fn healthz(State(admin): State<Admin>) -> impl IntoResponse {
    let pool = admin.context.store.pool();
    let outage = pool.outage();
    let reachable = match outage {
        None => pool.candidates().iter().filter(|c| c.reachable).count(),
        // between two tries a node looks reachable that is not
        Some(_) => pool.active().filter(|n| n.trouble().is_none()).count(),
    };
    let geometry = admin.context.store.settings().geometry.full;
    let nodes = pool.active().count();
    let mut text = format!("{reachable} of {nodes} nodes reachable\n");
    if let Some((extent, lasts)) = outage {
        let (seconds, fix) = (lasts.as_secs(), extent.fix());
        text += &format!("outage for {seconds} s: {extent}; to do: {fix}\n");
    }
    if reachable > geometry.data() || reachable == nodes {
        (StatusCode::OK, format!("ok: {text}"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("degraded: {text}"))
    }
}

async fn render(State(admin): State<Admin>) -> String {
    gauges(&admin.context);
    admin.metrics.render()
}

type IsPhase = fn(&Phase) -> bool;

/// Gauges are read off when somebody looks.
#[allow(clippy::cast_precision_loss, reason = "metrics are doubles")]
fn gauges(context: &Context) {
    let store = &context.store;
    let index = store.index();
    let keys: u64 = (0..crate::keyspace::DATABASES as u8)
        .map(|db| index.len(db))
        .sum();
    metrics::gauge!("scatterhoard_keys").set(keys as f64);
    metrics::gauge!("scatterhoard_object_bytes").set(index.bytes() as f64);
    metrics::gauge!("scatterhoard_segments").set(index.segments() as f64);
    metrics::counter!("scatterhoard_expired_keys_total").absolute(index.expired_total());
    drop(index);
    metrics::gauge!("scatterhoard_hot_tier_bytes").set(store.hot_bytes() as f64);
    let (warm_interval, hazard) = store.pool().warmth();
    metrics::gauge!("scatterhoard_warm_interval_seconds").set(warm_interval.as_secs_f64());
    metrics::gauge!("scatterhoard_instance_losses_per_second").set(hazard);
    metrics::gauge!("scatterhoard_repairs_waiting").set(store.repairs_waiting() as f64);
    metrics::gauge!("scatterhoard_dirty_values").set(store.dirty_values() as f64);
    if let Some(backing) = store.backing() {
        let (uploads, bytes, deletions) = backing.waiting();
        metrics::gauge!("scatterhoard_backing_waiting_uploads").set(uploads as f64);
        metrics::gauge!("scatterhoard_backing_waiting_bytes").set(bytes as f64);
        metrics::gauge!("scatterhoard_backing_waiting_deletions").set(deletions as f64);
        metrics::gauge!("scatterhoard_backing_request_usd").set(backing.usd());
        metrics::gauge!("scatterhoard_backing_answers").set(f64::from(backing.answers()));
    }
    metrics::gauge!("scatterhoard_clients").set(context.clients.len() as f64);
    nodes::gauges(store);
    let views: Vec<_> = store.pool().members().map(|n| n.view()).collect();
    let phases: [(&str, IsPhase); 6] = [
        ("asleep", |p| matches!(p, Phase::Asleep)),
        ("pinging", |p| matches!(p, Phase::Pinging { .. })),
        ("waking", |p| matches!(p, Phase::Waking { .. })),
        ("active", |p| matches!(p, Phase::Active { .. })),
        ("returning", |p| matches!(p, Phase::Returning { .. })),
        ("unreachable", |p| matches!(p, Phase::Unreachable { .. })),
    ];
    for (name, is_it) in phases {
        let count = views.iter().filter(|v| is_it(&v.phase)).count();
        metrics::gauge!("scatterhoard_nodes", "phase" => name).set(count as f64);
    }
    let held = views.iter().filter_map(|v| v.held);
    let (used, budget) = held.fold((0_u64, 0_u64), |(u, b), h| {
        (u.saturating_add(h.bytes), b.saturating_add(h.budget_bytes))
    });
    metrics::gauge!("scatterhoard_node_bytes_held").set(used as f64);
    metrics::gauge!("scatterhoard_node_bytes_budget").set(budget as f64);
    let stats = &context.stats;
    let counters = [
        ("scatterhoard_commands_total", &stats.commands),
        ("scatterhoard_connections_total", &stats.connections),
        (
            "scatterhoard_rejected_connections_total",
            &stats.rejected_connections,
        ),
        ("scatterhoard_keyspace_hits_total", &stats.hits),
        ("scatterhoard_keyspace_misses_total", &stats.misses),
    ];
    for (name, counter) in counters {
        let value = counter.load(std::sync::atomic::Ordering::Relaxed);
        metrics::counter!(name).absolute(value);
    }
}

const NOT_LOCAL: (StatusCode, &str) = (
    StatusCode::NOT_FOUND,
    "only with the local pool; ask the function endpoint\n",
);

async fn instances(State(admin): State<Admin>) -> axum::response::Response {
    let Some(local) = &admin.local else {
        return NOT_LOCAL.into_response();
    };
    Json(local.instances()).into_response()
}

const NOT_FOR_PAGES: (StatusCode, &str) = (
    StatusCode::FORBIDDEN,
    "not for web pages: no Origin, and an address or localhost as Host\n",
);

/// Browsers send requests to this machine for pages of others; they say so.
fn is_from_page(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    headers.contains_key(ORIGIN) || !host.is_some_and(names_address)
}

/// Whether a Host header has an address, or the loopback's name: others may be made
/// to mean this machine.
fn names_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || bare.unwrap_or(name).parse::<IpAddr>().is_ok()
}

async fn reclaim(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Query(query): Query<ReclaimQuery>,
) -> axum::response::Response {
    if is_from_page(&headers) {
        return NOT_FOR_PAGES.into_response();
    }
    let Some(local) = &admin.local else {
        return NOT_LOCAL.into_response();
    };
    let order = match (query.function, query.count) {
        (Some(function), _) => Reclaim::function(function),
        (None, Some(count)) => Reclaim::random(count, query.seed.unwrap_or_else(rand::random)),
        (None, None) => {
            let text = "say ?count=N or ?function=NAME\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    Json(local.reclaim(&order.and_busy())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_are_told_from_people_here() {
        for host in [
            "127.0.0.1:9121",
            "localhost:9121",
            "LOCALHOST",
            "[::1]:9121",
            "10.1.2.3",
        ] {
            assert!(names_address(host), "{host}");
        }
        for host in [
            "evil.example:9121",
            "127.0.0.1.evil.example",
            "",
            ":9121",
            "localhost.evil",
        ] {
            assert!(!names_address(host), "{host}");
        }
        let mut headers = HeaderMap::new();
        assert!(is_from_page(&headers));
        headers.insert(HOST, "127.0.0.1:9121".parse().unwrap());
        assert!(!is_from_page(&headers));
        headers.insert(ORIGIN, "http://evil.example".parse().unwrap());
        assert!(is_from_page(&headers));
    }
}
