//! The values of HTTP headers that belong to the caller of a request: token, timeout and key of a once call.

use std::time::Duration;

use data_encoding::BASE64;
use rpc_core::{Identity, ProvedToken};
use sha2::{Digest as _, Sha256};

use super::EndpointConnection;

/// Why a request has no token that the server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRejection {
    /// The server requires a token and the request has no `authorization`.
    Missing,
    /// The connection is not encrypted.
    NotEncrypted,
    /// The server does not accept the token.
    NotAccepted,
}

impl EndpointConnection {
    /// Returns the token in the value of `authorization`; `None` if the server requires none.
    ///
    /// `Bearer` has the secret of the token. `Basic` has its name and its secret, for secrets with other characters.
    ///
    /// # Errors
    ///
    /// [`TokenRejection`]; [`NotEncrypted`](TokenRejection::NotEncrypted) only if `accepts_plain_text` is false.
    pub fn authorize(
        &self,
        authorization: Option<&[u8]>,
        accepts_plain_text: bool,
    ) -> Result<Option<ProvedToken>, TokenRejection> {
        if !self.requires_token() {
            return Ok(None);
        }
        let value = authorization.ok_or(TokenRejection::Missing)?;
        if !self.is_encrypted() && !accepts_plain_text {
            return Err(TokenRejection::NotEncrypted);
        }
        let found = credentials(value).and_then(|(name, secret)| self.token(name.as_deref(), &secret));
        found.map(Some).ok_or(TokenRejection::NotAccepted)
    }
}

/// Returns the name and the secret in `authorization`.
fn credentials(value: &[u8]) -> Option<(Option<String>, Vec<u8>)> {
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

/// Returns the key of a once call from the key that its caller has chosen; `None` unless that has 1 to
/// [`MAX_CALLER_KEY`] bytes.
///
/// A key is valid for one caller and one method: another one must not receive the stored answer.
pub fn caller_key(caller: &Identity, route: &str, key: &[u8]) -> Option<[u8; 16]> {
    if !(1..=MAX_CALLER_KEY).contains(&key.len()) {
        return None;
    }
    let mut hash = Sha256::new();
    // Every part has its length, so that no two callers have the same input.
    for part in [caller.to_string().as_bytes(), route.as_bytes(), key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    Some(std::array::from_fn(|index| digest[index]))
}

/// Parses the value of `grpc-timeout`: up to 8 digits and a unit.
pub fn grpc_timeout(text: &str) -> Option<Duration> {
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

/// The longest key that a caller may choose for a once call, in bytes.
pub const MAX_CALLER_KEY: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_has_a_secret_and_basic_also_a_name() {
        let of = |value: &str| credentials(value.as_bytes());
        assert_eq!(of("Bearer abc"), Some((None, b"abc".to_vec())));
        assert_eq!(of("bearer  abc "), Some((None, b"abc".to_vec())));
        let basic = format!("Basic {}", BASE64.encode(b"ann:a:b"));
        assert_eq!(of(&basic), Some((Some("ann".to_owned()), b"a:b".to_vec())));
        for bad in ["Bearer", "Digest x", "Basic !", "Basic eA=="] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn timeouts_have_units_and_few_digits() {
        assert_eq!(grpc_timeout("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "5", "-5m", "100000000m", "5é", "+5m", "5 m"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }
}
