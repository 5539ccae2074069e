//! [`Fixed`]: a constant list of addresses.

use std::{net::SocketAddr, sync::Arc};

use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::sync::watch;

use crate::{address::HostPort, watches::Publisher};

/// A constant list of addresses, the same for every service: `fixed:host:port,host:port`.
///
/// Host names are resolved once, at construction; later changes in DNS have no effect. A name with several addresses
/// yields one provider for each; of a name with IPv4 and IPv6 addresses only the IPv4 addresses count. Registering and
/// deregistering have no effect.
#[derive(Debug)]
pub struct Fixed {
    list: Publisher,
    url: String,
}

impl Fixed {
    /// Resolves a comma-separated list of `host:port` addresses.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if an address is not of the form `host:port`, `Unavailable` if a host name cannot be resolved.
    pub async fn new(addresses: &str) -> Result<Self, Error> {
        let hosts: Vec<_> =
            addresses.split(',').map(|address| HostPort::parse(address.trim(), None)).collect::<Result<_, _>>()?;
        let mut resolved: Vec<SocketAddr> = Vec::new();
        for host in &hosts {
            resolved.extend(host.resolve().await.map_err(|cause| {
                Error::not_executed(Code::Unavailable, format!("cannot resolve `{host}`")).with_source(cause)
            })?);
        }
        resolved.sort();
        resolved.dedup();
        let list: Arc<[Instance]> = resolved.into_iter().map(Instance::new).collect();
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
    async fn new_rejects_addresses_without_a_port() {
        for bad in ["", "localhost", "localhost:1,"] {
            assert_eq!(Fixed::new(bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }
}
