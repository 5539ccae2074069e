//! [`Client`]: calls services.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use dashmap::DashMap;
#[cfg(feature = "tls")]
use rpc_core::tls::ClientTls;
use rpc_core::{
    CallOptions, Caller, Candidate, Code, Discovery, Error, Explanation, Phase, Request, ServiceId, Token,
    transport::{Connect, Tcp},
};
use serde::Serialize;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    call::future::{Calling, Tried},
    config::ClientConfig,
    connection::channel::Channel,
    connection::credentials::Credentials,
    counters::{ClientCounts, Counters},
    discovery::providers::{Providers, Snapshot, follow},
    discovery::snapshot::Snapshots,
    endpoint::pool::Channels,
    endpoint::{Endpoint, EndpointState},
    planted::{Bug, planted},
    retry_budget::RetryBudget,
    rng::Chance,
};

/// Calls services. Cheap to clone; clones share addresses and connections. When the last clone and the last call are gone, the
/// connections close.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

#[repr(align(128))]
struct Inner {
    config: Arc<ClientConfig>,
    discovery: Option<Arc<dyn Discovery>>,
    services: DashMap<ServiceId, Arc<Service>, foldhash::fast::RandomState>,
    channels: Arc<Channels>,
    retries: RetryBudget,
}

/// A service that this client has called, and the task that keeps its providers up to date.
struct Service {
    providers: Arc<Providers>,
    _follower: JoinSet<()>,
}

/// What a [`Client`] is made of.
#[must_use]
#[derive(Default)]
pub struct ClientBuilder {
    discovery: Option<Arc<dyn Discovery>>,
    connector: Option<Arc<dyn Connect>>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
    token: Option<Token>,
    config: ClientConfig,
}

/// Whom a call is for.
#[derive(Clone)]
pub(crate) enum Target {
    /// Whichever provider of a service is chosen.
    Service(Arc<Providers>),
    /// One address.
    Address(SocketAddr),
}

impl Client {
    /// Starts to make a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Takes no new connections, lets calls in flight finish, and closes. Calls that are made afterwards fail with
    /// `Unavailable`. Calls have deadlines, so this ends.
    ///
    /// # Cancel safety
    ///
    /// Dropped, what was still open closes on its own.
    pub async fn close(&self) {
        self.0.services.clear();
        self.0.channels.close().await;
    }

    /// Every address that this client knows, and how it is doing.
    pub fn endpoints(&self) -> Vec<(SocketAddr, EndpointState)> {
        let endpoints = self.0.channels.all();
        endpoints.iter().map(|endpoint| (endpoint.address(), endpoint.state())).collect()
    }

