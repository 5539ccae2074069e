//! [`Claims`]: what a token says, and how it is written: a JSON Web Token (RFC 7519) signed by HS256.
//!
//! Other systems sign the same with the same secret. Nothing else than HS256 is ever taken, whatever the token's header wishes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::envelope::check_name;

/// Who the bearer of a token is, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    #[serde(rename = "sub")]
    pub user: String,
    /// The user's device: each has a session of its own.
    #[serde(default = "Claims::unnamed")]
    pub device: String,
    /// What kind of device: `web`, `phone`, …
    #[serde(default = "Claims::unnamed")]
    pub platform: String,
    /// Seconds since 1970 after which it is worth nothing.
    #[serde(rename = "exp")]
    pub expires: u64,
}

/// Why a token is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token signed by HS256.
    #[error("not a token of this kind")]
    Malformed,
    /// Signed with another secret, or changed since.
    #[error("the token was not signed here")]
    Forged,
    /// It was good once.
    #[error("the token is too old")]
    Expired,
}

impl Claims {
    /// How long a token of `POST /login` is good.
    pub const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

    /// The longest token, in bytes.
    pub const MAX_TOKEN: usize = 2048;

    /// Claims that are good for [`LIFE`](Self::LIFE) from `now` on.
    pub fn lasting(user: String, device: String, platform: String, now: SystemTime) -> Self {
        let expires = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) + Self::LIFE.as_secs();
        Self { user, device, platform, expires }
    }

    /// What a device or a platform without a name is called.
    pub(crate) fn unnamed() -> String {
        "default".to_owned()
    }

    /// The token that says this.
    pub fn sign(&self, secret: &Secret) -> String {
        let claims = serde_json::to_vec(self).expect("strings and numbers always serialize");
        let mut token = format!("{}.{}", BASE64URL_NOPAD.encode(HEADER), BASE64URL_NOPAD.encode(&claims));
        let signature = secret.sign(token.as_bytes());
        token.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut token);
        token
    }

    /// What a token says, if it is good at the time `now`.
    ///
    /// # Errors
    ///
    /// For a token of another kind or of another secret, one that was changed, and one that is too old.
    pub fn verify(token: &str, secret: &Secret, now: SystemTime) -> Result<Self, TokenError> {
        if token.len() > Self::MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        // The header's only wish that is heard is the one that is granted anyway.
        let Header { alg } = decode(header)?;
        if alg != "HS256" {
            return Err(TokenError::Malformed);
        }
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| TokenError::Malformed)?;
        if !secret.is_signed(signed.as_bytes(), &signature) {
            return Err(TokenError::Forged);
        }
        let claims: Self = decode(claims)?;
        let names = [&claims.user, &claims.device, &claims.platform];
        if names.into_iter().any(|name| check_name("name", name).is_err()) {
            return Err(TokenError::Malformed);
        }
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if claims.expires <= now { Err(TokenError::Expired) } else { Ok(claims) }
    }
}

/// A token's first part.
#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// The first part of the tokens made here.
const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenError> {
    let json = BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the time of the tests.
    fn secret() -> Secret {
        Secret::new(b"0123456789abcdef0123456789abcdef").unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn ann() -> Claims {
        Claims { user: "ann".into(), device: "d1".into(), platform: "web".into(), expires: 2_000_000_000 }
    }

    /// Signed by another implementation: Python's hmac and base64.
    const FOREIGN: &str = concat!(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
        "eyJzdWIiOiJhbm4iLCJkZXZpY2UiOiJkMSIsInBsYXRmb3JtIjoid2ViIiwiZXhwIjoyMDAwMDAwMDAwfQ.",
        "6OM4C7e_Xc41odDdoKBXQd1ctUoqg2mCUiR_QiWNfJ0",
    );

    #[test]
    fn a_token_is_what_other_systems_make() {
        assert_eq!(ann().sign(&secret()), FOREIGN);
        assert_eq!(Claims::verify(FOREIGN, &secret(), at(1_999_999_999)), Ok(ann()));
    }

    #[test]
    fn a_token_ends_at_its_second() {
        assert_eq!(Claims::verify(FOREIGN, &secret(), at(2_000_000_000)), Err(TokenError::Expired));
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed() {
        for place in 0..FOREIGN.len() {
            let mut token = FOREIGN.as_bytes().to_vec();
            token[place] = if token[place] == b'A' { b'B' } else { b'A' };
            let token = String::from_utf8(token).unwrap();
            assert!(Claims::verify(&token, &secret(), at(0)).is_err(), "{token}");
        }
        assert_eq!(Claims::verify(FOREIGN, &Secret::random(), at(0)), Err(TokenError::Forged));
    }

    #[test]
    fn an_algorithm_that_a_token_wishes_is_not_granted() {
        let (_, rest) = FOREIGN.split_once('.').unwrap();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{}"#, "x"] {
            let token = format!("{}.{rest}", BASE64URL_NOPAD.encode(header.as_bytes()));
            assert_eq!(Claims::verify(&token, &secret(), at(0)), Err(TokenError::Malformed), "{header}");
        }
        let unsigned = FOREIGN.rsplit_once('.').unwrap().0;
        assert_eq!(Claims::verify(&format!("{unsigned}."), &secret(), at(0)), Err(TokenError::Forged));
    }

    #[test]
    fn a_token_with_a_name_that_is_none_is_refused() {
        for user in ["", "a\nb", &"n".repeat(129)] {
            let token = Claims { user: user.into(), ..ann() }.sign(&secret());
            assert_eq!(Claims::verify(&token, &secret(), at(0)), Err(TokenError::Malformed), "{user}");
        }
        for token in ["", ".", "..", "a.b.c", &"x".repeat(Claims::MAX_TOKEN + 1)] {
            assert_eq!(Claims::verify(token, &secret(), at(0)), Err(TokenError::Malformed));
        }
    }
}
