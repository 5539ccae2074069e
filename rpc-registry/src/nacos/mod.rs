//! [`Nacos`]: registration and discovery through Nacos servers.

mod backoff;
mod catalog;
mod configuration;
mod host_names;
mod http;
mod inventory;
mod limits;
mod listing;
mod login;
mod missing_instances;
mod naming;
mod pace;
mod registration;
mod relay;
mod rules;
mod shared;
mod subscription;
mod url;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rpc_core::{
    Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, RuleDocument, RuleSource,
    ServiceId,
};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use self::{http::Http, login::Login, naming::Naming, registration::Registration, shared::Shared, url::Config};
use crate::{Administration, InstanceChange, address, reachability};

/// A Nacos server or cluster.
///
/// The service `demo.Greeter` at version `1.0` is the Nacos service `demo.Greeter:1.0`. Instances are ephemeral and
/// carry their weight, their metadata and an additional metadata entry `weight`.
///
/// **Registering.** Every registered address has its own connection to Nacos. The handle compares the desired
/// registrations with the lists of Nacos: one service every 5 s in rotation, each service every 30 s, and all services
/// after an outage. It registers missing instances again, logs a warning and [counts](Self::unlisted_count) them. If an
/// instance is still missing after that, the handle assumes that an operator has disabled it: it logs one warning, and
/// its attempts back off to one in 4 minutes. If an instance is listed with another weight, later registrations use
/// that weight. A deregistration during an outage of Nacos is executed after the outage.
///
/// **Watching.** The handle publishes the lists of Nacos without unhealthy instances. It looks up an instance that has
/// left the list over HTTP: if an operator has disabled the instance, it stays in the list as
/// [disabled](Instance::is_enabled) until Nacos lists it again or reports that it does not exist. For some seconds
/// after a restart Nacos returns empty and partial lists: readers must keep providers whose connections answer. An
/// error never results in a published list.
///
/// **Rules.** As a [`RuleSource`], the handle provides the rules of services from configurations of Nacos, over two
/// connections that the first watch opens.
///
/// **Outages.** A request to Nacos ends after 3 s, and retries in the background are at most 8 s apart. Each connection
/// tries all servers, in random order. The file `docs/NACOS.md` has measurements.
///
/// **Security.** User and password are sent over HTTP, all other requests over gRPC and HTTP, without TLS. The
/// connections pass through loopback ports of this process.
///
/// **Logging.** The SDK logs whole lists at level info and each attempt during an outage at level error, with the
/// target `nacos_sdk`. Filter these events in the subscriber, for instance by the `EnvFilter` directives
/// `info,nacos_sdk=off`; this crate logs all events that matter to an operator.
///
/// **Files.** The SDK writes the received lists to a directory `nacos` in the default directory of
/// [`Local`](crate::Local). The files are never read.
///
/// # Drop
///
/// Deregisters all registrations made through this handle, ends its watches and closes its connections, in the
/// background, within some seconds. If the process ends sooner, Nacos removes the instances when their connection
/// closes.
///
/// The SDK's own tasks remain until the process ends, and each tries to connect to closed ports at most once a minute.
/// Create one handle and share it.
pub struct Nacos {
    shared: Arc<Shared>,
    registrations: Mutex<HashMap<SocketAddr, Registration>>,
    _stop_on_drop: DropGuard,
}

impl Nacos {
    /// Opens the registry of a URL and logs in if the URL has credentials.
    ///
    /// The URL is `nacos://host:8848,host2:8848?namespace=&group=&cluster=&username=&password=&grpc_port=`, with
    /// percent-encoded values. The default port is 8848. The gRPC port is the port + 1000 unless `grpc_port` is given.
    /// `cluster` is the Nacos cluster in which instances are registered; no other cluster is watched.
    ///
    /// The call waits up to 3 s for a login, and about 10 s while the servers reject it, because servers reject every
    /// user in the first seconds after their start. Connections are opened when they are needed.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the URL is invalid, `Unauthenticated` if the servers reject the user.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its I/O and time drivers enabled.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let config = Arc::new(Config::parse(url)?);
        let http = Arc::new(Http::new()?);
        let login = Arc::new(Login::new(Arc::clone(&config), Arc::clone(&http)));
        login.log_in_at_start(STARTUP_TIMEOUT).await?;
        let shared = Arc::new(Shared::new(config, http, login));
        let stop_on_drop = shared.tasks.stop().clone().drop_guard();
        Ok(Self { shared, registrations: Mutex::default(), _stop_on_drop: stop_on_drop })
    }

    /// Returns how many times Nacos did not list a registered instance, since this handle was created.
    ///
    /// The handle registered the instance again each time. If the count grows while Nacos is available, another party
    /// removes instances.
    pub fn unlisted_count(&self) -> u64 {
        self.shared.unlisted_count()
    }

    /// Returns the registration of this address, created on first use and after the end of its runtime.
    ///
    /// Its task idles until the handle is dropped.
    fn registration(&self, address: SocketAddr) -> Registration {
        let mut registrations = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        match registrations.get(&address) {
            Some(registration) if !registration.has_ended() => registration.clone(),
            _ => {
                let (registration, driver) = Registration::new(address, Arc::clone(&self.shared));
                self.shared.tasks.spawn(driver);
                registrations.insert(address, registration.clone());
                registration
            }
        }
    }

    /// Returns the connection of the watches.
    ///
    /// # Errors
    ///
    /// `Unavailable` if no server accepts a connection within 10 s.
    async fn consumer(&self) -> Result<Naming, Error> {
        timeout(CONNECT_TIMEOUT, self.shared.consumer()).await.map_err(|_| {
            let message = format!("no connection to {} within {CONNECT_TIMEOUT:?}", self.shared.url);
            Error::not_executed(Code::Unavailable, message)
        })
    }
}

