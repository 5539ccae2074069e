//! [`Reply`]: the answer to a call.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;

use crate::{CallError, Code, Error, Metadata, Payload, Phase, Status};

/// The answer to a call: its result, or the service's own error.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Whether the payload is the service's own error and not the result.
    pub is_application_error: bool,
    /// Metadata of the answer.
    pub metadata: Metadata,
    /// The result or error value.
    pub payload: Payload,
    /// The address of the provider that answered; `None` in process.
    pub peer: Option<SocketAddr>,
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
fn undecodable(status: Status, peer: Option<SocketAddr>) -> Error {
    let code = if status.code() == Code::InvalidArgument { Code::Internal } else { status.code() };
    let message = format!("the response does not decode: {}", status.message());
    let error = Error::answered(code, message).with_phase(Phase::Decode);
    match peer {
        Some(peer) => error.with_peer(peer),
        None => error,
    }
}
