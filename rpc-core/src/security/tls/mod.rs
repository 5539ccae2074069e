//! [`ServerTls`] and [`ClientTls`]: encryption and certificates, by rustls.
//!
//! Only TLS 1.3 is supported, with ALPN `msnb/1`, which both ends require. There is no fallback to plain text. Sessions
//! are not resumed, so that both ends check certificates on each connection. The files are PEM. Both ends check them
//! when a connection is opened, at most once a second, and reload them if they have changed. A server that requires
//! certificates checks them every second, and drains the connections whose certificate is no longer valid under the
//! reloaded authorities; other connections stay open. If changed files are unusable, a warning is logged and the previous content stays in use.
//!
//! Revocation lists are not supported: issue certificates with a short lifetime instead.

mod client;
mod peer_certificate;
mod pem;
mod server;

use std::io;

pub use client::{ClientTls, LoadedClientTls};
pub use peer_certificate::PeerCertificate;
pub use server::{LoadedServerTls, ServerTls};
use tokio_rustls::rustls::{self, AlertDescription, InvalidMessage};

use crate::{
    Identity,
    proof::Binding,
    transport::{Io, SocketWrites},
};

/// An encrypted connection.
#[non_exhaustive]
pub struct Secured {
    /// The stream, which encrypts and decrypts.
    pub io: Box<dyn Io>,
    /// The channel binding `tls-exporter` of RFC 9266, to which a proof on this connection is bound.
    pub binding: Binding,
    /// The identity in the peer's certificate. Anonymous for servers.
    pub identity: Identity,
    /// The client's certificate, for [`LoadedServerTls::accepts`]. `None` for servers.
    pub certificate: Option<PeerCertificate>,
    /// The encrypted bytes that the socket has accepted.
    #[doc(hidden)]
    pub socket_writes: SocketWrites,
    /// Whether the peer has not agreed on the ALPN protocol of msnb. Only where a server accepts other protocols.
    #[doc(hidden)]
    pub is_other: bool,
    /// The ALPN protocol of such a peer; `None` if it offered none.
    #[doc(hidden)]
    pub protocol: Option<Vec<u8>>,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Returns why a server rejected the client's certificate, if that ended the connection.
///
/// In TLS 1.3, the alert arrives after the client's handshake has completed.
pub fn certificate_rejection(error: &io::Error) -> Option<String> {
    use AlertDescription as Alert;
    match cause(error)? {
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            Some("the server requires a certificate, and this client has none".to_owned())
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
        ) => Some(format!("the server rejected this client's certificate: {alert:?}")),
        _ => None,
    }
}

/// Describes the failure of a handshake and its probable cause.
fn describe(error: &io::Error) -> String {
    match (cause(error), error.kind()) {
        (Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)), _) => {
            "the peer does not use TLS".to_owned()
        }
        (Some(cause), _) => cause.to_string(),
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "the peer closed the connection: it may not use TLS, or accept no more connections".to_owned()
        }
        (None, _) => error.to_string(),
    }
}

fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Rejects a peer that uses TLS without the ALPN protocol of msnb.
fn check_protocol(agreed: Option<&[u8]>) -> io::Result<()> {
    if agreed == Some(ALPN) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the peer uses TLS without the ALPN protocol msnb/1"))
}

/// The ALPN protocol of msnb.
const ALPN: &[u8] = b"msnb/1";
/// The exporter label of RFC 9266.
const EXPORTER: &[u8] = b"EXPORTER-Channel-Binding";
