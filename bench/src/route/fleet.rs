//! [`Fleet`]: providers in child processes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::scenario::Action;
use crate::failure::Failure;

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
    process: Child,
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
                let stdin = self.providers[index].process.stdin.as_mut().ok_or("the provider has no stdin")?;
                stdin.write_all(fault.line().as_bytes())?;
                stdin.flush()?;
            }
            Action::Kill(index) => {
                let process = &mut self.providers[index].process;
                process.kill()?;
                process.wait()?;
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
                kill_process(Pid::from_child(&replaced.process), Signal::TERM)?;
                self.replaced.push(replaced);
            }
        }
        Ok(())
    }

    fn launch(&mut self, address: SocketAddr, zone: &str) -> Result<Provider, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["route-provider", &address.to_string(), "--registry", &self.registry, "--zone", zone]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("the provider has no stdout")?).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default().parse()?;
        if !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
        Ok(Provider { process, address, zone: zone.to_owned() })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Both fail if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
