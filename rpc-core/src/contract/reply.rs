//! [`Reply`]: what came back from a call that was answered.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;

use crate::{CallError, Code, Error, Metadata, Payload, Phase, Status};

/// A call's answer: its result, or the service's own error.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Whether the payload is the service's own error instead of the result.
    pub is_application_error: bool,
    /// Pairs that came with it.
    pub metadata: Metadata,
    /// The result or error value.
    pub payload: Payload,
    /// Who answered; `None` in process.
    pub peer: Option<SocketAddr>,
}

impl Reply {
    /// Reads the result of a method that returns a plain `T`.
    ///
    /// # Errors
    ///
    /// `Internal` when the payload is no `T`, or an error value that this method cannot have.
    pub fn result<T: DeserializeOwned>(self) -> Result<T, Error> {
        if self.is_application_error {
            let status = Status::new(Code::Internal, "the peer answered with an error value that this method has not");
            return Err(undecodable(status, self.peer));
        }
        self.payload.decode().map_err(|status| undecodable(status, self.peer))
    }

    /// Reads the result of a method that returns `Result<T, E>`.
    ///
    /// # Errors
    ///
    /// The service's own error, or `Internal` when the payload is neither.
    pub fn fallible<T: DeserializeOwned, E: DeserializeOwned>(self) -> Result<T, CallError<E>> {
        if self.is_application_error {
            let error = self.payload.decode().map_err(|status| undecodable(status, self.peer))?;
            return Err(CallError::Service(error));
        }
        Ok(self.result()?)
    }
}

/// A response that is not understood is the callee's fault, unlike a request.
fn undecodable(status: Status, peer: Option<SocketAddr>) -> Error {
    let code = if status.code() == Code::InvalidArgument { Code::Internal } else { status.code() };
    let message = format!("the response does not decode: {}", status.message());
    let error = Error::answered(code, message).with_phase(Phase::Decode);
    match peer {
        Some(peer) => error.with_peer(peer),
        None => error,
    }
}
