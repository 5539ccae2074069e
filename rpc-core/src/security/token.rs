//! [`Token`] and [`Tokens`]: shared secrets with which callers prove their identity.

use std::{fmt, path::PathBuf, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::reloadable::Reloadable;
use crate::{Code, Error};

/// The token of a client: a name and the secret that proves it. Cheap to clone.
///
/// The secret is never sent, logged or formatted. docs/PROTOCOL.md specifies the proof.
#[derive(Clone)]
pub struct Token(Source<Pair>);

/// The tokens that a server accepts. Cheap to clone.
///
/// A name may have several secrets. To rotate a secret, add the new one to the servers, then give it to the clients,
/// then remove the old one from the servers.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    given: Vec<Pair>,
    file: Option<PathBuf>,
}

/// The accepted tokens of a running server.
#[derive(Debug, Clone)]
pub struct AcceptedTokens(Source<Vec<Pair>>);

/// A token whose secret a caller has proved to have. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedToken(Pair);

#[derive(Debug, Clone)]
enum Source<T> {
    Fixed(Arc<T>),
    File(Arc<Reloadable<T>>),
}

/// A name and one of its secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: Arc<str>,
    pub(crate) secret: Arc<[u8]>,
}

impl Token {
    /// The longest name in bytes: 64.
    pub const MAX_NAME: usize = 64;
    /// The shortest secret in bytes: 16.
    ///
    /// An attacker who observes a proof could find a shorter secret by search.
    pub const MIN_SECRET: usize = 16;

    /// Creates a token from its values.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the name is not 1 to 64 of the characters `A-Z a-z 0-9 . _ -`, or if the secret has fewer
    /// than 16 bytes.
    pub fn new(name: &str, secret: impl AsRef<[u8]>) -> Result<Self, Error> {
        Ok(Self(Source::Fixed(Arc::new(Pair::new(name, secret.as_ref())?))))
    }

    /// Reads the first token of a file with lines `name:secret`.
    ///
    /// A client reads a changed file again before it connects. Empty lines and lines that start with `#` are ignored.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the file cannot be read, contains no token, or contains an invalid line.
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let first = |pairs: Vec<Pair>| pairs.into_iter().next();
        let build = {
            let path = path.clone();
            move |contents: &[Vec<u8>]| Ok(first(parse(&path, contents)?).expect("`parse` returns at least one token"))
        };
        Ok(Self(Source::File(Reloadable::load(vec![path], Box::new(build))?)))
    }

    /// Reads the file again if the token has one and it was not checked within the last second.
    ///
    /// A client calls this before it connects.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn refresh(&self) {
        self.0.refresh().await;
    }

    pub(crate) fn current(&self) -> Arc<Pair> {
        self.0.current()
    }
}

impl Tokens {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts `secret` for `name`, in addition to other secrets for the same name.
    ///
    /// # Errors
    ///
    /// As [`Token::new`].
    pub fn with(mut self, name: &str, secret: impl AsRef<[u8]>) -> Result<Self, Error> {
        self.given.push(Pair::new(name, secret.as_ref())?);
        Ok(self)
    }

    /// Accepts in addition the tokens of a file with lines `name:secret`.
    ///
    /// The server checks the file once a second. It drains the connections whose token is no longer accepted.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Reads the file, if there is one. A server calls this when it is bound.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is no token; otherwise as [`Token::file`].
    pub fn load(self) -> Result<AcceptedTokens, Error> {
        let Self { given, file } = self;
        let Some(path) = file else {
            if given.is_empty() {
                return Err(Error::not_executed(Code::InvalidArgument, "the list of accepted tokens is empty"));
            }
            return Ok(AcceptedTokens(Source::Fixed(Arc::new(given))));
        };
        let build = {
            let path = path.clone();
            move |contents: &[Vec<u8>]| Ok([&given[..], &parse(&path, contents)?].concat())
        };
        Ok(AcceptedTokens(Source::File(Reloadable::load(vec![path], Box::new(build))?)))
    }
}

impl AcceptedTokens {
    /// Reads the file again if there is one and it was not checked within the last second.
    ///
    /// A server calls this for each connection, and once a second.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn refresh(&self) {
        self.0.refresh().await;
    }

    /// Returns whether the tokens come from a file, which may change.
    pub fn is_reloadable(&self) -> bool {
        matches!(self.0, Source::File(_))
    }

    /// Returns the number of times that the file was reloaded.
    pub fn version(&self) -> u64 {
        match &self.0 {
            Source::Fixed(_) => 0,
            Source::File(reloaded) => reloaded.version(),
        }
    }

    /// Returns the accepted token with this secret, and with this name if one is given.
    ///
    /// For protocols in which a caller sends its secret. The time depends on the lengths of the secrets only.
    #[doc(hidden)]
    pub fn find(&self, name: Option<&str>, secret: &[u8]) -> Option<ProvedToken> {
        let presented = Sha256::digest(secret);
        let is_equal = |pair: &Pair| {
            let accepted = Sha256::digest(&pair.secret);
            presented.iter().zip(accepted).fold(0, |differences, (one, other)| differences | (one ^ other)) == 0
        };
        let current = self.current();
        // All secrets are compared, so that the time does not show which one is equal.
        let found = current.iter().filter(|pair| is_equal(pair) & name.is_none_or(|name| *pair.name == *name));
        found.fold(None, |first, pair| first.or(Some(pair))).map(|pair| ProvedToken(pair.clone()))
    }

    /// Returns whether a proved token is still accepted, with the same secret.
    pub fn accepts(&self, token: &ProvedToken) -> bool {
        self.current().contains(&token.0)
    }

    pub(crate) fn current(&self) -> Arc<Vec<Pair>> {
        self.0.current()
    }
}

