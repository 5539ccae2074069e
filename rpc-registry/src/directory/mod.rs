//! [`Directory`]: a registry whose server stores named entries while the session that wrote them lives, such as
//! ZooKeeper and etcd.
//!
//! | topic | module |
//! |---|---|
//! | what a server must support | `engine` |
//! | the form of an entry | `entry` |
//! | the session with the server, which is opened again when it ends | `sessions` |
//! | the registrations of this process | `registrar` |
//! | the list of a service | `follower` |

pub(crate) mod engine;
pub(crate) mod entry;
mod follower;
mod registrar;
mod sessions;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::{sync::watch, time::timeout};

use self::{
    engine::{Engine, Failure, Session},
    entry::{Entry, instances},
    registrar::{Key, Registrar},
    sessions::Sessions,
};
use crate::{
    Administration, InstanceChange,
    address::{self, HostPort},
    reachability,
    tasks::Tasks,
    watches::Watches,
};

/// A registry over an [`Engine`].
pub(crate) struct Directory<E: Engine> {
    url: String,
    servers: Vec<HostPort>,
    sessions: Arc<Sessions<E>>,
    /// The instances that this handle keeps registered.
    wanted: watch::Sender<BTreeMap<Key, Instance>>,
    /// The instances that the server may have.
    listed: watch::Receiver<BTreeMap<Key, Instance>>,
    watches: Arc<Watches>,
    tasks: Tasks,
}

impl<E: Engine> Directory<E> {
    /// Connects in the background. `url` is for messages, and must contain no secret.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub(crate) fn start(engine: E, url: String, servers: Vec<HostPort>) -> Self {
        let tasks = Tasks::new();
        let sessions = Arc::new(Sessions::new(engine, url.clone()));
        let (wanted, to_register) = watch::channel(BTreeMap::new());
        let (registered, listed) = watch::channel(BTreeMap::new());
        let registrar = Registrar::new(Arc::clone(&sessions), to_register, registered);
        tasks.spawn(sessions::run(Arc::clone(&sessions), tasks.stop().clone()));
        tasks.spawn(registrar.run(tasks.stop().clone()));
        Self { url, servers, sessions, wanted, listed, watches: Arc::default(), tasks }
    }

    /// Executes an operation of an operator in the current session.
    async fn operate<T>(&self, operation: impl AsyncFnOnce(&E::Session) -> Result<T, Failure>) -> Result<T, Error> {
        let outcome = timeout(ANSWER_TIME, async {
            let session = self.sessions.current().await;
            operation(&session).await
        });
        let failed = |why: String| Error::unknown(Code::Unavailable, format!("registry {}: {why}", self.url));
        match outcome.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failure)) => Err(failed(failure.to_string())),
            Err(_) => Err(failed(format!("no answer within {ANSWER_TIME:?}"))),
        }
    }

    /// Waits until the server has what `wanted` says. Returns whether it has in time.
    async fn settles(&self, has: impl Fn(&BTreeMap<Key, Instance>) -> bool) -> bool {
        let mut listed = self.listed.clone();
        // A closed channel means that the runtime of the registrar has ended.
        timeout(ANSWER_TIME, listed.wait_for(|listed| has(listed))).await.is_ok_and(|waited| waited.is_ok())
    }
}

impl<E: Engine> Registry for Directory<E> {
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            address::check_connectable(&instance)?;
            reachability::check_reachable(instance.address(), self).await?;
            let key = (ServiceId::new(service.name(), service.version())?.to_string(), instance.address());
            self.wanted.send_modify(|wanted| drop(wanted.insert(key.clone(), instance.clone())));
            let is_listed = self.settles(|listed| listed.get(&key) == Some(&instance)).await;
            Ok(if is_listed { RegisterOutcome::Confirmed } else { RegisterOutcome::Pending })
        })
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let key = (service.to_string(), address);
            self.wanted.send_modify(|wanted| drop(wanted.remove(&key)));
            if self.settles(|listed| !listed.contains_key(&key)).await {
                return Ok(());
            }
            let message = format!("registry {} did not confirm within {ANSWER_TIME:?}", self.url);
            Err(Error::unknown(Code::Unavailable, message))
        })
    }

    fn reachable_ip(&self) -> BoxFuture<'_, Result<IpAddr, Error>> {
        Box::pin(async {
            for server in &self.servers {
                let Ok(addresses) = server.resolve().await else { continue };
                for address in addresses {
                    if let Ok(ip) = reachability::local_ip(address).await {
                        return Ok(ip);
                    }
                }
            }
            let message = format!("this machine has no route to the registry {}", self.url);
            Err(Error::not_executed(Code::Unavailable, message))
        })
    }
}

