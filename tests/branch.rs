//! [`Branch`]: a ledger server in this process behind a relay.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_server::{Server, ServerBuilder};

use crate::{
    ledger::{Clerk, LedgerClient},
    load::until_ready,
    relay::Relay,
    serving::Serving,
};

/// A ledger server in this process. Consumers reach it only through a relay, with which a test injects faults.
#[derive(Debug)]
pub struct Branch {
    /// The relay between consumers and the server.
    pub relay: Relay,
    serving: Option<Serving>,
    /// The address on which the server itself listens.
    behind: SocketAddr,
    directory: PathBuf,
    longest: Duration,
}

impl Branch {
    /// Starts a server whose clerk records calls in `directory` and delays a call by up to `longest`.
    pub async fn open(directory: impl Into<PathBuf>, longest: Duration) -> Self {
        Self::open_with(directory, longest, Server::builder()).await
    }

    /// Like [`open`](Self::open), with the other settings of `builder`.
    pub async fn open_with(directory: impl Into<PathBuf>, longest: Duration, builder: ServerBuilder) -> Self {
        let directory = directory.into();
        let clerk = Clerk::new(&directory, longest);
        let serving = Serving::start_on(builder.service(clerk.server()), crate::relay::free_address()).await;
        let behind = serving.address();
        Self { relay: Relay::to(behind).await, serving: Some(serving), behind, directory, longest }
    }

    /// Returns the relay's address, which consumers connect to.
    pub fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// Returns the server's own address, which its receipts contain.
    pub fn behind(&self) -> SocketAddr {
        self.behind
    }

    /// Kills the server, like a crash.
    pub async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.kill().await;
        }
    }

    /// Starts a graceful shutdown of the server.
    pub fn stop(&mut self) {
        self.serving.iter_mut().for_each(Serving::stop);
    }

    /// Waits for the end of a server after [`stop`](Self::stop).
    ///
    /// # Panics
    ///
    /// Panics if the server does not end within the limit of [`in_time`](crate::in_time), or fails.
    pub async fn ended(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            serving.ended().await.expect("the server shuts down gracefully");
        }
    }

    /// Starts a new server, without the state of the killed one, on its address.
    pub async fn replace(&mut self) {
        self.replace_with(Server::builder().service(Clerk::new(&self.directory, self.longest).server())).await;
    }

    /// Starts the server of `builder` on the address of the killed one.
    pub async fn replace_with(&mut self, builder: ServerBuilder) {
        self.serving = Some(Serving::start_on(builder, self.behind).await);
    }
}

/// Returns a client with a fixed list of these branches and a ready connection to each.
///
/// # Panics
///
/// Panics if the connections do not become ready in time.
pub async fn client_of(branches: &[&Branch], config: ClientConfig) -> Client {
    let addresses: Vec<_> = branches.iter().map(|branch| branch.address()).collect();
    let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let registry = rpc_registry::connect(&format!("fixed:{}", list.join(","))).await.expect("the addresses resolve");
    let config = config.with_cache_directory(None);
    let client = Client::builder().registry(registry).config(config).build().expect("the config is valid");
    // The first call makes the client resolve the service; its outcome does not matter.
    drop(LedgerClient::new(client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
    until_ready(&client, &addresses).await;
    client
}
