//! [`Method`]: one method of a contract; [`MethodInfo`]: its properties.

#[cfg(feature = "transport")]
use bytes::Bytes;
use std::{borrow::Cow, time::Duration};

use serde::Serialize;

#[cfg(feature = "transport")]
use super::descriptor::MethodDigest;
use super::descriptor::{Contract, ContractCell, Form, MethodContract, OnceScope, Type};
use crate::{Codec, Error, Reply, ServiceId, stable_hash};

/// One method of a contract as a type. `#[rpc_service]` generates one for each method of the trait.
pub trait Method: 'static {
    /// The arguments by parameter name.
    ///
    /// This is a struct, so that JSON peers send an object and later versions can add fields.
    type Arguments: Serialize + Send + 'static;
    /// The output of a call.
    ///
    /// `Result<T, CallError<E>>` for a method that returns `Result<T, E>`; `Result<T, Error>` for one that returns
    /// another `T`.
    type Outcome;

    /// Returns the properties of the method.
    fn info() -> &'static MethodInfo;

    /// Decodes the outcome from a reply.
    fn outcome(reply: Result<Reply, Error>) -> Self::Outcome;
}

/// The properties of a method.
#[derive(Debug, Clone)]
pub struct MethodInfo {
    service: ServiceId,
    route: Cow<'static, str>,
    name_at: usize,
    /// The [`stable_hash`] of the route.
    route_hash: u64,
    idempotent: bool,
    once: Option<Once>,
    one_way: bool,
    sends_items: bool,
    returns_items: bool,
    timeout: Option<Duration>,
    stream_timeout: Option<Duration>,
    codec: Option<Codec>,
    /// The description of the service, and the number of the method in it.
    described: Option<(&'static ContractCell, usize)>,
    max_running: Option<u32>,
    http: Option<&'static str>,
    http_statuses: &'static [(&'static str, u16)],
}

impl MethodInfo {
    /// Creates a method from constants.
    ///
    /// `route` is `service:version/name` with the name and version of `service`.
    ///
    /// # Panics
    ///
    /// Panics if `route` does not end with a slash and a name. In a constant, this is a compile error.
    pub const fn from_static(service: ServiceId, route: &'static str) -> Self {
        let bytes = route.as_bytes();
        let mut at = bytes.len();
        while at > 0 && bytes[at - 1] != b'/' {
            at -= 1;
        }
        assert!(at > 0 && at < bytes.len(), "a route must be `service:version/method`");
        Self::with_route(service, Cow::Borrowed(route), at, stable_hash(bytes))
    }

    /// Creates a method whose name is known only at run time, for example in a gateway.
    pub fn new(service: ServiceId, name: &str) -> Self {
        let prefix = format!("{service}/");
        let name_at = prefix.len();
        let route = prefix + name;
        let route_hash = stable_hash(route.as_bytes());
        Self::with_route(service, Cow::Owned(route), name_at, route_hash)
    }

    /// Creates a method whose name starts at `name_at` in its route.
    const fn with_route(service: ServiceId, route: Cow<'static, str>, name_at: usize, route_hash: u64) -> Self {
        Self {
            service,
            route,
            name_at,
            route_hash,
            idempotent: false,
            once: None,
            one_way: false,
            sends_items: false,
            returns_items: false,
            timeout: None,
            stream_timeout: None,
            codec: None,
            described: None,
            max_running: None,
            http: None,
            http_statuses: &[],
        }
    }

    /// Marks the method as idempotent: its handler may execute twice without harm.
    ///
    /// A client may then retry a call after an unknown outcome.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Marks the calls of the method as once calls.
    ///
    /// The handler executes at most once for each call, regardless of the number of attempts.
    #[must_use]
    pub const fn once(mut self, once: Once) -> Self {
        self.once = Some(once);
        self
    }

    /// Marks the method as one-way: the server sends no response.
    #[must_use]
    pub const fn one_way(mut self) -> Self {
        self.one_way = true;
        self
    }

