//! Many services, methods and providers, served by one process and called in turn by another.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rpc_client::Client;
use rpc_core::{BoxFuture, CallOptions, Caller, Error, MethodInfo, Payload, Request, Responder, Service, ServiceId};
use rpc_server::{Server, ServerConfig};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    Failure, callers,
    echo::{EchoReply, EchoRequest, EchoServer, Parrot},
    job::Job,
    link::{Link, Sample},
    process::Usage,
    resources, server,
    summary::Summary,
};

/// How many echoes there are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Crowd {
    #[arg(long)]
    services: usize,
    #[arg(long)]
    methods: usize,
}

/// Serves many echoes at many addresses.
#[derive(Debug, clap::Args)]
pub(crate) struct CrowdServer {
    #[command(flatten)]
    crowd: Crowd,
    #[arg(long)]
    providers: usize,
}

/// Calls many echoes.
#[derive(Debug, clap::Args)]
pub(crate) struct CrowdClient {
    /// The providers' addresses, with commas.
    addresses: String,
    /// The server's process.
    #[arg(long)]
    server: Option<u32>,
    #[command(flatten)]
    crowd: Crowd,
    #[command(flatten)]
    job: Job,
}

impl Crowd {
    /// All methods of all services.
    fn infos(&self) -> Result<Vec<Vec<MethodInfo>>, Error> {
        let methods =
            |id: ServiceId| (0..self.methods).map(|m| MethodInfo::new(id.clone(), &format!("echo{m}"))).collect();
        (0..self.services).map(|s| Ok(methods(ServiceId::new(format!("bench.Echo{s}"), "1.0")?))).collect()
    }
}

impl CrowdServer {
    /// Serves until the process is killed.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        resources::raise_limit();
        let mut servers = JoinSet::new();
        let mut addresses = Vec::new();
        for _ in 0..self.providers {
            // All the connections come from one address.
            let config = ServerConfig::default();
            let many = config.max_connections;
            let mut builder = Server::builder().config(config.with_max_connections_per_ip(many));
            for methods in self.crowd.infos()? {
                builder = builder.service(Numbered { methods, echo: EchoServer::new(Parrot) });
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

impl CrowdClient {
    /// Does the job.
    pub(crate) async fn run(self) -> Result<Summary, Failure> {
        resources::raise_limit();
        let registry = rpc_registry::connect(&format!("fixed:{}", self.addresses)).await?;
        // Calls name their methods for ever; this process has these.
        let methods: &'static [MethodInfo] = self.crowd.infos()?.concat().leak();
        let link = || -> Result<Turns, Failure> {
            let client = Client::builder().registry(registry.clone()).build()?;
            Ok(Turns { client, methods, turn: Arc::default() })
        };
        let links: Vec<Turns> = (0..self.job.conns.get()).map(|_| link()).collect::<Result<_, _>>()?;
        // Every service has been looked up before the clock starts.
        let sample = Sample::new(self.job.payload);
        for method in methods {
            links[0].call(method, 0, &sample).await?;
        }
        callers::call(links, &self.job, Usage { server: self.server }).await
    }
}

/// An echo whose methods have other names.
#[derive(Debug)]
struct Numbered {
    methods: Vec<MethodInfo>,
    echo: EchoServer<Parrot>,
}

impl Service for Numbered {
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

/// A client that calls one method after the other.
#[derive(Clone)]
struct Turns {
    client: Client,
    methods: &'static [MethodInfo],
    turn: Arc<AtomicUsize>,
}

/// What the proxy of the echo sends.
#[derive(Serialize)]
struct Arguments {
    request: EchoRequest,
}

impl Turns {
    async fn call(&self, method: &'static MethodInfo, id: u64, sample: &Sample) -> Result<(), Failure> {
        let request = EchoRequest { id, name: sample.name.clone(), payload: sample.payload.clone() };
        let request = Request { method, arguments: Arguments { request }, options: CallOptions::inherited() };
        let reply: EchoReply = self.client.call(request).await?.result()?;
        sample.check(id, reply.id, &reply.name, &reply.payload)
    }
}

impl Link for Turns {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let method = &self.methods[self.turn.fetch_add(1, Ordering::Relaxed) % self.methods.len()];
        self.call(method, id, sample).await
    }
}
