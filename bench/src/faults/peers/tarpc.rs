//! tarpc with its stubs for round robin and retries, as in its example `tracing`.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use futures_util::StreamExt;
use tarpc::{
    client::{
        self, Config, RpcError,
        stub::{load_balance::RoundRobin, retry::Retry},
    },
    context, serde_transport,
    server::{BaseChannel, Channel},
    tokio_serde::formats::Bincode,
    tokio_util::codec::LengthDelimitedCodec,
};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::{
    failure::Failure,
    faults::{
        caller::{Caller, TIMEOUT},
        delay::delayed,
    },
    peers::net::{accept, dial},
};

#[tarpc::service]
trait Faulty {
    /// Returns the port of the provider.
    async fn port(number: u64) -> u16;
}

#[derive(Clone)]
struct Service(u16);

impl Faulty for Service {
    async fn port(self, _: context::Context, _: u64) -> u16 {
        delayed().await;
        self.0
    }
}

/// tarpc has no orderly end of a server, so SIGTERM ends the process.
pub(super) async fn serve(listener: TcpListener) -> Result<(), Failure> {
    let service = Service(listener.local_addr()?.port());
    let tasks = TaskTracker::new();
    loop {
        let framed = LengthDelimitedCodec::builder().new_framed(accept(&listener).await?);
        let channel = BaseChannel::with_defaults(serde_transport::new(framed, Bincode::default()));
        let handlers = tasks.clone();
        tasks.spawn(channel.execute(service.clone().serve()).for_each(move |handler| {
            handlers.spawn(handler);
            std::future::ready(())
        }));
    }
}

pub(super) async fn connect(providers: [SocketAddr; 2]) -> Result<Caller, Failure> {
    let mut stubs = Vec::new();
    for provider in providers {
        let framed = LengthDelimitedCodec::builder().new_framed(dial(provider).await?);
        let transport = serde_transport::new(framed, Bincode::default());
        stubs.push(client::new::<Arc<FaultyRequest>, FaultyResponse, _>(Config::default(), transport).spawn());
    }
    let retries = |outcome: &Result<FaultyResponse, RpcError>, attempt: u32| outcome.is_err() && attempt < 3;
    let faulty = FaultyClient::from(Retry::new(RoundRobin::new(stubs), retries));
    Ok(Box::new(move |number| {
        let faulty = faulty.clone();
        Box::pin(async move {
            let mut context = context::current();
            context.deadline = Instant::now() + TIMEOUT;
            Ok(faulty.port(context, number).await?)
        })
    }))
}
