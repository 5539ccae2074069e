//! [`Secret`]: what nodes sign tokens with.

use std::{fmt, fs, io, path::Path};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What the nodes of a cluster sign tokens with, by HMAC-SHA-256; whoever has it can be anybody.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("the secret cannot be read")]
    Io(#[from] io::Error),
    /// The file is too short to be one.
    #[error("the secret has {0} bytes and needs {min} at least", min = Secret::MIN_LEN)]
    Short(usize),
}

impl Secret {
    /// The shortest secret, in bytes.
    pub const MIN_LEN: usize = 32;

    /// Reads a secret from a file, without the white space at its ends.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has less than [`MIN_LEN`](Self::MIN_LEN) bytes.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        Self::new(fs::read(path)?.trim_ascii())
    }

    /// A secret of these bytes.
    ///
    /// # Errors
    ///
    /// When there are less than [`MIN_LEN`](Self::MIN_LEN).
    pub fn new(bytes: &[u8]) -> Result<Self, SecretError> {
        if bytes.len() < Self::MIN_LEN {
            return Err(SecretError::Short(bytes.len()));
        }
        Ok(Self(Hmac::new_from_slice(bytes).expect("HMAC takes a key of any length")))
    }

    /// A secret that nobody else has: its tokens are good with this one alone.
    pub fn random() -> Self {
        Self::new(&rand::random::<[u8; Self::MIN_LEN]>()).expect("it is as long as it must be")
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(bytes).finalize().into_bytes().into()
    }

    /// Compares in the same time, however much is right.
    pub(super) fn is_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        self.0.clone().chain_update(bytes).verify_slice(signature).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Secret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_32_bytes_at_least() {
        assert!(Secret::new(&[7; 32]).is_ok());
        assert_eq!(Secret::new(&[7; 31]).unwrap_err().to_string(), "the secret has 31 bytes and needs 32 at least");
    }

    #[test]
    fn a_file_may_end_with_a_line_feed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [&[b'x'; 32][..], b"\n"].concat()).unwrap();
        let secret = Secret::read(file.path()).unwrap();
        assert!(secret.is_signed(b"text", &Secret::new(&[b'x'; 32]).unwrap().sign(b"text")));
        fs::write(file.path(), [&[b'x'; 31][..], b"\n"].concat()).unwrap();
        assert!(matches!(Secret::read(file.path()), Err(SecretError::Short(31))));
    }
}
