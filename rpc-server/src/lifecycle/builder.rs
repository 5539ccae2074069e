//! [`ServerBuilder`]: the options of a server, and binding it.

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock, atomic::AtomicBool},
};

#[cfg(feature = "tls")]
use rpc_core::tls::ServerTls;
use rpc_core::{
    Code, Digests, Error, Instance, MethodInfo, Once, Registry, Service, Tokens,
    admin::AdminServer,
    layer::{ServerLayer, ServerLayers},
    reflection::ReflectionServer,
    transport::{Accept, StreamMemory},
};
use tokio::{net::ToSocketAddrs, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    admin::ServerAdmin,
    major_version::major_versions,
    reflection::ServerReflection,
    registration::{Registration, advertised, check_tags},
    server::Server,
    tcp,
};
#[cfg(feature = "http2")]
use crate::endpoint::Http2Port;
use crate::{
    call::{
        access::AccessRule,
        concurrency::ConcurrencyLimit,
        dispatcher::Dispatcher,
        measured::Measured,
        once::{OnceCalls, OnceStore},
    },
    config::ServerConfig,
    connection::Shared,
    counters::Counters,
    credentials::Credentials,
    endpoint::{Endpoint, EndpointHandler, EndpointServices},
    listener::ConnectionThreads,
    peer_warnings::PeerWarnings,
};

/// Builds a [`Server`] from its services and options.
#[must_use]
#[derive(Default)]
pub struct ServerBuilder {
    registry: Option<Arc<dyn Registry>>,
    services: Vec<Arc<dyn Service>>,
    layers: ServerLayers,
    advertise: Option<SocketAddr>,
    weight: Option<f64>,
    metadata: Vec<(String, String)>,
    tags: Vec<String>,
    once_store: Option<Arc<dyn OnceStore>>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    tokens: Option<Tokens>,
    rules: Vec<AccessRule>,
    rules_file: Option<PathBuf>,
    without_reflection: bool,
    has_admin: bool,
    major_versions: bool,
    endpoints: Vec<Box<dyn Endpoint>>,
    threads: usize,
    config: ServerConfig,
}

impl Server {
    /// Returns a builder with default options.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

impl ServerBuilder {
    /// The maximum of [`threads`](Self::threads).
    pub const MAX_THREADS: usize = 1024;

    /// Sets the registry in which the server registers. Default: none; clients then need the address.
    pub fn registry(mut self, registry: Arc<dyn Registry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Adds a service.
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Arc::new(service));
        self
    }

    /// Sets whether the server describes its services to its clients, with `rpc_core::reflection`. Default: `true`.
    ///
    /// Rules of [`allow`](Self::allow) for `msnb.Reflection:1.0` restrict it. Without it, a client cannot name the field in
    /// which its contract and that of the server differ, and cannot call services dynamically.
    pub fn reflection(mut self, enabled: bool) -> Self {
        self.without_reflection = !enabled;
        self
    }

    /// Sets whether the server reports its counters to its clients, with `rpc_core::admin`, and counts its calls by method
    /// for that. Default: `false`.
    ///
    /// `msnb console` shows the counters. Rules of [`allow`](Self::allow) for `msnb.Admin:1.0` restrict the service. To
    /// count a call costs two reads of the clock, one allocation and a few atomic operations.
    pub fn admin(mut self, enabled: bool) -> Self {
        self.has_admin = enabled;
        self
    }

    /// Sets whether the server serves and registers each service also under its major version. Default: `false`.
    ///
    /// A client that requests version `1` then calls the highest version `1.x` of the server; versions of different
    /// servers may differ. Contracts are compared as for equal versions. Versions that do not consist of numbers and dots
    /// have no major version.
    pub fn major_versions(mut self, enabled: bool) -> Self {
        self.major_versions = enabled;
        self
    }

    /// Adds a layer around all services, including those added later.
    ///
    /// The layer added first is the outermost: it sees a call first. `rpc_core::layer::LayeredService` adds a layer
    /// around a single service.
    pub fn layer(mut self, layer: impl ServerLayer) -> Self {
        self.layers = self.layers.and(layer);
        self
    }

