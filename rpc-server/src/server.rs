//! [`Server`]: several services on one port.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

#[cfg(feature = "tls")]
use rpc_core::tls::ServerTls;
use rpc_core::{
    Code, Error, Instance, Registry, Service, Tokens,
    layer::{ServerLayer, ServerLayers},
    transport::Accept,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, ToSocketAddrs, lookup_host},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    acceptor::Acceptor,
    config::ServerConfig,
    connection::Shared,
    counters::{Counters, ServerHandle, ServerState},
    dispatcher::{Dispatcher, Rule},
    entrance::Entrance,
    load::Load,
    once::{OnceCalls, OnceStore},
    registration::{Registration, advertised},
};

/// A server that is bound and does not run yet: callers can connect, and wait.
#[must_use = "a server serves while it runs"]
pub struct Server {
    listener: Box<dyn Accept>,
    shared: Arc<Shared>,
    registration: Option<Registration>,
    address: SocketAddr,
    advertised: SocketAddr,
}

/// What a [`Server`] is made of.
#[must_use]
#[derive(Default)]
pub struct ServerBuilder {
    registry: Option<Arc<dyn Registry>>,
    services: Vec<Arc<dyn Service>>,
    layers: ServerLayers,
    advertise: Option<SocketAddr>,
    weight: Option<f64>,
    metadata: Vec<(String, String)>,
    once_store: Option<Arc<dyn OnceStore>>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    tokens: Option<Tokens>,
    rules: Vec<Rule>,
    config: ServerConfig,
}

impl Server {
    /// Starts to make a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// The address that it listens on, with the port that the system chose where it was asked for port 0.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The address that it lists in its registry.
    pub fn advertised_address(&self) -> SocketAddr {
        self.advertised
    }

    /// Tells how the server is doing while it runs, and afterwards.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(&self.shared))
    }

    /// Registers and serves until `shutdown` resolves; then leaves in order: off the registry's list, a moment for consumers
    /// to learn of it, GOAWAY on every connection, what runs finishes or is dropped at the drain's end.
    ///
    /// # Errors
    ///
    /// What the registry says when it refuses the server for good; one that is only out of reach is tried again in the
    /// background.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes everything at once, and leaves its entry to the registry's own time.
    pub async fn run_until<F: Future>(self, shutdown: F) -> Result<(), Error> {
        let Self { listener, shared, registration, address, .. } = self;
        // Handlers of one-way calls outlive their connections, but not this future.
        let _abort = shared.abort.clone().drop_guard();
        let life = Life::begin(&shared.counters);
        let mut acceptor = Acceptor::new(Arc::clone(&shared));
        info!(%address, "serving");
        let registered = async {
            let shutdown = async {
                shutdown.await;
                life.drain();
            };
            tokio::pin!(shutdown);
            if let Some(registration) = &registration {
                tokio::select! {
                    biased;
                    // Dropped half-way, what may have been registered is deregistered below.
                    outcome = registration.register() => {
                        outcome?;
                        shutdown.await;
                    }
                    _ = &mut shutdown => {}
                }
                registration.deregister().await;
                tokio::time::sleep(shared.config.drain_notice).await;
            } else {
                shutdown.await;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            outcome = registered => outcome?,
            // Dropping the accept is safe.
            () = acceptor.accept_from(&*listener) => {}
        }
        drop(listener);
        drain(&shared, &mut acceptor).await;
        info!(%address, "ended");
        Ok(())
    }

    /// Serves until the future is dropped; see [`run_until`](Self::run_until).
    ///
    /// # Errors
    ///
    /// As [`run_until`](Self::run_until).
    pub async fn run(self) -> Result<(), Error> {
        self.run_until(std::future::pending::<()>()).await
    }
}

/// Says where the server is in its life, however that ends.
struct Life<'a>(&'a Counters);

impl<'a> Life<'a> {
    fn begin(counters: &'a Counters) -> Self {
        counters.enter(ServerState::Serving);
        Self(counters)
    }

    fn drain(&self) {
        self.0.enter(ServerState::Draining);
    }
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.0.enter(ServerState::Ended);
    }
}

/// Says goodbye and lets what runs finish, until the drain's time is over.
async fn drain(shared: &Shared, acceptor: &mut Acceptor) {
    acceptor.say_goodbye();
    shared.handlers.close();
    let finished = timeout(shared.config.drain_timeout, async {
        acceptor.until_empty().await;
        shared.handlers.wait().await;
    });
    if finished.await.is_err() {
        warn!(handlers = shared.handlers.len(), "the drain's time is over; what still runs is dropped");
    }
    acceptor.abort().await;
    shared.abort.cancel();
}

