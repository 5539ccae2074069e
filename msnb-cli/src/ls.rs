//! `msnb ls`: the providers of a service, or the services of a server.

use rpc_core::ServiceId;
use serde_json::json;

use crate::{
    command_error::{CommandError, Exit},
    output,
    printable::printable,
    provider::Provider,
    route,
    target::Target,
};

/// Lists the providers of a service in the registry, or the services of the server at --address.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// The service, such as demo.Greeter:1.0.
    #[arg(value_name = "SERVICE", value_parser = route::parse_service, required_unless_present = "address", conflicts_with = "address")]
    service: Option<ServiceId>,
    #[command(flatten)]
    target: Target,
    /// Prints a JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Ls {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        match &self.service {
            Some(service) => self.list_providers(service).await,
            None => self.list_services().await,
        }
    }

    async fn list_providers(&self, service: &ServiceId) -> Result<Exit, CommandError> {
        let providers = self.target.providers(service).await?;
        let mut providers: Vec<_> = providers.iter().map(Provider::from).collect();
        providers.sort_by(|one, other| one.address.cmp(&other.address));
        if self.json {
            return output::json(&json!({ "service": service.to_string(), "providers": providers }));
        }
        let mut rows = vec![Provider::HEADINGS.map(str::to_owned).to_vec()];
        rows.extend(providers.iter().map(Provider::cells));
        output::text(&output::table(&rows))
    }

    async fn list_services(&self) -> Result<Exit, CommandError> {
        let Some(address) = self.target.stated_address().await? else {
            return Err(CommandError::input("a service or --address is required"));
        };
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
}
