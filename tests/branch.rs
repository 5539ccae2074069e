//! [`Branch`]: a server of the ledger in this process, reached through a relay.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_server::{Server, ServerBuilder};

use crate::{
    ledger::{Clerk, LedgerClient},
    load::until_ready,
    relay::Relay,
    serving::Serving,
};

/// A server of the ledger in this process. Consumers reach it through a relay only, so a test can come between.
#[derive(Debug)]
pub struct Branch {
    /// Between consumers and the server.
    pub relay: Relay,
    serving: Option<Serving>,
    /// Where the server itself listens.
    behind: SocketAddr,
    directory: PathBuf,
    longest: Duration,
}

impl Branch {
    /// A branch whose clerk writes into `directory` and takes up to `longest` for a call.
    pub async fn open(directory: impl Into<PathBuf>, longest: Duration) -> Self {
        Self::open_with(directory, longest, Server::builder()).await
    }

    /// A branch whose server is otherwise as `builder` says.
    pub async fn open_with(directory: impl Into<PathBuf>, longest: Duration, builder: ServerBuilder) -> Self {
        let directory = directory.into();
        let clerk = Clerk::new(&directory, longest);
        let serving = Serving::start_on(builder.service(clerk.server()), crate::relay::free_address()).await;
        let behind = serving.address();
        Self { relay: Relay::to(behind).await, serving: Some(serving), behind, directory, longest }
    }

    /// Where consumers find it.
    pub fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// Where it says that it is.
    pub fn behind(&self) -> SocketAddr {
        self.behind
    }

    /// Ends the server as a crash would.
    pub async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.kill().await;
        }
    }

    /// Asks the server to leave in order.
    pub fn stop(&mut self) {
        self.serving.iter_mut().for_each(Serving::stop);
    }

    /// Waits until a server that was asked to leave has left.
    ///
    /// # Panics
    ///
    /// When it does not for a long time.
    pub async fn ended(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            serving.ended().await.expect("a server leaves in order");
        }
    }

    /// Lets another server take the place of one that was killed: it knows nothing of what the other did.
    pub async fn replace(&mut self) {
        self.replace_with(Server::builder().service(Clerk::new(&self.directory, self.longest).server())).await;
    }

    /// Lets what `builder` makes take the place of a server that was killed.
    pub async fn replace_with(&mut self, builder: ServerBuilder) {
        self.serving = Some(Serving::start_on(builder, self.behind).await);
    }
}

/// A client that knows these branches for ever, and has a connection to each that answers.
///
/// # Panics
///
/// When that takes very long.
pub async fn client_of(branches: &[&Branch], config: ClientConfig) -> Client {
    let addresses: Vec<_> = branches.iter().map(|branch| branch.address()).collect();
    let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let registry = rpc_registry::connect(&format!("fixed:{}", list.join(","))).await.expect("addresses resolve");
    let config = config.with_cache_directory(None);
    let client = Client::builder().registry(registry).config(config).build().expect("the config is valid");
    // What becomes of the first call is nobody's concern: with it the client learns of the service.
    drop(LedgerClient::new(client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
    until_ready(&client, &addresses).await;
    client
}
