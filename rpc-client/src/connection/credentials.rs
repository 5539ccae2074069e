//! [`Credentials`]: the TLS settings and the token of a client.

use std::net::SocketAddr;

use rpc_core::{
    Error, Token,
    proof::{Binding, NO_BINDING},
    transport::{CloseReason, Io, SocketWrites},
};

/// The TLS settings and the token of a client, which all its connections use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<rpc_core::tls::LoadedClientTls>,
    pub(crate) token: Option<Token>,
}

/// A new connection, encrypted if the client uses TLS.
pub(crate) struct Secured {
    pub(crate) io: Box<dyn Io>,
    pub(crate) credentials: HandshakeCredentials,
    /// The bytes that the socket has accepted, if the connection is encrypted.
    pub(crate) socket_writes: Option<SocketWrites>,
}

/// The answer of one connection to a server's challenge: a token, and the binding to the TLS session.
#[derive(Debug)]
pub(crate) struct HandshakeCredentials {
    pub(crate) token: Option<Token>,
    pub(crate) binding: Binding,
}

impl Credentials {
    /// Performs the TLS handshake on a new connection if the client uses TLS. The caller limits the time.
    pub(crate) async fn secure(
        &self,
        io: Box<dyn Io>,
        address: SocketAddr,
        certificate_name: Option<&str>,
    ) -> Result<Secured, Error> {
        if let Some(token) = &self.token {
            token.refresh().await;
        }
        let (io, binding, socket_writes) = self.encrypt(io, address, certificate_name).await?;
        Ok(Secured { io, credentials: HandshakeCredentials { token: self.token.clone(), binding }, socket_writes })
    }

    #[cfg(feature = "tls")]
    async fn encrypt(
        &self,
        io: Box<dyn Io>,
        address: SocketAddr,
        certificate_name: Option<&str>,
    ) -> Result<(Box<dyn Io>, Binding, Option<SocketWrites>), Error> {
        let Some(tls) = &self.tls else { return Ok((io, NO_BINDING, None)) };
        // Boxed so that the connection's task does not keep the size of the handshake's future.
        let secured = Box::pin(tls.connect(io, address, certificate_name)).await?;
        Ok((secured.io, secured.binding, Some(secured.socket_writes)))
    }

    #[cfg(not(feature = "tls"))]
    async fn encrypt(
        &self,
        io: Box<dyn Io>,
        _: SocketAddr,
        _: Option<&str>,
    ) -> Result<(Box<dyn Io>, Binding, Option<SocketWrites>), Error> {
        Ok((io, NO_BINDING, None))
    }
}

/// Returns why the server rejected the client's certificate, if that closed the connection.
pub(crate) fn rejected_certificate(reason: &CloseReason) -> Option<String> {
    match reason {
        #[cfg(feature = "tls")]
        CloseReason::Io(error) => rpc_core::tls::certificate_rejection(error),
        _ => None,
    }
}
