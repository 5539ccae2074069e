//! [`ServiceId`]: the name and version of a service.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
    ptr,
    str::FromStr,
};

use crate::{Code, Error};

/// The name and version of a service, written `demo.Greeter:1.0`.
///
/// This text is also the service's name in the registry, and the part of a route before the slash.
#[derive(Debug, Clone, Eq, PartialOrd, Ord)]
pub struct ServiceId {
    name: Cow<'static, str>,
    version: Cow<'static, str>,
}

impl ServiceId {
    /// The longest `name:version`, in bytes.
    pub const MAX_LEN: usize = 256;

    /// Creates an id from constants without checking them; `#[rpc_service]` checks them at compile time.
    pub const fn from_static(name: &'static str, version: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), version: Cow::Borrowed(version) }
    }

    /// Creates an id.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if either part is empty or contains characters other than ASCII letters, digits, `.`, `_` and
    /// `-`, or if `name:version` is longer than [`MAX_LEN`](Self::MAX_LEN).
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Result<Self, Error> {
        let (name, version) = (name.into(), version.into());
        let legal = |part: &str| !part.is_empty() && part.bytes().all(is_legal);
        if !legal(&name) || !legal(&version) || name.len() + 1 + version.len() > Self::MAX_LEN {
            return Err(Error::not_executed(
                Code::InvalidArgument,
                format!(
                    "service id `{name}:{version}` is invalid: expected `name:version` of letters, digits, `.`, `_` and `-`, \
                     at most {} bytes",
                    Self::MAX_LEN
                ),
            ));
        }
        Ok(Self { name: Cow::Owned(name), version: Cow::Owned(version) })
    }

    /// Creates the id of a service of another framework in a registry, which has a name and no version.
    ///
    /// The name may have colons, such as `providers:demo.Greeter:1.0:` of Dubbo, but not the form of an id with a version.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), for the name.
    pub fn unversioned(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let parts = name.split(':').count();
        let legal = |byte| is_legal(byte) || byte == b':';
        if name.is_empty() || parts == 2 || name.len() > Self::MAX_LEN || !name.bytes().all(legal) {
            let message = format!(
                "service name `{name}` is invalid: expected letters, digits, `.`, `_`, `-` and `:`, at most {} bytes, and not \
                 the form `name:version`",
                Self::MAX_LEN
            );
            return Err(Error::not_executed(Code::InvalidArgument, message));
        }
        Ok(Self { name: Cow::Owned(name), version: Cow::Borrowed("") })
    }

    /// Returns the name without the version, `demo.Greeter`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the version, `1.0`; empty for a service of another framework.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// The ids of a contract are constants, so each call compares the same memory.
impl PartialEq for ServiceId {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let equal = |one: &str, other: &str| ptr::eq(one, other) || one == other;
        equal(&self.name, &other.name) && equal(&self.version, &other.version)
    }
}

/// Few services have several versions in one process, so the hash of the name is sufficient.
impl Hash for ServiceId {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version() {
            "" => f.write_str(&self.name),
            version => write!(f, "{}:{version}", self.name),
        }
    }
}

impl FromStr for ServiceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, version) = text.split_once(':').unwrap_or((text, ""));
        Self::new(name, version)
    }
}

/// Returns whether a name or a version may contain a byte.
fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_parse_round_trip() {
        let id: ServiceId = "demo.Greeter:1.0".parse().unwrap();
        assert_eq!(id, ServiceId::from_static("demo.Greeter", "1.0"));
        assert_eq!(id.to_string(), "demo.Greeter:1.0");
        for name in ["orders", "providers:demo.Greeter::"] {
            assert_eq!(ServiceId::unversioned(name).unwrap().to_string(), name);
        }
        for name in ["", "demo.Greeter:1.0", "demo Greeter", "a/b", &"a".repeat(257)] {
            assert_eq!(ServiceId::unversioned(name).unwrap_err().code(), Code::InvalidArgument, "{name}");
        }
        assert_ne!(id, ServiceId::from_static("demo.Greeter", "1.1"));
        assert_ne!(id, ServiceId::from_static("demo.Greetes", "1.0"));
    }

    #[test]
    fn invalid_ids_are_rejected() {
        for bad in ["", "demo", "demo:", ":1.0", "de mo:1", "demo@@x:1", "a/b:1", "a:b:1"] {
            assert!(bad.parse::<ServiceId>().is_err(), "{bad}");
        }
        let longest = "n".repeat(ServiceId::MAX_LEN - 2);
        assert!(ServiceId::new(longest.clone(), "1").is_ok());
        assert!(ServiceId::new(longest + "n", "1").is_err());
    }
}
