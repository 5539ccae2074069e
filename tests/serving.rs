//! [`Serving`]: a server in this process, which can be stopped, killed and started again on its address.

use std::net::SocketAddr;

use rpc_core::{Error, ServiceId};
use rpc_server::{Server, ServerBuilder, ServerConfig, ServerCounts, ServerHandle};
use tokio::{sync::oneshot, task::JoinSet};

use crate::probe::Probe;

/// A server that runs in this process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    handle: ServerHandle,
    stop: Option<oneshot::Sender<()>>,
    task: JoinSet<Result<(), Error>>,
}

impl Serving {
    /// Runs what `builder` makes on a free port of this machine.
    ///
    /// # Panics
    ///
    /// When it does not bind.
    pub async fn start(builder: ServerBuilder) -> Self {
        Self::start_on(builder, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Runs what `builder` makes on `address`.
    ///
    /// # Panics
    ///
    /// When it does not bind.
    pub async fn start_on(builder: ServerBuilder, address: SocketAddr) -> Self {
        let server = builder.bind(address).await.expect("the server binds");
        let (address, handle) = (server.local_address(), server.handle());
        let (stop, stopped) = oneshot::channel::<()>();
        let mut task = JoinSet::new();
        task.spawn(server.run_until(stopped));
        Self { address, handle, stop: Some(stop), task }
    }

    /// Serves `probe` with these numbers, without a registry.
    pub async fn probe(probe: &Probe, config: ServerConfig) -> Self {
        Self::start(Server::builder().service(probe.server()).config(config)).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells how it is doing.
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Waits until `wanted` is true of what it counted.
    ///
    /// # Panics
    ///
    /// When it does not become true for a long time.
    pub async fn until_counted(&self, wanted: impl Fn(&ServerCounts) -> bool) {
        crate::in_time(async {
            while !wanted(&self.handle.counts()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Asks it to leave in order.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// Waits until it has left; says what its `run_until` said.
    ///
    /// # Panics
    ///
    /// When it does not end for a long time, or panicked.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let ended = crate::in_time(self.task.join_next()).await;
        ended.expect("it is waited for once").expect("a server does not panic")
    }

    /// Ends it at once: its connections break, and what it was doing is dropped.
    pub async fn kill(mut self) {
        self.task.shutdown().await;
    }
}

/// The service that a [`Probe`] serves.
pub static PROBE: ServiceId = ServiceId::from_static("test.Probe", "1.0");
