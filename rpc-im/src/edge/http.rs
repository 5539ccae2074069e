//! What is answered over HTTP.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde::{Deserialize, Serialize};

use super::{
    answer::{Answer, json, refusal},
    client, gate, room,
    shared::{Booked, Shared},
};
use crate::{auth::Claims, client::LoggedIn, envelope::check_name};

/// Answers one request. Where it is one for a WebSocket, a task of its own goes on with the connection.
pub(super) async fn answer(booked: Arc<Booked>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let shared = &booked.shared;
    let mut answer = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => page(),
        (&Method::GET, "/ws") => client::upgrade(&booked, request),
        (&Method::GET, "/channel") => room::upgrade(&booked, request).await,
        (&Method::GET, "/gate") => json(StatusCode::OK, &Gate { nodes: nodes(shared) }),
        (&Method::GET | &Method::HEAD, "/health") => health(shared),
        (&Method::GET, "/metrics") => metrics(shared),
        (&Method::POST, "/login") => login(shared, request).await,
        (&Method::OPTIONS, "/login" | "/gate") => preflight(),
        (_, "/" | "/ws" | "/channel" | "/gate" | "/health" | "/metrics" | "/login") => {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "this path is not asked for in that way")
        }
        _ => refusal(StatusCode::NOT_FOUND, "nothing is here"),
    };
    let headers = answer.headers_mut();
    // A page of one node talks to others when its own is gone. There are no cookies that it could abuse.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(answer)
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

/// The body of a login.
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

fn page() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(PAGE.as_bytes())));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_MAY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// Where clients may go, best first.
fn nodes(shared: &Shared) -> Vec<String> {
    let nodes = shared.node.nodes().into_iter().filter(|node| !node.draining).collect();
    let chosen = gate::choose(nodes, |node| node.connections, &mut rand::rng());
    chosen.into_iter().map(|node| node.websocket).collect()
}

fn health(shared: &Shared) -> Answer {
    let (status, word) = match shared.node.is_ready() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "takes no logins"),
    };
    json(status, &Health { status: word, node: shared.name(), connections: shared.node.connections() })
}

fn metrics(shared: &Shared) -> Answer {
    let text = shared.metrics.to_text(&shared.name());
    let mut answer = Response::new(Full::from(text));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    answer
}

async fn login(shared: &Shared, request: Request<Incoming>) -> Answer {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let Ok(Ok(body)) = tokio::time::timeout(shared.config.http_time, body).await else {
        return refusal(StatusCode::BAD_REQUEST, "the body is too long, or did not come whole in time");
    };
    let Ok(login) = serde_json::from_slice::<LoginRequest>(&body.to_bytes()) else {
        return refusal(StatusCode::BAD_REQUEST, "the body is not JSON with user, password, device and platform");
    };
    let names = [("user", &login.user), ("device", &login.device), ("platform", &login.platform)];
    if let Some(error) = names.into_iter().find_map(|(what, name)| check_name(what, name).err()) {
        return refusal(StatusCode::BAD_REQUEST, &error.to_string());
    }
    let right = shared.accounts.check(&login.user, &login.password).await;
    let counter = if let Ok(true) = right { &shared.metrics.logins } else { &shared.metrics.logins_refused };
    counter.fetch_add(1, Relaxed);
    match right {
        Ok(true) => {
            let LoginRequest { user, device, platform, .. } = login;
            let claims = Claims::lasting(user, device, platform, SystemTime::now());
            json(StatusCode::OK, &LoggedIn { token: claims.sign(&shared.secret), nodes: nodes(shared) })
        }
        Ok(false) => refusal(StatusCode::UNAUTHORIZED, "no such user, or not the password"),
        Err(busy) => {
            let mut answer = refusal(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string());
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
    }
}

/// What a browser asks before a page of one node logs in at another.
fn preflight() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    answer
}

/// The chat page.
const PAGE: &str = include_str!("page.html");
/// What the page may load: nothing but itself, and connections to nodes.
const PAGE_MAY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                        connect-src http: https: ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The longest body of a request, in bytes.
const MAX_BODY: usize = 4 << 10;
