//! The headers of a call: token, metadata, deadline and key.

use std::time::Duration;

use data_encoding::{BASE64, BASE64_NOPAD};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue},
};
use rpc_core::{Code, Error, Identity, Metadata, ProvedToken, Status};
use rpc_server::EndpointConnection;
use sha2::{Digest as _, Sha256};

/// Returns the token of a call; `None` if the server requires none.
///
/// `Bearer` has the secret of the token. `Basic` has its name and its secret, for secrets with other characters.
pub(super) fn token(
    connection: &EndpointConnection,
    headers: &HeaderMap,
    accepts_plain_text: bool,
) -> Result<Option<ProvedToken>, Error> {
    if !connection.requires_token() {
        return Ok(None);
    }
    let reject = |message: &'static str| Err(Error::not_executed(Code::Unauthenticated, message));
    let Some(value) = headers.get(AUTHORIZATION) else {
        return reject("the server requires a token: send it as the metadata `authorization: Bearer …`");
    };
    if !connection.is_encrypted() && !accepts_plain_text {
        return reject("the server accepts tokens over TLS only (Grpc::tokens_without_tls)");
    }
    let found = credentials(value).and_then(|(name, secret)| connection.token(name.as_deref(), &secret));
    found.map_or_else(|| reject("the token is not accepted here"), |token| Ok(Some(token)))
}

/// Returns the name and the secret in `authorization`.
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

/// Returns the metadata of a call: all headers except those of HTTP and of gRPC itself.
pub(super) fn metadata(headers: &HeaderMap) -> Result<Metadata, Error> {
    let mut metadata = Metadata::default();
    let mut insert = |name: &str, value: &[u8]| {
        let failed = |status: Status| Error::not_executed(status.code(), status.message().to_owned());
        metadata.insert(name, value).map_err(failed)
    };
    for (name, value) in headers {
        let name = name.as_str();
        if is_reserved(name) {
            continue;
        }
        if !name.ends_with(BINARY) {
            insert(name, value.as_bytes())?;
            continue;
        }
        // One header may have several values, with or without padding.
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let part = part.trim_ascii();
            let end = part.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
            let decoded = BASE64_NOPAD.decode(&part[..end]).map_err(|_| {
                Error::not_executed(Code::InvalidArgument, format!("metadata {name} is not encoded as base64"))
            })?;
            insert(name, &decoded)?;
        }
    }
    Ok(metadata)
}

/// Returns whether a header belongs to HTTP or to gRPC itself.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with("grpc-") || RESERVED.contains(&name)
}

/// Returns how long the caller waits.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(parse_timeout);
    timeout.map(Some).ok_or_else(|| Error::not_executed(Code::InvalidArgument, "grpc-timeout is not a timeout"))
}

/// Parses up to 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Returns the key of a once call.
///
/// Callers choose keys, so a key is valid for one caller and one method: another one must not receive the stored answer.
pub(super) fn once_key(headers: &HeaderMap, caller: &Identity, route: &str) -> Result<Option<[u8; 16]>, Error> {
    let Some(key) = headers.get(KEY) else { return Ok(None) };
    let key = key.as_bytes();
    if !(1..=MAX_KEY).contains(&key.len()) {
        let message = format!("metadata {KEY} must have 1 to {MAX_KEY} bytes");
        return Err(Error::not_executed(Code::InvalidArgument, message));
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

const TIMEOUT: &str = "grpc-timeout";
/// The header with the key of a once call.
const KEY: &str = "idempotency-key";
/// The end of the names of headers with encoded values.
const BINARY: &str = "-bin";
/// The headers that are no metadata.
const RESERVED: [&str; 16] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    KEY,
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
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
    fn binary_metadata_is_decoded() {
        let sent = headers(&[("a", "x"), ("b-bin", "/w=="), ("c-bin", "/w,eg"), ("te", "trailers")]);
        let found = metadata(&sent).unwrap();
        let pairs: Vec<_> = found.iter().collect();
        assert_eq!(pairs, [("a", &b"x"[..]), ("b-bin", &[255]), ("c-bin", &[255]), ("c-bin", b"z")]);
        assert_eq!(metadata(&headers(&[("b-bin", "!")])).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn timeouts_have_units_and_few_digits() {
        assert_eq!(parse_timeout("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "5", "-5m", "100000000m", "5é", "+5m", "5 m"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_belong_to_one_caller_and_method() {
        let key = |caller: &str, route: &str, key: &str| {
            let caller = Identity::ANONYMOUS.with_token(caller);
            once_key(&headers(&[("idempotency-key", key)]), &caller, route)
        };
        let one = key("ann", "a:1/m", "k").unwrap();
        assert_eq!(key("ann", "a:1/m", "k").unwrap(), one);
        for other in [key("bob", "a:1/m", "k"), key("ann", "a:1/n", "k"), key("ann", "a:1/m", "l")] {
            assert_ne!(other.unwrap(), one);
        }
        assert!(key("ann", "a:1/m", &"k".repeat(MAX_KEY)).is_ok());
        assert!(key("ann", "a:1/m", &"k".repeat(MAX_KEY + 1)).is_err());
    }
}
