//! The client of all commands.

use contracts::FeedClient;
use msnb::{
    Client, ClientConfig,
    app::{Failure, RegistryArgs},
};

/// Returns a client whose calls wait for a provider until their timeouts.
pub(crate) async fn client(registry: &RegistryArgs) -> Result<FeedClient<Client>, Failure> {
    let registry = registry.connect().await?;
    let config = ClientConfig::default().with_wait_for_ready(true);
    Ok(FeedClient::new(Client::builder().registry(registry).config(config).build()?))
}
