//! [`Shared`]: what the pages share.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::Client;
use rpc_core::{
    Error, ServiceId,
    admin::{AdminClient, ServerCounters},
    descriptor::Contract,
    reflection::{ReflectionClient, ServiceSummary},
};
use rpc_registry::{Backend, Memory};
use tokio::sync::Semaphore;

use super::{counters::Counters, history::History};
use crate::{command_error::CommandError, provider::Provider, target::Target};

/// The state that the pages share.
pub(super) struct Shared {
    pub(super) target: Target,
    /// The server at `--address`, if the console shows one server and not a registry.
    pub(super) server: Option<SocketAddr>,
    pub(super) registry: Arc<dyn Backend>,
    pub(super) client: Client,
    pub(super) history: History,
    pub(super) counters: Counters,
    /// A permit for each open stream of events.
    pub(super) streams: Arc<Semaphore>,
    pub(super) allow_calls: bool,
    address: SocketAddr,
    /// The secret that each form contains.
    token: u128,
}

/// The members that each page has.
pub(super) struct Frame {
    /// The registry or the server.
    pub(super) source: String,
    pub(super) allow_calls: bool,
    pub(super) token: String,
}

impl Shared {
    pub(super) async fn new(target: Target, address: SocketAddr, allow_calls: bool) -> Result<Self, CommandError> {
        let server = target.stated_address().await?;
        Ok(Self {
            registry: match server {
                // An empty one.
                Some(_) => Arc::new(Memory::named("console")),
                None => target.connect().await?,
            },
            server,
            client: target.client().await?,
            history: History::default(),
            counters: Counters::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            token: rand::random(),
            target,
            address,
            allow_calls,
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn frame(&self) -> Frame {
        let source = self.server.map_or_else(|| self.registry.url().to_owned(), |server| server.to_string());
        Frame { source, allow_calls: self.allow_calls, token: format!("{:032x}", self.token) }
    }

    /// Returns whether a form contains the secret of this console.
    pub(super) fn is_token(&self, text: &str) -> bool {
        // Comparing numbers takes the same time for all.
        u128::from_str_radix(text, 16).is_ok_and(|token| token == self.token)
    }

    /// Returns the services of the server at `--address`.
    pub(super) async fn services(&self, server: SocketAddr) -> Result<Vec<ServiceSummary>, Error> {
        ReflectionClient::new(self.client.clone()).list().address(server).timeout(self.patience()).await
    }

    /// Returns the providers of a service, including disabled ones, sorted by address.
    pub(super) async fn providers(&self, service: &ServiceId) -> Result<Vec<Provider>, CommandError> {
        if let Some(server) = self.server {
            return Ok(vec![Provider::from(&rpc_core::Instance::new(server))]);
        }
        let listed = tokio::time::timeout(self.patience(), self.registry.instances(&service.to_string())).await;
        let mut providers: Vec<_> = match listed {
            Ok(Ok(instances)) if !instances.is_empty() => instances.iter().map(Provider::from).collect(),
            // The watch tells why there is none.
            _ => self.target.providers(service).await?.iter().map(Provider::from).collect(),
        };
        providers.sort_by(|one, other| one.address.cmp(&other.address));
        Ok(providers)
    }

    /// Returns the contract that a provider describes.
    pub(super) async fn describe(&self, service: &ServiceId, address: SocketAddr) -> Result<Contract, Error> {
        let reflection = ReflectionClient::new(self.client.clone());
        reflection.describe(service.to_string()).address(address).timeout(self.patience()).await
    }

    /// Returns the counters that a provider reports.
    pub(super) async fn server_counters(&self, address: SocketAddr) -> Result<ServerCounters, Error> {
        AdminClient::new(self.client.clone()).counters().address(address).timeout(self.patience()).await
    }

    /// Returns the contract of the first provider that describes it.
    pub(super) async fn contract(&self, service: &ServiceId) -> Result<Contract, CommandError> {
        match self.server {
            Some(server) => Ok(self.describe(service, server).await?),
            None => self.target.contract(service).await,
        }
    }

    /// Returns the time that a page waits for a provider or the registry.
    fn patience(&self) -> Duration {
        self.target.timeout().min(PATIENCE)
    }
}

const PATIENCE: Duration = Duration::from_secs(3);

/// The largest number of open streams of events.
const MAX_STREAMS: usize = 32;
