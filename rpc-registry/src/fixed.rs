//! [`Fixed`]: a list of addresses instead of a registry.

use std::{net::SocketAddr, sync::Arc};

use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::sync::watch;

use crate::{address::HostPort, watches::Publisher};

/// The same addresses for every service, for ever: `fixed:host:port,host:port`.
///
/// Names are resolved once, when it is made; a name that later means another address needs a new one. A name of several addresses
/// gives a provider for each; of a name with IPv4 and IPv6 addresses only the IPv4 ones are taken. Registering and deregistering do
/// nothing.
#[derive(Debug)]
pub struct Fixed {
    list: Publisher,
    url: String,
}

impl Fixed {
    /// Resolves `addresses`, `host:port` each, separated by commas.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when one is not `host:port`, `Unavailable` when a name cannot be resolved now.
    pub async fn new(addresses: &str) -> Result<Self, Error> {
        let hosts: Vec<_> =
            addresses.split(',').map(|address| HostPort::parse(address.trim(), None)).collect::<Result<_, _>>()?;
        let mut found: Vec<SocketAddr> = Vec::new();
        for host in &hosts {
            found.extend(host.resolve().await.map_err(|cause| {
                Error::not_executed(Code::Unavailable, format!("`{host}` cannot be resolved")).with_source(cause)
            })?);
        }
        found.sort();
        found.dedup();
        let list: Arc<[Instance]> = found.into_iter().map(Instance::new).collect();
        let names: Vec<_> = hosts.iter().map(HostPort::to_string).collect();
        Ok(Self { list: watch::Sender::new(Some(list)), url: format!("fixed:{}", names.join(",")) })
    }
}

impl Registry for Fixed {
    fn register<'a>(&'a self, _: &'a ServiceId, _: Instance) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async { Ok(RegisterOutcome::Confirmed) })
    }

    fn deregister<'a>(&'a self, _: &'a ServiceId, _: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

impl Discovery for Fixed {
    fn watch(&self, _: &ServiceId) -> Addresses {
        self.list.subscribe()
    }

    fn url(&self) -> &str {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_service_has_the_same_addresses() {
        let fixed = Fixed::new("127.0.0.1:2, 127.0.0.1:1,127.0.0.1:2").await.unwrap();
        let list = fixed.watch(&ServiceId::from_static("any", "1")).borrow().clone().unwrap();
        let ports: Vec<_> = list.iter().map(|instance| instance.address().port()).collect();
        assert_eq!(ports, [1, 2]);
        assert_eq!(fixed.url(), "fixed:127.0.0.1:2,127.0.0.1:1,127.0.0.1:2");
    }

    #[tokio::test]
    async fn an_address_needs_a_port() {
        for bad in ["", "localhost", "localhost:1,"] {
            assert_eq!(Fixed::new(bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }
}
