//! [`Serving`]: a server in this process that a test stops, kills, and restarts on its address.

use std::net::SocketAddr;

use rpc_core::{Error, ServiceId, transport::Accept};
use rpc_server::{Server, ServerBuilder, ServerConfig, ServerCounts, ServerHandle};
use tokio::{sync::oneshot, task::JoinSet};

use crate::probe::Probe;

/// A server that runs in this process. Dropping it kills the server.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    handle: ServerHandle,
    stop: Option<oneshot::Sender<()>>,
    task: JoinSet<Result<(), Error>>,
}

impl Serving {
    /// Starts the server of `builder` on a free loopback port.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot bind.
    pub async fn start(builder: ServerBuilder) -> Self {
        Self::start_on(builder, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts the server of `builder` on `address`.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot bind.
    pub async fn start_on(builder: ServerBuilder, address: SocketAddr) -> Self {
        Self::run(builder.bind(address).await.expect("the server binds"))
    }

    /// Starts the server of `builder` on `listener`.
    ///
    /// # Panics
    ///
    /// Panics if the server does not start.
    pub async fn listen(builder: ServerBuilder, listener: impl Accept) -> Self {
        Self::run(builder.listen(listener).await.expect("the server listens"))
    }

    fn run(server: Server) -> Self {
        let (address, handle) = (server.local_address(), server.handle());
        let (stop, stopped) = oneshot::channel::<()>();
        let mut task = JoinSet::new();
        task.spawn(server.run_until(stopped));
        Self { address, handle, stop: Some(stop), task }
    }

    /// Starts a server of `probe` with `config` and without a registry.
    pub async fn probe(probe: &Probe, config: ServerConfig) -> Self {
        Self::start(Server::builder().service(probe.server()).config(config)).await
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the handle that reports the server's state and counts.
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Waits until `wanted` accepts the server's counts.
    ///
    /// # Panics
    ///
    /// Panics if it does not within the limit of [`in_time`](crate::in_time).
    pub async fn until_counted(&self, wanted: impl Fn(&ServerCounts) -> bool) {
        crate::in_time(async {
            while !wanted(&self.handle.counts()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Starts a graceful shutdown.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// Waits for the end of the server and returns the result of its `run_until`.
    ///
    /// # Panics
    ///
    /// Panics if the server does not end within the limit of [`in_time`](crate::in_time), or panicked.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let ended = crate::in_time(self.task.join_next()).await;
        ended.expect("the test waits for the server once").expect("the server does not panic")
    }

    /// Aborts the server: its connections break, and its handlers are dropped.
    pub async fn kill(mut self) {
        self.task.shutdown().await;
    }
}

/// The id of the service that a [`Probe`] serves.
pub static PROBE: ServiceId = ServiceId::from_static("test.Probe", "1.0");
