//! volo-thrift with a list of addresses, its balancing by weight, timeouts and two retries.

use std::net::SocketAddr;

use pilota::{Bytes, FastStr};
use tokio::net::TcpListener;
use volo::{discovery::StaticDiscover, loadbalance::random::WeightedRandomBalance, net::incoming::DefaultIncoming};
use volo_thrift::ServerError;

use crate::{
    failure::Failure,
    faults::{
        caller::{CONNECT_TIMEOUT, Caller, TIMEOUT},
        delay::delayed,
    },
    peers::volo::generated::idl::echo::{Echo, EchoClientBuilder, EchoReply, EchoRequest, EchoServer},
};

struct Service(u16);

impl Echo for Service {
    async fn echo(&self, request: EchoRequest) -> Result<EchoReply, ServerError> {
        delayed().await;
        let EchoRequest { name, payload, .. } = request;
        Ok(EchoReply { id: self.0.into(), name, payload })
    }
}

pub(super) async fn serve(listener: TcpListener) -> Result<(), Failure> {
    let server = EchoServer::new(Service(listener.local_addr()?.port())).multiplex(true);
    server.run(DefaultIncoming::from(listener)).await.map_err(|error| error as Failure)
}

pub(super) fn connect(providers: [SocketAddr; 2]) -> Caller {
    let client = EchoClientBuilder::new("bench.Echo")
        .discover(StaticDiscover::from(providers.to_vec()))
        .load_balance(WeightedRandomBalance::new())
        .retry_count(2)
        .rpc_timeout(Some(TIMEOUT))
        .connect_timeout(Some(CONNECT_TIMEOUT))
        .multiplex(true)
        .build();
    Box::new(move |number| {
        let client = client.clone();
        Box::pin(async move {
            let request = EchoRequest { id: number as i64, name: FastStr::empty(), payload: Bytes::new() };
            Ok(u16::try_from(client.echo(request).await?.id)?)
        })
    })
}
