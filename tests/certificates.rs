//! [`Authority`]: makes certificates, good ones and others, as PEM files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use rpc_core::tls::{ClientTls, ServerTls};
use tempfile::TempDir;

/// Makes certificates, in a directory that goes with it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
}

/// Until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// For as long as there are tests.
    Good,
    /// It was good once.
    Expired,
}

impl Authority {
    /// One that nobody has heard of yet.
    ///
    /// # Panics
    ///
    /// When its file cannot be written.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is wrong");
        // Two of one name could not be told apart.
        params.distinguished_name.push(DnType::CommonName, format!("authority {:032x}", rand::random::<u128>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key is made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        let this = Self { issuer, directory: tempfile::tempdir().expect("a directory is made") };
        this.write_ca(&this.ca());
        this
    }

    /// The file of its own certificate, by which others trust it.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Writes its own certificate over a file.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub fn write_ca(&self, path: &Path) {
        std::fs::write(path, self.issuer.pem()).expect("the file is written");
    }

    /// A certificate for these names: IP addresses, URIs and DNS names.
    pub fn issue(&self, file: &str, names: &[&str]) -> Issued {
        let path = |ending| self.directory.path().join(format!("{file}.{ending}"));
        let issued = Issued { certificate: path("pem"), key: path("key") };
        self.write(&issued, names, Validity::Good);
        issued
    }

    /// Writes a certificate for these names, and its key, over the files of another.
    ///
    /// # Panics
    ///
    /// When it cannot, or for what is no name.
    pub fn write(&self, over: &Issued, names: &[&str], validity: Validity) {
        let (uris, others): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let others: Vec<String> = others.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(others).expect("names and addresses");
        let uris = uris.into_iter().map(|uri| SanType::URI(uri.try_into().expect("a URI is ASCII")));
        params.subject_alt_names.extend(uris);
        if validity == Validity::Expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().expect("a key is made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed");
        std::fs::write(&over.certificate, certificate.pem()).expect("the file is written");
        std::fs::write(&over.key, key.serialize_pem()).expect("the file is written");
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Issued {
    /// A server's part in TLS with it.
    pub fn server(&self) -> ServerTls {
        ServerTls::new(&self.certificate, &self.key)
    }

    /// A client's part in TLS with it, which trusts those of `authority`.
    pub fn client(&self, authority: &Authority) -> ClientTls {
        ClientTls::new(authority.ca()).certificate(&self.certificate, &self.key)
    }
}
