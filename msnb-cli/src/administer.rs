//! `msnb offline`, `msnb online` and `msnb weight`: changes of a provider in the registry.

use std::net::SocketAddr;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rpc_core::{Code, Instance, ServiceId};
use rpc_registry::InstanceChange;
use serde_json::{Value, json};

use crate::{
    command_error::{CommandError, Exit},
    output,
    printable::printable,
    provider::Provider,
    route,
    target::Target,
};

/// Ends the calls to a provider: clients keep their connections, and call other providers, also after its restart.
#[derive(Debug, clap::Args)]
pub(crate) struct Offline {
    #[command(flatten)]
    provider: Which,
}

/// Permits calls to a provider again.
#[derive(Debug, clap::Args)]
pub(crate) struct Online {
    #[command(flatten)]
    provider: Which,
}

/// Sets the share of the load of a provider.
#[derive(Debug, clap::Args)]
pub(crate) struct Weight {
    #[command(flatten)]
    provider: Which,
    /// The share relative to other providers, from 0 to 10000; 1 is the default of providers.
    #[arg(value_name = "WEIGHT", value_parser = parse_weight)]
    weight: f64,
}

/// A provider in the registry.
#[derive(Debug, clap::Args)]
struct Which {
    /// The IP address and port of the provider, as `msnb ls SERVICE` prints it.
    #[arg(value_name = "ADDRESS")]
    provider: SocketAddr,
    /// Changes the provider for this service only; default: all its services.
    #[arg(long, value_name = "SERVICE", value_parser = route::parse_service)]
    service: Option<ServiceId>,
    #[command(flatten)]
    target: Target,
    /// Prints a JSON document.
    #[arg(long)]
    json: bool,
}

fn parse_weight(text: &str) -> Result<f64, String> {
    let weight = text.parse().ok().filter(|weight| (0.0..=Instance::MAX_WEIGHT).contains(weight));
    weight.ok_or_else(|| format!("expected a number from 0 to {}", Instance::MAX_WEIGHT))
}

impl Offline {
    pub(crate) fn is_json(&self) -> bool {
        self.provider.json
    }

    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        self.provider.change(InstanceChange { enabled: Some(false), weight: None }).await
    }
}

impl Online {
    pub(crate) fn is_json(&self) -> bool {
        self.provider.json
    }

    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        self.provider.change(InstanceChange { enabled: Some(true), weight: None }).await
    }
}

impl Weight {
    pub(crate) fn is_json(&self) -> bool {
        self.provider.json
    }

    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        self.provider.change(InstanceChange { enabled: None, weight: Some(self.weight) }).await
    }
}

impl Which {
    /// Changes the provider in each of its services, and prints the result.
    async fn change(&self, change: InstanceChange) -> Result<Exit, CommandError> {
        if self.target.address.is_some() {
            return Err(CommandError::input("a server has no list of providers").with_fix("use --registry"));
        }
        let registry = self.target.connect().await?;
        let unsupported = |error: rpc_core::Error| {
            let fix = "use a registry that keeps changes: local: or nacos:";
            let is_unsupported = error.code() == Code::Unimplemented;
            let error = CommandError::from(error);
            if is_unsupported { error.with_fix(fix) } else { error }
        };
        let services = match &self.service {
            Some(service) => vec![service.to_string()],
            None => self.in_time(registry.url(), registry.services()).await?.map_err(unsupported)?,
        };
        let changed = stream::iter(services).map(async |service| {
            let changed = self
                .in_time(registry.url(), registry.change(&service, self.provider, change))
                .await?
                .map_err(unsupported)?;
            Ok::<_, CommandError>(changed.map(|instance| (service, Provider::from(&instance))))
        });
        let changed: Vec<_> = changed.buffered(SERVICES_AT_ONCE).try_collect().await?;
        let changed: Vec<_> = changed.into_iter().flatten().collect();
        if changed.is_empty() {
            let message = format!("the registry {} lists no provider at {}", registry.url(), self.provider);
            let fix = "`msnb ls SERVICE` prints the addresses of the providers";
            return Err(CommandError::new(Exit::Unreachable, message).with_fix(fix));
        }
        if self.json {
            let document =
                |(service, provider): &(String, Provider)| json!({ "service": service, "provider": provider });
            let changed: Vec<Value> = changed.iter().map(document).collect();
            return output::json(&json!({ "address": self.provider, "changed": changed }));
        }
        let mut rows = vec![["SERVICE", "ADDRESS", "WEIGHT", "STATE"].map(str::to_owned).to_vec()];
        rows.extend(changed.iter().map(|(service, provider)| {
            let cells = [service.clone(), provider.address.clone(), provider.weight.to_string()];
            [cells.map(|cell| printable(&cell)).to_vec(), vec![provider.state().to_owned()]].concat()
        }));
        output::text(&output::table(&rows))
    }

    /// Waits for an answer of the registry, up to the time limit of the command.
    async fn in_time<T>(&self, url: &str, answer: impl Future<Output = T>) -> Result<T, CommandError> {
        let answer = tokio::time::timeout(self.target.timeout(), answer).await;
        answer.map_err(|_| self.target.without_answer(url))
    }
}

/// The number of services that are changed at a time.
const SERVICES_AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_a_range() {
        assert_eq!([parse_weight("0"), parse_weight("0.5"), parse_weight("10000")], [Ok(0.0), Ok(0.5), Ok(10_000.0)]);
        for invalid in ["", "-1", "10000.1", "NaN", "inf", "x"] {
            assert!(parse_weight(invalid).is_err(), "{invalid}");
        }
    }
}
