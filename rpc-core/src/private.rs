//! Items for the code that `#[rpc_service]` generates.
//!
//! They are not part of the API and change together with the macro.

use std::{fmt, future};

use ::serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use ::serde;

use crate::{BoxFuture, Code, Error, MethodError, MethodInfo, Reply, Responder, ServiceId, Status};

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

/// Returns the status of a call of `method` whose arguments do not decode.
pub fn undecodable(status: Status, method: &MethodInfo) -> Status {
    Status::new(status.code(), format!("arguments of {}: {}", method.route(), status.message()))
}

/// A `T` that is transferred without copying if it is `bytes::Bytes`.
///
/// The macro only sees the name `Bytes`, which may be another type.
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound(serialize = "T: Serialize + 'static", deserialize = "T: DeserializeOwned + 'static"))]
pub struct Uncopied<T>(#[serde(with = "uncopied")] pub T);

/// The implementation of [`Uncopied`], for fields.
pub mod uncopied {
    use std::any::Any;

    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::uncopied;

    pub fn serialize<T: Serialize + 'static, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        match (value as &dyn Any).downcast_ref() {
            Some(bytes) => uncopied::serialize(bytes, serializer),
            None => value.serialize(serializer),
        }
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: Deserialize<'de> + 'static,
        D: Deserializer<'de>,
    {
        let mut value = None::<T>;
        match (&mut value as &mut dyn Any).downcast_mut::<Option<Bytes>>() {
            Some(bytes) => *bytes = Some(uncopied::deserialize(deserializer)?),
            None => return T::deserialize(deserializer),
        }
        Ok(value.expect("`value` was set by the branch above"))
    }
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