    /// Resolves whenever an address changed its state, or a list of providers changed: look again at
    /// [`endpoints`](Self::endpoints) or [`explain`](Self::explain) then. Several changes may be told as one.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.channels.changes().subscribe()
    }

    /// What this client has counted so far.
    pub fn counts(&self) -> ClientCounts {
        self.counters().counts(self.0.retries.calls())
    }

    /// What is known of the providers of a service, and whether that is an old list from disk. A service that was not called
    /// yet has no providers here.
    pub fn explain(&self, service: &ServiceId) -> Explanation {
        let known = self.0.services.get(service).map(|known| Arc::clone(&known.providers));
        known.map_or_else(Explanation::default, |providers| self.explain_target(&Target::Service(providers)))
    }

    pub(crate) fn explain_target(&self, target: &Target) -> Explanation {
        let mut explanation = Explanation::default();
        if let Target::Service(providers) = target {
            explanation.route = providers.service().to_string();
            explanation.registry = self.registry_url().to_owned();
            explanation.stale = providers.snapshot().stale;
        }
        let endpoints = self.endpoints_of(target);
        explanation.candidates =
            endpoints.iter().map(|endpoint| Candidate::new(endpoint.address(), endpoint.state().to_string())).collect();
        if let Target::Service(providers) = target {
            let disabled = providers.snapshot().disabled.clone().into_iter();
            explanation.candidates.extend(disabled.map(|address| Candidate::new(address, DISABLED.to_owned())));
        }
        explanation
    }

    fn endpoints_of(&self, target: &Target) -> Vec<Arc<Endpoint>> {
        match target {
            Target::Address(address) => vec![self.0.channels.named(*address)],
            Target::Service(providers) => providers.snapshot().endpoints.clone(),
        }
    }

    /// Leaves the peer of `channel` alone for a while, as it asked.
    pub(crate) fn rest(&self, channel: &Channel, time: Duration) {
        if channel.rest(time) {
            self.0.channels.changes().tell();
        }
    }

    /// Counts a call that is begun.
    pub(crate) fn count_call(&self) {
        self.0.retries.count();
    }

    /// Takes a retry of the budget, if there is one left.
    pub(crate) fn take_retry(&self) -> bool {
        let taken = self.0.retries.take(Instant::now());
        if !taken {
            Counters::count(&self.counters().not_repeated);
        }
        taken
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.0.channels.counters()
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.0.config
    }

    pub(crate) fn chance(&self) -> &Chance {
        self.0.channels.chance()
    }

    /// Whom a call of `service` is for.
    pub(crate) fn target(&self, service: &ServiceId, address: Option<SocketAddr>) -> Result<Target, Error> {
        if self.0.channels.is_closed() {
            return Err(closed());
        }
        if let Some(address) = address {
            return Ok(Target::Address(address));
        }
        let known = if planted(Bug::OneListForAllServices) {
            self.0.services.iter().next().map(|first| Arc::clone(&first.providers))
        } else {
            self.0.services.get(service).map(|known| Arc::clone(&known.providers))
        };
        if let Some(providers) = known {
            return Ok(Target::Service(providers));
        }
        if self.0.channels.is_closed() {
            return Err(closed());
        }
        let discovery = self.0.discovery.as_ref().ok_or_else(|| {
            Error::not_executed(Code::FailedPrecondition, "the client has no registry and the call names no address")
                .with_phase(Phase::Resolve)
        })?;
        let entry = self.0.services.entry(service.clone()).or_insert_with(|| {
            let providers = Arc::new(Providers::new(service.clone()));
            let addresses = discovery.watch(service);
            let mut follower = JoinSet::new();
            let snapshots = Snapshots::new(self.0.config.cache_directory.as_deref(), discovery.url(), service);
            follower.spawn(follow(Arc::clone(&providers), addresses, Arc::clone(&self.0.channels), snapshots));
            Arc::new(Service { providers, _follower: follower })
        });
        Ok(Target::Service(Arc::clone(&entry.providers)))
    }

    /// The same as [`choose`](Self::choose) among all providers of a service that is followed already, without holding on to
    /// anything: what callers on several threads share is slow to touch, and most calls need no more.
    pub(crate) fn choose_at_once(&self, service: &ServiceId, options: &CallOptions) -> Option<Arc<Channel>> {
        let (inner, ask_again) = (&*self.0, options.address.is_some() || options.explain);
        if ask_again || inner.channels.is_closed() || planted(Bug::OneListForAllServices) {
            return None;
        }
        let known = inner.services.get(service)?;
        known.providers.choose(inner.config.balance, options.affinity, inner.channels.chance(), |_| true)
    }

    /// A channel to one provider that takes calls now, was not tried before and is not known to be full.
    pub(crate) fn choose(
        &self,
        target: &Target,
        options: &CallOptions,
        tried: &[Tried],
        full: &[Arc<Channel>],
    ) -> Option<Arc<Channel>> {
        let untried = |channel: &Arc<Channel>| {
            is_untried(channel, tried) && full.iter().all(|other| !Arc::ptr_eq(other, channel))
        };
        match target {
            Target::Service(providers) => {
                providers.choose(self.0.config.balance, options.affinity, self.0.channels.chance(), untried)
            }
            Target::Address(address) => self.0.channels.named(*address).channel().filter(untried),
        }
    }

    /// Waits for a channel that takes calls.
    pub(crate) async fn acquire(
        self,
        target: Target,
        options: CallOptions,
        tried: Vec<Tried>,
        deadline: Instant,
    ) -> Result<Arc<Channel>, Error> {
        let patient = options.wait_for_ready.unwrap_or(self.0.config.wait_for_ready);
        loop {
            // Before the look, so that no change after it is missed.
            let changed = self.changed(&target);
            if self.0.channels.is_closed() {
                return Err(closed());
            }
            // Nobody tells of a rest that is over. Asked before the look at the channels: a rest that ends in between is
            // noticed by the look, and one that begins in between is told.
            let rested = self.endpoints_of(&target).iter().filter_map(|endpoint| endpoint.rests_until()).min();
            if let Some(channel) = self.choose(&target, &options, &tried, &[]) {
                return Ok(channel);
            }
            let Outlook { refusal, hope } = self.survey(&target, &tried);
            if !(hope || patient || rested.is_some()) {
                return Err(refusal);
            }
            let look_again_at = rested.map_or(deadline, |rested| rested.min(deadline));
            if timeout_at(look_again_at, changed).await.is_err() && look_again_at == deadline {
                return Err(refusal);
            }
        }
    }

    /// Resolves with the first change after this call, not after the first poll, that may give `target` a channel.
    fn changed<'a>(&'a self, target: &'a Target) -> impl Future<Output = ()> + 'a {
        let endpoint = self.0.channels.changes().next();
        let list = match target {
            Target::Service(providers) => Some(providers.next()),
            Target::Address(_) => None,
        };
        async move {
            let Some(list) = list else { return endpoint.await };
            // Both are safe to drop: the caller looks again.
            tokio::select! {
                biased;
                () = list => {}
                () = endpoint => {}
            }
        }
    }

    /// Why no provider can be called now, and whether that may change by itself soon.
    fn survey(&self, target: &Target, tried: &[Tried]) -> Outlook {
        match target {
            Target::Address(address) => {
                let endpoint = self.0.channels.named(*address);
                self.survey_endpoints(&format!("{address}"), &[endpoint], tried)
            }
            Target::Service(providers) => {
                let Snapshot { answered, stale, endpoints, disabled, .. } = &**providers.snapshot();
                let (service, url) = (providers.service(), self.registry_url());
                let unresolved = |message| Error::not_executed(Code::Unavailable, message).with_phase(Phase::Resolve);
                if !answered && !stale {
                    return Outlook::waiting(unresolved(format!("{url} has not said where {service} is")));
                }
                if endpoints.is_empty() && !disabled.is_empty() {
                    let count = disabled.len();
                    let message = format!("all {count} providers of {service} are disabled in {url}");
                    return Outlook::hopeless(unresolved(message));
                }
                if endpoints.is_empty() {
                    return Outlook::hopeless(unresolved(format!("{url} lists no provider of {service} that answers")));
                }
                self.survey_endpoints(&service.to_string(), endpoints, tried)
            }
        }
    }

    fn survey_endpoints(&self, what: &str, endpoints: &[Arc<Endpoint>], tried: &[Tried]) -> Outlook {
        let mut hope = false;
        // What every provider says is what is wrong.
        let mut unproved = !endpoints.is_empty();
        let mut rejections = Vec::new();
        for endpoint in endpoints {
            let address = endpoint.address();
            let state = endpoint.state();
            // One that takes calls by now did not a moment ago: the change was told, and the next look finds it. And a handler that
            // merely takes its time makes a quiet connection look silent, until the pong comes.
            let ready = endpoint.channel().is_some_and(|channel| is_untried(&channel, tried));
            hope |= ready || matches!(state, EndpointState::Connecting) || endpoint.is_silent();
            unproved &= state.failure().is_some_and(|error| error.code() == Code::Unauthenticated);
            let why = match tried.iter().find(|tried| tried.channel.address() == address) {
                Some(tried) => tried.why.to_string(),
                None => format!("{address}: {state}"),
            };
            rejections.push(why);
        }
        let shown = rejections.len().min(REJECTIONS_NAMED);
        let more =
            if rejections.len() > shown { format!(" and {} more", rejections.len() - shown) } else { String::new() };
        let message = format!("no provider of {what} takes calls: {}{more}", rejections[..shown].join("; "));
        let code = if unproved { Code::Unauthenticated } else { Code::Unavailable };
        let error = Error::not_executed(code, message).with_phase(Phase::Connect);
        Outlook { refusal: error, hope }
    }

    fn registry_url(&self) -> &str {
        self.0.discovery.as_ref().map_or("no registry", |discovery| discovery.url())
    }
}

