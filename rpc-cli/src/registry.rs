//! [`RegistryArgs`]: the option for the registry.

use std::{fmt, sync::Arc};

use rpc_core::Error;
use rpc_registry::Backend;

/// The option for the registry through which services are discovered.
///
/// The URL may contain a password, so `Debug` prints only its scheme, and `--help` does not print the variable's value.
#[derive(Clone, clap::Args)]
pub struct RegistryArgs {
    /// The registry: `local:`, `local:/dir`, `nacos://host:8848?namespace=&group=&username=&password=`,
    /// `zookeeper://host:2181`, `etcd://host:2379`, `dns://name:port`, `dns+srv://_service._proto.name`,
    /// `fixed:host:port,host:port`. Several servers' URLs, separated by commas, are used at once.
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

impl fmt::Debug for RegistryArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.url.split(':').next().unwrap_or_default();
        f.debug_tuple("RegistryArgs").field(&format_args!("{scheme}:…")).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_contains_no_password() {
        let args = RegistryArgs { url: "nacos://host:8848?username=ann&password=hunter2".to_owned() };
        assert_eq!(format!("{args:?}"), "RegistryArgs(nacos:…)");
    }
}
