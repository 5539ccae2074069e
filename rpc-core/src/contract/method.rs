//! [`Method`]: one method of a contract, as its proxies and servers know it.

use std::{borrow::Cow, time::Duration};

use serde::Serialize;

use crate::{Error, Reply, ServiceId};

/// One method of a contract at the type level; `#[rpc_service]` makes one for each method of the trait.
pub trait Method: 'static {
    /// The parameters by name: one struct, so that JSON peers send an object and fields can be added.
    type Arguments: Serialize + Send + 'static;
    /// What awaiting a call gives: `Result<T, Error>`, or `Result<T, CallError<E>>` when the method returns `Result<T, E>`.
    type Outcome;

    /// What is known of the method without calling it.
    fn info() -> &'static MethodInfo;

    /// Reads the outcome out of a reply.
    fn outcome(reply: Result<Reply, Error>) -> Self::Outcome;
}

/// What is known of a method without calling it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodInfo {
    service: ServiceId,
    route: Cow<'static, str>,
    name_at: usize,
    idempotent: bool,
    once: Option<Once>,
    one_way: bool,
    timeout: Option<Duration>,
}

impl MethodInfo {
    /// A method by constants. `route` is `service:version/name` with the service's own name and version.
    ///
    /// # Panics
    ///
    /// When `route` ends without a slash and a name, which for a constant is an error of compilation.
    pub const fn from_static(service: ServiceId, route: &'static str) -> Self {
        let bytes = route.as_bytes();
        let mut at = bytes.len();
        while at > 0 && bytes[at - 1] != b'/' {
            at -= 1;
        }
        assert!(at > 0 && at < bytes.len(), "a route is `service:version/method`");
        Self {
            service,
            route: Cow::Borrowed(route),
            name_at: at,
            idempotent: false,
            once: None,
            one_way: false,
            timeout: None,
        }
    }

    /// A method whose name is known at run time only, as for a gateway.
    pub fn new(service: ServiceId, name: &str) -> Self {
        let prefix = format!("{service}/");
        let (name_at, route) = (prefix.len(), Cow::Owned(prefix + name));
        Self { service, route, name_at, idempotent: false, once: None, one_way: false, timeout: None }
    }

    /// Says that the method may run twice without harm, so a client may send it again.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Says that each call is to run at most once, however often it is sent.
    #[must_use]
    pub const fn once(mut self, once: Once) -> Self {
        self.once = Some(once);
        self
    }

    /// Says that no response is sent.
    #[must_use]
    pub const fn one_way(mut self) -> Self {
        self.one_way = true;
        self
    }

    /// Sets the timeout of calls whose caller names none.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The service that the method belongs to.
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// `service:version/method`, as it travels.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The method's own name on the wire.
    pub fn name(&self) -> &str {
        &self.route[self.name_at..]
    }

    /// Whether the method may run twice without harm.
    pub fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Whether, and where, each call is to run at most once, however often it is sent.
    pub fn run_once(&self) -> Option<Once> {
        self.once
    }

    /// Whether no response is sent.
    pub fn is_one_way(&self) -> bool {
        self.one_way
    }

    /// The timeout of calls whose caller names none.
    pub fn default_timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

/// Where a call that may be sent again is to run at most once. The client sends a key with it; a repeat with the same key is
/// answered with the answer that was given before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Once {
    /// On one server, which remembers its answers: the call is sent again to that server only.
    Server,
    /// On all servers together, which share a store of answers: the call may be sent again to any of them.
    Cluster,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_and_computed_agree() {
        const INFO: MethodInfo =
            MethodInfo::from_static(ServiceId::from_static("demo.Greeter", "1.0"), "demo.Greeter:1.0/hello");
        assert_eq!(INFO.name(), "hello");
        assert_eq!(INFO, MethodInfo::new(INFO.service().clone(), "hello"));
    }
}
