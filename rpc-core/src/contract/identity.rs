//! [`Identity`]: who a peer has proved to be.

use std::{fmt, sync::Arc};

/// Who a peer has proved to be when it connected: by a token, by a certificate, by both, or not at all. Cheap to clone.
///
/// Nothing but proof leads here: what a caller says of itself in metadata is no identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    token: Option<Arc<str>>,
    certificate: Option<Arc<[String]>>,
}

impl Identity {
    /// Somebody who has proved nothing.
    pub const ANONYMOUS: Self = Self { token: None, certificate: None };

    /// Adds the name of the token whose secret the peer knows.
    #[must_use]
    pub fn with_token(mut self, name: impl Into<Arc<str>>) -> Self {
        self.token = Some(name.into());
        self
    }

    /// Adds the names in the certificate whose key the peer has.
    #[must_use]
    pub fn with_certificate(mut self, names: impl Into<Arc<[String]>>) -> Self {
        self.certificate = Some(names.into());
        self
    }

    /// The name of the token whose secret the peer knows.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The DNS names and URIs in the subject alternative name of the certificate whose key the peer has, which may be none;
    /// `None` where it showed no certificate.
    pub fn certificate(&self) -> Option<&[String]> {
        self.certificate.as_deref()
    }

    /// Every name that was proved, the token's first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.token().into_iter().chain(self.certificate().unwrap_or_default().iter().map(String::as_str))
    }

    /// Whether nothing was proved.
    pub fn is_anonymous(&self) -> bool {
        *self == Self::ANONYMOUS
    }
}

/// The names with commas between them; of somebody without one, what is known instead.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.names();
        match names.next() {
            Some(first) => {
                f.write_str(first)?;
                names.try_for_each(|name| write!(f, ", {name}"))
            }
            None if self.is_anonymous() => f.write_str("an anonymous caller"),
            None => f.write_str("a caller whose certificate has no name"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_proved() {
        let certificate = vec!["shop.internal".to_owned(), "spiffe://shop".to_owned()];
        let both = Identity::ANONYMOUS.with_token("ann").with_certificate(certificate);
        assert_eq!(both.to_string(), "ann, shop.internal, spiffe://shop");
        assert_eq!(Identity::default().to_string(), "an anonymous caller");
        let nameless = Identity::default().with_certificate(Vec::new());
        assert_eq!(nameless.to_string(), "a caller whose certificate has no name");
        assert!(!nameless.is_anonymous());
    }
}