    /// Sets the address to register, for a server behind a NAT or a proxy.
    ///
    /// Default: the address that the server listens on.
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise = Some(address);
        self
    }

    /// Sets the weight of this server in load balancing, relative to other servers: 0 to 10 000, default 1.
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Sets the zone in which this server runs, such as a data center; clients in the same zone prefer it.
    ///
    /// Default: none.
    pub fn zone(self, zone: impl Into<String>) -> Self {
        self.metadata(Instance::ZONE, zone)
    }

    /// Sets the tags of this server: only calls with one of them use it. Default: none.
    ///
    /// [`ServerHandle::set_tags`](crate::ServerHandle::set_tags) changes them while the server runs. A tag has at most 64
    /// letters, digits, `.`, `_` and `-`; [`bind`](Self::bind) fails with `InvalidArgument` for others.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// Adds metadata to the entry in the registry.
    ///
    /// Gateways, operators and programs that watch the registry can read it.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Sets the store in which all servers of a cluster share the answers of once calls.
    ///
    /// Every server of a service with a `#[rpc(once = "cluster")]` method needs the same store;
    /// [`bind`](Self::bind) fails without one.
    pub fn once_store(mut self, store: impl OnceStore) -> Self {
        self.once_store = Some(Arc::new(store));
        self
    }

    /// Requires TLS: the server closes plain text connections.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Requires every client to prove one of these tokens.
    ///
    /// Handlers find the name of the token in `Context::peer().identity()`. The proof does not send the secret, but
    /// without TLS all other data on the connection can be read and changed on its way.
    pub fn require_token(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Restricts a method or a service to callers with one of these names.
    ///
    /// `target` is a method such as `"demo.Greeter:1.0/hello"`, or a service such as `"demo.Greeter:1.0"`, whose rule
    /// applies to its methods without a rule of their own. Other callers receive `PermissionDenied`, and the handler is
    /// not executed. Every connected client may call methods without a rule.
    ///
    /// A name is the name of a proved token, or a name in a proved client certificate: see `rpc_core::Identity::names`.
    /// In a name, `*` matches any number of any characters: `team-*`, `spiffe://shop/*`; `*` alone permits every caller
    /// with a name. The names of several rules for the same target add up; a rule without names denies every caller.
    pub fn allow(mut self, target: impl Into<String>, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.rules.push(AccessRule { target: target.into(), names: names.into_iter().map(Into::into).collect() });
        self
    }

    /// Adds the access rules of a file to those of [`allow`](Self::allow).
    ///
    /// The file is UTF-8 and has one rule per line: the target, then the names and patterns, separated by spaces or
    /// tabs. A word that starts with `#` begins a comment. Empty lines are ignored.
    ///
    /// ```text
    /// # target                callers
    /// demo.Greeter:1.0        ann team-*
    /// demo.Greeter:1.0/reset  ann           # only this method
    /// demo.Greeter:1.0/debug                # no caller
    /// ```
    ///
    /// While the server runs, it checks the file every second. A change applies to all connections from their next
    /// call. If the changed file cannot be read, has no rule, or has an error, the server logs a warning with the line
    /// and the column, and keeps the previous rules. So that an incomplete file opens nothing, the last line must have a
    /// line end, and a target that had a rule in the file must keep one: `demo.Greeter:1.0 *` permits every caller with
    /// a name. Replace the file by a rename.
    pub fn allow_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.rules_file = Some(path.into());
        self
    }

    /// Adds another protocol on the port of the server, such as HTTP.
    ///
    /// The server passes the endpoint the connections that begin with bytes of its protocol, or agree on it by ALPN. The
    /// first endpoint that claims a connection serves it; endpoints share the connections of HTTP/2, whose requests each go
    /// to the endpoint that accepts them. Calls of endpoints have the same limits, access rules and layers as those of msnb.
    /// Without an endpoint, nothing is inspected.
    pub fn endpoint(mut self, endpoint: impl Endpoint) -> Self {
        self.endpoints.push(Box::new(endpoint));
        self
    }

    /// Serves connections on `count` threads, at most [`MAX_THREADS`](Self::MAX_THREADS), each with a runtime of its own.
    /// Default: 0, which serves them on the runtime that runs the server.
    ///
    /// A new connection goes to the thread with the fewest connections, and stays there with its tasks and the handlers of
    /// its calls. No other thread takes over their work, so calls need fewer wake-ups and share fewer cache lines, and a
    /// handler that computes for long delays all connections of its thread. This suits short handlers and at least as many
    /// busy connections as threads.
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = count;
        self
    }

    /// Sets the limits and times of the server.
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Listens on a TCP address. For port 0 the system chooses a port.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an invalid config, a server without a service, a `#[rpc(once = "cluster")]` method without
    /// a store, unusable certificate, token or rule files, access rules for methods that the server does not have, and
    /// access rules without tokens or client certificates;
    /// `AlreadyExists` for a route of two services; `FailedPrecondition` for an address that consumers of the registry
    /// cannot reach; `Unavailable` when the address cannot be bound, or a thread cannot be started.
    pub async fn bind(self, address: impl ToSocketAddrs) -> Result<Server, Error> {
        let is_restricted = !self.rules.is_empty() || self.rules_file.is_some();
        if is_restricted && self.tokens.is_none() && !self.requires_certificate() {
            let message = "access rules (ServerBuilder::allow) require a proof, but clients prove neither a token nor a \
                           certificate";
            return Err(Error::not_executed(Code::InvalidArgument, message));
        }
        let listener = tcp::listen(address).await.map_err(|error| {
            Error::not_executed(Code::Unavailable, format!("cannot listen: {error}")).with_source(error)
        })?;
        self.listen(listener).await
    }

    fn requires_certificate(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().is_some_and(ServerTls::requires_certificate);
        #[cfg(not(feature = "tls"))]
        false
    }

    fn is_encrypted(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Accepts connections from `listener`, for transports other than plain TCP.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub async fn listen(mut self, listener: impl Accept) -> Result<Server, Error> {
        self.config.validate()?;
        if self.services.is_empty() {
            return Err(Error::not_executed(
                Code::InvalidArgument,
                "the server has no service (ServerBuilder::service)",
            ));
        }
        if self.threads > Self::MAX_THREADS {
            let message = format!("{} threads (ServerBuilder::threads), limit {}", self.threads, Self::MAX_THREADS);
            return Err(Error::not_executed(Code::InvalidArgument, message));
        }
        if self.once_store.is_none() {
            let methods = self.services.iter().flat_map(|service| service.methods());
            check_once_scopes(methods)?;
        }
        let majors = if self.major_versions { major_versions(&self.services) } else { Vec::new() };
        let own = self.services.iter().map(|service| (service.id().clone(), Arc::clone(service)));
        let registered: Vec<_> = own.chain(majors.iter().cloned()).collect();
        let is_encrypted = self.is_encrypted();
        let offered = EndpointServices {
            services: &registered,
            requires_token: self.tokens.is_some(),
            is_encrypted,
            max_frame: self.config.transport.max_frame as usize,
        };
        let endpoints: Result<Vec<_>, _> = self.endpoints.drain(..).map(|endpoint| endpoint.bind(offered)).collect();
        let endpoints = with_http2(endpoints?);
        let mut dispatcher = Dispatcher::default();
        let (server, mut counts) = (Arc::new(OnceLock::new()), Vec::new());
        for service in &self.services {
            let service = self.layers.around(Arc::clone(service));
            if self.has_admin {
                let measured = Measured::around(service);
                counts.push(measured.counts());
                dispatcher.add(Arc::new(measured))?;
            } else {
                dispatcher.add(service)?;
            }
        }
        if self.has_admin {
            let admin: Arc<dyn Service> = Arc::new(AdminServer::new(ServerAdmin::new(counts, Arc::clone(&server))));
            self.services.push(Arc::clone(&admin));
            dispatcher.add(self.layers.around(admin))?;
        }
        if !self.without_reflection {
            let reflection = ReflectionServer::new(ServerReflection::new(self.services, majors.clone()));
            dispatcher.add(self.layers.around(Arc::new(reflection)))?;
        }
        dispatcher.allow(self.rules, self.rules_file)?;
        dispatcher.add_major_versions(&majors);
        let address = listener
            .local_address()
            .map_err(|error| Error::not_executed(Code::Internal, "the listener has no address").with_source(error))?;
        let advertised = match (self.advertise, &self.registry) {
            (Some(advertise), _) => advertise,
            (None, Some(registry)) => advertised(registry.as_ref(), address).await?,
            (None, None) => address,
        };
        let instance = Instance::new(advertised).with_weight(self.weight.unwrap_or(Instance::DEFAULT_WEIGHT));
        let instance =
            self.metadata.into_iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value));
        let instance = match check_tags(&self.tags)? {
            tags if tags.is_empty() => instance,
            tags => instance.with_metadata(Instance::TAGS, tags),
        };
        #[cfg(feature = "tls")]
        let instance = match self.tls.as_ref().and_then(ServerTls::certificate_name) {
            Some(name) => instance.with_metadata(Instance::TLS_NAME, name),
            None => instance,
        };
        let entries: Vec<_> = endpoints.iter().flat_map(|endpoint| endpoint.registrations()).collect();
        let registration = self
            .registry
            .map(|registry| Registration::new(registry, &registered, instance).with_endpoints(entries, is_encrypted));
        let credentials = Credentials::new(self.tokens.map(Tokens::load).transpose()?);
        #[cfg(feature = "tls")]
        let protocols = || endpoints.iter().flat_map(|endpoint| endpoint.protocols().iter().map(|name| name.to_vec()));
        #[cfg(feature = "tls")]
        let credentials = credentials.with_tls(self.tls.map(|tls| tls.load_with(protocols().collect())).transpose()?);
        let shared = Arc::new(Shared {
            digests: Digests::frame(dispatcher.digests()),
            dispatcher,
            draining: AtomicBool::new(false),
            ends_streams: AtomicBool::new(false),
            handlers: TaskTracker::new(),
            abort: CancellationToken::new(),
            endpoints_woken: Notify::new(),
            once: OnceCalls::new(&self.config, self.once_store),
            concurrency: concurrency_limit(&self.config),
            counters: Counters::default(),
            credentials,
            warnings: PeerWarnings::default(),
            tags: Default::default(),
            config: self.config,
        });
        // No other code sets it.
        let _ = server.set(Arc::downgrade(&shared));
        let threads = ConnectionThreads::start(self.threads).map_err(|error| {
            Error::not_executed(Code::Unavailable, format!("cannot start a thread: {error}")).with_source(error)
        })?;
        Ok(Server { listener: Box::new(listener), shared, endpoints, registration, address, advertised, threads })
    }
}

