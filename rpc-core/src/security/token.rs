//! [`Token`] and [`Tokens`]: shared secrets by which callers prove who they are.

use std::{fmt, path::PathBuf, sync::Arc};

use super::reloadable::Reloadable;
use crate::{Code, Error};

/// A name and the secret that proves it: what a client has. Cheap to clone.
///
/// The secret never travels, and is in no log and no `Debug`. docs/PROTOCOL.md says how it is proved.
#[derive(Clone)]
pub struct Token(Source<Pair>);

/// The names and secrets that a server accepts. Cheap to clone.
///
/// A name may have several secrets: a new one is added at the servers, given to the clients, and then the old one is taken away.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    given: Vec<Pair>,
    file: Option<PathBuf>,
}

/// The accepted tokens, as a server uses them.
#[derive(Debug, Clone)]
pub struct AcceptedTokens(Source<Vec<Pair>>);

#[derive(Debug, Clone)]
enum Source<T> {
    Given(Arc<T>),
    File(Arc<Reloadable<T>>),
}

/// A name and one of its secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: Arc<str>,
    pub(crate) secret: Arc<[u8]>,
}

impl Token {
    /// The longest name, in bytes.
    pub const MAX_NAME: usize = 64;
    /// The shortest secret, in bytes: what is shorter can be guessed by whoever sees it used.
    pub const MIN_SECRET: usize = 16;

    /// A token by its values.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a name that is not 1 to 64 of the characters `A-Z a-z 0-9 . _ -`, and for a secret of fewer than 16
    /// bytes.
    pub fn new(name: &str, secret: impl AsRef<[u8]>) -> Result<Self, Error> {
        Ok(Self(Source::Given(Arc::new(Pair::new(name, secret.as_ref())?))))
    }

    /// The first token of a file of lines `name:secret`, which is read anew when it has changed, before a connection is made. Lines
    /// that are empty or begin with `#` mean nothing.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a file that cannot be read, has no token, or a line that is none.
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let first = |pairs: Vec<Pair>| pairs.into_iter().next();
        let make = {
            let path = path.clone();
            move |contents: &[Vec<u8>]| Ok(first(parse(&path, contents)?).expect("`parse` gives one at least"))
        };
        Ok(Self(Source::File(Reloadable::load(vec![path], Box::new(make))?)))
    }

    /// Reads its file, if it has one that was not looked at for a second. A client does so before it connects.
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
    /// No token yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts `secret` for `name`, besides others for the same name.
    ///
    /// # Errors
    ///
    /// As [`Token::new`].
    pub fn with(mut self, name: &str, secret: impl AsRef<[u8]>) -> Result<Self, Error> {
        self.given.push(Pair::new(name, secret.as_ref())?);
        Ok(self)
    }

    /// Accepts, besides, what a file of lines `name:secret` says, which is read anew when it has changed, before a connection is
    /// accepted. Connections that there are stay.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Makes them ready for use. A server does so when it is bound.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when there is no token, and as [`Token::file`].
    pub fn load(self) -> Result<AcceptedTokens, Error> {
        let Self { given, file } = self;
        let Some(path) = file else {
            if given.is_empty() {
                return Err(Error::not_executed(
                    Code::InvalidArgument,
                    "a server that requires a token must accept one",
                ));
            }
            return Ok(AcceptedTokens(Source::Given(Arc::new(given))));
        };
        let make = {
            let path = path.clone();
            move |contents: &[Vec<u8>]| Ok([&given[..], &parse(&path, contents)?].concat())
        };
        Ok(AcceptedTokens(Source::File(Reloadable::load(vec![path], Box::new(make))?)))
    }
}

impl AcceptedTokens {
    /// Reads their file, if they have one that was not looked at for a second. A server does so for each connection.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn refresh(&self) {
        self.0.refresh().await;
    }

    pub(crate) fn current(&self) -> Arc<Vec<Pair>> {
        self.0.current()
    }
}

impl<T: Send + Sync + 'static> Source<T> {
    fn current(&self) -> Arc<T> {
        match self {
            Self::Given(value) => Arc::clone(value),
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
        let refuse = |message: String| Err(Error::not_executed(Code::InvalidArgument, message));
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=Token::MAX_NAME).contains(&name.len()) || !name.bytes().all(known) {
            return refuse(format!("a token's name has 1 to {} of A-Z a-z 0-9 . _ -", Token::MAX_NAME));
        }
        if secret.len() < Token::MIN_SECRET {
            return refuse(format!("the secret of {name} must have at least {} bytes", Token::MIN_SECRET));
        }
        Ok(Self { name: name.into(), secret: secret.into() })
    }
}

/// The tokens of a file, one at least.
fn parse(path: &std::path::Path, contents: &[Vec<u8>]) -> Result<Vec<Pair>, Error> {
    let fail = |what: String| Error::not_executed(Code::InvalidArgument, format!("{}: {what}", path.display()));
    let text = contents.first().map(|content| std::str::from_utf8(content)).transpose();
    let text = text.map_err(|_| fail("a file of tokens is UTF-8".to_owned()))?.unwrap_or_default();
    let mut pairs = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // Never the line itself: it may be a secret.
        let at = |what: &str| fail(format!("line {}: {what}", index + 1));
        let (name, secret) = line.split_once(':').ok_or_else(|| at("a token is written `name:secret`"))?;
        let pair = Pair::new(name.trim(), secret.trim().as_bytes());
        pairs.push(pair.map_err(|error| at(error.message()))?);
    }
    if pairs.is_empty() { Err(fail("there is no token in it".to_owned())) } else { Ok(pairs) }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.0).finish()
    }
}

/// Tells the name only.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pair").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_up_to_64_characters_and_a_secret_16_bytes_at_least() {
        let secret = [b'x'; Token::MIN_SECRET];
        assert!(Token::new(&"n".repeat(64), secret).is_ok());
        for name in ["", "a b", "a:b", "é", &"n".repeat(65)] {
            assert!(Token::new(name, secret).is_err(), "{name}");
        }
        assert!(Token::new("ann", &secret[1..]).is_err());
    }

    #[tokio::test]
    async fn a_file_has_lines_of_a_name_and_a_secret() {
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
    fn debug_tells_no_secret() {
        let secret = "a secret that nobody sees";
        let token = format!("{:?}", Token::new("ann", secret).unwrap());
        let tokens = format!("{:?}", Tokens::new().with("ann", secret).unwrap());
        let accepted = format!("{:?}", Tokens::new().with("ann", secret).unwrap().load().unwrap());
        for text in [token, tokens, accepted] {
            assert!(text.contains("ann") && !text.contains("secret that") && !text.contains("115, 101"), "{text}");
        }
    }
}
