//! msnb with its default configuration.

use std::net::SocketAddr;

use rpc_client::{Client, ClientConfig};
use rpc_core::rpc_service;
use rpc_server::Server;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    failure::Failure,
    faults::{
        caller::{Caller, TIMEOUT},
        delay::delayed,
    },
};

#[rpc_service(name = "bench.Faulty", version = "1.0")]
trait Faulty {
    /// Returns the port of the provider.
    #[rpc(idempotent)]
    async fn port(&self, number: u64) -> u16;
}

struct Service(u16);

impl Faulty for Service {
    async fn port(&self, _: u64) -> u16 {
        delayed().await;
        self.0
    }
}

pub(super) async fn serve(listener: TcpListener) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::builder().service(FaultyServer::new(Service(listener.local_addr()?.port())));
    let server = server.listen(listener).await?;
    let stopped = async move {
        terminate.recv().await;
    };
    Ok(server.run_until(stopped).await?)
}

pub(super) async fn connect(providers: [SocketAddr; 2]) -> Result<Caller, Failure> {
    let [one, other] = providers;
    let registry = rpc_registry::connect(&format!("fixed:{one},{other}")).await?;
    let config = ClientConfig::default().with_cache_directory(None);
    let client = Client::builder().registry(registry).config(config).build()?;
    client.warm_up::<FaultyClient<_>>().await?;
    let faulty = FaultyClient::new(client);
    Ok(Box::new(move |number| {
        let call = faulty.port(number).timeout(TIMEOUT);
        Box::pin(async move { Ok(call.await?) })
    }))
}
