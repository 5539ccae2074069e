//! The headers of a request that belong to its caller: token, metadata, deadline and key.

use std::time::Duration;

use data_encoding::BASE64;
use hyper::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, HeaderValue},
};
use rpc_core::{Code, Identity, Metadata, ProvedToken};
use rpc_server::EndpointConnection;
use sha2::{Digest as _, Sha256};

use super::response::Rejected;
use crate::headers::{self, grpc_timeout, timeout_ms};

/// Returns the token of a request; `None` if the server requires none.
///
/// `Bearer` has the secret of the token. `Basic` has its name and its secret, for secrets with other characters.
pub(super) fn token(
    connection: &EndpointConnection,
    headers: &HeaderMap,
    accepts_plain_text: bool,
) -> Result<Option<ProvedToken>, Rejected> {
    if !connection.requires_token() {
        return Ok(None);
    }
    let reject = |detail: &str| Err(Rejected::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, detail));
    let Some(value) = headers.get(AUTHORIZATION) else {
        return reject("the server requires a token: send it as `Authorization: Bearer`");
    };
    if !connection.is_encrypted() && !accepts_plain_text {
        return reject("the server accepts tokens over TLS only (Http::tokens_without_tls)");
    }
    let found = credentials(value).and_then(|(name, secret)| connection.token(name.as_deref(), &secret));
    found.map_or_else(|| reject("the token is not accepted here"), |token| Ok(Some(token)))
}

/// Returns the name and the secret in `Authorization`.
fn credentials(value: &HeaderValue) -> Option<(Option<String>, Vec<u8>)> {
    let value = value.as_bytes();
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some((None, rest.to_vec()));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let decoded = BASE64.decode(rest).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((Some(name), decoded[colon + 1..].to_vec()))
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

/// Returns the key of a once call.
///
/// Callers choose keys, so a key is valid for one caller and one method: another one must not receive the stored answer.
pub(super) fn once_key(headers: &HeaderMap, caller: &Identity, route: &str) -> Result<Option<[u8; 16]>, Rejected> {
    let Some(key) = headers.get(headers::KEY) else { return Ok(None) };
    let key = key.as_bytes();
    if !(1..=MAX_KEY).contains(&key.len()) {
        return Err(Rejected::invalid(format!("header {} must have 1 to {MAX_KEY} bytes", headers::KEY)));
    }
    let mut hash = Sha256::new();
    // Every part has its length, so that no two callers have the same input.
    for part in [caller.to_string().as_bytes(), route.as_bytes(), key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    Ok(Some(std::array::from_fn(|index| digest[index])))
}

/// The longest key of a once call, in bytes.
const MAX_KEY: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn bearer_has_a_secret_and_basic_also_a_name() {
        let of = |value: &str| credentials(&HeaderValue::from_str(value).unwrap());
        assert_eq!(of("Bearer abc"), Some((None, b"abc".to_vec())));
        assert_eq!(of("bearer  abc "), Some((None, b"abc".to_vec())));
        let basic = format!("Basic {}", BASE64.encode(b"ann:a:b"));
        assert_eq!(of(&basic), Some((Some("ann".to_owned()), b"a:b".to_vec())));
        for bad in ["Bearer", "Digest x", "Basic !", "Basic eA=="] {
            assert_eq!(of(bad), None, "{bad}");
        }
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
        assert!(key("ann", "a:1/m", &"k".repeat(MAX_KEY)).is_ok());
        assert_eq!(key("ann", "a:1/m", &"k".repeat(MAX_KEY + 1)).unwrap_err(), 400);
    }
}