impl Registry for Nacos {
    /// As specified by the trait.
    ///
    /// Waits up to 4 s for the answer of Nacos; without an answer, retries continue in the background.
    ///
    /// Returns `InvalidArgument` for a loopback address if Nacos runs on another machine, and for metadata of more than
    /// 1024 characters in total, including the added entry `weight`.
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            address::check_connectable(&instance)?;
            limits::service(service)?;
            listing::to_nacos(&instance, None)?;
            reachability::check_reachable(instance.address(), self).await?;
            self.registration(instance.address()).register(service.clone(), instance).await
        })
    }

    /// As specified by the trait. Waits up to 4 s.
    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let registration = self.registrations.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
            match registration {
                Some(registration) => registration.deregister(service.clone()).await,
                None => Ok(()),
            }
        })
    }

    fn reachable_ip(&self) -> BoxFuture<'_, Result<IpAddr, Error>> {
        Box::pin(async {
            let servers = timeout(STARTUP_TIMEOUT, naming::resolve(&self.shared.config)).await.unwrap_or_default();
            for server in servers {
                if let Ok(ip) = reachability::local_ip(server).await {
                    return Ok(ip);
                }
            }
            Err(Error::not_executed(Code::Unavailable, format!("no route to {}", self.shared.url)))
        })
    }
}

impl Discovery for Nacos {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let (receiver, watch) = self.shared.watches.watch(service);
        if let Some(watch) = watch {
            self.shared.tasks.spawn(subscription::run(watch, Arc::clone(&self.shared)));
        }
        receiver
    }

    fn url(&self) -> &str {
        &self.shared.url
    }
}

impl Administration for Nacos {
    /// As specified by the trait: the services of the group, of which the 10 000 first are read.
    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async { self.consumer().await?.services().await })
    }

    /// As specified by the trait, without unhealthy instances and those with a host name.
    ///
    /// r-nacos does not list disabled instances. The others list them if the user may read their administration API.
    fn instances<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Vec<Instance>, Error>> {
        Box::pin(async move {
            match self.shared.catalog.inventory(service).await {
                Ok(Some(instances)) => Ok(instances),
                Ok(None) => self.consumer().await?.instances(service).await,
                // Reading a list over gRPC needs fewer permissions.
                Err(error) if error.code() == Code::PermissionDenied => self.consumer().await?.instances(service).await,
                Err(error) => Err(error),
            }
        })
    }

    fn change<'a>(
        &'a self,
        service: &'a str,
        address: SocketAddr,
        change: InstanceChange,
    ) -> BoxFuture<'a, Result<Option<Instance>, Error>> {
        Box::pin(async move { self.shared.catalog.change(service, address, change).await })
    }
}

impl RuleSource for Nacos {
    /// As specified by the trait, from the configuration with the data id `msnb.rules.` and the name of the service, in the
    /// namespace and the group of the URL.
    ///
    /// Nacos notifies the handle of a change; the removal of a configuration takes effect within 30 s.
    fn watch_rules(&self, service: &ServiceId) -> RuleDocument {
        let (receiver, watch) = self.shared.rules.watch(service);
        if let Some(watch) = watch {
            self.shared.tasks.spawn(rules::run(watch, Arc::clone(&self.shared)));
        }
        receiver
    }
}

impl fmt::Debug for Nacos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nacos").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

/// Parses an instance list in the SDK's JSON.
#[cfg(feature = "fuzzing")]
pub(crate) fn parse_list(json: &[u8]) -> Option<Vec<Instance>> {
    serde_json::from_slice(json).ok().map(|listed: Vec<_>| listing::from_nacos(&listed, None, &Default::default()))
}

/// The maximum wait for a login, or for resolving host names, before the first request to Nacos.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum wait for a connection before a list of services.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
