//! Command-line options for TLS, with the feature `tls`, and for tokens.

use std::path::PathBuf;

use rpc_client::ClientBuilder;
#[cfg(feature = "tls")]
use rpc_core::tls::{ClientTls, ServerTls};
use rpc_core::{Error, Token, Tokens};
use rpc_server::ServerBuilder;

/// The security options of a provider.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerSecurity {
    /// The provider's certificate, a PEM file; the provider then accepts TLS connections only.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Accepts only clients with a certificate of this authority, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// Accepts only clients that prove a token of this file, which has lines `name:secret`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The security options of a consumer.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientSecurity {
    /// Uses TLS, and accepts only providers with a certificate of this authority, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The consumer's certificate, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name in the providers' certificates, if it is neither their address nor in their registrations.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
    /// Proves the first token of this file, which has lines `name:secret`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ServerSecurity {
    /// Applies the options to `server`.
    #[cfg_attr(not(feature = "tls"), allow(unused_mut))]
    pub fn apply(self, mut server: ServerBuilder) -> ServerBuilder {
        #[cfg(feature = "tls")]
        if let (Some(certificate), Some(key)) = (self.tls_cert, self.tls_key) {
            let tls = ServerTls::new(certificate, key);
            server = server.tls(self.client_ca.into_iter().fold(tls, ServerTls::client_ca));
        }
        match self.token_file {
            Some(file) => server.require_token(Tokens::new().with_file(file)),
            None => server,
        }
    }
}

impl ClientSecurity {
    /// Applies the options to `client`.
    ///
    /// # Errors
    ///
    /// Returns an error if the token file cannot be read or has no token.
    #[cfg_attr(not(feature = "tls"), allow(unused_mut))]
    pub fn apply(self, mut client: ClientBuilder) -> Result<ClientBuilder, Error> {
        #[cfg(feature = "tls")]
        if let Some(ca) = self.tls_ca {
            let mut tls = ClientTls::new(ca);
            if let (Some(certificate), Some(key)) = (self.tls_cert, self.tls_key) {
                tls = tls.certificate(certificate, key);
            }
            client = client.tls(self.tls_name.into_iter().fold(tls, ClientTls::server_name));
        }
        Ok(match self.token_file {
            Some(file) => client.token(Token::file(file)?),
            None => client,
        })
    }
}
