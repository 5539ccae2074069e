//! [`ServerTls`] and [`ClientTls`]: encryption and certificates, by rustls.
//!
//! TLS 1.3 alone, with ALPN `msnb/1`, which both ends insist on. There is no falling back to plain text, and no session is resumed:
//! certificates are checked on each connection. The files are PEM. They are looked at when a connection is made, at most once a
//! second, and read anew when they have changed; connections that there are stay. Files that cannot be used are told by a
//! warning, and those read before stay in use.
//!
//! Revocation lists are not looked at: give certificates a short life instead.

mod client;
mod pem;
mod server;

use std::io;

pub use client::{ClientTls, LoadedClientTls};
pub use server::{LoadedServerTls, ServerTls};
use tokio_rustls::rustls::{self, AlertDescription, InvalidMessage};

use crate::{Identity, proof::Binding, transport::Io};

/// An encrypted connection.
#[non_exhaustive]
pub struct Secured {
    /// What goes in is encrypted.
    pub io: Box<dyn Io>,
    /// Ties what is proved on the connection to it: RFC 9266's `tls-exporter`.
    pub binding: Binding,
    /// Who the peer is by its certificate: of clients only.
    pub identity: Identity,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Why a server parts with a client for its certificate's sake, if that is what broke a connection: in TLS 1.3 a client's handshake
/// has ended by then.
pub fn refused_certificate(error: &io::Error) -> Option<String> {
    use AlertDescription as Alert;
    match cause(error)? {
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            Some("it requires a certificate, and this client has none".to_owned())
        }
        rustls::Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::DecryptError
            | Alert::AccessDenied),
        ) => Some(format!("this client's certificate is not accepted here: {alert:?}")),
        _ => None,
    }
}

/// What went wrong with a handshake, and whose fault it probably is.
fn describe(error: &io::Error) -> String {
    match (cause(error), error.kind()) {
        (Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)), _) => {
            "the peer does not speak TLS".to_owned()
        }
        (Some(cause), _) => cause.to_string(),
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "the peer closed the connection; it may not speak TLS, or take no more connections".to_owned()
        }
        (None, _) => error.to_string(),
    }
}

fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Refuses a peer that speaks TLS and did not say that it speaks msnb in it.
fn check_protocol(agreed: Option<&[u8]>) -> io::Result<()> {
    if agreed == Some(ALPN) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the peer speaks TLS, but not msnb/1 in it"))
}

/// The protocol's name in TLS.
const ALPN: &[u8] = b"msnb/1";
/// RFC 9266.
const EXPORTER: &[u8] = b"EXPORTER-Channel-Binding";