impl ProvedToken {
    pub(crate) fn new(pair: Pair) -> Self {
        Self(pair)
    }

    /// Returns the name of the token.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl<T: Send + Sync + 'static> Source<T> {
    fn current(&self) -> Arc<T> {
        match self {
            Self::Fixed(value) => Arc::clone(value),
            Self::File(reloaded) => reloaded.current(),
        }
    }

    async fn refresh(&self) {
        if let Self::File(reloaded) = self {
            reloaded.refresh().await;
        }
    }
}

impl Pair {
    pub(crate) fn new(name: &str, secret: &[u8]) -> Result<Self, Error> {
        let reject = |message: String| Err(Error::not_executed(Code::InvalidArgument, message));
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=Token::MAX_NAME).contains(&name.len()) || !name.bytes().all(legal) {
            return reject(format!("a token's name must be 1 to {} of A-Z a-z 0-9 . _ -", Token::MAX_NAME));
        }
        if secret.len() < Token::MIN_SECRET {
            return reject(format!(
                "the secret of token {name} is {} bytes, minimum is {}",
                secret.len(),
                Token::MIN_SECRET
            ));
        }
        Ok(Self { name: name.into(), secret: secret.into() })
    }
}

/// Parses the tokens of a file. Returns at least one.
fn parse(path: &std::path::Path, contents: &[Vec<u8>]) -> Result<Vec<Pair>, Error> {
    let fail = |problem: String| Error::not_executed(Code::InvalidArgument, format!("{}: {problem}", path.display()));
    let text = contents.first().map(|content| std::str::from_utf8(content)).transpose();
    let text = text.map_err(|_| fail("the file is not UTF-8".to_owned()))?.unwrap_or_default();
    let mut pairs = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The message must not contain the line, which may be a secret.
        let at = |problem: &str| fail(format!("line {}: {problem}", index + 1));
        let (name, secret) = line.split_once(':').ok_or_else(|| at("expected `name:secret`"))?;
        let pair = Pair::new(name.trim(), secret.trim().as_bytes());
        pairs.push(pair.map_err(|error| at(error.message()))?);
    }
    if pairs.is_empty() { Err(fail("the file contains no token".to_owned())) } else { Ok(pairs) }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.0).finish()
    }
}

/// Formats only the name.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pair").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_secret_lengths_are_limited() {
        let secret = [b'x'; Token::MIN_SECRET];
        assert!(Token::new(&"n".repeat(64), secret).is_ok());
        for name in ["", "a b", "a:b", "é", &"n".repeat(65)] {
            assert!(Token::new(name, secret).is_err(), "{name}");
        }
        assert!(Token::new("ann", &secret[1..]).is_err());
    }

    #[tokio::test]
    async fn file_contains_lines_of_name_and_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let tokens = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Tokens::new().with_file(&path).load()
        };
        let pairs =
            tokens("# callers\n\nann: 0123456789abcdef \nbob:secret:with:colons\nann:fedcba9876543210\n").unwrap();
        let pair = |name: &str, secret: &[u8]| Pair::new(name, secret).unwrap();
        let expected =
            [pair("ann", b"0123456789abcdef"), pair("bob", b"secret:with:colons"), pair("ann", b"fedcba9876543210")];
        assert_eq!(pairs.current()[..], expected);
        assert_eq!(*Token::file(&path).unwrap().current(), expected[0]);
        for bad in ["", "# nothing", "ann", "ann:short-secret"] {
            let error = tokens(bad).unwrap_err().to_string();
            assert!(error.contains("tokens") && !error.contains("short-secret"), "{error}");
        }
        assert!(Tokens::new().load().is_err());
    }

    #[test]
    fn debug_contains_no_secret() {
        let secret = "a secret that is not printed";
        let token = format!("{:?}", Token::new("ann", secret).unwrap());
        let tokens = format!("{:?}", Tokens::new().with("ann", secret).unwrap());
        let accepted = format!("{:?}", Tokens::new().with("ann", secret).unwrap().load().unwrap());
        for text in [token, tokens, accepted] {
            assert!(text.contains("ann") && !text.contains("secret that") && !text.contains("115, 101"), "{text}");
        }
    }
}
