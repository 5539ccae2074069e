//! [`Claims`]: the content of a token, which is a JSON Web Token (RFC 7519) signed with HS256.
//!
//! Another system that has the secret can issue the same tokens. Verification accepts HS256 only, whatever algorithm
//! the token's header names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::Secret;
use crate::envelope::{check_name, check_user_name};

/// The claims of a token: the identity of its bearer and its expiry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The name of the user (`sub`).
    #[serde(rename = "sub")]
    pub user: String,
    /// The name of the user's device; each device has its own session. Default: `default`.
    #[serde(default = "Claims::unnamed")]
    pub device: String,
    /// The kind of device, such as `web` or `phone`. Default: `default`.
    #[serde(default = "Claims::unnamed")]
    pub platform: String,
    /// The expiry (`exp`), in seconds since 1970; the token is invalid from this second on.
    #[serde(rename = "exp")]
    pub expires: u64,
    /// The audience (`aud`), if the cluster requires one: a string, or the list of several.
    #[serde(rename = "aud", default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Audience>,
}

/// The audience of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One system.
    One(String),
    /// Several systems.
    Several(Vec<String>),
}

/// The reason why [`Claims::verify`] rejects a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is not a JSON Web Token with HS256, is too long, or has an invalid name.
    #[error("token is not a valid HS256 JSON Web Token")]
    Malformed,
    /// The signature does not match: another secret, or a changed token.
    #[error("token signature does not match the secret")]
    Forged,
    /// The expiry has passed.
    #[error("token has expired")]
    Expired,
    /// The time from which the token is valid (`nbf`) has not come, with a tolerance of [`Claims::TOLERANCE`].
    #[error("token is not valid yet")]
    Early,
    /// The expiry is later than [`Claims::MAX_LIFE`] from now.
    #[error("token expires in more than {} days", Claims::MAX_LIFE.as_secs() / 86_400)]
    Long,
    /// The token is for another audience, or for none although the cluster requires one.
    #[error("token is not for the audience of this cluster")]
    Audience,
}

impl Claims {
    /// The lifetime of a token from `POST /login`: 12 hours.
    pub const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

    /// The maximum time until the expiry of a token: 31 days. A token cannot be revoked before.
    pub const MAX_LIFE: Duration = Duration::from_secs(31 * 24 * 60 * 60);

    /// The tolerance for the clocks of other systems that issue tokens: 60 s.
    pub const TOLERANCE: Duration = Duration::from_secs(60);

    /// The maximum length of a token, in bytes.
    pub const MAX_TOKEN: usize = 2048;

