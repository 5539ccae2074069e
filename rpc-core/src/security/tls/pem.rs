//! Certificates and keys from PEM files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};

use crate::{Code, Error};

/// The paths of a certificate and its private key.
#[derive(Debug, Clone)]
pub(crate) struct KeyPair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A certificate with its intermediate certificates, and its private key.
pub(crate) type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl KeyPair {
    pub(crate) fn parse(&self, certificate: &[u8], key: &[u8]) -> Result<Chain, Error> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                Error::not_executed(Code::InvalidArgument, format!("{} contains no private key", self.key.display()))
            }
            error => unusable(&self.key, error),
        })?;
        Ok((certificates(&self.certificate, certificate)?, key))
    }

    /// Creates the error of a certificate and a key that do not match.
    pub(crate) fn unusable(&self, error: rustls::Error) -> Error {
        let message = format!("cannot use {} with {}: {error}", self.certificate.display(), self.key.display());
        Error::not_executed(Code::InvalidArgument, message).with_source(error)
    }
}

/// Parses the authorities in a file.
pub(crate) fn authorities(path: &Path, content: &[u8]) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, content)? {
        roots.add(certificate).map_err(|error| unusable(path, error))?;
    }
    Ok(Arc::new(roots))
}

/// Creates the error of an unusable file.
pub(crate) fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::not_executed(Code::InvalidArgument, format!("cannot use {}: {error}", path.display())).with_source(error)
}

/// Returns the crypto provider, which is independent of the default that a program may install.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let found = found.map_err(|error| unusable(path, error))?;
    if found.is_empty() {
        return Err(Error::not_executed(Code::InvalidArgument, format!("{} contains no certificate", path.display())));
    }
    Ok(found)
}
