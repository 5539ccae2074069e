//! `POST /login`: checks a password and issues a token.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    answer::{HttpResponse, error_response, json_response},
    gate,
    shared::{AdmittedConnection, Shared},
};
use crate::{
    auth::Claims,
    client::LoggedIn,
    envelope::{check_name, check_user_name},
};

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

/// Answers a login request with a token and the nodes, or with an error.
pub(super) async fn respond(connection: &AdmittedConnection, request: Request<Incoming>) -> HttpResponse {
    let shared = &connection.shared;
    let address = connection.client(request.headers());
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
    let devices = [("device", &login.device), ("platform", &login.platform)];
    let checked = devices.into_iter().try_for_each(|(field, name)| check_name(field, name));
    if let Err(error) = checked.and_then(|()| check_user_name("user", &login.user)) {
        return error_response(StatusCode::BAD_REQUEST, &error.to_string());
    }
    let attempt = match shared.guard.admit(&login.user, address, Instant::now()) {
        Ok(attempt) => attempt,
        Err(wait) => {
            count_rejected(shared);
            let error = format!("too many failed or unfinished logins, retry in {} s", seconds(wait));
            return retry_later(StatusCode::TOO_MANY_REQUESTS, &error, wait);
        }
    };
    match shared.accounts.check(&login.user, &login.password).await {
        Ok(true) => {
            attempt.succeed(Instant::now());
            shared.metrics.logins.fetch_add(1, Relaxed);
            let LoginRequest { user, device, platform, .. } = login;
            let claims = Claims::lasting(user, device, platform, SystemTime::now());
            let claims = claims.with_audience(shared.config.audience.clone());
            json_response(StatusCode::OK, &LoggedIn { token: claims.sign(&shared.secret), nodes: gate::nodes(shared) })
        }
        Ok(false) => {
            count_rejected(shared);
            error_response(StatusCode::UNAUTHORIZED, "unknown user or wrong password")
        }
        Err(busy) => {
            attempt.withdraw(Instant::now());
            count_rejected(shared);
            retry_later(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string(), Duration::from_secs(1))
        }
    }
}

fn count_rejected(shared: &Shared) {
    shared.metrics.logins_refused.fetch_add(1, Relaxed);
}

/// Returns an error that asks the client to repeat the request after a time.
fn retry_later(status: StatusCode, error: &str, wait: Duration) -> HttpResponse {
    let mut response = error_response(status, error);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
    response
}

/// Returns a time in whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The maximum length of a request body, in bytes.
const MAX_BODY: usize = 4 << 10;
