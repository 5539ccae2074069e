//! The HTTP requests of an edge: page, gate, health, metrics. `login.rs` has the login.

use std::{convert::Infallible, sync::Arc};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde::Serialize;

use super::{
    answer::{HttpResponse, error_response, json_response},
    client, gate, login, origin, page, room,
    shared::{AdmittedConnection, Shared},
};

/// Handles one request. A WebSocket request spawns a task that takes the connection over.
pub(super) async fn respond(
    connection: Arc<AdmittedConnection>,
    request: Request<Incoming>,
) -> Result<HttpResponse, Infallible> {
    let shared = &connection.shared;
    let (origins, origin) = (&shared.config.allowed_origins, request.headers().get(header::ORIGIN).cloned());
    let is_for_pages = matches!(request.uri().path(), "/ws" | "/channel" | "/gate" | "/login");
    let mut response = match (request.method(), request.uri().path()) {
        _ if is_for_pages && !origin::is_allowed(origins, request.headers()) => {
            let error = "the origin of the page is not allowed (EdgeConfig::allowed_origins)";
            return Ok(error_response(StatusCode::FORBIDDEN, error));
        }
        (&Method::GET, "/ws") => client::upgrade(&connection, request),
        (&Method::GET, "/channel") => room::upgrade(&connection, request).await,
        (&Method::GET, "/gate") => json_response(StatusCode::OK, &Gate { nodes: gate::nodes(shared) }),
        (&Method::GET | &Method::HEAD, "/health") => health(shared),
        (&Method::GET, "/metrics") => metrics(shared),
        (&Method::POST, "/login") => login::respond(&connection, request).await,
        (&Method::OPTIONS, "/login" | "/gate") => preflight(),
        (_, "/ws" | "/channel" | "/gate" | "/health" | "/metrics" | "/login") => method_not_allowed(),
        (method, path) => match page::response(path, request.headers()) {
            None => error_response(StatusCode::NOT_FOUND, "no such path"),
            Some(response) if [Method::GET, Method::HEAD].contains(method) => response,
            Some(_) => method_not_allowed(),
        },
    };
    let headers = response.headers_mut();
    // A page from one node connects to other nodes when its own fails. It reads no health or metrics.
    if is_for_pages {
        origin::permit(origins, origin, headers);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

#[derive(Serialize)]
struct Gate {
    nodes: Vec<String>,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    store: &'static str,
    directory: &'static str,
    node: String,
    connections: usize,
}

fn method_not_allowed() -> HttpResponse {
    error_response(StatusCode::METHOD_NOT_ALLOWED, "method not allowed for this path")
}

fn health(shared: &Shared) -> HttpResponse {
    let state = shared.node.health();
    let (code, status) = match state {
        _ if state.is_healthy() => (StatusCode::OK, "ok"),
        _ if !state.accepts_logins => (StatusCode::SERVICE_UNAVAILABLE, "not accepting logins"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "an engine does not answer"),
    };
    let state_of = |answers| if answers { "ok" } else { "unavailable" };
    let (store, directory) = (state_of(state.store_answers), state_of(state.directory_answers));
    let (node, connections) = (shared.name(), shared.node.connections());
    json_response(code, &Health { status, store, directory, node, connections })
}

fn metrics(shared: &Shared) -> HttpResponse {
    let text = shared.metrics.to_text(&shared.name());
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}

/// Answers the CORS preflight request of a page.
///
/// A browser sends it before a page from one node logs in at another.
fn preflight() -> HttpResponse {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}
