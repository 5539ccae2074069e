//! `msnb ls`: the services of a registry, the providers of a service, or the services of a server.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rpc_core::{Code, Instance, ServiceId};
use rpc_registry::Backend;
use serde::Serialize;
use serde_json::json;

use crate::{
    command_error::{CommandError, Exit},
    output,
    printable::printable,
    provider::{Provider, is_foreign},
    route,
    target::Target,
};

/// Lists the services in the registry, the providers of a service, or the services of the server at --address.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// The service, such as demo.Greeter:1.0; default: all services.
    #[arg(value_name = "SERVICE", value_parser = route::parse_service, conflicts_with = "address")]
    service: Option<ServiceId>,
    #[command(flatten)]
    target: Target,
    /// Prints a JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A service of the registry, in the JSON output.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct ListedService {
    pub(crate) service: String,
    /// The providers, including disabled ones.
    pub(crate) providers: usize,
    pub(crate) disabled: usize,
    /// The instances of other frameworks.
    pub(crate) foreign: usize,
    /// The digests of the contracts that the providers register.
    pub(crate) contracts: BTreeSet<String>,
}

impl Ls {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        match (&self.service, self.target.stated_address().await?) {
            (Some(service), _) => self.list_providers(service).await,
            (None, Some(address)) => {
                let services = self.target.services(address).await?;
                if self.json {
                    return output::json(&json!({ "address": address, "services": services }));
                }
                let mut rows = vec![["SERVICE", "CONTRACT", "METHODS"].map(str::to_owned).to_vec()];
                rows.extend(services.into_iter().map(|service| {
                    let digest = service.digest.unwrap_or_else(|| "-".to_owned());
                    [service.service, digest, service.methods.join(", ")].map(|cell| printable(&cell)).to_vec()
                }));
                output::text(&output::table(&rows))
            }
            (None, None) => self.list_services().await,
        }
    }

    async fn list_providers(&self, service: &ServiceId) -> Result<Exit, CommandError> {
        let registry = self.target.connect().await?;
        let name = service.to_string();
        let listing = tokio::time::timeout(self.target.timeout(), registry.instances(&name));
        let listing = listing.await.map_err(|_| self.target.without_answer(registry.url()))?;
        let mut providers: Vec<_> = match listing {
            // The watch of a client reports how to find the problem.
            Ok(instances) if instances.is_empty() => Vec::new(),
            Ok(instances) => instances.iter().map(Provider::from).collect(),
            Err(error) if error.code() == Code::Unimplemented => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if providers.is_empty() {
            providers = self.target.providers(service).await?.iter().map(Provider::from).collect();
        }
        providers.sort_by(|one, other| one.address.cmp(&other.address));
        if self.json {
            return output::json(&json!({ "service": service.to_string(), "providers": providers }));
        }
        let mut rows = vec![Provider::HEADINGS.map(str::to_owned).to_vec()];
        rows.extend(providers.iter().map(Provider::cells));
        output::text(&output::table(&rows))
    }

    async fn list_services(&self) -> Result<Exit, CommandError> {
        let registry = self.target.connect().await?;
        let listing = tokio::time::timeout(self.target.timeout(), services(&registry));
        let services = match listing.await {
            Ok(listed) => listed?,
            Err(_) => return Err(self.target.without_answer(registry.url())),
        };
        if self.json {
            return output::json(&json!({ "registry": registry.url(), "services": services }));
        }
        let mut rows = vec![ListedService::HEADINGS.map(str::to_owned).to_vec()];
        rows.extend(services.iter().map(ListedService::cells));
        output::text(&output::table(&rows))
    }
}

/// Returns the services of a registry with the numbers of their instances.
pub(crate) async fn services(registry: &Arc<dyn Backend>) -> Result<Vec<ListedService>, CommandError> {
    let names = registry.services().await.map_err(|error| {
        let fix = "name a service, such as `msnb ls demo.Greeter:1.0`, or a server with --address";
        let unsupported = error.code() == Code::Unimplemented;
        let error = CommandError::from(error);
        if unsupported { error.with_fix(fix) } else { error }
    })?;
    let listed = stream::iter(names).map(async |name| {
        let instances = registry.instances(&name).await?;
        Ok::<_, CommandError>(ListedService::new(name, &instances))
    });
    listed.buffered(SERVICES_AT_ONCE).try_collect().await
}

impl ListedService {
    const HEADINGS: [&str; 5] = ["SERVICE", "PROVIDERS", "DISABLED", "FOREIGN", "CONTRACT"];

    fn new(service: String, instances: &[Instance]) -> Self {
        // A name without a version belongs to another framework.
        let is_msnb = service.parse::<ServiceId>().is_ok();
        let own: Vec<_> = instances.iter().filter(|instance| is_msnb && !is_foreign(instance)).collect();
        let contracts = own.iter().filter_map(|instance| instance.metadata().get(Instance::CONTRACT)).cloned();
        Self {
            providers: own.len(),
            disabled: own.iter().filter(|instance| !instance.is_enabled()).count(),
            foreign: instances.len() - own.len(),
            contracts: contracts.collect(),
            service,
        }
    }

    /// Returns the digest of the contract, or how many there are.
    pub(crate) fn contract(&self) -> String {
        match self.contracts.iter().collect::<Vec<_>>()[..] {
            [] if self.providers == 0 && self.foreign > 0 => "foreign".to_owned(),
            [] => "-".to_owned(),
            [digest] => printable(digest),
            ref different => format!("{} different", different.len()),
        }
    }

    fn cells(&self) -> Vec<String> {
        let counts = [self.providers, self.disabled, self.foreign].map(|count| count.to_string());
        [vec![printable(&self.service)], counts.to_vec(), vec![self.contract()]].concat()
    }
}

/// The number of services whose instances are requested at a time.
const SERVICES_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_other_frameworks_are_marked() {
        let instance = |port, protocol: &str| {
            Instance::new(([10, 0, 0, 1], port).into()).with_metadata("protocol", protocol).with_enabled(port != 2)
        };
        let digest = |port, digest: &str| instance(port, "msnb").with_metadata(Instance::CONTRACT, digest);
        let cells = |name: &str, list: &[Instance]| ListedService::new(name.to_owned(), list).cells();
        assert_eq!(cells("a.B:1", &[digest(1, "d"), digest(2, "d")]), ["a.B:1", "2", "1", "0", "d"]);
        assert_eq!(cells("a.B:1", &[digest(1, "d"), digest(3, "e")])[4], "2 different");
        assert_eq!(cells("a.B:1", &[digest(1, "d"), instance(3, "dubbo")]), ["a.B:1", "1", "0", "1", "d"]);
        assert_eq!(cells("orders", &[Instance::new(([10, 0, 0, 1], 1).into())]), ["orders", "0", "0", "1", "foreign"]);
        assert_eq!(cells("a.B:1", &[]), ["a.B:1", "0", "0", "0", "-"]);
    }
}
