//! Responses: results, the service's own errors and problems.

use std::time::Duration;

use hyper::{
    Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use rpc_core::{Code, Delivery, Error, Metadata};

use super::{body::AnswerBody, problem::problem_of};
use crate::{
    headers,
    problem::{PROBLEM_JSON, Problem},
};

pub(super) const JSON: &str = "application/json";

/// A request that the endpoint itself rejects, before a handler executes.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) status: StatusCode,
    pub(super) code: Code,
    pub(super) detail: String,
    /// The verbs of a path, for 405.
    pub(super) allow: Option<String>,
    /// Whether the body was not read to its end, so that the connection carries no further request.
    pub(super) closes: bool,
}

impl Rejected {
    pub(super) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), allow: None, closes: false }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, detail)
    }

    pub(super) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    pub(super) fn into_response(self) -> Response<AnswerBody> {
        let Self { status, code, detail, allow, closes } = self;
        let mut response = problem(&Problem::new(status, code, Delivery::NotExecuted, detail));
        let headers = response.headers_mut();
        if let Some(allow) = allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            headers.insert(hyper::header::ALLOW, allow);
        }
        if closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Returns a response with a body of this media type.
pub(super) fn with_body(status: StatusCode, media_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Returns the response of an error that is not the service's own.
pub(super) fn error(error: &Error) -> Response<AnswerBody> {
    let mut response = problem(&problem_of(error));
    add_metadata(&mut response, error.metadata());
    response
}

fn problem(problem: &Problem) -> Response<AnswerBody> {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = with_body(status, PROBLEM_JSON, AnswerBody::bytes(body));
    let headers = response.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            headers.insert(RETRY_AFTER, seconds(problem.retry_after()).into());
        }
        _ => {}
    }
    response
}

/// Returns the value of `Retry-After`, in whole seconds, rounded up.
fn seconds(wait: Option<Duration>) -> u64 {
    wait.map_or(1, |wait| wait.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)) as u64)
}

/// Adds metadata of an answer as headers. Values that are not visible ASCII have no form in a header, and are left out.
pub(super) fn add_metadata(response: &mut Response<AnswerBody>, metadata: &Metadata) {
    for (key, value) in metadata.iter() {
        let name = HeaderName::try_from(format!("{}{key}", headers::METADATA));
        let value = value.iter().all(|byte| matches!(byte, b' '..=b'~')).then(|| HeaderValue::from_bytes(value));
        if let (Ok(name), Some(Ok(value))) = (name, value) {
            response.headers_mut().append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_at_least_one_second() {
        for (wait, expected) in [(None, 1), (Some(0), 1), (Some(10), 1), (Some(1000), 1), (Some(1001), 2)] {
            assert_eq!(seconds(wait.map(Duration::from_millis)), expected);
        }
    }
}
