//! Responses of gRPC.

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use rpc_core::{Error, Metadata};

use super::{
    body::AnswerBody,
    compression::{ACCEPT_ENCODING, ENCODING, GZIP},
    status,
};

/// Returns the response of a call that has an answer.
pub(super) fn answer(body: AnswerBody, metadata: &Metadata, compresses: bool) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    status::add_metadata(metadata, headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    if compresses {
        headers.insert(HeaderName::from_static(ENCODING), HeaderValue::from_static(GZIP));
    }
    response
}

/// Returns the response of a call that failed before it had an answer: it has only trailers.
pub(super) fn failed(error: &Error) -> Response<AnswerBody> {
    trailers_only(status::failure(error))
}

pub(super) fn trailers_only(trailers: HeaderMap) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::empty());
    *response.headers_mut() = trailers;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(HeaderName::from_static(ACCEPT_ENCODING), HeaderValue::from_static(GZIP));
    response
}

/// Returns the response of a request that does not use gRPC.
pub(super) fn not_grpc(status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::empty());
    *response.status_mut() = status;
    response
}

/// Returns whether the content of a request is that of gRPC with protobuf.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    [GRPC, GRPC_PROTO].iter().any(|known| media_type.eq_ignore_ascii_case(known))
}

const GRPC: &str = "application/grpc";
const GRPC_PROTO: &str = "application/grpc+proto";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_of_grpc_is_protobuf() {
        let of =
            |value: &'static str| is_grpc(&[(CONTENT_TYPE, HeaderValue::from_static(value))].into_iter().collect());
        for known in ["application/grpc", "application/grpc+proto", "Application/GRPC; charset=utf-8"] {
            assert!(of(known), "{known}");
        }
        for other in ["application/grpc-web", "application/grpc+json", "application/json", ""] {
            assert!(!of(other), "{other}");
        }
    }
}
