//! Many services, methods and providers in one process, and a client that calls them in rotation.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rpc_client::Client;
use rpc_core::{BoxFuture, CallOptions, Caller, Error, MethodInfo, Payload, Request, Responder, Service, ServiceId};
use rpc_server::Server;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    callers,
    echo::{EchoReply, EchoRequest, EchoServer, EchoService},
    failure::Failure,
    job::Job,
    link::{Link, Sample},
    peers::single_client_config,
    process::Usage,
    resources, server,
    summary::Summary,
};

/// The number of echo services and of their methods.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Fleet {
    #[arg(long)]
    services: usize,
    #[arg(long)]
    methods: usize,
}

/// A server with many echo services on many addresses.
#[derive(Debug, clap::Args)]
pub(crate) struct FleetServer {
    #[command(flatten)]
    fleet: Fleet,
    #[arg(long)]
    providers: usize,
}

/// A client of many echo services.
#[derive(Debug, clap::Args)]
pub(crate) struct FleetClient {
    /// The addresses of the providers, separated by commas.
    addresses: String,
    /// The process id of the server.
    #[arg(long)]
    server: Option<u32>,
    #[command(flatten)]
    fleet: Fleet,
    #[command(flatten)]
    job: Job,
}

impl Fleet {
    /// Returns the methods of each service.
    fn infos(&self) -> Result<Vec<Vec<MethodInfo>>, Error> {
        let methods =
            |id: ServiceId| (0..self.methods).map(|m| MethodInfo::new(id.clone(), &format!("echo{m}"))).collect();
        (0..self.services).map(|s| Ok(methods(ServiceId::new(format!("bench.Echo{s}"), "1.0")?))).collect()
    }
}

impl FleetServer {
    /// Serves until the process is killed.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        resources::raise_limit();
        let mut servers = JoinSet::new();
        let mut addresses = Vec::new();
        for _ in 0..self.providers {
            let mut builder = Server::builder().config(single_client_config());
            for methods in self.fleet.infos()? {
                builder = builder.service(RenamedEcho { methods, echo: EchoServer::new(EchoService) });
            }
            let server = builder.bind("127.0.0.1:0").await?;
            addresses.push(server.local_address().to_string());
            servers.spawn(server.run_until(pending::<()>()));
        }
        server::announce(&addresses.join(","))?;
        while let Some(ended) = servers.join_next().await {
            ended??;
        }
        Ok(())
    }
}

impl FleetClient {
    /// Runs the job.
    pub(crate) async fn run(self) -> Result<Summary, Failure> {
        resources::raise_limit();
        let registry = rpc_registry::connect(&format!("fixed:{}", self.addresses)).await?;
        // `Request` needs `'static` methods. Leaking is fine: the number of methods is fixed.
        let methods: &'static [MethodInfo] = self.fleet.infos()?.concat().leak();
        let link = || -> Result<RoundRobin, Failure> {
            let client = Client::builder().registry(registry.clone()).build()?;
            Ok(RoundRobin { client, methods, next: Arc::default() })
        };
        let links: Vec<RoundRobin> = (0..self.job.conns.get()).map(|_| link()).collect::<Result<_, _>>()?;
        // Each service is looked up before the measurement.
        let sample = Sample::new(self.job.payload);
        for method in methods {
            links[0].call(method, 0, &sample).await?;
        }
        callers::call(links, &self.job, Usage { server: self.server }).await
    }
}

/// An echo service with other method names.
#[derive(Debug)]
struct RenamedEcho {
    methods: Vec<MethodInfo>,
    echo: EchoServer<EchoService>,
}

impl Service for RenamedEcho {
    fn id(&self) -> &ServiceId {
        self.methods[0].service()
    }

    fn methods(&self) -> &[MethodInfo] {
        &self.methods
    }

    fn call(&self, _: usize, arguments: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        self.echo.call(0, arguments, responder)
    }
}

/// A client that calls its methods in rotation.
#[derive(Clone)]
struct RoundRobin {
    client: Client,
    methods: &'static [MethodInfo],
    next: Arc<AtomicUsize>,
}

/// The arguments as the generated proxy of the echo service sends them.
#[derive(Serialize)]
struct Arguments {
    request: EchoRequest,
}

impl RoundRobin {
    async fn call(&self, method: &'static MethodInfo, id: u64, sample: &Sample) -> Result<(), Failure> {
        let request = EchoRequest { id, name: sample.name.clone(), payload: sample.payload.clone() };
        let request = Request { method, arguments: Arguments { request }, options: CallOptions::inherited() };
        let reply: EchoReply = self.client.call(request).await?.result()?;
        sample.check(id, reply.id, &reply.name, &reply.payload)
    }
}

impl Link for RoundRobin {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let method = &self.methods[self.next.fetch_add(1, Ordering::Relaxed) % self.methods.len()];
        self.call(method, id, sample).await
    }
}
