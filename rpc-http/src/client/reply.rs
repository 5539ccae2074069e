//! The reply or the error in a response.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, header::RETRY_AFTER};
use rpc_core::{Code, Codec, Compression, Delivery, Error, Metadata, Payload, Reply, Status, StatusAnswer};
use serde_json::Value;

use crate::{headers, problem::Problem, status::code_of};

/// Returns the reply or the error in a response.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: Bytes, peer: SocketAddr) -> Result<Reply, Error> {
    let is_application_error = headers.contains_key(headers::SERVICE_ERROR);
    if status.is_success() || is_application_error {
        // A method without a result may have a response without a body.
        let bytes = if body.is_empty() { Bytes::from_static(b"null") } else { body };
        let (codec, compression) = (Codec::Json as u8, Compression::None as u8);
        let payload = Payload { codec, compression, bytes, max_decompressed: 0 };
        let metadata = metadata(headers);
        return Ok(Reply { is_application_error, metadata, payload, peer: Some(peer), items: None });
    }
    let error = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) if problem.known_code().is_some() => of_msnb(&problem),
        _ => of_others(status, headers, &body),
    };
    Err(error.with_peer(peer).with_metadata(metadata(headers)))
}

/// Returns the error of an endpoint of msnb, which states whether the handler executed.
fn of_msnb(problem: &Problem) -> Error {
    let code = problem.known_code().unwrap_or(Code::Unknown);
    let delivery = problem.known_delivery().unwrap_or(Delivery::Unknown);
    let status = Status::new(code, problem.detail.clone());
    let status = problem.retry_after().into_iter().fold(status, Status::with_retry_after);
    let not_executed = delivery == Delivery::NotExecuted;
    Error::from_answer(StatusAnswer { status, not_executed }).with_delivery(delivery)
}

/// Returns the error of another framework: a problem of RFC 9457, Spring's `{timestamp, status, error, path}`, or any body.
fn of_others(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let member = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let title = member("title").or(member("error")).unwrap_or(status.canonical_reason().unwrap_or("no reason"));
    let detail = member("detail").or(member("message")).or(member("path"));
    let message = match detail {
        Some(detail) => format!("HTTP {} {title}: {detail}", status.as_u16()),
        None => format!("HTTP {} {title}", status.as_u16()),
    };
    let status = Status::new(code_of(status), message);
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let status =
        seconds.into_iter().fold(status, |status, wait| status.with_retry_after(std::time::Duration::from_secs(wait)));
    let is_of_proxy = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
    // A proxy may answer for a provider that has executed the request.
    let delivery = if is_of_proxy { Delivery::Unknown } else { Delivery::Answered };
    Error::from_answer(StatusAnswer { status, not_executed: false }).with_delivery(delivery)
}

/// Returns the metadata in the headers of a response, as far as it is within the limits of metadata.
fn metadata(headers: &HeaderMap) -> Metadata {
    let mut metadata = Metadata::default();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(headers::METADATA) {
            let _ = metadata.insert(key, value.as_bytes());
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        let body = Bytes::copy_from_slice(body.as_bytes());
        read(status, &HeaderMap::new(), body, ([127, 0, 0, 1], 1).into()).unwrap_err()
    }

    #[test]
    fn errors_of_other_frameworks_have_codes() {
        let spring =
            r#"{"timestamp":"2026-12-01T05:00:00.000+00:00","status":404,"error":"Not Found","path":"/stock/9"}"#;
        let missing = error(404, spring);
        assert_eq!((missing.code(), missing.delivery()), (Code::NotFound, Delivery::Answered));
        assert_eq!(missing.message(), "HTTP 404 Not Found: /stock/9");
        let problem = error(409, r#"{"type":"about:blank","title":"Conflict","status":409,"detail":"sold"}"#);
        assert_eq!((problem.code(), problem.message()), (Code::Aborted, "HTTP 409 Conflict: sold"));
        let proxy = error(503, "<html>");
        assert_eq!((proxy.code(), proxy.delivery()), (Code::Unavailable, Delivery::Unknown));
        let own = error(
            503,
            r#"{"title":"","status":503,"detail":"full","code":"ResourceExhausted","delivery":"not-executed","retryAfterMs":10}"#,
        );
        assert_eq!(
            (own.code(), own.delivery(), own.message()),
            (Code::ResourceExhausted, Delivery::NotExecuted, "full")
        );
        assert_eq!(own.retry_after(), Some(std::time::Duration::from_millis(10)));
    }
}
