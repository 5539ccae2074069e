//! msnb without digests: neither end compares contracts, and the server has no reflection. The difference to `msnb` is the
//! cost of descriptions.

use std::{net::SocketAddr, sync::LazyLock};

use rpc_client::Client;
use rpc_core::{CallOptions, Caller, Encode, MethodInfo, PreparedCall, Request, ServiceId};
use rpc_server::{Server, ServerConfig};

use crate::{
    client,
    echo::{EchoClient, EchoRequest, EchoServer, EchoService},
    failure::Failure,
    link::{Link, Sample},
    server,
};

/// A client whose method has no digest, as that of a contract that is written by hand.
#[derive(Debug, Clone)]
pub(super) struct Undescribed(Client);

static ECHO: LazyLock<MethodInfo> =
    LazyLock::new(|| MethodInfo::new(ServiceId::from_static("bench.Echo", "1.0"), "echo"));

impl Caller for Undescribed {
    type Calling<A: Encode + Send + 'static> = <Client as Caller>::Calling<A>;

    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> Self::Calling<A> {
        self.0.call(Request { method: &ECHO, ..request })
    }

    fn prepare<A: Encode + Send + 'static>(self, request: Request<A>) -> PreparedCall<Self, A> {
        match self.0.prepare(Request { method: &ECHO, ..request }) {
            PreparedCall::Calling(calling) => PreparedCall::Calling(calling),
            PreparedCall::Request(client, request) => PreparedCall::Request(Self(client), request),
        }
    }

    fn options_mut<A: Encode + Send + 'static>(calling: &mut Self::Calling<A>) -> Option<&mut CallOptions> {
        <Client as Caller>::options_mut(calling)
    }
}

/// Serves the echo service without reflection.
pub(super) async fn serve(address: SocketAddr, config: ServerConfig) -> Result<(), Failure> {
    let server = Server::builder().service(EchoServer::new(EchoService)).reflection(false).config(config);
    server::run(server, address).await
}

pub(super) async fn connect(address: SocketAddr, count: usize) -> Result<Vec<EchoClient<Undescribed>>, Failure> {
    let clients = client::clients(address, count).await?;
    Ok(clients.into_iter().map(|client| EchoClient::new(Undescribed(client))).collect())
}

impl Link for EchoClient<Undescribed> {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let request = EchoRequest { id, name: sample.name.clone(), payload: sample.payload.clone() };
        let reply = EchoClient::echo(self, request).await?;
        sample.check(id, reply.id, &reply.name, &reply.payload)
    }
}
