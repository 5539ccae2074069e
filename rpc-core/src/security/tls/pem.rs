//! What is read from PEM files.

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

/// A certificate and its key, in two files.
#[derive(Debug, Clone)]
pub(crate) struct KeyPair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A certificate with those that lead from it to its authority, and its key.
pub(crate) type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl KeyPair {
    pub(crate) fn parse(&self, certificate: &[u8], key: &[u8]) -> Result<Chain, Error> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                Error::not_executed(Code::InvalidArgument, format!("{} holds no private key", self.key.display()))
            }
            error => unusable(&self.key, error),
        })?;
        Ok((certificates(&self.certificate, certificate)?, key))
    }

    /// The error of two that do not fit each other.
    pub(crate) fn unusable(&self, error: rustls::Error) -> Error {
        let message = format!("cannot use {} with {}: {error}", self.certificate.display(), self.key.display());
        Error::not_executed(Code::InvalidArgument, message).with_source(error)
    }
}

/// The authorities in a file.
pub(crate) fn authorities(path: &Path, content: &[u8]) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, content)? {
        roots.add(certificate).map_err(|error| unusable(path, error))?;
    }
    Ok(Arc::new(roots))
}

/// The error of a file that cannot be used.
pub(crate) fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::not_executed(Code::InvalidArgument, format!("cannot use {}: {error}", path.display())).with_source(error)
}

/// What encrypts: of this process's choice, whatever else a program sets for itself.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let found = found.map_err(|error| unusable(path, error))?;
    if found.is_empty() {
        return Err(Error::not_executed(Code::InvalidArgument, format!("{} holds no certificate", path.display())));
    }
    Ok(found)
}
