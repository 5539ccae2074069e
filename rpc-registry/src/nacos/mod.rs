//! [`Nacos`]: the registry for production.

mod backoff;
mod catalog;
mod desired;
mod http;
mod limits;
mod listing;
mod login;
mod missing;
mod naming;
mod registration;
mod relay;
mod subscription;
mod url;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::{net::UdpSocket, runtime::Handle, sync::OnceCell, time::timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::{catalog::Catalog, http::Http, login::Login, naming::Naming, registration::Registration, url::Config};
use crate::{address, throttle::Throttle, watches::Watches};

/// A Nacos server, or a cluster of them.
///
/// A service `demo.Greeter` at version `1.0` is the Nacos service `demo.Greeter:1.0`. An instance is ephemeral, with its weight, its
/// metadata and a metadata entry `weight`.
///
/// **Registering.** Every address that is registered has a connection of its own to Nacos. What should be listed is compared with
/// what is: one service every 5 s in turn, every service each 30 s, and all of them after an outage. Missing instances are registered again,
/// with a warning, and [counted](Self::unlisted_count). An instance that is still missing after that is assumed to be disabled by an
/// operator: a warning says so once, and attempts back off to one in 4 minutes. An instance that is listed with another weight is registered
/// with that weight from then on. A deregistration while Nacos is away is carried out once it is back.
///
/// **Watching.** Lists are passed on as Nacos gives them, without unhealthy instances. An instance that has left the list is looked up over
/// HTTP. If an operator has disabled it, it stays in the list as [disabled](Instance::is_enabled) until Nacos lists it again or says that it
/// does not exist. After its restart Nacos gives empty and partial lists for some seconds: readers must keep providers whose connections
/// answer. An error is never passed on as a list.
///
/// **Outages.** A call to Nacos ends after 3 s, and attempts go on in the background with a pause of at most 8 s. Each connection tries
/// all servers, in random order. The file `docs/NACOS.md` has measurements.
///
/// **Security.** User and password go over HTTP, and everything else over gRPC and HTTP, without TLS. The connections go through loopback ports
/// of this process.
///
/// **Logging.** The SDK logs whole lists at level info and each attempt of an outage at level error, with the target `nacos_sdk`.
/// Filter it in the subscriber, with `EnvFilter` for instance by `info,nacos_sdk=off`: this crate logs what an operator needs.
///
/// **Files.** The SDK writes the lists that it sees to a directory `nacos` in the one that [`Local`](crate::Local) uses by default.
/// Nothing reads them.
///
/// # Drop
///
/// Deregisters everything that was registered through this handle, ends its watches and closes its connections, in the background, within
/// some seconds. Nacos removes the instances of a connection that is closed, also if the process ends sooner.
///
/// The SDK's own tasks remain until the process ends, and try to connect to ports that are closed, at most once a minute each. Create one
/// handle, and share it.
pub struct Nacos {
    shared: Arc<Shared>,
    registrations: Mutex<HashMap<SocketAddr, Registration>>,
    runtime: Handle,
    _stop_on_drop: DropGuard,
}

/// What the tasks of a handle share.
struct Shared {
    config: Arc<Config>,
    url: String,
    login: Arc<Login>,
    catalog: Catalog,
    watches: Watches,
    /// The connection of all watches.
    consumer: OnceCell<Naming>,
    /// Connections of addresses that are registered no more, for the next address. At most one for each address at a time.
    idle: Mutex<Vec<Naming>>,
    unlisted: AtomicU64,
    /// The owner of all tasks of the handle.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The longest that one waits for Nacos, or for names to be resolved, when nothing has been asked of Nacos yet.
const START: Duration = Duration::from_secs(3);

impl Nacos {
    /// Reads a URL, `nacos://host:8848,host2:8848?namespace=&group=&cluster=&username=&password=&grpc_port=`. Values are
    /// percent-encoded. The port is 8848 unless given, gRPC's 1000 more; `grpc_port` is for servers where it is not.
    /// `cluster` is where instances are registered and the only one that is watched.
    ///
    /// It waits up to 3 s for a login, and for some 10 s while the servers refuse it, because servers refuse every user in the first seconds
    /// after their start. It waits for nothing else: connections are made when they are needed.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when the URL is not understood, `Unauthenticated` when the servers refuse the user.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its I/O and time drivers enabled.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let config = Arc::new(Config::parse(url)?);
        let stop = CancellationToken::new();
        let http = Arc::new(Http::new()?);
        let login = Arc::new(Login::new(Arc::clone(&config), Arc::clone(&http)));
        login.begin(START).await?;
        let shared = Shared {
            url: config.to_string(),
            catalog: Catalog::new(Arc::clone(&config), http, Arc::clone(&login)),
            config,
            login,
            watches: Watches::default(),
            consumer: OnceCell::new(),
            idle: Mutex::default(),
            unlisted: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            registrations: Mutex::default(),
            runtime: Handle::current(),
            _stop_on_drop: stop.drop_guard(),
        })
    }

