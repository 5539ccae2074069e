//! What the binaries take for TLS and tokens.

use std::path::PathBuf;

use rpc_client::ClientBuilder;
use rpc_core::{
    Error, Token, Tokens,
    tls::{ClientTls, ServerTls},
};
use rpc_server::ServerBuilder;

/// What a provider asks of those who connect.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerSecurity {
    /// The provider's certificate, a PEM file: then it speaks TLS only.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of its certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Take only clients with certificates by this authority, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// Take only clients that prove a token of this file, of lines `name:secret`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// How a consumer finds out whom it talks to, and proves who it is.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientSecurity {
    /// Speak TLS, with providers whose certificates are by this authority, a PEM file.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The consumer's own certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// The key of its certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name in the providers' certificates, where it is neither their address nor listed by them.
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
    /// Prove the first token of this file, of lines `name:secret`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ServerSecurity {
    /// Has `server` ask for what was said.
    pub fn apply(self, mut server: ServerBuilder) -> ServerBuilder {
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
    /// Has `client` ask for and prove what was said.
    ///
    /// # Errors
    ///
    /// The file of the token cannot be used.
    pub fn apply(self, mut client: ClientBuilder) -> Result<ClientBuilder, Error> {
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
