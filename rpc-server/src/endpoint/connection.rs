//! [`EndpointConnection`]: a connection that an endpoint has claimed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rpc_core::{Error, Peer, ProvedToken};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    calls::Calls,
    prefixed::Prefixed,
    request::{EndpointReply, EndpointRequest},
};

/// The stream of a connection.
pub trait EndpointIo: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> EndpointIo for T {}

/// A connection that an endpoint has claimed. Clones share it.
#[derive(Clone)]
pub struct EndpointConnection {
    calls: Arc<Calls>,
    protocol: Option<Arc<[u8]>>,
    start: Bytes,
    io: Arc<Mutex<Option<Prefixed>>>,
}

impl EndpointConnection {
    pub(super) fn new(calls: Arc<Calls>, io: Prefixed, protocol: Option<Vec<u8>>) -> Self {
        let start = io.start().clone();
        Self { calls, protocol: protocol.map(Into::into), start, io: Arc::new(Mutex::new(Some(io))) }
    }

    /// Takes the stream of the connection, which begins with its first byte. A second call returns `None`.
    pub fn take_io(&self) -> Option<Box<dyn EndpointIo>> {
        let io = self.io.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Box::new(io))
    }

    /// Returns the bytes that the server read to detect the protocol. The stream begins with them.
    ///
    /// Empty if ALPN has determined the protocol.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// Returns the ALPN protocol of the connection; `None` without TLS, and where the caller offered none.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.protocol.as_deref()
    }

    /// Returns the address of the caller, and the identity in its certificate.
    pub fn peer(&self) -> &Peer {
        self.calls.peer()
    }

    /// Returns whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.calls.shared().credentials.is_encrypted()
    }

    /// Returns whether each call must have a token.
    pub fn requires_token(&self) -> bool {
        self.calls.shared().credentials.tokens.is_some()
    }

    /// Returns the token with this secret, and with this name if the caller has stated one. `None` if the server accepts no
    /// such token.
    ///
    /// The comparison takes the same time for each secret of the same length.
    pub fn token(&self, name: Option<&str>, secret: &[u8]) -> Option<ProvedToken> {
        self.calls.shared().credentials.tokens.as_ref()?.find(name, secret)
    }

    /// Calls a service of the server.
    ///
    /// # Errors
    ///
    /// The error of the call, which states whether the handler may have executed. `Unauthenticated` if the server requires
    /// a token and the request has none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn call(&self, request: EndpointRequest) -> Result<EndpointReply, Error> {
        self.calls.call(request).await
    }

    /// Returns whether the server is about to stop: it deregisters, or drains.
    ///
    /// The connection still serves calls. An endpoint tells its callers to open their next connection elsewhere.
    pub fn is_leaving(&self) -> bool {
        self.calls.is_leaving()
    }

    /// Waits until the connection must accept no more calls: the server drains, the connection has reached its maximum age,
    /// or the certificate of the caller is no longer accepted.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn draining(&self) {
        self.calls.draining().await;
    }
}

impl fmt::Debug for EndpointConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConnection").field("peer", self.peer()).finish_non_exhaustive()
    }
}
