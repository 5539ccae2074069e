//! [`SecurityArguments`]: the command-line arguments for TLS and the origins of pages.

use std::path::PathBuf;

use clap::Args;

use crate::{
    NodeTls,
    edge::{EdgeConfig, EdgeTls},
};

/// The command-line arguments for TLS and the origins of pages. Changed files are read again.
#[derive(Args, Clone, Debug)]
pub struct SecurityArguments {
    /// The certificate for clients, a PEM file; the node then accepts only TLS 1.3 at --listen.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate for clients, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The origin of web pages that may use the node, such as `https://chat.example.com`; repeat it for several. Without
    /// it, all pages may.
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// The audience (aud) that tokens of users must have, in addition to the signature by --secret.
    #[arg(long, value_name = "NAME")]
    pub audience: Option<String>,
    /// The certificate for other nodes, a PEM file; the nodes then use TLS between each other.
    #[arg(long, value_name = "FILE", requires_all = ["node_tls_key", "node_tls_ca"])]
    pub node_tls_cert: Option<PathBuf>,
    /// The private key of the certificate for other nodes, a PEM file.
    #[arg(long, value_name = "FILE", requires = "node_tls_cert")]
    pub node_tls_key: Option<PathBuf>,
    /// The certificate of the authority of all nodes, a PEM file.
    #[arg(long, value_name = "FILE", requires = "node_tls_cert")]
    pub node_tls_ca: Option<PathBuf>,
    /// A DNS name that the certificates of all nodes contain. Without it, they contain the nodes' IP addresses.
    #[arg(long, value_name = "NAME", requires = "node_tls_cert")]
    pub node_tls_name: Option<String>,
}

impl SecurityArguments {
    /// Adds the certificate for clients and the origins to a configuration.
    pub(super) fn apply(&self, config: EdgeConfig) -> EdgeConfig {
        let files = self.tls_cert.clone().zip(self.tls_key.clone());
        let tls = files.map(|(certificate, key)| EdgeTls { certificate, key });
        config.with_tls(tls).with_allowed_origins(self.allow_origin.clone()).with_audience(self.audience.clone())
    }

    /// Returns the TLS settings between nodes, if there are any.
    pub(super) fn nodes(&self) -> Option<NodeTls> {
        let (certificate, key) = self.node_tls_cert.clone().zip(self.node_tls_key.clone())?;
        let tls = NodeTls::new(certificate, key, self.node_tls_ca.clone()?);
        Some(self.node_tls_name.iter().fold(tls, NodeTls::with_name))
    }

    /// Returns a scheme of URLs for clients, `http` or `ws`, or its form with TLS.
    pub(super) fn scheme(&self, plain: &'static str) -> &'static str {
        match (self.tls_cert.is_some(), plain) {
            (false, _) => plain,
            (true, "ws") => "wss",
            (true, _) => "https",
        }
    }
}
