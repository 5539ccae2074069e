//! [`ClientBuilder`]: creates a [`Client`].

use std::{fmt, path::PathBuf, sync::Arc};

#[cfg(feature = "tls")]
use rpc_core::tls::ClientTls;
use rpc_core::{
    Discovery, Error, RuleSource, Token,
    transport::{Connect, Tcp},
};

use crate::{
    client::{Client, describe},
    client_core::ClientCore,
    config::ClientConfig,
    connection::credentials::Credentials,
    rules::{Rules, source::RulesSource},
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
    rules: Option<Rules>,
    rules_file: Option<PathBuf>,
    rules_source: Option<Arc<dyn RuleSource>>,
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

    /// Sets the rules of calls; default none. [`Client::set_rules`] replaces them.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = Some(rules);
        self
    }

    /// Reads the rules of calls from a file, in TOML or JSON.
    ///
    /// While calls are made, the client checks the file once per second, and applies a change that two checks have found.
    /// If the file has become invalid, the client logs a warning with the line of the mistake, and the earlier rules remain
    /// in use.
    pub fn rules_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.rules_file = Some(path.into());
        self
    }

    /// Reads the rules of each service that the client calls from a document of its own, such as a configuration of Nacos.
    ///
    /// The rules of such a document apply to its service only, and take precedence over those of the program or its file.
    /// An invalid document is rejected as one in a file is.
    pub fn rules_source(mut self, source: Arc<dyn RuleSource>) -> Self {
        self.rules_source = Some(source);
        self
    }

    /// Creates the client. Its first call, which must happen inside a tokio runtime, connects.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when the config permits no successful call, or when a file of certificates or rules cannot be
    /// used.
    pub fn build(self) -> Result<Client, Error> {
        self.config.validate()?;
        let credentials = Credentials {
            #[cfg(feature = "tls")]
            tls: self.tls.map(ClientTls::load).transpose()?,
            token: self.token,
        };
        let connector = self.connector.unwrap_or_else(|| Arc::new(Tcp));
        let rules = RulesSource::new(self.rules, self.rules_file, self.rules_source)?;
        Ok(Client::new(ClientCore::new(self.config, self.discovery, connector, credentials, describe, rules)))
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
