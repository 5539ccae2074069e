//! [`HttpResponse`]: HTTP responses whose whole body is in memory.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use serde::Serialize;

/// A response whose whole body is in memory.
pub(super) type HttpResponse = Response<Full<Bytes>>;

/// Returns a response with an error message as JSON.
pub(super) fn error_response(status: StatusCode, error: &str) -> HttpResponse {
    json_response(status, &ErrorBody { error })
}

/// Returns a response with a value as JSON.
pub(super) fn json_response(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    let text = serde_json::to_vec(value).expect("strings and numbers always serialize");
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}
