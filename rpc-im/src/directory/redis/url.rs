//! [`RedisUrl`]: the address and credentials of a Redis server.

use std::{convert::Infallible, fmt, str::FromStr};

/// The URL of a Redis server: `redis://[user:password@]host[:port][/database]`, or `rediss:` for TLS.
///
/// TLS verifies the server's certificate against the certificates that the operating system trusts.
///
/// No error, log line or `Debug` output contains its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Creates a URL. [`RedisDirectory::connect`](super::RedisDirectory::connect) validates it.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RedisUrl {
    type Err = Infallible;

    fn from_str(url: &str) -> Result<Self, Infallible> {
        Ok(Self::new(url))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl(…)")
    }
}
