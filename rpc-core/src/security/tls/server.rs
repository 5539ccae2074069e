//! [`ServerTls`]: TLS of a server.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::UnixTime,
        server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
        version::TLS13,
    },
};

use super::{
    super::reloadable::Reloadable,
    ALPN, EXPORTER, Secured, check_protocol, describe,
    peer_certificate::PeerCertificate,
    pem::{self, KeyPair},
};
use crate::{
    Code, Error, Identity,
    transport::{Io, SocketWrites},
};

/// The TLS settings of a server: its certificate and the authorities of its clients.
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

/// [`ServerTls`] with loaded files.
#[derive(Debug, Clone)]
pub struct LoadedServerTls {
    files: Arc<Reloadable<Loaded>>,
    requires_certificate: bool,
    /// Whether connections of other protocols are accepted.
    has_other_protocols: bool,
}

/// The content of the files.
struct Loaded {
    config: Arc<ServerConfig>,
    /// Verifies the certificates of clients, if they must present one.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl ServerTls {
    /// Presents the certificate in a PEM file, with the private key in another PEM file.
    ///
    /// Intermediate certificates may follow the certificate in its file. The subject alternative name of the
    /// certificate must contain the server's IP address or the [`name`](Self::name).
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { own: KeyPair { certificate: certificate.into(), key: key.into() }, client_ca: None, name: None }
    }

    /// Accepts only clients with a certificate issued by an authority in this PEM file.
    ///
    /// [`Peer::identity`](crate::Peer::identity) returns the names in it.
    pub fn client_ca(mut self, certificates: impl Into<PathBuf>) -> Self {
        self.client_ca = Some(certificates.into());
        self
    }

    /// Sets the name that clients require in the certificate instead of the IP address.
    ///
    /// The server publishes it in the metadata of its instance, under
    /// [`Instance::TLS_NAME`](crate::Instance::TLS_NAME).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Returns the name that clients require in the certificate.
    pub fn certificate_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns whether clients must present a certificate.
    pub fn requires_certificate(&self) -> bool {
        self.client_ca.is_some()
    }

    /// Reads the files. A server calls this when it is bound.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the unusable file.
    pub fn load(self) -> Result<LoadedServerTls, Error> {
        self.load_with(Vec::new())
    }

    /// As [`load`](Self::load), and accepts connections of these ALPN protocols besides msnb, and of callers that offer none.
    #[doc(hidden)]
    pub fn load_with(self, protocols: Vec<Vec<u8>>) -> Result<LoadedServerTls, Error> {
        let has_other_protocols = !protocols.is_empty();
        let mut files = vec![self.own.certificate.clone(), self.own.key.clone()];
        files.extend(self.client_ca.clone());
        let requires_certificate = self.requires_certificate();
        let build = move |contents: &[Vec<u8>]| self.configure(contents, &protocols);
        let files = Reloadable::load(files, Box::new(build))?;
        Ok(LoadedServerTls { files, requires_certificate, has_other_protocols })
    }

    fn configure(&self, contents: &[Vec<u8>], protocols: &[Vec<u8>]) -> Result<Loaded, Error> {
        let [certificate, key, client_ca @ ..] = contents else { unreachable!("`load` lists at least two files") };
        let (chain, key) = self.own.parse(certificate, key)?;
        let config = ServerConfig::builder_with_provider(pem::provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the crypto provider supports TLS 1.3");
        let clients = match (&self.client_ca, client_ca) {
            (Some(path), [content]) => {
                let roots = pem::authorities(path, content)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, pem::provider()).build();
                Some(verifier.map_err(|error| pem::unusable(path, error))?)
            }
            _ => None,
        };
        let config = match &clients {
            Some(verifier) => config.with_client_cert_verifier(Arc::clone(verifier)),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(chain, key).map_err(|error| self.own.unusable(error))?;
        config.alpn_protocols = [&[ALPN.to_vec()], protocols].concat();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded { config: Arc::new(config), clients })
    }
}

impl LoadedServerTls {
    /// Performs the handshake on a connection of a client. The caller limits the duration.
    ///
    /// # Errors
    ///
    /// `Unauthenticated`, describing the problem with the client or its certificate. The client has received an alert,
    /// and the connection is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept(&self, io: Box<dyn Io>) -> Result<Secured, Error> {
        self.refresh().await;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.files.current().config));
        let failed = |error: io::Error| {
            let message = format!("the TLS handshake failed: {}", describe(&error));
            Error::not_executed(Code::Unauthenticated, message).with_source(error)
        };
        let (io, socket_writes) = SocketWrites::of(io);
        let stream = match acceptor.accept(io).into_fallible().await {
            Ok(stream) => stream,
            Err((error, io)) => {
                linger(io.into_inner()).await;
                return Err(failed(error));
            }
        };
        let (_, connection) = stream.get_ref();
        let protocol = connection.alpn_protocol().filter(|agreed| *agreed != ALPN).map(<[u8]>::to_vec);
        let is_other = connection.alpn_protocol() != Some(ALPN);
        if !self.has_other_protocols {
            check_protocol(connection.alpn_protocol()).map_err(failed)?;
        }
        let binding = connection.export_keying_material([0; 32], EXPORTER, Some(&[]));
        let binding = binding.map_err(|error| failed(io::Error::other(error)))?;
        let certificate = connection.peer_certificates().map(PeerCertificate::new);
        let identity = match &certificate {
            Some(certificate) => Identity::ANONYMOUS.with_certificate(certificate.names()),
            None => Identity::ANONYMOUS,
        };
        Ok(Secured { io: Box::new(stream), binding, identity, certificate, socket_writes, is_other, protocol })
    }

    /// Reads the files again if they were not checked within the last second.
    ///
    /// A server calls this for each connection, and once a second if clients must present certificates.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn refresh(&self) {
        self.files.refresh().await;
    }

    /// Returns whether clients must present a certificate.
    pub fn requires_certificate(&self) -> bool {
        self.requires_certificate
    }

    /// Returns the number of times that the files were reloaded.
    pub fn version(&self) -> u64 {
        self.files.version()
    }

    /// Returns whether the certificate of a client is valid now, under the authorities that were loaded last.
    pub fn accepts(&self, certificate: &PeerCertificate) -> bool {
        match (&self.files.current().clients, certificate.chain()) {
            (Some(verifier), [certificate, intermediates @ ..]) => {
                verifier.verify_client_cert(certificate, intermediates, UnixTime::now()).is_ok()
            }
            (None, _) => true,
            (Some(_), []) => false,
        }
    }
}

/// Closes a connection so that the peer can read the alert.
///
/// Unread bytes from the peer would reset the connection, so they are read and discarded.
async fn linger(mut io: Box<dyn Io>) {
    let mut discarded = [0; 1024];
    let closed = async {
        let _ = io.shutdown().await;
        while io.read(&mut discarded).await.is_ok_and(|count| count > 0) {}
    };
    let _ = timeout(LINGER, closed).await;
}

/// How long a rejected peer may take to close its side.
const LINGER: Duration = Duration::from_secs(1);
