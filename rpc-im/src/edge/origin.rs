//! The origins of web pages that may use a node.

use hyper::{
    HeaderMap,
    header::{self, HeaderValue},
};

/// Returns whether a request may be handled: it does not come from a web page, or its origin is allowed.
///
/// An empty list allows all origins. Programs other than browsers send no `Origin`, or any they like.
pub(super) fn is_allowed(allowed: &[String], request: &HeaderMap) -> bool {
    let Some(origin) = request.get(header::ORIGIN) else { return true };
    allowed.is_empty() || allowed.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
}

/// Permits the page that has sent the request to read the response.
pub(super) fn permit(allowed: &[String], origin: Option<HeaderValue>, response: &mut HeaderMap) {
    let value = match (allowed.is_empty(), origin) {
        // Nodes use no cookies that another site could abuse.
        (true, _) => HeaderValue::from_static("*"),
        (false, Some(origin)) => origin,
        (false, None) => return,
    };
    response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    response.insert(header::VARY, HeaderValue::from_static("origin"));
}
