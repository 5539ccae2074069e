//! [`ServerTls`]: a server's part in TLS.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::CertificateDer,
        server::{NoServerSessionStorage, WebPkiClientVerifier},
        version::TLS13,
    },
};
use webpki::EndEntityCert;

use super::{
    super::reloadable::Reloadable,
    ALPN, EXPORTER, Secured, check_protocol, describe,
    pem::{self, KeyPair},
};
use crate::{Code, Error, Identity, transport::Io};

/// With which certificate a server speaks TLS, and whose certificates it asks for.
///
/// ```
/// # use rpc_core::tls::ServerTls;
/// let tls = ServerTls::new("server.pem", "server.key").name("greeter.internal").client_ca("clients.pem");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ServerTls {
    own: KeyPair,
    client_ca: Option<PathBuf>,
    name: Option<String>,
}

/// [`ServerTls`] whose files were read.
#[derive(Debug, Clone)]
pub struct LoadedServerTls(Arc<Reloadable<ServerConfig>>);

impl ServerTls {
    /// TLS with the certificate of a PEM file, in which those may follow that lead from it to its authority, and the private key of
    /// another. Its subject alternative name must have the server's IP address, or the [`name`](Self::name).
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { own: KeyPair { certificate: certificate.into(), key: key.into() }, client_ca: None, name: None }
    }

    /// Takes only clients that show a certificate by an authority of this PEM file. Who they are is in
    /// [`Peer::identity`](crate::Peer::identity).
    pub fn client_ca(mut self, certificates: impl Into<PathBuf>) -> Self {
        self.client_ca = Some(certificates.into());
        self
    }

    /// Sets the name in the certificate, where that has not the address: the server tells it to clients in the metadata of its
    /// instance, as [`Instance::TLS_NAME`](crate::Instance::TLS_NAME).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The name that clients are to look for in the certificate.
    pub fn certificate_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether clients must show a certificate.
    pub fn requires_certificate(&self) -> bool {
        self.client_ca.is_some()
    }

    /// Reads the files. A server does so when it is bound.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the file that cannot be used.
    pub fn load(self) -> Result<LoadedServerTls, Error> {
        let mut files = vec![self.own.certificate.clone(), self.own.key.clone()];
        files.extend(self.client_ca.clone());
        let make = move |contents: &[Vec<u8>]| self.configure(contents);
        Ok(LoadedServerTls(Reloadable::load(files, Box::new(make))?))
    }

    fn configure(&self, contents: &[Vec<u8>]) -> Result<ServerConfig, Error> {
        let [certificate, key, client_ca @ ..] = contents else { unreachable!("two files are always read") };
        let (chain, key) = self.own.parse(certificate, key)?;
        let config = ServerConfig::builder_with_provider(pem::provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider speaks TLS 1.3");
        let config = match (&self.client_ca, client_ca) {
            (Some(path), [content]) => {
                let roots = pem::authorities(path, content)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, pem::provider()).build();
                config.with_client_cert_verifier(verifier.map_err(|error| pem::unusable(path, error))?)
            }
            _ => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(chain, key).map_err(|error| self.own.unusable(error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl LoadedServerTls {
    /// Encrypts a connection that a client has made. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// `Unauthenticated`, saying what is wrong with the client or its certificate. It was told; the connection is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is closed.
    pub async fn accept(&self, io: Box<dyn Io>) -> Result<Secured, Error> {
        self.0.refresh().await;
        let acceptor = TlsAcceptor::from(self.0.current());
        let refused = |error: io::Error| {
            let message = format!("the TLS handshake failed: {}", describe(&error));
            Error::not_executed(Code::Unauthenticated, message).with_source(error)
        };
        let stream = match acceptor.accept(io).into_fallible().await {
            Ok(stream) => stream,
            Err((error, io)) => {
                linger(io).await;
                return Err(refused(error));
            }
        };
        let (_, connection) = stream.get_ref();
        check_protocol(connection.alpn_protocol()).map_err(refused)?;
        let binding = connection.export_keying_material([0; 32], EXPORTER, Some(&[]));
        let binding = binding.map_err(|error| refused(io::Error::other(error)))?;
        let identity = match connection.peer_certificates() {
            Some([certificate, ..]) => Identity::ANONYMOUS.with_certificate(names(certificate)),
            _ => Identity::ANONYMOUS,
        };
        Ok(Secured { io: Box::new(stream), binding, identity })
    }
}

/// The names in a certificate that was verified.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}

/// Closes a connection so that the peer reads what it was told: bytes of its own that nobody reads would reset it.
async fn linger(mut io: Box<dyn Io>) {
    let mut discarded = [0; 1024];
    let closed = async {
        let _ = io.shutdown().await;
        while io.read(&mut discarded).await.is_ok_and(|count| count > 0) {}
    };
    let _ = timeout(LINGER, closed).await;
}

/// How long a peer that was refused may take to close its side.
const LINGER: Duration = Duration::from_secs(1);
