//! [`Answer`]: HTTP responses whose whole body is in memory.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use serde::Serialize;

/// A response whose whole body is in memory.
pub(super) type Answer = Response<Full<Bytes>>;

/// Returns a response with this error message as JSON.
pub(super) fn refusal(status: StatusCode, error: &str) -> Answer {
    json(status, &ErrorBody { error })
}

/// Returns a response with this value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).expect("strings and numbers always serialize");
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}
