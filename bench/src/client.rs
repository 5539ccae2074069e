//! `msnb-bench client`: the generated proxy over the msnb client with default configuration.

use std::net::SocketAddr;

use rpc_client::Client;

use crate::{
    echo::{EchoClient, EchoRequest},
    failure::Failure,
    link::{Link, Sample},
};

/// Creates `count` proxies, each over its own client, because a client has one connection per address.
pub(crate) async fn connect(address: SocketAddr, count: usize) -> Result<Vec<EchoClient<Client>>, Failure> {
    Ok(clients(address, count).await?.into_iter().map(EchoClient::new).collect())
}

/// Creates `count` clients.
pub(crate) async fn clients(address: SocketAddr, count: usize) -> Result<Vec<Client>, Failure> {
    let registry = rpc_registry::connect(&format!("fixed:{address}")).await?;
    (0..count).map(|_| Ok(Client::builder().registry(registry.clone()).build()?)).collect()
}

impl Link for EchoClient<Client> {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let request = EchoRequest { id, name: sample.name.clone(), payload: sample.payload.clone() };
        let reply = EchoClient::echo(self, request).await?;
        sample.check(id, reply.id, &reply.name, &reply.payload)
    }
}
