//! The headers of a request that belong to its caller: token, metadata, deadline and key.

use std::time::Duration;

use hyper::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, HeaderValue},
};
use rpc_core::{Code, Identity, Metadata, ProvedToken};
use rpc_server::{EndpointConnection, MAX_CALLER_KEY, TokenRejection, caller_key, grpc_timeout};

use super::response::Rejected;
use crate::headers::{self, timeout_ms};

/// Returns the token of a request; `None` if the server requires none.
///
/// `Bearer` has the secret of the token. `Basic` has its name and its secret, for secrets with other characters.
pub(super) fn token(
    connection: &EndpointConnection,
    headers: &HeaderMap,
    accepts_plain_text: bool,
) -> Result<Option<ProvedToken>, Rejected> {
    connection.authorize(headers.get(AUTHORIZATION).map(HeaderValue::as_bytes), accepts_plain_text).map_err(
        |rejection| {
            let detail = match rejection {
                TokenRejection::Missing => "the server requires a token: send it as `Authorization: Bearer`",
                TokenRejection::NotEncrypted => "the server accepts tokens over TLS only (Http::tokens_without_tls)",
                TokenRejection::NotAccepted => "the token is not accepted here",
            };
            Rejected::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, detail)
        },
    )
}

/// Returns the metadata of a request: the headers with the prefix, and those of W3C trace context.
pub(super) fn metadata(headers: &HeaderMap) -> Result<Metadata, Rejected> {
    let mut metadata = Metadata::default();
    for (name, value) in headers {
        let name = name.as_str();
        let key = match name.strip_prefix(headers::METADATA) {
            Some(key) => key,
            None if headers::TRACE.contains(&name) => name,
            None => continue,
        };
        metadata.insert(key, value.as_bytes()).map_err(|status| {
            let too_much = status.code() == Code::ResourceExhausted;
            let answer = if too_much { StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            Rejected::new(answer, status.code(), format!("header {name}: {}", status.message()))
        })?;
    }
    Ok(metadata)
}

/// Returns how long the caller waits.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Rejected> {
    type Parser = fn(&str) -> Option<Duration>;
    let parsers: [(&str, Parser); 2] = [(headers::TIMEOUT, timeout_ms), ("grpc-timeout", grpc_timeout)];
    let mut shortest: Option<Duration> = None;
    for (name, parse) in parsers {
        let Some(value) = headers.get(name) else { continue };
        let timeout = value.to_str().ok().and_then(parse);
        let timeout = timeout.ok_or_else(|| Rejected::invalid(format!("header {name} is not a timeout")))?;
        shortest = Some(shortest.map_or(timeout, |other| other.min(timeout)));
    }
    Ok(shortest)
}

/// Returns the key of a once call, as [`caller_key`].
pub(super) fn once_key(headers: &HeaderMap, caller: &Identity, route: &str) -> Result<Option<[u8; 16]>, Rejected> {
    let Some(key) = headers.get(headers::KEY) else { return Ok(None) };
    caller_key(caller, route, key.as_bytes())
        .map(Some)
        .ok_or_else(|| Rejected::invalid(format!("header {} must have 1 to {MAX_CALLER_KEY} bytes", headers::KEY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn shortest_timeout_applies() {
        let of = |pairs: &[(&'static str, &str)]| timeout(&headers(pairs)).map_err(|rejected| rejected.status);
        assert_eq!(of(&[]).unwrap(), None);
        let both = [("request-timeout-ms", "70"), ("grpc-timeout", "50m")];
        assert_eq!(of(&both).unwrap(), Some(Duration::from_millis(50)));
        assert_eq!(of(&[("grpc-timeout", "x")]).unwrap_err(), 400);
    }

    #[test]
    fn keys_belong_to_one_caller_and_method() {
        let key = |caller: &str, route: &str, key: &str| {
            let caller = Identity::ANONYMOUS.with_token(caller);
            once_key(&headers(&[("idempotency-key", key)]), &caller, route).map_err(|rejected| rejected.status)
        };
        let one = key("ann", "a:1/m", "k").unwrap();
        assert_eq!(key("ann", "a:1/m", "k").unwrap(), one);
        for other in [key("bob", "a:1/m", "k"), key("ann", "a:1/n", "k"), key("ann", "a:1/m", "l")] {
            assert_ne!(other.unwrap(), one);
        }
        assert!(key("ann", "a:1/m", &"k".repeat(MAX_CALLER_KEY)).is_ok());
        assert_eq!(key("ann", "a:1/m", &"k".repeat(MAX_CALLER_KEY + 1)).unwrap_err(), 400);
    }
}