    /// How often, since the handle was made, an instance was not listed though it should have been.
    ///
    /// Each time it was registered again. A number that grows while Nacos runs means that something takes instances off.
    pub fn unlisted_count(&self) -> u64 {
        self.shared.unlisted.load(Ordering::Relaxed)
    }

    /// The registration of this address, made when it is first asked for. It stays as long as the handle, as a task that sleeps.
    fn registration(&self, address: SocketAddr) -> Registration {
        let mut registrations = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let (registration, driver) = Registration::new(address, Arc::clone(&self.shared));
            self.shared.tasks.spawn_on(driver, &self.runtime);
            registration
        };
        registrations.entry(address).or_insert_with(new).clone()
    }

    /// Refuses a loopback address when Nacos is on another machine, where it would mean that one.
    async fn check_reachable(&self, address: SocketAddr) -> Result<(), Error> {
        if !address.ip().is_loopback() {
            return Ok(());
        }
        match self.reachable_ip().await {
            Ok(ip) if !ip.is_loopback() => Err(Error::not_executed(
                Code::InvalidArgument,
                format!("{address} means another machine to each consumer of {}; advertise {ip}", self.shared.url),
            )),
            _ => Ok(()),
        }
    }
}

impl Registry for Nacos {
    /// As the trait says. It waits up to 4 s for Nacos to answer; without an answer the attempts go on in the background.
    ///
    /// `InvalidArgument` for a loopback address when Nacos is on another machine, and for metadata of more than 1024 characters in all,
    /// the `weight` that is added included.
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            address::check_connectable(&instance)?;
            limits::service(service)?;
            listing::to_nacos(&instance, None)?;
            self.check_reachable(instance.address()).await?;
            self.registration(instance.address()).register(service.clone(), instance).await
        })
    }

    /// As the trait says. It waits up to 4 s.
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
            let servers = timeout(START, naming::resolve(&self.shared.config)).await.unwrap_or_default();
            for server in servers {
                if let Ok(ip) = local_ip(server).await {
                    return Ok(ip);
                }
            }
            Err(Error::not_executed(Code::Unavailable, format!("this machine has no route to {}", self.shared.url)))
        })
    }
}

impl Discovery for Nacos {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let (receiver, publisher) = self.shared.watches.watch(service);
        if let Some(publisher) = publisher {
            let subscription = subscription::run(service.clone(), publisher, Arc::clone(&self.shared));
            self.shared.tasks.spawn_on(subscription, &self.runtime);
        }
        receiver
    }

    fn url(&self) -> &str {
        &self.shared.url
    }
}

impl Shared {
    /// Tries once to make a connection.
    async fn connect(&self) -> Result<Naming, Error> {
        Naming::connect(Arc::clone(&self.config), Arc::clone(&self.login), &self.tasks).await
    }

    /// The connection of the watches, made by the first that needs it, however long that takes.
    async fn connected(&self) -> &Naming {
        let connect = || async {
            let (mut failures, warnings) = (0, Throttle::default());
            loop {
                match self.connect().await {
                    Ok(naming) => return naming,
                    Err(error) => {
                        failures += 1;
                        if warnings.pass(std::time::Instant::now()) {
                            let cause = std::error::Error::source(&error);
                            tracing::warn!(%error, cause, "no providers can be found; trying again");
                        }
                        tokio::time::sleep(backoff::delay(failures)).await;
                    }
                }
            }
        };
        self.consumer.get_or_init(connect).await
    }

    fn take_idle(&self) -> Option<Naming> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn add_idle(&self, naming: Naming) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(naming);
    }

    fn count_unlisted(&self) {
        self.unlisted.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Nacos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nacos").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

/// The instances of a list in the SDK's JSON.
#[cfg(feature = "fuzzing")]
pub(crate) fn listed(json: &[u8]) -> Option<Vec<Instance>> {
    serde_json::from_slice(json).ok().map(|listed| listing::from_nacos(listed, None))
}

/// The address of this machine on the way to `server`. Connecting a datagram socket chooses it and sends nothing.
async fn local_ip(server: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    Ok(socket.local_addr()?.ip())
}
