//! [`Origins`]: the web pages whose requests the endpoint accepts.

use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN,
        VARY,
    },
};
use rpc_core::Code;

use super::{body::AnswerBody, response::Rejected};

/// The origins of web pages whose requests the endpoint accepts.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    allowed: Vec<String>,
    /// Whether every page is allowed.
    any: bool,
}

impl Origins {
    pub(super) fn allow(&mut self, origin: String) {
        self.allowed.push(origin);
    }

    pub(super) fn allow_any(&mut self) {
        self.any = true;
    }

    /// Checks the origin of a request. Returns it; `None` for a request that is not of a page on another site.
    ///
    /// A browser sends requests of every page, some of them without asking first. The endpoint therefore rejects all requests
    /// of pages that are not allowed, and does not rely on the browser to discard the answer.
    pub(super) fn check<'a>(&self, headers: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, Rejected> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(None) };
        if self.any || self.allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
            return Ok(Some(origin));
        }
        let detail = "requests of this page are not allowed (Http::allow_origin)";
        Err(Rejected::new(StatusCode::FORBIDDEN, Code::PermissionDenied, detail))
    }

    /// Adds the headers for a page of this origin.
    pub(super) fn permit(&self, origin: &HeaderValue, response: &mut Response<AnswerBody>) {
        let headers = response.headers_mut();
        let allowed = if self.any { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}

/// Returns the answer to the question of a browser whether a page may send a request; `None` for other requests.
pub(super) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response<AnswerBody>> {
    if *method != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::new(AnswerBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"));
    if let Some(wanted) = headers.get("access-control-request-headers") {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    Some(response)
}
