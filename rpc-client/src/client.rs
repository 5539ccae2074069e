//! [`Client`]: calls services.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use dashmap::DashMap;
use rpc_core::{
    CallOptions, Caller, Candidate, Code, Delivery, Discovery, Error, Explanation, Phase, Request, ServiceId,
    transport::{Connect, Tcp},
};
use serde::Serialize;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    addresses::{Providers, Snapshot, follow},
    budgets::RetryBudget,
    calling::{Calling, Tried},
    channel::Channel,
    channels::Channels,
    config::ClientConfig,
    endpoint::{Endpoint, EndpointState},
    snapshot::Snapshots,
};

/// Calls services. Cheap to clone; clones share addresses and connections. When the last clone and the last call are gone, the
/// connections close.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

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
        self.0.channels.changes()
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
            self.0.channels.tell();
        }
    }

    pub(crate) fn retries(&self) -> &RetryBudget {
        &self.0.retries
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.0.config
    }

    /// Whom a call of `service` is for.
    pub(crate) fn target(&self, service: &ServiceId, address: Option<SocketAddr>) -> Result<Target, Error> {
        if let Some(address) = address {
            return Ok(Target::Address(address));
        }
        if let Some(known) = self.0.services.get(service) {
            return Ok(Target::Service(Arc::clone(&known.providers)));
        }
        let discovery = self.0.discovery.as_ref().ok_or_else(|| {
            Error::new(Code::FailedPrecondition, "the client has no registry and the call names no address")
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

    /// A channel to one provider that takes calls now, was not tried before and is not known to be full.
    pub(crate) fn choose(
        &self,
        target: &Target,
        options: &CallOptions,
        tried: &[Tried],
        full: &[Arc<Channel>],
    ) -> Option<Arc<Channel>> {
        let untried = |channel: &Arc<Channel>| {
            let mut passed_over = tried.iter().map(|tried| &tried.channel).chain(full);
            passed_over.all(|other| !Arc::ptr_eq(other, channel))
        };
        match target {
            Target::Service(providers) => providers.choose(self.0.config.balance, options.affinity, untried),
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
        // Seen before the first look, so that no change after it is missed.
        let mut changes = self.0.channels.changes();
        loop {
            changes.borrow_and_update();
            // Nobody tells of a rest that is over. Asked before the look at the channels: a rest that ends in between is
            // noticed by the look, and one that begins in between is told.
            let rested = self.endpoints_of(&target).iter().filter_map(|endpoint| endpoint.rests_until()).min();
            if let Some(channel) = self.choose(&target, &options, &tried, &[]) {
                return Ok(channel);
            }
            let waits_for = self.survey(&target, &tried);
            let refusal = match waits_for {
                Outlook::Waits(refusal) => refusal,
                Outlook::Hopeless(refusal) if patient => refusal,
                Outlook::Hopeless(refusal) => return Err(refusal),
            };
            let look_again_at = rested.map_or(deadline, |rested| rested.min(deadline));
            if timeout_at(look_again_at, changes.changed()).await.is_err() && look_again_at == deadline {
                return Err(refusal);
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
                let Snapshot { answered, stale, endpoints, .. } = &*providers.snapshot();
                let (service, url) = (providers.service(), self.registry_url());
                let unresolved = |message| Error::new(Code::Unavailable, message).with_phase(Phase::Resolve);
                if !answered && !stale {
                    return Outlook::Waits(unresolved(format!("{url} has not said where {service} is")));
                }
                if endpoints.is_empty() {
                    return Outlook::Hopeless(unresolved(format!("{url} lists no provider of {service} that answers")));
                }
                self.survey_endpoints(&service.to_string(), endpoints, tried)
            }
        }
    }

    fn survey_endpoints(&self, what: &str, endpoints: &[Arc<Endpoint>], tried: &[Tried]) -> Outlook {
        let mut hope = false;
        let mut rejections = Vec::new();
        for endpoint in endpoints {
            let address = endpoint.address();
            let state = endpoint.state();
            // A handler that merely takes its time makes a quiet connection look silent, until the pong comes.
            hope |= matches!(state, EndpointState::Connecting) || endpoint.is_silent();
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
        let error = Error::new(Code::Unavailable, message).with_phase(Phase::Connect).with_delivery(Delivery::NotSent);
        if hope { Outlook::Waits(error) } else { Outlook::Hopeless(error) }
    }

    fn registry_url(&self) -> &str {
        self.0.discovery.as_ref().map_or("no registry", |discovery| discovery.url())
    }
}

/// What a call that found no provider is to do. The error says what it was waiting for when its deadline comes.
enum Outlook {
    /// Wait: an answer or a connection is on its way.
    Waits(Error),
    /// Fail at once, unless it was asked to wait.
    Hopeless(Error),
}

impl Caller for Client {
    type Calling<A: Serialize + Send + 'static> = Calling<A>;

    fn call<A: Serialize + Send + 'static>(&self, request: Request<A>) -> Calling<A> {
        Calling::new(self.clone(), request)
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

    /// Sets the numbers.
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// Makes the client. It connects when it is first used, inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a config with which no call could succeed.
    pub fn build(self) -> Result<Client, Error> {
        self.config.validate()?;
        let config = Arc::new(self.config);
        let channels = Channels::new(Arc::clone(&config), self.connector.unwrap_or_else(|| Arc::new(Tcp)));
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

/// An error names this many providers at most.
const REJECTIONS_NAMED: usize = 8;
