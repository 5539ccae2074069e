//! [`Target`]: the server or the registry that a command asks.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_cli::{ClientSecurity, RegistryArgs};
use rpc_client::{Client, ClientConfig};
use rpc_core::{
    Code, Error, Instance, ServiceId,
    descriptor::Contract,
    reflection::{ReflectionClient, ServiceSummary},
};
use rpc_registry::Backend;

use crate::{
    command_error::{CommandError, Exit},
    duration,
};

/// The options for the server or the registry, and for the access to them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// The host and port of a server, instead of one from the registry.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    security: ClientSecurity,
    /// The time limit of each call and of the registry's answer, such as 500ms or 5s; default: 5s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
}

impl Target {
    /// Returns the time limit of each call and of the registry's answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// Creates a client, which uses the registry only if no address is given.
    ///
    /// The client stores no list of providers on disk, so that a command leaves nothing behind.
    pub(crate) async fn client(&self) -> Result<Client, CommandError> {
        let config = ClientConfig::default().with_timeout(self.timeout()).with_cache_directory(None);
        let mut client = Client::builder().config(config);
        if self.address.is_none() {
            client = client.registry(self.connect().await?);
        }
        Ok(self.security.clone().apply(client)?.build()?)
    }

    /// Returns the same options for the server at `address`.
    pub(crate) fn at(&self, address: impl ToString) -> Self {
        Self { address: Some(address.to_string()), ..self.clone() }
    }

    /// Returns the same options for the registry at `url`.
    pub(crate) fn in_registry(&self, url: &str) -> Self {
        Self { address: None, registry: RegistryArgs { url: url.to_owned() }, ..self.clone() }
    }

    /// Opens the registry.
    pub(crate) async fn connect(&self) -> Result<Arc<dyn Backend>, CommandError> {
        self.registry.connect().await.map_err(|error| {
            let error = match error.code() {
                Code::Unauthenticated | Code::PermissionDenied => CommandError::from(error)
                    .with_other_fix("check the user and the password in the URL of the registry"),
                _ => CommandError::from(error),
            };
            error.with_fix("set --registry or MSNB_REGISTRY to the URL of a registry, see --help")
        })
    }

    /// Returns the address in `--address`, if it is given.
    pub(crate) async fn stated_address(&self) -> Result<Option<SocketAddr>, CommandError> {
        match &self.address {
            Some(address) => resolve(address).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns the providers of a service in the registry.
    pub(crate) async fn providers(&self, service: &ServiceId) -> Result<Arc<[Instance]>, CommandError> {
        let registry = self.connect().await?;
        let mut watch = registry.watch(service);
        let url = registry.url();
        let list = match tokio::time::timeout(self.timeout(), watch.wait_for(Option::is_some)).await {
            Ok(Ok(list)) => list.clone().unwrap_or_default(),
            Ok(Err(_)) | Err(_) => return Err(self.without_answer(url)),
        };
        if list.is_empty() {
            let message = format!("the registry {url} lists no provider of {service}");
            let fix = "check the name and the version, and start a provider; or name a server with --address";
            return Err(CommandError::new(Exit::Unreachable, message).with_fix(fix));
        }
        Ok(list)
    }

    /// Returns the error for a registry that has not answered in time.
    pub(crate) fn without_answer(&self, url: &str) -> CommandError {
        let message = format!("the registry {url} did not answer within {:?}", self.timeout());
        let fix = "check that the registry runs at this URL, or allow more time with --timeout";
        CommandError::new(Exit::Unreachable, message).with_fix(fix)
    }

    /// Returns the contract of a service from the server at `--address`, or from the first provider that answers.
    pub(crate) async fn contract(&self, service: &ServiceId) -> Result<Contract, CommandError> {
        let addresses = match self.stated_address().await? {
            Some(address) => vec![address],
            None => {
                let providers = self.providers(service).await?;
                providers.iter().filter(|provider| provider.is_enabled()).map(Instance::address).collect()
            }
        };
        let client = self.client().await?;
        let reflection = ReflectionClient::new(client.clone());
        let mut failure = None;
        for address in addresses {
            match reflection.describe(service.to_string()).address(address).await {
                Ok(contract) => {
                    client.close().await;
                    return Ok(contract);
                }
                Err(error) => {
                    let is_down = matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded);
                    failure = Some(reflection_error(error, address));
                    if !is_down {
                        break;
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| disabled(service)))
    }

    /// Returns the services of the server at `address`.
    pub(crate) async fn services(&self, address: SocketAddr) -> Result<Vec<ServiceSummary>, CommandError> {
        let client = self.client().await?;
        let listed = ReflectionClient::new(client.clone()).list().address(address).await;
        let services = listed.map_err(|error| reflection_error(error, address))?;
        client.close().await;
        Ok(services)
    }
}

/// The default of --timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

fn reflection_error(error: Error, address: SocketAddr) -> CommandError {
    let fix = match error.code() {
        Code::NotFound => format!("`msnb ls --address {address}` prints the services of this server"),
        Code::Unimplemented => "the server does not describe this service: reflection is disabled, the service is \
                                written by hand, or its version of msnb has no reflection"
            .to_owned(),
        _ => unreachable_fix(address),
    };
    CommandError::from(error).with_fix(fix)
}

/// Returns the error for a service without enabled providers.
pub(crate) fn disabled(service: &ServiceId) -> CommandError {
    CommandError::new(Exit::Unreachable, format!("all providers of {service} are disabled in the registry"))
        .with_fix("enable one with `msnb online ADDRESS`, or name a server with --address")
}

/// Returns how to find the reason why a server does not answer.
pub(crate) fn unreachable_fix(address: SocketAddr) -> String {
    format!(
        "check that an msnb server listens at {address}; a server with TLS needs --tls-ca, one without TLS forbids it"
    )
}

/// Returns whether a text ends with a port, as an address does.
pub(crate) fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// Returns whether a text is the URL of a registry.
pub(crate) fn is_registry(text: &str) -> bool {
    let is_local = text.strip_prefix("local:").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_local || text.contains("://") || text.starts_with("fixed:") || text.starts_with("memory:")
}

/// Resolves a host and a port.
pub(crate) async fn resolve(address: &str) -> Result<SocketAddr, CommandError> {
    let fix = "write a host and a port, such as 127.0.0.1:7788";
    let resolved = tokio::net::lookup_host(address).await;
    let mut found = resolved.map_err(|error| {
        let exit = if address.contains(':') { Exit::Unreachable } else { Exit::Input };
        CommandError::new(exit, format!("cannot resolve the address `{address}`: {error}")).with_fix(fix)
    })?;
    found.next().ok_or_else(|| CommandError::input(format!("the host of `{address}` has no address")).with_fix(fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_registries_and_files_differ() {
        for address in ["127.0.0.1:7788", "host:80", "[::1]:80", "local:7788"] {
            assert!(is_address(address) && !is_registry(address), "{address}");
        }
        for url in ["local:", "local:/dir", "nacos://host:8848", "fixed:127.0.0.1:80"] {
            assert!(is_registry(url), "{url}");
        }
        for other in ["old.json", "demo.Greeter:1.0", "dir/old.json"] {
            assert!(!is_address(other) && !is_registry(other), "{other}");
        }
    }
}
