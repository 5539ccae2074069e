//! [`Reply`]: the answer to a call, and [`ReceivedItems`]: the items of a stream.

use std::{
    fmt,
    net::SocketAddr,
    task::{self, Poll},
};

use serde::de::DeserializeOwned;

use crate::{CallError, Code, Error, Metadata, Payload, PeerWork, Phase, Status};

/// The answer to a call: its result, or the service's own error.
#[derive(Debug)]
pub struct Reply {
    /// Whether the payload is the service's own error and not the result.
    pub is_application_error: bool,
    /// Metadata of the answer.
    pub metadata: Metadata,
    /// The result or error value.
    pub payload: Payload,
    /// The address of the provider that answered; `None` in process.
    pub peer: Option<SocketAddr>,
    /// The items of a stream, if the result is one.
    pub items: Option<ReplyItems>,
}

/// Received items of a stream, as payloads.
pub trait ReceivedItems: Send {
    /// Returns the next item, or the end of the stream: its answer, or the error for which the stream ended early.
    fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Received>;

    /// Records that the reader has taken an item of this number of bytes: the sender may send more.
    fn release(&mut self, length: usize);

    /// Returns whether the peer that sends the items drains. The reader is woken when it starts to.
    fn is_draining(&self) -> bool {
        false
    }

    /// Returns the place in the line for long work of the peer that sends the items.
    fn work(&self) -> PeerWork {
        PeerWork::default()
    }
}

/// The next element of a received stream.
#[derive(Debug)]
pub enum Received {
    /// An item.
    Item(Payload),
    /// The end. An answer without a service error is the regular end.
    End(Result<Reply, Error>),
}

/// The items of a stream that a call has returned. Dropping them cancels the call.
pub struct ReplyItems(Box<dyn ReceivedItems>);

impl ReplyItems {
    #[doc(hidden)]
    pub fn new(items: Box<dyn ReceivedItems>) -> Self {
        Self(items)
    }

    /// Returns the next item, or the end of the stream.
    #[doc(hidden)]
    pub fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Received> {
        self.0.poll_item(cx)
    }

    /// Records that the reader has taken an item of this number of bytes.
    #[doc(hidden)]
    pub fn release(&mut self, length: usize) {
        self.0.release(length);
    }

    pub(crate) fn into_received(self) -> Box<dyn ReceivedItems> {
        self.0
    }
}

impl fmt::Debug for ReplyItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyItems").finish_non_exhaustive()
    }
}

impl Reply {
    /// Decodes the result of a method that returns `T`.
    ///
    /// # Errors
    ///
    /// `Internal` if the payload is not a `T`, or is the service's own error, which this method cannot return.
    pub fn result<T: DeserializeOwned>(self) -> Result<T, Error> {
        if self.is_application_error {
            return Err(self.unexpected_error());
        }
        self.payload.decode().map_err(|status| undecodable(status, self.peer))
    }

    /// Decodes the result of a method that returns `Result<T, E>`.
    ///
    /// # Errors
    ///
    /// The service's own error, or `Internal` if the payload is neither `T` nor `E`.
    pub fn fallible<T: DeserializeOwned, E: DeserializeOwned>(self) -> Result<T, CallError<E>> {
        if self.is_application_error {
            return Err(self.service_error());
        }
        Ok(self.result()?)
    }

    /// Decodes the service's own error.
    pub(crate) fn service_error<E: DeserializeOwned>(self) -> CallError<E> {
        match self.payload.decode() {
            Ok(error) => CallError::Service(error),
            Err(status) => CallError::Rpc(undecodable(status, self.peer)),
        }
    }

    /// Returns the error of a method that has no error of its own, but was answered with one.
    pub(crate) fn unexpected_error(self) -> Error {
        let status = Status::new(Code::Internal, "it is an application error, which this method cannot return");
        undecodable(status, self.peer)
    }
}

/// Maps `InvalidArgument`, which is the caller's fault, to `Internal`.
///
/// A response that does not decode is the callee's fault.
pub(super) fn undecodable(status: Status, peer: Option<SocketAddr>) -> Error {
    let code = if status.code() == Code::InvalidArgument { Code::Internal } else { status.code() };
    let message = format!("the response does not decode: {}", status.message());
    let error = Error::answered(code, message).with_phase(Phase::Decode);
    match peer {
        Some(peer) => error.with_peer(peer),
        None => error,
    }
}