impl<E: Engine> Discovery for Directory<E> {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let (receiver, watch) = self.watches.watch(service);
        if let Some(watch) = watch {
            self.tasks.spawn(follower::run(watch, Arc::clone(&self.sessions), self.tasks.stop().clone()));
        }
        receiver
    }

    fn url(&self) -> &str {
        &self.url
    }
}

impl<E: Engine> Administration for Directory<E> {
    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async {
            let mut services = self.operate(async |session| session.services().await).await?;
            services.sort();
            Ok(services)
        })
    }

    fn instances<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Vec<Instance>, Error>> {
        Box::pin(async move {
            let (entries, _) = self.operate(async |session| session.list(service).await).await?;
            Ok(instances(&entries))
        })
    }

    /// As specified by the trait. The server keeps the change until it is reverted, also without the provider.
    fn change<'a>(
        &'a self,
        service: &'a str,
        address: SocketAddr,
        change: InstanceChange,
    ) -> BoxFuture<'a, Result<Option<Instance>, Error>> {
        Box::pin(async move {
            let changed = self.operate(async |session| {
                let (entries, _) = session.list(service).await?;
                let Some(instance) = instances(&entries).into_iter().find(|listed| listed.address() == address) else {
                    return Ok(None);
                };
                session.put(service, &Entry::changed(address, entry::changes(&entries, address, change))).await?;
                Ok(Some(change.apply(instance)))
            });
            changed.await
        })
    }
}

/// The time after which a registration is reported as pending, and the time limit of an operation of an operator.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// Implements the traits of a backend for a type whose only field is a [`Directory`].
macro_rules! delegate {
    ($backend:ty) => {
        impl rpc_core::Registry for $backend {
            fn register<'a>(
                &'a self,
                service: &'a rpc_core::ServiceId,
                instance: rpc_core::Instance,
            ) -> rpc_core::BoxFuture<'a, Result<rpc_core::RegisterOutcome, rpc_core::Error>> {
                self.0.register(service, instance)
            }

            fn deregister<'a>(
                &'a self,
                service: &'a rpc_core::ServiceId,
                address: std::net::SocketAddr,
            ) -> rpc_core::BoxFuture<'a, Result<(), rpc_core::Error>> {
                self.0.deregister(service, address)
            }

            fn reachable_ip(&self) -> rpc_core::BoxFuture<'_, Result<std::net::IpAddr, rpc_core::Error>> {
                self.0.reachable_ip()
            }
        }

        impl rpc_core::Discovery for $backend {
            fn watch(&self, service: &rpc_core::ServiceId) -> rpc_core::Addresses {
                self.0.watch(service)
            }

            fn url(&self) -> &str {
                self.0.url()
            }
        }

        impl crate::Administration for $backend {
            fn services(&self) -> rpc_core::BoxFuture<'_, Result<Vec<String>, rpc_core::Error>> {
                self.0.services()
            }

            fn instances<'a>(
                &'a self,
                service: &'a str,
            ) -> rpc_core::BoxFuture<'a, Result<Vec<rpc_core::Instance>, rpc_core::Error>> {
                self.0.instances(service)
            }

            fn change<'a>(
                &'a self,
                service: &'a str,
                address: std::net::SocketAddr,
                change: crate::InstanceChange,
            ) -> rpc_core::BoxFuture<'a, Result<Option<rpc_core::Instance>, rpc_core::Error>> {
                self.0.change(service, address, change)
            }
        }

        impl std::fmt::Debug for $backend {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($backend))
                    .field("url", &rpc_core::Discovery::url(self))
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use delegate;
