//! [`ClientTls`]: TLS of a client.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig,
        client::Resumption,
        pki_types::{InvalidDnsNameError, ServerName},
        version::TLS13,
    },
};

use super::{
    super::reloadable::Reloadable,
    ALPN, EXPORTER, Secured, check_protocol, describe,
    pem::{self, KeyPair},
};
use crate::{
    Code, Error, Identity, Phase,
    transport::{Io, SocketWrites},
};

/// The TLS settings of a client: the authorities that it trusts and the certificate that it presents.
///
/// ```
/// # use rpc_core::tls::ClientTls;
/// let tls = ClientTls::new("servers.pem").certificate("client.pem", "client.key");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientTls {
    ca: PathBuf,
    own: Option<KeyPair>,
    name: Option<String>,
}

/// [`ClientTls`] with loaded files.
#[derive(Debug, Clone)]
pub struct LoadedClientTls {
    config: Arc<Reloadable<ClientConfig>>,
    name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Trusts only servers with a certificate issued by an authority in this PEM file.
    ///
    /// The certificate must contain the [`server_name`](Self::server_name) if it is set; otherwise the name under
    /// [`Instance::TLS_NAME`](crate::Instance::TLS_NAME) in the metadata of the instance if there is one; otherwise the
    /// IP address of the connection.
    pub fn new(ca: impl Into<PathBuf>) -> Self {
        Self { ca: ca.into(), own: None, name: None }
    }

    /// Presents the certificate in a PEM file, with the private key in another PEM file.
    ///
    /// Intermediate certificates may follow the certificate in its file.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.own = Some(KeyPair { certificate: certificate.into(), key: key.into() });
        self
    }

    /// Requires this name in the certificate of every server, and ignores the metadata of instances.
    ///
    /// Otherwise, a party with write access to the registry could direct the client to any server with a certificate of
    /// the authority.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Reads the files. A client calls this when it is built.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the unusable file; also if the server name is invalid.
    pub fn load(self) -> Result<LoadedClientTls, Error> {
        let name = self.name.clone().map(ServerName::try_from).transpose();
        let name = name.map_err(|error| {
            Error::not_executed(Code::InvalidArgument, "the server name is neither a DNS name nor an IP address")
                .with_source(error)
        })?;
        let mut files = vec![self.ca.clone()];
        files.extend(self.own.iter().flat_map(|own| [own.certificate.clone(), own.key.clone()]));
        let build = move |contents: &[Vec<u8>]| self.configure(contents);
        Ok(LoadedClientTls { config: Reloadable::load(files, Box::new(build))?, name })
    }

    fn configure(&self, contents: &[Vec<u8>]) -> Result<ClientConfig, Error> {
        let [ca, own @ ..] = contents else { unreachable!("`load` lists at least one file") };
        let config = ClientConfig::builder_with_provider(pem::provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the crypto provider supports TLS 1.3")
            .with_root_certificates(pem::authorities(&self.ca, ca)?);
        let mut config = match (&self.own, own) {
            (Some(own), [certificate, key]) => {
                let (chain, key) = own.parse(certificate, key)?;
                config.with_client_auth_cert(chain, key).map_err(|error| own.unusable(error))?
            }
            _ => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl LoadedClientTls {
    /// Performs the handshake on a connection to `address`.
    ///
    /// `listed_name` is the [`Instance::TLS_NAME`](crate::Instance::TLS_NAME) of the instance. The caller limits the
    /// duration.
    ///
    /// # Errors
    ///
    /// `Unavailable`, describing the problem with the server or its certificate.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect(
        &self,
        io: Box<dyn Io>,
        address: SocketAddr,
        listed_name: Option<&str>,
    ) -> Result<Secured, Error> {
        self.config.refresh().await;
        let failed = |error: io::Error| {
            let message = format!("the TLS handshake failed: {}", describe(&error));
            Error::not_executed(Code::Unavailable, message).with_phase(Phase::Connect).with_source(error)
        };
        let name = self.server_name_for(address, listed_name).map_err(|error| failed(io::Error::other(error)))?;
        let (io, socket_writes) = SocketWrites::of(io);
        let stream = TlsConnector::from(self.config.current()).connect(name, io).await.map_err(failed)?;
        let (_, connection) = stream.get_ref();
        check_protocol(connection.alpn_protocol()).map_err(failed)?;
        let binding = connection.export_keying_material([0; 32], EXPORTER, Some(&[]));
        let binding = binding.map_err(|error| failed(io::Error::other(error)))?;
        let identity = Identity::ANONYMOUS;
        Ok(Secured {
            io: Box::new(stream),
            binding,
            identity,
            certificate: None,
            socket_writes,
            is_other: false,
            protocol: None,
        })
    }

    fn server_name_for(
        &self,
        address: SocketAddr,
        listed: Option<&str>,
    ) -> Result<ServerName<'static>, InvalidDnsNameError> {
        match (&self.name, listed) {
            (Some(name), _) => Ok(name.clone()),
            (None, Some(listed)) => ServerName::try_from(listed.to_owned()),
            (None, None) => Ok(ServerName::IpAddress(address.ip().into())),
        }
    }
}
