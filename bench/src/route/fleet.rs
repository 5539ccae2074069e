//! [`Fleet`]: providers in child processes.

use std::{net::SocketAddr, process::Stdio};

use rustix::process::Signal;

use super::scenario::Action;
use crate::{
    compare::child::{Server, this_program},
    failure::Failure,
};

/// Providers in child processes. Dropping it kills them.
pub(super) struct Fleet {
    registry: String,
    /// The present providers, by their numbers in the scenario.
    providers: Vec<Provider>,
    /// The providers that were replaced.
    replaced: Vec<Provider>,
    /// The addresses of all providers in the order of their starts.
    addresses: Vec<SocketAddr>,
}

struct Provider {
    server: Server,
    address: SocketAddr,
    zone: String,
}

impl Fleet {
    /// Starts a provider in each of these zones.
    pub(super) fn start(registry: &str, zones: &[&str]) -> Result<Self, Failure> {
        let mut fleet =
            Self { registry: registry.to_owned(), providers: Vec::new(), replaced: Vec::new(), addresses: Vec::new() };
        for zone in zones {
            let provider = fleet.launch(SocketAddr::from(([127, 0, 0, 1], 0)), zone)?;
            fleet.providers.push(provider);
        }
        Ok(fleet)
    }

    /// Returns the addresses of all providers in the order of their starts.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    pub(super) fn apply(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Set(index, fault) => {
                self.providers[index].server.send(&fault.line())?;
            }
            Action::Kill(index) => {
                self.providers[index].server.kill()?;
            }
            Action::Restart(index) => {
                let Provider { address, zone, .. } = &self.providers[index];
                let (address, zone) = (*address, zone.clone());
                self.providers[index] = self.launch(address, &zone)?;
            }
            Action::Replace(index) => {
                let zone = self.providers[index].zone.clone();
                let provider = self.launch(SocketAddr::from(([127, 0, 0, 1], 0)), &zone)?;
                let replaced = std::mem::replace(&mut self.providers[index], provider);
                replaced.server.signal(Signal::TERM)?;
                self.replaced.push(replaced);
            }
        }
        Ok(())
    }

    fn launch(&mut self, address: SocketAddr, zone: &str) -> Result<Provider, Failure> {
        let mut command = this_program()?;
        command.args(["route-provider", &address.to_string(), "--registry", &self.registry, "--zone", zone]);
        let server = Server::start(command.stdin(Stdio::piped()))?;
        let address = server.address().parse()?;
        if !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
        Ok(Provider { server, address, zone: zone.to_owned() })
    }
}
