//! [`ClientTls`]: a client's part in TLS.

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
use crate::{Code, Error, Identity, Phase, transport::Io};

/// Whose certificates a client trusts, and which it shows itself.
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

/// [`ClientTls`] whose files were read.
#[derive(Debug, Clone)]
pub struct LoadedClientTls {
    config: Arc<Reloadable<ClientConfig>>,
    name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// TLS with servers whose certificates are by an authority of this PEM file; no other is trusted. A certificate must have the
    /// [`server_name`](Self::server_name), or else the name that the instance tells in its metadata as
    /// [`Instance::TLS_NAME`](crate::Instance::TLS_NAME), or else the IP address that is connected to.
    pub fn new(ca: impl Into<PathBuf>) -> Self {
        Self { ca: ca.into(), own: None, name: None }
    }

    /// Shows the certificate of a PEM file, in which those may follow that lead from it to its authority, and proves it by the
    /// private key of another.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.own = Some(KeyPair { certificate: certificate.into(), key: key.into() });
        self
    }

    /// Asks every server for this name, whatever its instance says: who may write to the registry could otherwise name any
    /// server that the authority knows.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Reads the files. A client does so when it is built.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the file or the name that cannot be used.
    pub fn load(self) -> Result<LoadedClientTls, Error> {
        let name = self.name.clone().map(ServerName::try_from).transpose();
        let name = name.map_err(|error| {
            Error::not_executed(Code::InvalidArgument, "the server's name is neither a DNS name nor an IP address")
                .with_source(error)
        })?;
        let mut files = vec![self.ca.clone()];
        files.extend(self.own.iter().flat_map(|own| [own.certificate.clone(), own.key.clone()]));
        let make = move |contents: &[Vec<u8>]| self.configure(contents);
        Ok(LoadedClientTls { config: Reloadable::load(files, Box::new(make))?, name })
    }

    fn configure(&self, contents: &[Vec<u8>]) -> Result<ClientConfig, Error> {
        let [ca, own @ ..] = contents else { unreachable!("a file is always read") };
        let config = ClientConfig::builder_with_provider(pem::provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider speaks TLS 1.3")
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
    /// Encrypts a connection to `address`, whose instance tells this `listed_name`. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// `Unavailable`, saying what is wrong with the server or its certificate.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is closed.
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
        let name = self.name_of(address, listed_name).map_err(|error| failed(io::Error::other(error)))?;
        let stream = TlsConnector::from(self.config.current()).connect(name, io).await.map_err(failed)?;
        let (_, connection) = stream.get_ref();
        check_protocol(connection.alpn_protocol()).map_err(failed)?;
        let binding = connection.export_keying_material([0; 32], EXPORTER, Some(&[]));
        let binding = binding.map_err(|error| failed(io::Error::other(error)))?;
        Ok(Secured { io: Box::new(stream), binding, identity: Identity::ANONYMOUS })
    }

    fn name_of(&self, address: SocketAddr, listed: Option<&str>) -> Result<ServerName<'static>, InvalidDnsNameError> {
        match (&self.name, listed) {
            (Some(name), _) => Ok(name.clone()),
            (None, Some(listed)) => ServerName::try_from(listed.to_owned()),
            (None, None) => Ok(ServerName::IpAddress(address.ip().into())),
        }
    }
}
