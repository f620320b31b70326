//! The admin port's part for nodes that come and go.

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use scatterhoard_wire::NodeId;
use serde::Deserialize;

use super::{Admin, NOT_FOR_PAGES, is_from_page};
use crate::{
    elastic::{Added, ElasticError, Which},
    pool::membership,
    store::Store,
};

#[derive(Deserialize)]
struct Order {
    count: Option<usize>,
    nodes: Option<String>,
    force: Option<bool>,
}

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/pool", get(status))
        .route("/pool/add", post(add))
        .route("/pool/drain", post(drain))
        .route("/pool/cancel", post(cancel))
}

/// Gauges are read off when somebody looks.
#[allow(clippy::cast_precision_loss, reason = "metrics are doubles")]
pub(super) fn gauges(store: &Store) {
    let states = store.pool().states();
    for name in membership::State::ALL.map(membership::State::name) {
        let count = states.iter().filter(|s| s.name() == name).count();
        metrics::gauge!("scatterhoard_pool_nodes", "state" => name).set(count as f64);
    }
    let (drains, without_room) = store.drains();
    let chunks: usize = drains.values().map(|drain| drain.chunks).sum();
    let bytes: u64 = drains.values().map(|drain| drain.bytes).sum();
    metrics::gauge!("scatterhoard_drain_chunks_left").set(chunks as f64);
    metrics::gauge!("scatterhoard_drain_bytes_left").set(bytes as f64);
    metrics::gauge!("scatterhoard_drain_objects_without_room").set(without_room as f64);
}

async fn status(State(admin): State<Admin>) -> Response {
    Json(admin.elastic.status()).into_response()
}

async fn add(State(admin): State<Admin>, headers: HeaderMap, query: Query<Order>) -> Response {
    let which = match order(&headers, &query) {
        Ok(which) => which,
        Err(refusal) => return refusal,
    };
    match admin.elastic.add(which).await {
        Ok(Added { nodes, skipped }) => {
            let nodes: Vec<u16> = nodes.into_iter().map(|id| id.0).collect();
            Json(serde_json::json!({ "nodes": nodes, "skipped": skipped })).into_response()
        }
        Err(error) => answer(Err(error)),
    }
}

async fn drain(State(admin): State<Admin>, headers: HeaderMap, query: Query<Order>) -> Response {
    let which = match order(&headers, &query) {
        Ok(which) => which,
        Err(refusal) => return refusal,
    };
    let force = query.force.unwrap_or(false);
    answer(admin.elastic.drain(which, force).await)
}

async fn cancel(State(admin): State<Admin>, headers: HeaderMap, query: Query<Order>) -> Response {
    if is_from_page(&headers) {
        return NOT_FOR_PAGES.into_response();
    }
    let nodes = match query.nodes.as_deref().map(nodes).transpose() {
        Ok(nodes) => nodes,
        Err(refusal) => return refusal,
    };
    answer(admin.elastic.cancel(nodes).await)
}

#[allow(clippy::result_large_err, reason = "an answer as axum has it")]
fn order(headers: &HeaderMap, order: &Order) -> Result<Which, Response> {
    if is_from_page(headers) {
        return Err(NOT_FOR_PAGES.into_response());
    }
    match (order.count, &order.nodes) {
        (Some(count), None) => Ok(Which::Count(count)),
        (None, Some(text)) => nodes(text).map(Which::Nodes),
        _ => {
            let text = "say ?count=N or ?nodes=I,J\n";
            Err((StatusCode::BAD_REQUEST, text).into_response())
        }
    }
}

#[allow(clippy::result_large_err, reason = "an answer as axum has it")]
fn nodes(text: &str) -> Result<Vec<NodeId>, Response> {
    let nodes = text.split(',').map(|n| n.trim().parse().map(NodeId));
    let nodes: Result<Vec<NodeId>, _> = nodes.collect();
    nodes.map_err(|_| {
        let text = "nodes are numbers with commas between them\n";
        (StatusCode::BAD_REQUEST, text).into_response()
    })
}

fn answer(done: Result<Vec<NodeId>, ElasticError>) -> Response {
    let (status, error) = match done {
        Ok(nodes) => {
            let nodes: Vec<u16> = nodes.into_iter().map(|id| id.0).collect();
            return Json(serde_json::json!({ "nodes": nodes })).into_response();
        }
        Err(error @ ElasticError::Refused(_)) => (StatusCode::CONFLICT, error),
        Err(error @ ElasticError::NotMet(_)) => (StatusCode::BAD_GATEWAY, error),
        Err(error @ ElasticError::Journal(_)) => (StatusCode::SERVICE_UNAVAILABLE, error),
    };
    (status, format!("{error}\n")).into_response()
}
