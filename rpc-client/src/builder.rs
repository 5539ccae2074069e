//! [`ClientBuilder`]: creates a [`Client`].

use std::{fmt, sync::Arc};

#[cfg(feature = "tls")]
use rpc_core::tls::ClientTls;
use rpc_core::{
    Discovery, Error, Token,
    transport::{Connect, Tcp},
};

use crate::{
    client::{Client, describe},
    client_core::ClientCore,
    config::ClientConfig,
    connection::credentials::Credentials,
};

/// The settings of a new client.
#[must_use]
#[derive(Default)]
pub struct ClientBuilder {
    discovery: Option<Arc<dyn Discovery>>,
    connector: Option<Arc<dyn Connect>>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
    token: Option<Token>,
    config: ClientConfig,
}

impl ClientBuilder {
    /// Sets the registry. A client without one requires an address for every call.
    pub fn registry(mut self, discovery: Arc<dyn Discovery>) -> Self {
        self.discovery = Some(discovery);
        self
    }

    /// Sets how connections are made; default plain TCP.
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Uses TLS on every connection.
    ///
    /// The client does not call servers that have no TLS or whose certificate it does not trust.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the token that the client proves to servers that require one.
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Sets the timeouts, limits and policies.
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// Creates the client. Its first call, which must happen inside a tokio runtime, connects.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when the config permits no successful call, or when a certificate file cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        self.config.validate()?;
        let credentials = Credentials {
            #[cfg(feature = "tls")]
            tls: self.tls.map(ClientTls::load).transpose()?,
            token: self.token,
        };
        let connector = self.connector.unwrap_or_else(|| Arc::new(Tcp));
        Ok(Client::new(ClientCore::new(self.config, self.discovery, connector, credentials, describe)))
    }
}

impl Client {
    /// Returns a builder with default settings.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
