//! [`ServerSecurity`] and [`ClientSecurity`]: options for TLS, with the feature `tls`, tokens and access rules.

use std::path::PathBuf;

use rpc_client::ClientBuilder;
#[cfg(feature = "tls")]
use rpc_core::tls::{ClientTls, ServerTls};
use rpc_core::{Error, Token, Tokens};
use rpc_server::ServerBuilder;

/// The security options of a server.
///
/// A program may have the options of [`ClientSecurity`] too: their names differ.
#[derive(Debug, Clone, Default, clap::Args)]
#[non_exhaustive]
pub struct ServerSecurity {
    #[cfg(not(feature = "tls"))]
    #[command(flatten)]
    without_tls: ServerWithoutTls,
    /// The server's certificate, a PEM file; the server then accepts TLS connections only.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", env = "MSNB_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", env = "MSNB_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Accepts only clients with a certificate of this authority, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", env = "MSNB_CLIENT_CA", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// Accepts only clients that prove a token of this file, which has lines `name:secret`.
    #[arg(long, value_name = "FILE", env = "MSNB_ACCEPTED_TOKENS")]
    pub accepted_tokens: Option<PathBuf>,
    /// Accepts calls by the rules of this file, which has lines `target name name…`.
    #[arg(long, value_name = "FILE", env = "MSNB_ACCESS_RULES")]
    pub access_rules: Option<PathBuf>,
}

/// The security options of a client.
#[derive(Debug, Clone, Default, clap::Args)]
#[non_exhaustive]
pub struct ClientSecurity {
    #[cfg(not(feature = "tls"))]
    #[command(flatten)]
    without_tls: ClientWithoutTls,
    /// Uses TLS, and accepts only servers with a certificate of this authority, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", env = "MSNB_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// The client's certificate, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", env = "MSNB_CLIENT_CERT", requires_all = ["tls_ca", "client_key"])]
    pub client_cert: Option<PathBuf>,
    /// The private key of the client's certificate, a PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", env = "MSNB_CLIENT_KEY", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// The name in the servers' certificates, if it is neither their address nor in their registrations.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "NAME", env = "MSNB_TLS_NAME", requires = "tls_ca")]
    pub tls_name: Option<String>,
    /// Proves the first token of this file, which has lines `name:secret`.
    #[arg(long, value_name = "FILE", env = "MSNB_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

impl ServerSecurity {
    /// Applies the options to `server`. The server reads the files when it binds.
    #[cfg_attr(not(feature = "tls"), allow(unused_mut))]
    pub fn apply(self, mut server: ServerBuilder) -> ServerBuilder {
        #[cfg(feature = "tls")]
        if let (Some(certificate), Some(key)) = (self.tls_cert, self.tls_key) {
            let tls = ServerTls::new(certificate, key);
            server = server.tls(self.client_ca.into_iter().fold(tls, ServerTls::client_ca));
        }
        if let Some(file) = self.accepted_tokens {
            server = server.require_token(Tokens::new().with_file(file));
        }
        self.access_rules.into_iter().fold(server, ServerBuilder::allow_file)
    }
}

impl ClientSecurity {
    /// Applies the options to `client`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the token file cannot be read or has no token.
    #[cfg_attr(not(feature = "tls"), allow(unused_mut))]
    pub fn apply(self, mut client: ClientBuilder) -> Result<ClientBuilder, Error> {
        #[cfg(feature = "tls")]
        if let Some(ca) = self.tls_ca {
            let mut tls = ClientTls::new(ca);
            if let (Some(certificate), Some(key)) = (self.client_cert, self.client_key) {
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

/// The TLS options of a server that is built without TLS: each is an error, so that none is ignored.
#[cfg(any(test, not(feature = "tls")))]
#[derive(Debug, Clone, Default, clap::Args)]
struct ServerWithoutTls {
    #[arg(long, hide = true, env = "MSNB_TLS_CERT", value_parser = reject_tls)]
    tls_cert: Option<String>,
    #[arg(long, hide = true, env = "MSNB_TLS_KEY", value_parser = reject_tls)]
    tls_key: Option<String>,
    #[arg(long, hide = true, env = "MSNB_CLIENT_CA", value_parser = reject_tls)]
    client_ca: Option<String>,
}

/// The TLS options of a client that is built without TLS: each is an error, so that none is ignored.
#[cfg(any(test, not(feature = "tls")))]
#[derive(Debug, Clone, Default, clap::Args)]
struct ClientWithoutTls {
    #[arg(long, hide = true, env = "MSNB_TLS_CA", value_parser = reject_tls)]
    tls_ca: Option<String>,
    #[arg(long, hide = true, env = "MSNB_CLIENT_CERT", value_parser = reject_tls)]
    client_cert: Option<String>,
    #[arg(long, hide = true, env = "MSNB_CLIENT_KEY", value_parser = reject_tls)]
    client_key: Option<String>,
    #[arg(long, hide = true, env = "MSNB_TLS_NAME", value_parser = reject_tls)]
    tls_name: Option<String>,
}

#[cfg(any(test, not(feature = "tls")))]
fn reject_tls(_value: &str) -> Result<String, &'static str> {
    Err("this program was built without TLS (feature `tls` of rpc-cli)")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::{CommandFactory as _, Parser};

    use super::*;
    use crate::RegistryArgs;

    #[derive(Parser)]
    struct Both {
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        server: ServerSecurity,
        #[command(flatten)]
        client: ClientSecurity,
    }

    #[test]
    fn program_has_options_of_both_roles() {
        Both::command().debug_assert();
        let arguments = ["x", "--registry", "memory:", "--accepted-tokens", "accepted", "--token-file", "own"];
        let both = Both::try_parse_from(arguments).unwrap();
        assert_eq!(both.registry.url, "memory:");
        assert_eq!(both.server.accepted_tokens.as_deref(), Some(Path::new("accepted")));
        assert_eq!(both.client.token_file.as_deref(), Some(Path::new("own")));
    }

    /// Every option has a variable, whose name is its own in upper case.
    #[test]
    fn each_option_has_a_variable() {
        for argument in Both::command().get_arguments().filter(|argument| argument.get_id() != "help") {
            let long = argument.get_long().unwrap();
            let variable = format!("MSNB_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*variable), "--{long}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn certificate_requires_its_key() {
        for arguments in [["--tls-cert", "c"], ["--tls-key", "k"], ["--client-cert", "c"], ["--tls-name", "n"]] {
            assert!(Both::try_parse_from([&["x"][..], &arguments].concat()).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn build_without_tls_rejects_tls_options() {
        #[derive(Debug, Parser)]
        struct WithoutTls {
            #[command(flatten)]
            server: ServerWithoutTls,
            #[command(flatten)]
            client: ClientWithoutTls,
        }
        for option in ["tls-cert", "tls-key", "client-ca", "tls-ca", "client-cert", "client-key", "tls-name"] {
            let error = WithoutTls::try_parse_from(["x", &format!("--{option}=file")]).unwrap_err().to_string();
            assert!(error.contains("built without TLS"), "{error}");
        }
        for argument in WithoutTls::command().get_arguments().filter(|argument| argument.get_id() != "help") {
            let variable = format!("MSNB_{}", argument.get_long().unwrap().replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*variable));
        }
    }
}
