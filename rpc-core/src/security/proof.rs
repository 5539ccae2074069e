//! [`Challenge`] and [`Proof`]: the proof of a caller that it has a token.
//!
//! docs/PROTOCOL.md specifies the layout.

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::token::{AcceptedTokens, Pair, ProvedToken, Token};
use crate::frame::{Frame, FrameType, Header};

/// The first frame of a server that requires a token: a random number that is used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge([u8; 32]);

/// A caller's answer to a [`Challenge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    nonce: [u8; 32],
    mac: [u8; 32],
    name: String,
}

/// The channel binding of a proof, which prevents relaying the proof to another connection.
///
/// 32 bytes that only the two ends of a TLS connection have; zeros without TLS.
pub type Binding = [u8; 32];

/// The channel binding of a connection without TLS.
pub const NO_BINDING: Binding = [0; 32];

impl Challenge {
    /// Creates a random challenge.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Reads the body of a CHALLENGE; `None` if it is malformed.
    pub fn read(body: &[u8]) -> Option<Self> {
        body.try_into().ok().map(Self)
    }

    /// Returns the frame to send.
    pub fn to_frame(self) -> Frame {
        frame(FrameType::Challenge, Bytes::copy_from_slice(&self.0))
    }
}

impl Proof {
    /// Creates the answer to `challenge` on a connection with this `binding`.
    ///
    /// `nonce` is a random number that the caller chooses.
    pub fn new(token: &Token, challenge: Challenge, binding: &Binding, nonce: [u8; 32]) -> Self {
        let pair = token.current();
        let mac = authenticator(&pair, challenge, binding, &nonce).finalize().into_bytes().into();
        Self { nonce, mac, name: pair.name.to_string() }
    }

    /// Reads the body of a PROOF; `None` if it is malformed.
    pub fn read(body: &[u8]) -> Option<Self> {
        let (nonce, rest) = body.split_first_chunk()?;
        let (mac, name) = rest.split_first_chunk()?;
        let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= Token::MAX_NAME)?;
        Some(Self { nonce: *nonce, mac: *mac, name: name.to_owned() })
    }

    /// Returns the frame to send.
    pub fn to_frame(&self) -> Frame {
        let mut body = BytesMut::new();
        body.put_slice(&self.nonce);
        body.put_slice(&self.mac);
        body.put_slice(self.name.as_bytes());
        frame(FrameType::Proof, body.freeze())
    }

    /// Returns the proved token; `None` if the proof matches no accepted token.
    ///
    /// MACs are compared in constant time.
    pub fn verify(&self, tokens: &AcceptedTokens, challenge: Challenge, binding: &Binding) -> Option<ProvedToken> {
        let accepted = tokens.current();
        let of_name = accepted.iter().filter(|pair| *pair.name == *self.name);
        let proves = |pair: &Pair| authenticator(pair, challenge, binding, &self.nonce).verify_slice(&self.mac).is_ok();
        // Check all of them, so that the duration does not depend on which one matches.
        let proved = of_name.fold(None, |proved, pair| if proves(pair) { Some(pair) } else { proved });
        proved.cloned().map(ProvedToken::new)
    }
}

fn frame(frame_type: FrameType, body: Bytes) -> Frame {
    // `Frame::write` sets the length.
    Frame { header: Header::empty(frame_type, 0), body }
}

/// Returns the HMAC-SHA256 over the values on which the two ends must agree.
///
/// Every part except the last has a fixed length.
fn authenticator(pair: &Pair, Challenge(challenge): Challenge, binding: &Binding, nonce: &[u8; 32]) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(&pair.secret).expect("HMAC takes keys of any length");
    for part in [LABEL, binding, &challenge, nonce, pair.name.as_bytes()] {
        mac.update(part);
    }
    mac
}

/// The domain separator: no other use of the secret yields a proof.
const LABEL: &[u8] = b"msnb/1 proof";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokens;

    fn accepted(proof: &Proof, challenge: Challenge, binding: &Binding, secrets: &[&str]) -> Option<String> {
        let tokens = secrets.iter().fold(Tokens::new(), |tokens, secret| tokens.with("ann", secret).unwrap());
        proof.verify(&tokens.load().unwrap(), challenge, binding).map(|token| token.name().to_owned())
    }

    #[test]
    fn proof_is_bound_to_challenge_connection_and_secret() {
        let token = Token::new("ann", "a secret of ann's").unwrap();
        let challenge = Challenge::random();
        let proof = Proof::new(&token, challenge, &NO_BINDING, [1; 32]);
        let proof = Proof::read(&proof.to_frame().body).unwrap();
        let ann = Some("ann".to_owned());
        assert_eq!(accepted(&proof, challenge, &NO_BINDING, &["a secret of ann's"]), ann);
        assert_eq!(accepted(&proof, challenge, &NO_BINDING, &["the next secret of ann", "a secret of ann's"]), ann);
        assert_eq!(accepted(&proof, Challenge::random(), &NO_BINDING, &["a secret of ann's"]), None);
        assert_eq!(accepted(&proof, challenge, &[1; 32], &["a secret of ann's"]), None);
        assert_eq!(accepted(&proof, challenge, &NO_BINDING, &["a secret of bob's"]), None);
        let other_name = Proof { name: "bob".to_owned(), ..proof.clone() };
        assert_eq!(accepted(&other_name, challenge, &NO_BINDING, &["a secret of ann's"]), None);
        let other_nonce = Proof { nonce: [2; 32], ..proof };
        assert_eq!(accepted(&other_nonce, challenge, &NO_BINDING, &["a secret of ann's"]), None);
    }

    #[test]
    fn malformed_challenges_and_proofs_are_rejected() {
        assert_eq!(Challenge::read(&[0; 31]), None);
        assert_eq!(Challenge::read(&[0; 33]), None);
        assert_eq!(Proof::read(&[b'a'; 63]), None);
        assert!(Proof::read(&[b'a'; 64 + Token::MAX_NAME]).is_some());
        assert_eq!(Proof::read(&[b'a'; 64 + Token::MAX_NAME + 1]), None);
        assert_eq!(Proof::read(&[0xff; 80]), None);
    }
}
