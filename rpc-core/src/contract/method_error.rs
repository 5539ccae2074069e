//! [`MethodError`]: the error types of methods; [`HandlerError`]: a service error or a status.

use std::any::type_name;

use serde::{Serialize, de::DeserializeOwned};

use super::descriptor::ErrorBuilder;
use crate::{CallError, Error, Reply, Responder, Status};

/// An error type of a method that returns `Result<T, E>`.
///
/// | `E` | answer | error of the call |
/// |---|---|---|
/// | a type that implements serde's `Serialize` and `DeserializeOwned` | the value | [`CallError<E>`] |
/// | [`Status`] | the status | [`Error`] |
/// | [`HandlerError<E>`] | the value or the status | [`CallError<E>`] |
///
/// A service may implement this trait for an error type of its own that has another form on the wire.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a service method",
    label = "expected a serializable type, `Status` or `HandlerError<E>`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for `{Self}`, or return a `rpc_core::Status`"
)]
pub trait MethodError: Sized + Send {
    /// The error of a call of the method.
    type CallError: From<Error>;

    /// Answers a call with this error.
    fn answer(self, responder: Responder) -> impl Future<Output = ()> + Send;

    /// Returns the error of a call that was answered with the service's own error, which is the payload of `reply`.
    fn decode(reply: Reply) -> Self::CallError;

    /// Returns the error of a call that has failed with this error, for a stream that is read where it was created.
    fn into_call_error(self) -> Self::CallError;

    /// Returns this error for a handler that passes on the stream of another call: its own error, or a status.
    fn from_call_error(error: Self::CallError) -> Result<Self, Status>;

    /// Describes the payload of an answer with this error; by default, as one whose form is not known.
    #[doc(hidden)]
    fn describe(error: &mut ErrorBuilder<'_>) {
        error.opaque(type_name::<Self>());
    }
}

/// The error of a handler: the service's own error, or a status of the handler's choice.
///
/// A method that returns `Result<T, HandlerError<E>>` is called like one that returns `Result<T, E>`. `?` converts an
/// `E`, a [`Status`] and the [`Error`] of another call into it.
///
/// # Examples
///
/// ```
/// use rpc_core::{CallError, Code, HandlerError, Status, rpc_service};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// enum StockError {
///     SoldOut,
/// }
///
/// #[rpc_service(name = "shop.Stock", version = "1.0")]
/// trait Stock {
///     async fn reserve(&self, item: String) -> Result<u32, HandlerError<StockError>>;
/// }
///
/// struct Shelf;
///
/// impl Stock for Shelf {
///     async fn reserve(&self, item: String) -> Result<u32, HandlerError<StockError>> {
///         if item.is_empty() {
///             return Err(Status::invalid_argument("the item is empty").into());
///         }
///         Err(StockError::SoldOut.into())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let stock = StockClient::local(Shelf);
/// let error = stock.reserve("teapot".into()).await.unwrap_err();
/// assert!(matches!(error, CallError::Service(StockError::SoldOut)));
/// let error = stock.reserve(String::new()).await.unwrap_err();
/// assert_eq!(error.rpc().expect("a status").code(), Code::InvalidArgument);
/// # }
/// ```
#[derive(Debug)]
pub enum HandlerError<E> {
    /// The service's own error, which callers receive as [`CallError::Service`].
    Service(E),
    /// A status, which callers receive as [`CallError::Rpc`].
    Status(Status),
}

impl<E: Serialize> From<E> for HandlerError<E> {
    fn from(error: E) -> Self {
        Self::Service(error)
    }
}

impl<E> From<Status> for HandlerError<E> {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl<E> From<Error> for HandlerError<E> {
    fn from(error: Error) -> Self {
        Self::Status(error.into())
    }
}

impl<E: Serialize + DeserializeOwned + Send> MethodError for E {
    type CallError = CallError<E>;

    async fn answer(self, responder: Responder) {
        responder.error(self).await;
    }

    fn decode(reply: Reply) -> CallError<E> {
        reply.service_error()
    }

    fn into_call_error(self) -> CallError<E> {
        CallError::Service(self)
    }

    fn from_call_error(error: CallError<E>) -> Result<Self, Status> {
        match error {
            CallError::Service(error) => Ok(error),
            CallError::Rpc(error) => Err(error.into()),
        }
    }

    fn describe(error: &mut ErrorBuilder<'_>) {
        error.value::<E>();
    }
}

impl MethodError for Status {
    type CallError = Error;

    async fn answer(self, responder: Responder) {
        responder.status(self);
    }

    fn decode(reply: Reply) -> Error {
        reply.unexpected_error()
    }

    fn into_call_error(self) -> Error {
        Error::from_status(self)
    }

    fn from_call_error(error: Error) -> Result<Self, Status> {
        Ok(error.into())
    }

    /// A status is no payload.
    fn describe(_: &mut ErrorBuilder<'_>) {}
}

impl<E: Serialize + DeserializeOwned + Send> MethodError for HandlerError<E> {
    type CallError = CallError<E>;

    async fn answer(self, responder: Responder) {
        match self {
            Self::Service(error) => responder.error(error).await,
            Self::Status(status) => responder.status(status),
        }
    }

    fn decode(reply: Reply) -> CallError<E> {
        E::decode(reply)
    }

    fn into_call_error(self) -> CallError<E> {
        match self {
            Self::Service(error) => CallError::Service(error),
            Self::Status(status) => CallError::Rpc(Error::from_status(status)),
        }
    }

    fn from_call_error(error: CallError<E>) -> Result<Self, Status> {
        E::from_call_error(error).map(Self::Service)
    }

    fn describe(error: &mut ErrorBuilder<'_>) {
        E::describe(error);
    }
}