/// Adds the handler of the connections of HTTP/2, which several endpoints share.
fn with_http2(endpoints: Vec<Arc<dyn EndpointHandler>>) -> Arc<[Arc<dyn EndpointHandler>]> {
    #[cfg(feature = "http2")]
    if let Some(port) = Http2Port::new(&endpoints) {
        // Its ALPN protocol is preferred to that of HTTP/1.1.
        let port: Arc<dyn EndpointHandler> = Arc::new(port);
        return std::iter::once(port).chain(endpoints).collect();
    }
    endpoints.into()
}

fn concurrency_limit(config: &ServerConfig) -> Arc<ConcurrencyLimit> {
    let new = if config.adaptive_limit { ConcurrencyLimit::adaptive } else { ConcurrencyLimit::new };
    new(config.max_running, config.max_queued, config.max_streams, StreamMemory::new(config.max_stream_memory))
}

/// Rejects methods whose answers all servers of a cluster must share.
///
/// Without a store, each server executes the call that a client sends to several of them.
fn check_once_scopes<'a>(mut methods: impl Iterator<Item = &'a MethodInfo>) -> Result<(), Error> {
    let Some(method) = methods.find(|method| method.once_scope() == Some(Once::Cluster)) else { return Ok(()) };
    let message = format!(
        "{} is declared `once = \"cluster\"`, and the server has no store; set the store that all servers share with \
         `ServerBuilder::once_store`, or declare the method `once`",
        method.route()
    );
    Err(Error::not_executed(Code::InvalidArgument, message))
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("services", &self.services.len())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
