//! [`Server`]: serves several services on one port.

use std::{fmt, net::SocketAddr, sync::Arc};

use rpc_core::{Error, contained, transport::Accept};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    handle::ServerHandle,
    registration::{Registered, Registration},
};
use crate::{
    connection::Shared,
    counters::{Counters, ServerState},
    endpoint::EndpointHandler,
    listener::{Acceptor, ConnectionThreads},
};

/// A bound server that does not serve yet: clients can connect, and wait.
#[must_use = "a server serves only while `run` or `run_until` is awaited"]
pub struct Server {
    pub(super) listener: Box<dyn Accept>,
    pub(super) shared: Arc<Shared>,
    pub(super) endpoints: Arc<[Arc<dyn EndpointHandler>]>,
    pub(super) registration: Option<Registration>,
    pub(super) address: SocketAddr,
    pub(super) advertised: SocketAddr,
    pub(super) threads: ConnectionThreads,
}

impl Server {
    /// Returns the address that the server listens on. For port 0, it has the port that the system chose.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address that the server registers in its registry.
    pub fn advertised_address(&self) -> SocketAddr {
        self.advertised
    }

    /// Returns a handle that reads the state and the counts of the server while it runs and afterwards.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(&self.shared))
    }

    /// Registers the server and serves until `shutdown` resolves, then drains.
    ///
    /// The drain deregisters the server, waits [`ServerConfig::drain_notice`](crate::ServerConfig::drain_notice) for
    /// consumers to receive the change, sends GOAWAY on every connection, and waits for running handlers. It drops the
    /// handlers that still run after [`ServerConfig::drain_timeout`](crate::ServerConfig::drain_timeout).
    ///
    /// # Errors
    ///
    /// The error of the registry when it rejects the registration of a service permanently; the server has then
    /// deregistered the others. When the registry is unreachable, the registration is retried in the background
    /// instead.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all connections at once and deregisters in a task of the runtime. If the runtime ends
    /// before, the registry removes the entry when it expires.
    pub async fn run_until<F: Future>(self, shutdown: F) -> Result<(), Error> {
        let Self { listener, shared, endpoints, registration, address, threads, .. } = self;
        // Handlers of one-way calls outlive their connections. They must not outlive this future.
        let _abort = shared.abort.clone().drop_guard();
        let state = StateGuard::serving(&shared.counters);
        let mut acceptor = Acceptor::new(Arc::clone(&shared), endpoints, threads);
        contained(|| info!(%address, "serving"));
        let registration = registration.map(|registration| Registered::new(registration, shared.handlers.clone()));
        let registered = async {
            let shutdown = async {
                shutdown.await;
                state.draining();
            };
            tokio::pin!(shutdown);
            if let Some(mut registration) = registration {
                tokio::select! {
                    biased;
                    // If the shutdown drops this future midway, the deregistration below removes a possible entry.
                    outcome = registration.register() => {
                        outcome?;
                        let mut tags = shared.tags.subscribe();
                        loop {
                            // A change of the tags before the subscription is applied too.
                            let changed = tags.borrow_and_update().clone();
                            if let Some(changed) = changed {
                                tokio::select! {
                                    biased;
                                    // As above.
                                    () = &mut shutdown => break,
                                    () = registration.set_tags(&changed) => {}
                                }
                            }
                            tokio::select! {
                                biased;
                                () = &mut shutdown => break,
                                // Cancel-safe: a change that it did not report is found by the next call.
                                _ = tags.changed() => {}
                            }
                        }
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
            // `accept_from` is cancel safe.
            () = acceptor.accept_from(&*listener) => {}
            // Never completes, and is cancel safe.
            () = shared.dispatcher.access().follow() => {}
        }
        drop(listener);
        drain(&shared, &mut acceptor).await;
        contained(|| info!(%address, "ended"));
        Ok(())
    }

    /// Registers the server and serves until the future is dropped; see [`run_until`](Self::run_until).
    ///
    /// # Errors
    ///
    /// As [`run_until`](Self::run_until).
    pub async fn run(self) -> Result<(), Error> {
        self.run_until(std::future::pending::<()>()).await
    }
}

/// Sets the state of a server, and sets `Ended` when it is dropped.
struct StateGuard<'a>(&'a Counters);

impl<'a> StateGuard<'a> {
    fn serving(counters: &'a Counters) -> Self {
        counters.set_state(ServerState::Serving);
        Self(counters)
    }

    fn draining(&self) {
        self.0.set_state(ServerState::Draining);
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        self.0.set_state(ServerState::Ended);
    }
}

/// Sends GOAWAY, and waits for connections and handlers until the drain timeout.
async fn drain(shared: &Shared, acceptor: &mut Acceptor) {
    acceptor.send_goaway();
    shared.handlers.close();
    let finished = timeout(shared.config.drain_timeout, async {
        acceptor.until_empty().await;
        shared.handlers.wait().await;
    });
    if finished.await.is_err() {
        let (handlers, limit) = (shared.handlers.len(), shared.config.drain_timeout);
        contained(|| {
            warn!(handlers, "drain exceeded {limit:?} (ServerConfig::drain_timeout); dropping the remaining handlers");
        });
    }
    acceptor.end_streams().await;
    acceptor.abort().await;
    shared.abort.cancel();
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("advertised", &self.advertised)
            .finish_non_exhaustive()
    }
}
