//! [`Authority`]: issues valid and invalid certificates as PEM files.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use rpc_core::tls::{ClientTls, ServerTls};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

/// A certificate authority with a temporary directory. Dropping it deletes the directory.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate file.
    pub certificate: PathBuf,
    /// The key file.
    pub key: PathBuf,
}

/// The validity period of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Valid now.
    Good,
    /// Expired in 2020.
    Expired,
}

impl Authority {
    /// Creates an authority with a new key, and writes its certificate to [`ca`](Self::ca).
    ///
    /// # Panics
    ///
    /// Panics if it cannot write the file.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("an empty list of names is valid");
        // Verifiers select an authority by its name, so each needs its own.
        params.distinguished_name.push(DnType::CommonName, format!("authority {:032x}", rand::random::<u128>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("cannot generate a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("cannot sign the authority's certificate");
        let this = Self { issuer, directory: tempfile::tempdir().expect("cannot create a directory") };
        this.write_ca(&this.ca());
        this
    }

    /// Returns the file of the authority's certificate, for peers that trust it.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Writes the authority's certificate to `path`.
    ///
    /// # Panics
    ///
    /// Panics if it cannot write the file.
    pub fn write_ca(&self, path: &Path) {
        std::fs::write(path, self.issuer.pem()).expect("cannot write the file");
    }

    /// Performs a TLS handshake with 127.0.0.1 that trusts this authority and offers the ALPN `protocols`.
    ///
    /// An msnb client always offers its own protocol.
    ///
    /// # Errors
    ///
    /// The server rejects the handshake.
    ///
    /// # Panics
    ///
    /// Panics if rustls rejects the configuration.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        protocols: &[&str],
    ) -> io::Result<TlsStream<S>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("the authority's certificate is valid");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("ring supports the default versions");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("127.0.0.1").expect("127.0.0.1 is an IP address");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Connects to `address` on 127.0.0.1 with the certificate `own`.
    ///
    /// # Panics
    ///
    /// Panics if the files are unusable or the server rejects the handshake.
    pub async fn connect_as(&self, own: &Issued, address: SocketAddr) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("the authority's certificate is valid");
        let chain = CertificateDer::pem_file_iter(&own.certificate).expect("the file is readable");
        let chain = chain.collect::<Result<_, _>>().expect("the file contains certificates");
        let key = PrivateKeyDer::from_pem_file(&own.key).expect("the file contains a key");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("ring supports the default versions");
        let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key);
        let mut config = config.expect("the key matches the certificate");
        config.alpn_protocols = vec![b"msnb/1".to_vec()];
        let name = ServerName::try_from("127.0.0.1").expect("127.0.0.1 is an IP address");
        let stream = TcpStream::connect(address).await.expect("the server listens");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("the server accepts the client")
    }

    /// Issues a certificate for `names`: IP addresses, URIs and DNS names.
    pub fn issue(&self, file: &str, names: &[&str]) -> Issued {
        let path = |ending| self.directory.path().join(format!("{file}.{ending}"));
        let issued = Issued { certificate: path("pem"), key: path("key") };
        self.write(&issued, names, Validity::Good);
        issued
    }

    /// Overwrites the files of `over` with a new certificate for `names` and its key.
    ///
    /// # Panics
    ///
    /// Panics for an invalid name, or if it cannot write the files.
    pub fn write(&self, over: &Issued, names: &[&str], validity: Validity) {
        let (uris, others): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let others: Vec<String> = others.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(others).expect("valid names and addresses");
        let uris = uris.into_iter().map(|uri| SanType::URI(uri.try_into().expect("the URI is ASCII")));
        params.subject_alt_names.extend(uris);
        if validity == Validity::Expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().expect("cannot generate a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("cannot sign the certificate");
        std::fs::write(&over.certificate, certificate.pem()).expect("cannot write the file");
        std::fs::write(&over.key, key.serialize_pem()).expect("cannot write the file");
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Issued {
    /// Returns the TLS settings of a server with this certificate.
    pub fn server(&self) -> ServerTls {
        ServerTls::new(&self.certificate, &self.key)
    }

    /// Returns the TLS settings of a client with this certificate that trusts `authority`.
    pub fn client(&self, authority: &Authority) -> ClientTls {
        ClientTls::new(authority.ca()).certificate(&self.certificate, &self.key)
    }
}