/// The state of a provider that an operator has disabled.
const DISABLED: &str = "disabled in the registry";

/// What a call that found no provider is to do.
struct Outlook {
    /// What it is told if it ends now, or when its deadline comes.
    refusal: Error,
    /// Whether an answer or a connection is on its way.
    hope: bool,
}

impl Outlook {
    fn waiting(refusal: Error) -> Self {
        Self { refusal, hope: true }
    }

    fn hopeless(refusal: Error) -> Self {
        Self { refusal, hope: false }
    }
}

impl Caller for Client {
    type Calling<A: Serialize + Send + 'static> = Calling<A>;

    fn call<A: Serialize + Send + 'static>(&self, request: Request<A>) -> Calling<A> {
        Calling::new(self.clone(), request)
    }

    fn into_call<A: Serialize + Send + 'static>(self, request: Request<A>) -> Calling<A> {
        Calling::new(self, request)
    }

    fn default_timeout(&self) -> Duration {
        self.config().timeout
    }
}

impl ClientBuilder {
    /// Sets where providers are found; without one every call must name an address.
    pub fn registry(mut self, discovery: Arc<dyn Discovery>) -> Self {
        self.discovery = Some(discovery);
        self
    }

    /// Sets how connections are made, where it is not by plain TCP.
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Speaks TLS only, with servers whose certificates are trusted: one that speaks plain text is not called.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Proves this token to servers that ask for one.
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Sets the numbers.
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// Makes the client. It connects when it is first used, inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a config with which no call could succeed, and for files of certificates that cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        self.config.validate()?;
        let config = Arc::new(self.config);
        let credentials = Credentials {
            #[cfg(feature = "tls")]
            tls: self.tls.map(ClientTls::load).transpose()?,
            token: self.token,
        };
        let connector = self.connector.unwrap_or_else(|| Arc::new(Tcp));
        let channels = Channels::new(Arc::clone(&config), connector, credentials);
        Ok(Client(Arc::new(Inner {
            config,
            discovery: self.discovery,
            services: DashMap::default(),
            channels,
            retries: RetryBudget::new(Instant::now()),
        })))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("registry", &self.registry_url())
            .field("services", &self.0.services.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Whether the call was not sent to this channel yet.
fn is_untried(channel: &Arc<Channel>, tried: &[Tried]) -> bool {
    tried.iter().all(|tried| !Arc::ptr_eq(&tried.channel, channel))
}

fn closed() -> Error {
    Error::not_executed(Code::Unavailable, "the client was closed").with_phase(Phase::Resolve)
}

/// An error names this many providers at most.
const REJECTIONS_NAMED: usize = 8;
