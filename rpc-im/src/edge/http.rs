//! The HTTP requests of an edge: page, gate, health, metrics, login.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde::{Deserialize, Serialize};

use super::{
    answer::{HttpResponse, error_response, json_response},
    client, gate, page, room,
    shared::{AdmittedConnection, Shared},
};
use crate::{auth::Claims, client::LoggedIn, envelope::check_name};

/// Handles one request. A WebSocket request spawns a task that takes the connection over.
pub(super) async fn respond(
    connection: Arc<AdmittedConnection>,
    request: Request<Incoming>,
) -> Result<HttpResponse, Infallible> {
    let shared = &connection.shared;
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::GET, "/ws") => client::upgrade(&connection, request),
        (&Method::GET, "/channel") => room::upgrade(&connection, request).await,
        (&Method::GET, "/gate") => json_response(StatusCode::OK, &Gate { nodes: nodes(shared) }),
        (&Method::GET | &Method::HEAD, "/health") => health(shared),
        (&Method::GET, "/metrics") => metrics(shared),
        (&Method::POST, "/login") => login(shared, request).await,
        (&Method::OPTIONS, "/login" | "/gate") => preflight(),
        (_, "/ws" | "/channel" | "/gate" | "/health" | "/metrics" | "/login") => method_not_allowed(),
        (method, path) => match page::response(path, request.headers()) {
            None => error_response(StatusCode::NOT_FOUND, "no such path"),
            Some(response) if [Method::GET, Method::HEAD].contains(method) => response,
            Some(_) => method_not_allowed(),
        },
    };
    let headers = response.headers_mut();
    // A page from one node connects to other nodes when its own fails. Nodes use no cookies that another site could
    // abuse.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
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
    node: String,
    connections: usize,
}

/// The body of a login request.
#[derive(Deserialize)]
struct LoginRequest {
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default = "Claims::unnamed")]
    device: String,
    #[serde(default = "Claims::unnamed")]
    platform: String,
}

fn method_not_allowed() -> HttpResponse {
    error_response(StatusCode::METHOD_NOT_ALLOWED, "method not allowed for this path")
}

/// Returns the WebSocket URLs of nodes for a client, best first.
fn nodes(shared: &Shared) -> Vec<String> {
    let nodes = shared.node.nodes().into_iter().filter(|node| !node.draining).collect();
    let picked = gate::pick_nodes(nodes, |node| node.connections, &mut rand::rng());
    picked.into_iter().map(|node| node.websocket).collect()
}

fn health(shared: &Shared) -> HttpResponse {
    let (code, status) = match shared.node.is_ready() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not accepting logins"),
    };
    json_response(code, &Health { status, node: shared.name(), connections: shared.node.connections() })
}

fn metrics(shared: &Shared) -> HttpResponse {
    let text = shared.metrics.to_text(&shared.name());
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}

async fn login(shared: &Shared, request: Request<Incoming>) -> HttpResponse {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let Ok(Ok(body)) = tokio::time::timeout(shared.config.http_time, body).await else {
        let http_time = shared.config.http_time;
        let error = format!(
            "body is too long, limit is {MAX_BODY} bytes, or incomplete after {http_time:?} (EdgeConfig::http_time)"
        );
        return error_response(StatusCode::BAD_REQUEST, &error);
    };
    let Ok(login) = serde_json::from_slice::<LoginRequest>(&body.to_bytes()) else {
        let error = "body is not JSON with user, password, device and platform";
        return error_response(StatusCode::BAD_REQUEST, error);
    };
    let names = [("user", &login.user), ("device", &login.device), ("platform", &login.platform)];
    if let Some(error) = names.into_iter().find_map(|(field, name)| check_name(field, name).err()) {
        return error_response(StatusCode::BAD_REQUEST, &error.to_string());
    }
    let matches = shared.accounts.check(&login.user, &login.password).await;
    let counter = if let Ok(true) = matches { &shared.metrics.logins } else { &shared.metrics.logins_refused };
    counter.fetch_add(1, Relaxed);
    match matches {
        Ok(true) => {
            let LoginRequest { user, device, platform, .. } = login;
            let claims = Claims::lasting(user, device, platform, SystemTime::now());
            json_response(StatusCode::OK, &LoggedIn { token: claims.sign(&shared.secret), nodes: nodes(shared) })
        }
        Ok(false) => error_response(StatusCode::UNAUTHORIZED, "unknown user or wrong password"),
        Err(busy) => {
            let mut response = error_response(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string());
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    }
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

/// The maximum length of a request body, in bytes.
const MAX_BODY: usize = 4 << 10;