    /// Creates claims that expire [`LIFE`](Self::LIFE) after `now`.
    pub fn lasting(user: String, device: String, platform: String, now: SystemTime) -> Self {
        let expires = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) + Self::LIFE.as_secs();
        Self { user, device, platform, expires, audience: None }
    }

    /// Sets the audience.
    #[must_use]
    pub fn with_audience(mut self, audience: Option<String>) -> Self {
        self.audience = audience.map(Audience::One);
        self
    }

    /// Returns the name of a device or a platform that the client did not name.
    pub(crate) fn unnamed() -> String {
        "default".to_owned()
    }

    /// Encodes the claims as a signed token.
    pub fn sign(&self, secret: &Secret) -> String {
        let claims = serde_json::to_vec(self).expect("strings and numbers always serialize");
        let mut token = format!("{}.{}", BASE64URL_NOPAD.encode(HEADER), BASE64URL_NOPAD.encode(&claims));
        let signature = secret.sign(token.as_bytes());
        token.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut token);
        token
    }

    /// Returns the claims of a token that is valid at the time `now`.
    ///
    /// A token with an audience is valid only if that contains `audience`, and one without only if `audience` is `None`.
    ///
    /// # Errors
    ///
    /// Returns an error for a malformed token, a signature that does not match the secret, another audience, and a token
    /// that is not valid yet, has expired or expires too late. A token whose header has critical extensions (`crit`) is
    /// malformed, because this implementation supports none.
    pub fn verify(token: &str, secret: &Secret, audience: Option<&str>, now: SystemTime) -> Result<Self, TokenError> {
        if token.len() > Self::MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        // Verification always uses HS256: `alg` can only cause a rejection, never choose another algorithm.
        let JoseHeader { alg, crit } = decode(header)?;
        if alg != "HS256" || crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| TokenError::Malformed)?;
        if !secret.is_signed(signed.as_bytes(), &signature) {
            return Err(TokenError::Forged);
        }
        let NotBefore { nbf } = decode(claims)?;
        let claims: Self = decode(claims)?;
        let devices = [&claims.device, &claims.platform];
        if check_user_name("user", &claims.user).is_err() || devices.iter().any(|name| check_name("", name).is_err()) {
            return Err(TokenError::Malformed);
        }
        let is_for_audience = match (audience, &claims.audience) {
            (None, None) => true,
            (Some(expected), Some(Audience::One(audience))) => audience == expected,
            (Some(expected), Some(Audience::Several(audiences))) => audiences.iter().any(|one| one == expected),
            _ => false,
        };
        if !is_for_audience {
            return Err(TokenError::Audience);
        }
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match claims.expires {
            _ if nbf.is_some_and(|nbf| nbf > now + Self::TOLERANCE.as_secs()) => Err(TokenError::Early),
            expires if expires <= now => Err(TokenError::Expired),
            expires if expires - now > Self::MAX_LIFE.as_secs() => Err(TokenError::Long),
            _ => Ok(claims),
        }
    }
}

/// The first part of a token.
#[derive(Deserialize)]
struct JoseHeader {
    alg: String,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

/// The time from which a token is valid, in seconds since 1970.
#[derive(Deserialize)]
struct NotBefore {
    #[serde(default)]
    nbf: Option<u64>,
}

/// The first part of the tokens that [`Claims::sign`] returns.
const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenError> {
    let json = BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key that signed [`FOREIGN`].
    fn secret() -> Secret {
        Secret::new(b"0123456789abcdef0123456789abcdef").unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn ann() -> Claims {
        Claims {
            user: "ann".into(),
            device: "d1".into(),
            platform: "web".into(),
            expires: 2_000_000_000,
            audience: None,
        }
    }

    /// A token from another implementation: Python's `hmac` and `base64`.
    const FOREIGN: &str = concat!(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
        "eyJzdWIiOiJhbm4iLCJkZXZpY2UiOiJkMSIsInBsYXRmb3JtIjoid2ViIiwiZXhwIjoyMDAwMDAwMDAwfQ.",
        "6OM4C7e_Xc41odDdoKBXQd1ctUoqg2mCUiR_QiWNfJ0",
    );

    #[test]
    fn sign_matches_another_implementation() {
        assert_eq!(ann().sign(&secret()), FOREIGN);
        assert_eq!(Claims::verify(FOREIGN, &secret(), None, at(1_999_999_999)), Ok(ann()));
    }

    #[test]
    fn verify_rejects_token_at_its_expiry_second() {
        assert_eq!(Claims::verify(FOREIGN, &secret(), None, at(2_000_000_000)), Err(TokenError::Expired));
    }

    #[test]
    fn verify_rejects_changed_bytes() {
        for index in 0..FOREIGN.len() {
            let mut token = FOREIGN.as_bytes().to_vec();
            token[index] = if token[index] == b'A' { b'B' } else { b'A' };
            let token = String::from_utf8(token).unwrap();
            assert!(Claims::verify(&token, &secret(), None, at(1_999_999_000)).is_err(), "{token}");
        }
        assert_eq!(Claims::verify(FOREIGN, &Secret::random(), None, at(0)), Err(TokenError::Forged));
    }

    #[test]
    fn verify_rejects_other_algorithms() {
        let (_, rest) = FOREIGN.split_once('.').unwrap();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{}"#, "x"] {
            let token = format!("{}.{rest}", BASE64URL_NOPAD.encode(header.as_bytes()));
            assert_eq!(
                Claims::verify(&token, &secret(), None, at(1_999_999_000)),
                Err(TokenError::Malformed),
                "{header}"
            );
        }
        let unsigned = FOREIGN.rsplit_once('.').unwrap().0;
        assert_eq!(Claims::verify(&format!("{unsigned}."), &secret(), None, at(0)), Err(TokenError::Forged));
    }

    #[test]
    fn verify_rejects_invalid_names_and_malformed_tokens() {
        for user in ["", "a\nb", "a\u{200b}b", &"n".repeat(129)] {
            let token = Claims { user: user.into(), ..ann() }.sign(&secret());
            assert_eq!(
                Claims::verify(&token, &secret(), None, at(1_999_999_000)),
                Err(TokenError::Malformed),
                "{user}"
            );
        }
        for token in ["", ".", "..", "a.b.c", &"x".repeat(Claims::MAX_TOKEN + 1)] {
            assert_eq!(Claims::verify(token, &secret(), None, at(0)), Err(TokenError::Malformed));
        }
    }

    /// Signs a token with these parts.
    fn signed(header: &str, claims: &str) -> String {
        let token =
            format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(claims.as_bytes()));
        let signature = BASE64URL_NOPAD.encode(&secret().sign(token.as_bytes()));
        format!("{token}.{signature}")
    }