    /// Marks the last argument as a stream: the caller sends items.
    #[must_use]
    pub const fn sends_items(mut self) -> Self {
        self.sends_items = true;
        self
    }

    /// Marks the result as a stream: the callee sends items.
    #[must_use]
    pub const fn returns_items(mut self) -> Self {
        self.returns_items = true;
        self
    }

    /// Sets the timeout of calls that do not set one.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the limit on the stream of calls that do not set one.
    #[must_use]
    pub const fn stream_timeout(mut self, timeout: Duration) -> Self {
        self.stream_timeout = Some(timeout);
        self
    }

    /// Sets the codec of calls that do not set one.
    #[must_use]
    pub const fn codec(mut self, codec: Codec) -> Self {
        self.codec = Some(codec);
        self
    }

    /// Sets the description of the service, in which the method has this number. Generated code calls this.
    #[doc(hidden)]
    #[must_use]
    pub const fn described(mut self, service: &'static ContractCell, number: usize) -> Self {
        self.described = Some((service, number));
        self
    }

    /// Limits the handlers of the method that run at the same time on one server; 0 permits none.
    ///
    /// The server rejects further calls before they execute, with `ResourceExhausted`; clients send them to other servers.
    #[must_use]
    pub const fn limit_running(mut self, max_running: u32) -> Self {
        self.max_running = Some(max_running);
        self
    }

    /// Sets the verb and the path of the method in HTTP, such as `GET /orders/{id}`, besides `POST /service/method`.
    #[must_use]
    pub const fn http(mut self, path: &'static str) -> Self {
        self.http = Some(path);
        self
    }

    /// Sets the HTTP status of variants of the method's error, by their names on the wire. Default: 422 for all.
    #[must_use]
    pub const fn http_statuses(mut self, statuses: &'static [(&'static str, u16)]) -> Self {
        self.http_statuses = statuses;
        self
    }

    /// Returns the service of the method.
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// Returns the route, `service:version/method`.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Returns the route as bytes, which are not copied if it is a constant.
    #[cfg(feature = "transport")]
    pub(crate) fn route_bytes(&self) -> Bytes {
        match &self.route {
            Cow::Borrowed(route) => Bytes::from_static(route.as_bytes()),
            Cow::Owned(route) => Bytes::copy_from_slice(route.as_bytes()),
        }
    }

    /// Returns the name of the method on the wire.
    pub fn name(&self) -> &str {
        &self.route[self.name_at..]
    }

    /// Returns whether the handler may execute twice without harm.
    pub fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Returns the scope of the method's once calls; `None` if its calls are not once calls.
    pub fn once_scope(&self) -> Option<Once> {
        self.once
    }

    /// Returns whether the server sends no response.
    pub fn is_one_way(&self) -> bool {
        self.one_way
    }

    /// Returns whether the last argument is a stream of items.
    pub fn is_sending_items(&self) -> bool {
        self.sends_items
    }

    /// Returns whether the result is a stream of items.
    pub fn is_returning_items(&self) -> bool {
        self.returns_items
    }

    /// Returns the timeout of calls that do not set one.
    pub fn default_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Returns the limit on the stream of calls that do not set one; `None` if there is none.
    pub fn default_stream_timeout(&self) -> Option<Duration> {
        self.stream_timeout
    }

    /// Returns the codec of calls that do not set one; `None` if the client determines it.
    pub fn default_codec(&self) -> Option<Codec> {
        self.codec
    }

    /// Returns the description of the method; `None` if it was created at run time.
    ///
    /// The first use traces the types of the service, which takes a few milliseconds.
    pub fn contract(&self) -> Option<&'static MethodContract> {
        let (service, number) = self.described?;
        service.contract().methods.get(number)
    }

    /// Returns the description of the service; `None` for a method that was created at run time.
    #[doc(hidden)]
    pub fn service_contract(&self) -> Option<&'static Contract> {
        self.described.map(|(service, _)| service.contract())
    }

    /// Returns the digest of the method; `None` if it was created at run time.
    #[cfg(feature = "transport")]
    #[doc(hidden)]
    #[inline]
    pub fn digest(&self) -> Option<MethodDigest> {
        let (service, number) = self.described?;
        Some(MethodDigest { route: self.route_hash, digest: service.digest(number)? })
    }

    /// Returns the description of the method without its types.
    #[doc(hidden)]
    pub fn outline(&self, docs: &str) -> MethodContract {
        MethodContract {
            name: self.name().to_owned(),
            docs: docs.to_owned(),
            form: match (self.sends_items, self.returns_items) {
                (false, false) if self.one_way => Form::OneWay,
                (false, false) => Form::Unary,
                (true, false) => Form::CallerStream,
                (false, true) => Form::CalleeStream,
                (true, true) => Form::Streams,
            },
            idempotent: self.idempotent,
            once: self.once.map(|scope| match scope {
                Once::Server => OnceScope::Server,
                Once::Cluster => OnceScope::Cluster,
            }),
            timeout_ms: self.timeout.map(milliseconds),
            codec: self.codec.map(Codec::name).map(str::to_owned),
            http: self.http.map(str::to_owned),
            http_statuses: self.http_statuses.iter().map(|(name, status)| ((*name).to_owned(), *status)).collect(),
            parameters: Vec::new(),
            caller_items: None,
            result: Type::Unit,
            items: None,
            error: None,
            items_error: None,
        }
    }

    /// Returns the verb and the path of the method in HTTP, such as `GET /orders/{id}`; `None` if it has none of its own.
    pub fn http_path(&self) -> Option<&'static str> {
        self.http
    }

    /// Returns the HTTP status of an error with this variant; `None` if the method sets none.
    pub fn http_status(&self, variant: &str) -> Option<u16> {
        self.http_statuses.iter().find(|(name, _)| *name == variant).map(|(_, status)| *status)
    }

    /// Returns the limit of the handlers that run at the same time on one server; `None` if there is none.
    pub fn max_running(&self) -> Option<u32> {
        self.max_running
    }
}

