//! tonic with a balanced channel, timeouts, and keep-alive of HTTP/2.

use std::net::SocketAddr;

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

use crate::{
    failure::Failure,
    faults::{
        caller::{CONNECT_TIMEOUT, Caller, TIMEOUT},
        delay::delayed,
    },
    peers::tonic::{
        EchoReply, EchoRequest,
        generated::{
            echo_client::EchoClient,
            echo_server::{Echo, EchoServer},
        },
        incoming,
    },
};

struct Service(u16);

#[tonic::async_trait]
impl Echo for Service {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        delayed().await;
        let EchoRequest { name, payload, .. } = request.into_inner();
        Ok(Response::new(EchoReply { id: self.0.into(), name, payload }))
    }
}

pub(super) async fn serve(listener: TcpListener) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let service = EchoServer::new(Service(listener.local_addr()?.port()));
    let stopped = async move {
        terminate.recv().await;
    };
    Ok(Server::builder().add_service(service).serve_with_incoming_shutdown(incoming(listener), stopped).await?)
}

pub(super) fn connect(providers: [SocketAddr; 2]) -> Result<Caller, Failure> {
    let endpoint = |address: SocketAddr| {
        Ok(Endpoint::from_shared(format!("http://{address}"))?
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(CONNECT_TIMEOUT)
            .keep_alive_timeout(CONNECT_TIMEOUT)
            .keep_alive_while_idle(true))
    };
    let endpoints: Vec<Endpoint> = providers.into_iter().map(endpoint).collect::<Result<_, Failure>>()?;
    let client = EchoClient::new(Channel::balance_list(endpoints.into_iter()));
    Ok(Box::new(move |number| {
        let mut client = client.clone();
        Box::pin(async move {
            let request = EchoRequest { id: number, name: String::new(), payload: Vec::new() };
            Ok(u16::try_from(client.echo(request).await?.into_inner().id)?)
        })
    }))
}