    #[test]
    fn verify_checks_times_critical_extensions_and_audience() {
        const PLAIN: &str = r#"{"alg":"HS256"}"#;
        let month = Claims::MAX_LIFE.as_secs();
        for (header, claims, audience, expected) in [
            (PLAIN, format!(r#"{{"sub":"ann","exp":{}}}"#, 1000 + month), None, Ok(())),
            (PLAIN, format!(r#"{{"sub":"ann","exp":{}}}"#, 1001 + month), None, Err(TokenError::Long)),
            (PLAIN, format!(r#"{{"sub":"ann","exp":{}}}"#, u64::MAX), None, Err(TokenError::Long)),
            (PLAIN, r#"{"sub":"ann","exp":-1}"#.into(), None, Err(TokenError::Malformed)),
            (PLAIN, r#"{"sub":"ann"}"#.into(), None, Err(TokenError::Malformed)),
            (PLAIN, r#"{"sub":"ann","exp":2000,"nbf":1060}"#.into(), None, Ok(())),
            (PLAIN, r#"{"sub":"ann","exp":2000,"nbf":1061}"#.into(), None, Err(TokenError::Early)),
            (
                r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
                r#"{"sub":"ann","exp":2000}"#.into(),
                None,
                Err(TokenError::Malformed),
            ),
            (PLAIN, r#"{"sub":"ann","exp":2000,"aud":"shop"}"#.into(), None, Err(TokenError::Audience)),
            (PLAIN, r#"{"sub":"ann","exp":2000}"#.into(), Some("chat"), Err(TokenError::Audience)),
            (PLAIN, r#"{"sub":"ann","exp":2000,"aud":"shop"}"#.into(), Some("chat"), Err(TokenError::Audience)),
            (PLAIN, r#"{"sub":"ann","exp":2000,"aud":"chat"}"#.into(), Some("chat"), Ok(())),
            (PLAIN, r#"{"sub":"ann","exp":2000,"aud":["shop","chat"]}"#.into(), Some("chat"), Ok(())),
            (PLAIN, r#"{"sub":"ann","exp":2000,"aud":7}"#.into(), Some("chat"), Err(TokenError::Malformed)),
        ] {
            let verified = Claims::verify(&signed(header, &claims), &secret(), audience, at(1000));
            assert_eq!(verified.map(drop), expected, "{header} {claims}");
        }
        let own = ann().with_audience(Some("chat".into())).sign(&secret());
        assert!(Claims::verify(&own, &secret(), Some("chat"), at(1_999_999_000)).is_ok());
    }
}
