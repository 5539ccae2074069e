//! [`PeerCertificate`]: the certificate that a client has presented.

use std::{fmt, sync::Arc};

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The certificate that a client has presented, with its intermediate certificates. Cheap to clone.
#[derive(Clone)]
pub struct PeerCertificate(Arc<[CertificateDer<'static>]>);

impl PeerCertificate {
    /// Creates the certificate from a verified chain, the client's own certificate first.
    pub(super) fn new(chain: &[CertificateDer<'static>]) -> Self {
        Self(chain.into())
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// Returns the DNS names and URIs in the subject alternative name.
    pub(super) fn names(&self) -> Vec<String> {
        let certificate = self.0.first().and_then(|certificate| EndEntityCert::try_from(certificate).ok());
        let names = certificate.iter().flat_map(|own| own.valid_dns_names().chain(own.valid_uri_names()));
        names.map(str::to_owned).collect()
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerCertificate").field(&self.names()).finish()
    }
}
