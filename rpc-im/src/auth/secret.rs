//! [`Secret`]: the key that signs tokens.

use std::{fmt, io, path::Path};

use hmac::{Hmac, KeyInit, Mac};
use rpc_core::{Token, Tokens};
use sha2::Sha256;

use crate::files;

/// The HMAC-SHA-256 key that the nodes of a cluster sign tokens with, and by which they recognize each other.
///
/// Its holder can impersonate every user and every node.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// An error of [`Secret::read`] or [`Secret::new`].
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file")]
    Io(#[from] io::Error),
    /// The secret has this many bytes, which is less than [`Secret::MIN_LEN`].
    #[error("secret is {0} bytes, minimum is {min} (Secret::MIN_LEN)", min = Secret::MIN_LEN)]
    Short(usize),
}

impl Secret {
    /// The minimum length of a secret, in bytes.
    pub const MIN_LEN: usize = 32;

    /// Reads a secret from a file and trims leading and trailing ASCII white space.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is not regular, cannot be read or has fewer than [`MIN_LEN`](Self::MIN_LEN) bytes after trimming.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        Self::new(files::read_secret(path)?.trim_ascii())
    }

    /// Creates a secret from bytes.
    ///
    /// # Errors
    ///
    /// Returns [`SecretError::Short`] for fewer than [`MIN_LEN`](Self::MIN_LEN) bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretError> {
        if bytes.len() < Self::MIN_LEN {
            return Err(SecretError::Short(bytes.len()));
        }
        Ok(Self(Hmac::new_from_slice(bytes).expect("HMAC accepts keys of any length")))
    }

    /// Creates a random secret. Only this process accepts tokens that are signed with it.
    pub fn random() -> Self {
        Self::new(&rand::random::<[u8; Self::MIN_LEN]>()).expect("MIN_LEN bytes are a valid secret")
    }

    /// Returns the token that a node proves to other nodes.
    pub(crate) fn token_of_nodes(&self) -> Token {
        Token::new(NODE, self.secret_of_nodes()).expect("the name and the length are valid")
    }

    /// Returns the token that an administrator proves to nodes, see [`Admin`](crate::Admin).
    pub fn admin_token(&self) -> Token {
        Token::new(ADMIN, self.secret_of_administrators()).expect("the name and the length are valid")
    }

    /// Returns the token of administrators as a line of a token file: `name:secret`.
    pub fn admin_token_line(&self) -> String {
        format!("{ADMIN}:{}", self.secret_of_administrators())
    }

    /// Returns the tokens that a node accepts from other nodes and from administrators.
    pub(crate) fn accepted_tokens(&self) -> Tokens {
        let tokens = Tokens::new().with(NODE, self.secret_of_nodes());
        let tokens = tokens.and_then(|tokens| tokens.with(ADMIN, self.secret_of_administrators()));
        tokens.expect("the names and the lengths are valid")
    }

    /// Returns the secret that administrators prove, in hexadecimal.
    fn secret_of_administrators(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.sign(b"token of the administrators of an IM cluster"))
    }

    /// Returns the secret that nodes prove to each other. It signs no tokens of users.
    fn secret_of_nodes(&self) -> [u8; 32] {
        self.sign(b"token of the nodes of an IM cluster")
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(bytes).finalize().into_bytes().into()
    }

    /// Verifies a signature in constant time.
    pub(super) fn is_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        self.0.clone().chain_update(bytes).verify_slice(signature).is_ok()
    }
}

/// The name of the token of nodes.
const NODE: &str = "im-node";
/// The name of the token of administrators.
const ADMIN: &str = "im-admin";

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Secret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_requires_32_bytes() {
        assert!(Secret::new(&[7; 32]).is_ok());
        assert_eq!(
            Secret::new(&[7; 31]).unwrap_err().to_string(),
            "secret is 31 bytes, minimum is 32 (Secret::MIN_LEN)"
        );
    }

    #[test]
    fn read_ignores_trailing_line_feed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [&[b'x'; 32][..], b"\n"].concat()).unwrap();
        let secret = Secret::read(file.path()).unwrap();
        assert!(secret.is_signed(b"text", &Secret::new(&[b'x'; 32]).unwrap().sign(b"text")));
        std::fs::write(file.path(), [&[b'x'; 31][..], b"\n"].concat()).unwrap();
        assert!(matches!(Secret::read(file.path()), Err(SecretError::Short(31))));
    }
}