/// Compares the properties, and not the descriptions.
impl PartialEq for MethodInfo {
    fn eq(&self, other: &Self) -> bool {
        let streams = |info: &Self| (info.one_way, info.sends_items, info.returns_items);
        let timeouts = |info: &Self| (info.timeout, info.stream_timeout);
        let options = |info: &Self| (info.idempotent, info.once, info.codec, info.max_running);
        self.service == other.service
            && self.route == other.route
            && streams(self) == streams(other)
            && timeouts(self) == timeouts(other)
            && options(self) == options(other)
    }
}

impl Eq for MethodInfo {}

/// The scope in which the handler of a once call executes at most once.
///
/// The client sends a key with the call. A server that receives the same key again answers with the stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Once {
    /// One server, which stores its answers: the client retries the call only on that server.
    Server,
    /// All servers, which share a store of answers: the client may retry the call on any of them.
    Cluster,
}

/// Rounds up, as the wire format does.
fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_and_dynamic_infos_are_equal() {
        const INFO: MethodInfo =
            MethodInfo::from_static(ServiceId::from_static("demo.Greeter", "1.0"), "demo.Greeter:1.0/hello");
        assert_eq!(INFO.name(), "hello");
        assert_eq!(INFO, MethodInfo::new(INFO.service().clone(), "hello"));
    }

    #[test]
    fn infos_with_different_properties_differ() {
        let info = MethodInfo::new(ServiceId::from_static("demo.Greeter", "1.0"), "hello");
        let changed = [
            info.clone().idempotent(),
            info.clone().once(Once::Server),
            info.clone().one_way(),
            info.clone().sends_items(),
            info.clone().returns_items(),
            info.clone().timeout(Duration::from_secs(1)),
            info.clone().codec(Codec::Json),
            info.clone().limit_running(1),
        ];
        for changed in changed {
            assert_ne!(changed, info);
            assert_eq!(changed, changed.clone());
        }
    }
}
