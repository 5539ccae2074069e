//! The headers of a call: token, metadata, deadline and key.

use std::time::Duration;

use data_encoding::BASE64_NOPAD;
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue},
};
use rpc_core::{Code, Error, Identity, Metadata, ProvedToken, Status};
use rpc_server::{EndpointConnection, MAX_CALLER_KEY, TokenRejection, caller_key, grpc_timeout};

/// Returns the token of a call; `None` if the server requires none.
///
/// `Bearer` has the secret of the token. `Basic` has its name and its secret, for secrets with other characters.
pub(super) fn token(
    connection: &EndpointConnection,
    headers: &HeaderMap,
    accepts_plain_text: bool,
) -> Result<Option<ProvedToken>, Error> {
    connection.authorize(headers.get(AUTHORIZATION).map(HeaderValue::as_bytes), accepts_plain_text).map_err(
        |rejection| {
            let message = match rejection {
                TokenRejection::Missing => {
                    "the server requires a token: send it as the metadata `authorization: Bearer …`"
                }
                TokenRejection::NotEncrypted => "the server accepts tokens over TLS only (Grpc::tokens_without_tls)",
                TokenRejection::NotAccepted => "the token is not accepted here",
            };
            Error::not_executed(Code::Unauthenticated, message)
        },
    )
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
    let timeout = value.to_str().ok().and_then(grpc_timeout);
    timeout.map(Some).ok_or_else(|| Error::not_executed(Code::InvalidArgument, "grpc-timeout is not a timeout"))
}

/// Returns the key of a once call, as [`caller_key`].
pub(super) fn once_key(headers: &HeaderMap, caller: &Identity, route: &str) -> Result<Option<[u8; 16]>, Error> {
    let Some(key) = headers.get(KEY) else { return Ok(None) };
    caller_key(caller, route, key.as_bytes()).map(Some).ok_or_else(|| {
        let message = format!("metadata {KEY} must have 1 to {MAX_CALLER_KEY} bytes");
        Error::not_executed(Code::InvalidArgument, message)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
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
        assert!(key("ann", "a:1/m", &"k".repeat(MAX_CALLER_KEY)).is_ok());
        assert!(key("ann", "a:1/m", &"k".repeat(MAX_CALLER_KEY + 1)).is_err());
    }
}
