//! [`Identity`]: the proved identity of a peer.

use std::{fmt, sync::Arc};

/// The identity that a peer proved when it connected. Cheap to clone.
///
/// Proofs are a token, a certificate, or both; a peer without a proof is anonymous.
///
/// An identity contains only names that the peer proved; metadata of a call does not affect it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    token: Option<Arc<str>>,
    certificate: Option<Arc<[String]>>,
}

impl Identity {
    /// The identity of a peer that has proved nothing.
    pub const ANONYMOUS: Self = Self { token: None, certificate: None };

    /// Sets the name of the token whose secret the peer has proved to have.
    #[must_use]
    pub fn with_token(mut self, name: impl Into<Arc<str>>) -> Self {
        self.token = Some(name.into());
        self
    }

    /// Sets the names in the certificate whose private key the peer has proved to have.
    #[must_use]
    pub fn with_certificate(mut self, names: impl Into<Arc<[String]>>) -> Self {
        self.certificate = Some(names.into());
        self
    }

    /// Returns the name of the token whose secret the peer has proved to have.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Returns the DNS names and URIs in the subject alternative name of the peer's certificate.
    ///
    /// The list may be empty. `None` if the peer presented no certificate.
    pub fn certificate(&self) -> Option<&[String]> {
        self.certificate.as_deref()
    }

    /// Returns every proved name, the token's first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.token().into_iter().chain(self.certificate().unwrap_or_default().iter().map(String::as_str))
    }

    /// Returns whether the peer has proved nothing.
    pub fn is_anonymous(&self) -> bool {
        *self == Self::ANONYMOUS
    }
}

/// Formats the names separated by commas, or a description if there is no name.
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
    fn display_lists_proved_names() {
        let certificate = vec!["shop.internal".to_owned(), "spiffe://shop".to_owned()];
        let both = Identity::ANONYMOUS.with_token("ann").with_certificate(certificate);
        assert_eq!(both.to_string(), "ann, shop.internal, spiffe://shop");
        assert_eq!(Identity::default().to_string(), "an anonymous caller");
        let nameless = Identity::default().with_certificate(Vec::new());
        assert_eq!(nameless.to_string(), "a caller whose certificate has no name");
        assert!(!nameless.is_anonymous());
    }
}
