//! Items for the code that `#[rpc_service]` generates.
//!
//! They are not part of the API and change together with the macro.

use std::{fmt, future};

use ::serde::{Serialize, de::DeserializeOwned};

pub use ::serde;

pub use crate::contract::{
    any_uncopied::{self as uncopied, Uncopied},
    descriptor::{ContractBuilder, ContractCell},
};

use crate::{BoxFuture, Code, Error, MethodError, MethodInfo, Reply, Responder, ServiceId, Status, Streaming};

/// Returns the outcome of a one-way call, which ends when it is sent.
pub fn nothing(reply: Result<Reply, Error>) -> Result<(), Error> {
    reply.map(drop)
}

/// Returns the outcome of a method that returns `T`.
pub fn plain<T: DeserializeOwned>(reply: Result<Reply, Error>, method: &MethodInfo) -> Result<T, Error> {
    reply?.result().map_err(|error| error.of_route(method.route()))
}

/// Returns the outcome of a method that returns `Result<T, E>`.
pub fn fallible<T: DeserializeOwned, E: MethodError>(
    reply: Result<Reply, Error>,
    method: &MethodInfo,
) -> Result<T, E::CallError> {
    let reply = reply?;
    if reply.is_application_error {
        return Err(E::decode(reply));
    }
    Ok(reply.result().map_err(|error| error.of_route(method.route()))?)
}

/// Returns the outcome of a method that returns `Streaming<T, E>`.
pub fn stream<T: DeserializeOwned + 'static, E: MethodError>(
    reply: Result<Reply, Error>,
    method: &'static MethodInfo,
) -> Result<Streaming<T, E>, Error> {
    Streaming::of_reply(reply?, method).map_err(|error| error.of_route(method.route()))
}

/// Returns the outcome of a method that returns `Result<Streaming<T, E>, R>`.
pub fn fallible_stream<T: DeserializeOwned + 'static, E: MethodError, R: MethodError>(
    reply: Result<Reply, Error>,
    method: &'static MethodInfo,
) -> Result<Streaming<T, E>, R::CallError> {
    let reply = reply?;
    if reply.is_application_error {
        return Err(R::decode(reply));
    }
    Ok(stream(Ok(reply), method)?)
}

/// Returns the stream that the caller sends.
pub fn items<T: DeserializeOwned + 'static>(responder: &mut Responder) -> Streaming<T> {
    Streaming::of_caller(responder)
}

/// Answers with a stream.
pub async fn send_stream<T, E>(responder: Responder, stream: Streaming<T, E>)
where
    T: Serialize + Send + 'static,
    E: MethodError + 'static,
{
    responder.send_items(Box::new(stream)).await;
}

/// Answers with the outcome of a method that returns `Result<Streaming<T, E>, R>`.
pub async fn answer_stream<T, E, R>(responder: Responder, outcome: Result<Streaming<T, E>, R>)
where
    T: Serialize + Send + 'static,
    E: MethodError + 'static,
    R: MethodError,
{
    match outcome {
        Ok(stream) => send_stream(responder, stream).await,
        Err(error) => error.answer(responder).await,
    }
}

/// Returns the status of a call of `method` whose arguments do not decode.
pub fn undecodable(status: Status, method: &MethodInfo) -> Status {
    Status::new(status.code(), format!("arguments of {}: {}", method.route(), status.message()))
}

/// Answers with the outcome of a method that returns `Result<T, E>`.
pub async fn answer<T: Serialize, E: MethodError>(responder: Responder, outcome: Result<T, E>) {
    match outcome {
        Ok(value) => responder.result(value).await,
        Err(error) => error.answer(responder).await,
    }
}

/// Answers a call whose method index is out of range.
pub fn no_such_method(responder: Responder) -> BoxFuture<'static, ()> {
    responder.reject(Status::new(Code::Unimplemented, "the service has no such method"));
    Box::pin(future::ready(()))
}

/// Formats a generated server with the id of its service.
pub fn debug_server(formatter: &mut fmt::Formatter<'_>, name: &str, service: &ServiceId) -> fmt::Result {
    formatter.debug_struct(name).field("service", service).finish_non_exhaustive()
}
