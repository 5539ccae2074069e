//! [`Credentials`]: how a client makes its connections safe, and proves who it is on them.

use std::net::SocketAddr;

use rpc_core::{
    Error, Token,
    proof::{Binding, PLAIN},
    transport::{CloseReason, Io},
};

/// How a client makes its connections safe, and proves who it is on them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<rpc_core::tls::LoadedClientTls>,
    pub(crate) token: Option<Token>,
}

/// What a connection proves when it is asked to.
#[derive(Debug)]
pub(crate) struct Papers {
    pub(crate) token: Option<Token>,
    pub(crate) binding: Binding,
}

impl Credentials {
    /// Makes a new connection safe, if that was asked for. The caller bounds the time.
    pub(crate) async fn secure(
        &self,
        io: Box<dyn Io>,
        address: SocketAddr,
        certificate_name: Option<&str>,
    ) -> Result<(Box<dyn Io>, Papers), Error> {
        if let Some(token) = &self.token {
            token.refresh().await;
        }
        let (io, binding) = self.encrypt(io, address, certificate_name).await?;
        Ok((io, Papers { token: self.token.clone(), binding }))
    }

    #[cfg(feature = "tls")]
    async fn encrypt(
        &self,
        io: Box<dyn Io>,
        address: SocketAddr,
        certificate_name: Option<&str>,
    ) -> Result<(Box<dyn Io>, Binding), Error> {
        let Some(tls) = &self.tls else { return Ok((io, PLAIN)) };
        // Boxed, because what a handshake takes is not needed as long as the connection lives.
        let secured = Box::pin(tls.connect(io, address, certificate_name)).await?;
        Ok((secured.io, secured.binding))
    }

    #[cfg(not(feature = "tls"))]
    async fn encrypt(&self, io: Box<dyn Io>, _: SocketAddr, _: Option<&str>) -> Result<(Box<dyn Io>, Binding), Error> {
        Ok((io, PLAIN))
    }
}

/// Why the server parted with this client for its certificate's sake, if it did.
pub(crate) fn refused_certificate(reason: &CloseReason) -> Option<String> {
    match reason {
        #[cfg(feature = "tls")]
        CloseReason::Io(error) => rpc_core::tls::refused_certificate(error),
        _ => None,
    }
}
