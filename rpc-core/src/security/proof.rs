//! [`Challenge`] and [`Proof`]: how a caller proves that it has a token. docs/PROTOCOL.md has the layout.

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::token::{AcceptedTokens, Pair, Token};
use crate::frame::{Frame, FrameType, Header};

/// What a server that requires a token says first: a number that it never says again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge([u8; 32]);

/// A caller's answer to a [`Challenge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    nonce: [u8; 32],
    mac: [u8; 32],
    name: String,
}

/// What ties a proof to its connection, so that nobody can hand it on to another: 32 bytes that only the two ends of a TLS
/// connection know; zeros in plain text.
pub type Binding = [u8; 32];

/// In plain text there is nothing to tie a proof to.
pub const PLAIN: Binding = [0; 32];

impl Challenge {
    /// A fresh one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The one in a CHALLENGE's body; `None` for what is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        body.try_into().ok().map(Self)
    }

    /// The frame that says it.
    pub fn to_frame(self) -> Frame {
        frame(FrameType::Challenge, Bytes::copy_from_slice(&self.0))
    }
}

impl Proof {
    /// Answers `challenge` on a connection with this `binding`. `nonce` is a random number of the caller's own.
    pub fn new(token: &Token, challenge: Challenge, binding: &Binding, nonce: [u8; 32]) -> Self {
        let pair = token.current();
        let mac = authenticator(&pair, challenge, binding, &nonce).finalize().into_bytes().into();
        Self { nonce, mac, name: pair.name.to_string() }
    }

    /// The one in a PROOF's body; `None` for what is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        let (nonce, rest) = body.split_first_chunk()?;
        let (mac, name) = rest.split_first_chunk()?;
        let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= Token::MAX_NAME)?;
        Some(Self { nonce: *nonce, mac: *mac, name: name.to_owned() })
    }

    /// The frame that says it.
    pub fn to_frame(&self) -> Frame {
        let mut body = BytesMut::new();
        body.put_slice(&self.nonce);
        body.put_slice(&self.mac);
        body.put_slice(self.name.as_bytes());
        frame(FrameType::Proof, body.freeze())
    }

    /// The name that is proved; `None` when no accepted token proves it. Macs are compared in constant time.
    pub fn verify(&self, tokens: &AcceptedTokens, challenge: Challenge, binding: &Binding) -> Option<String> {
        let accepted = tokens.current();
        let of_name = accepted.iter().filter(|pair| *pair.name == *self.name);
        let proves = |pair: &Pair| authenticator(pair, challenge, binding, &self.nonce).verify_slice(&self.mac).is_ok();
        // All of them, whichever proves it.
        of_name.fold(false, |proved, pair| proved | proves(pair)).then(|| self.name.clone())
    }
}

fn frame(frame_type: FrameType, body: Bytes) -> Frame {
    // Its length is written with it.
    Frame { header: Header::empty(frame_type, 0), body }
}

/// HMAC-SHA256 over all that the two ends have to agree on. Every part but the last has a fixed length.
fn authenticator(pair: &Pair, Challenge(challenge): Challenge, binding: &Binding, nonce: &[u8; 32]) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(&pair.secret).expect("HMAC takes keys of any length");
    for part in [LABEL, binding, &challenge, nonce, pair.name.as_bytes()] {
        mac.update(part);
    }
    mac
}

/// So that no other use of the secret can make a proof.
const LABEL: &[u8] = b"msnb/1 proof";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokens;

    fn accepted(proof: &Proof, challenge: Challenge, binding: &Binding, secrets: &[&str]) -> Option<String> {
        let tokens = secrets.iter().fold(Tokens::new(), |tokens, secret| tokens.with("ann", secret).unwrap());
        proof.verify(&tokens.load().unwrap(), challenge, binding)
    }

    #[test]
    fn a_proof_is_good_for_its_challenge_its_connection_and_its_secret_only() {
        let token = Token::new("ann", "a secret of ann's").unwrap();
        let challenge = Challenge::random();
        let proof = Proof::new(&token, challenge, &PLAIN, [1; 32]);
        let proof = Proof::read(&proof.to_frame().body).unwrap();
        let ann = Some("ann".to_owned());
        assert_eq!(accepted(&proof, challenge, &PLAIN, &["a secret of ann's"]), ann);
        assert_eq!(accepted(&proof, challenge, &PLAIN, &["her next secret is", "a secret of ann's"]), ann);
        assert_eq!(accepted(&proof, Challenge::random(), &PLAIN, &["a secret of ann's"]), None);
        assert_eq!(accepted(&proof, challenge, &[1; 32], &["a secret of ann's"]), None);
        assert_eq!(accepted(&proof, challenge, &PLAIN, &["a secret of bob's"]), None);
        let other_name = Proof { name: "bob".to_owned(), ..proof.clone() };
        assert_eq!(accepted(&other_name, challenge, &PLAIN, &["a secret of ann's"]), None);
        let other_nonce = Proof { nonce: [2; 32], ..proof };
        assert_eq!(accepted(&other_nonce, challenge, &PLAIN, &["a secret of ann's"]), None);
    }

    #[test]
    fn what_is_no_challenge_and_no_proof_is_none() {
        assert_eq!(Challenge::read(&[0; 31]), None);
        assert_eq!(Challenge::read(&[0; 33]), None);
        assert_eq!(Proof::read(&[b'a'; 63]), None);
        assert!(Proof::read(&[b'a'; 64 + Token::MAX_NAME]).is_some());
        assert_eq!(Proof::read(&[b'a'; 64 + Token::MAX_NAME + 1]), None);
        assert_eq!(Proof::read(&[0xff; 80]), None);
    }
}
