//! Checks of each request, and the headers of each answer.
//!
//! A page of another site can make a browser send requests to the console. Three checks reject them: the host is an
//! address, so that no name of another site resolves to the console; a request that changes something comes from a page
//! of the console; and it contains the token, which only these pages contain.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::state::Shared;

/// Rejects requests of other sites, and adds the headers that restrict the pages.
pub(super) async fn check(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match rejection(request.method(), request.headers(), shared.port()) {
        Some(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn rejection(method: &Method, headers: &HeaderMap, port: u16) -> Option<&'static str> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(header::HOST).filter(|host| is_own_host(host, port)) else {
        return Some("the host of the request is not an address of this console");
    };
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let is_from_own_page = text(header::ORIGIN).is_none_or(|origin| origin == format!("http://{host}"));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    if !is_from_own_page || site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Some("the request comes from a page of another site");
    }
    None
}

/// Returns whether a host is `localhost` or an IP address, with the port of the console.
fn is_own_host(host: &str, port: u16) -> bool {
    let (name, own) = match host.rsplit_once(':') {
        Some((name, number)) if !number.ends_with(']') => (name, number.parse() == Ok(port)),
        _ => (host, port == 80),
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    own && (name == "localhost" || name.parse::<IpAddr>().is_ok())
}

/// The pages load only what the console serves, and no other site shows them.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // With `no-referrer`, browsers would send the origin `null` with forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_with_the_port() {
        for own in ["127.0.0.1:8870", "localhost:8870", "[::1]:8870", "10.0.0.1:8870"] {
            assert!(is_own_host(own, 8870), "{own}");
        }
        for other in ["", "127.0.0.1", "127.0.0.1:80", "evil.example:8870", "localhost.evil.example:8870", "[::1]"] {
            assert!(!is_own_host(other, 8870), "{other}");
        }
        assert!(is_own_host("127.0.0.1", 80) && is_own_host("[::1]", 80));
    }

    #[test]
    fn changes_come_from_own_pages() {
        let rejected = |method: Method, pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("127.0.0.1:1"));
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            rejection(&method, &headers, 1).is_some()
        };
        assert!(!rejected(Method::GET, &[("origin", "http://evil.example")]));
        assert!(!rejected(Method::POST, &[("origin", "http://127.0.0.1:1"), ("sec-fetch-site", "same-origin")]));
        assert!(rejected(Method::POST, &[("origin", "http://127.0.0.1:2")]));
        assert!(rejected(Method::POST, &[("origin", "null")]));
        assert!(rejected(Method::POST, &[("sec-fetch-site", "cross-site")]));
        assert!(rejected(Method::GET, &[("host", "evil.example:1")]));
    }
}