impl ServerBuilder {
    /// Sets where the server announces itself; without one it is found by its address only.
    pub fn registry(mut self, registry: Arc<dyn Registry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Adds a service.
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Arc::new(service));
        self
    }

    /// Puts a layer around all services, those that are added later as well; the first one that is added sees a call first.
    /// `rpc_core::layer::LayeredService` puts one around a single service.
    pub fn layer(mut self, layer: impl ServerLayer) -> Self {
        self.layers = self.layers.and(layer);
        self
    }

    /// Sets the address to be listed in the registry, where it is not the one listened on: behind a NAT or a proxy.
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise = Some(address);
        self
    }

    /// Sets the share of the load that this server wants relative to others, 0 to 10 000; default 1.
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Adds what the registry says of this server besides its address and weight: for gateways and operators, and for programs
    /// that watch the registry themselves.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Sets where the answers of methods that run once are kept for all servers together. Every server of a service with a method
    /// `#[rpc(once = "cluster")]` needs the same store: one without it remembers its own answers only, and refuses with `Aborted`
    /// what may have reached another.
    pub fn once_store(mut self, store: impl OnceStore) -> Self {
        self.once_store = Some(Arc::new(store));
        self
    }

    /// Speaks TLS only: plain text is refused.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Takes only clients that prove one of these tokens; its name is then in `Context::peer().identity()`. The secrets do not
    /// travel, but without TLS everything else does so for all to read and change.
    pub fn require_token(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Lets only callers with one of these names call `whom`: a method, as in `"demo.Greeter:1.0/hello"`, or a service, as in
    /// `"demo.Greeter:1.0"`, which is for those of its methods that have no rule of their own. Others get `PermissionDenied`
    /// before the handler runs. What has no rule can be called by everybody who may connect.
    ///
    /// A name is a token's, or one in a client's certificate, whichever was proved: see `rpc_core::Identity::names`. Names for the
    /// same method or service add up; with none, nobody may call it.
    pub fn allow(mut self, whom: impl Into<String>, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.rules.push(Rule { whom: whom.into(), names: names.into_iter().map(Into::into).collect() });
        self
    }

    /// Sets the numbers.
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Binds the port. Port 0 lets the system choose one.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a config that could serve nothing, a server without a service, files of certificates or tokens that
    /// cannot be used, and rules for methods that are not served or for names that nobody can prove; `AlreadyExists` for a route that
    /// is served twice, `FailedPrecondition` for an address that consumers of the registry could not reach, `Unavailable` when
    /// the port cannot be bound.
    pub async fn bind(self, address: impl ToSocketAddrs) -> Result<Server, Error> {
        if !self.rules.is_empty() && self.tokens.is_none() && !self.requires_certificate() {
            let message = "who may call is said, but clients prove neither a token nor a certificate";
            return Err(Error::not_executed(Code::InvalidArgument, message));
        }
        let listener = listen(address).await.map_err(|error| {
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

    /// Takes connections from `listener`, where they do not come by plain TCP.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub async fn listen(self, listener: impl Accept) -> Result<Server, Error> {
        self.config.validate()?;
        if self.services.is_empty() {
            return Err(Error::not_executed(Code::InvalidArgument, "a server needs a service"));
        }
        let mut dispatcher = Dispatcher::default();
        for service in self.services {
            dispatcher.add(self.layers.around(service))?;
        }
        dispatcher.allow(self.rules)?;
        let address = listener
            .local_address()
            .map_err(|error| Error::not_executed(Code::Internal, "the listener has no address").with_source(error))?;
        let advertised = match (self.advertise, &self.registry) {
            (Some(advertise), _) => advertise,
            (None, Some(registry)) => advertised(registry.as_ref(), address).await?,
            (None, None) => address,
        };
        let weight = self.weight.unwrap_or(Instance::DEFAULT_WEIGHT);
        let instance = Instance::new(advertised).with_weight(weight);
        let instance =
            self.metadata.into_iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value));
        let services = dispatcher.ids().cloned().collect();
        #[cfg(feature = "tls")]
        let instance = match self.tls.as_ref().and_then(ServerTls::certificate_name) {
            Some(name) => instance.with_metadata(Instance::TLS_NAME, name),
            None => instance,
        };
        let registration = self.registry.map(|registry| Registration::new(registry, services, instance));
        let entrance = Entrance {
            #[cfg(feature = "tls")]
            tls: self.tls.map(ServerTls::load).transpose()?,
            tokens: self.tokens.map(Tokens::load).transpose()?,
        };
        let once = OnceCalls::new(self.config.once_kept, self.once_store);
        let load = Load::new(self.config.max_running, self.config.max_queued);
        let shared = Arc::new(Shared {
            config: self.config,
            dispatcher,
            entrance,
            draining: AtomicBool::new(false),
            handlers: TaskTracker::new(),
            abort: CancellationToken::new(),
            once,
            load,
            counters: Counters::default(),
        });
        Ok(Server { listener: Box::new(listener), shared, registration, address, advertised })
    }
}

/// Binds the first of the addresses that can be bound.
async fn listen(address: impl ToSocketAddrs) -> std::io::Result<TcpListener> {
    let mut last = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the name has no address");
    for address in lookup_host(address).await? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = std::io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A server that is restarted takes its port again while old connections fade out. Elsewhere the option means sharing.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("advertised", &self.advertised)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("services", &self.services.len())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Connections that the system holds for the accept loop; tokio's own default.
const BACKLOG: i32 = 1024;
