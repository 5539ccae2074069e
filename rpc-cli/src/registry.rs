//! [`RegistryArgs`]: the option for the registry.

use std::sync::Arc;

use rpc_core::Error;
use rpc_registry::Backend;

/// The option for the registry through which services are discovered.
#[derive(Debug, Clone, clap::Args)]
pub struct RegistryArgs {
    /// The registry: `local:`, `local:/dir`, `nacos://host:8848?namespace=&group=&username=&password=`,
    /// `fixed:host:port,host:port`.
    #[arg(
        long = "registry",
        value_name = "URL",
        env = "MSNB_REGISTRY",
        hide_env_values = true,
        default_value = "local:"
    )]
    pub url: String,
}

impl RegistryArgs {
    /// Opens the registry.
    ///
    /// # Errors
    ///
    /// As [`rpc_registry::connect`].
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn connect(&self) -> Result<Arc<dyn Backend>, Error> {
        rpc_registry::connect(&self.url).await
    }
}
