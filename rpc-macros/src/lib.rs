//! `#[rpc_service]` generates a server and a client for a trait.
//!
//! Users import it as `msnb::rpc_service`, or as `rpc_core::rpc_service`.
//!
//! | topic | module |
//! |---|---|
//! | parsing and checking a trait | `contract`, with `method`, `parameter`, `answer`, `options` |
//! | types that cannot be sent | `wire_type` |
//! | names and durations in options | `wire_name`, `duration` |
//! | collecting all compile errors of a trait | `diagnostics` |
//! | generating code for a valid trait | `expand` |

mod answer;
mod contract;
mod diagnostics;
mod duration;
mod expand;
mod ident;
mod method;
mod options;
mod parameter;
mod wire_name;
mod wire_type;

use proc_macro::TokenStream;
use syn::{parse_macro_input, parse_quote};

/// Generates a server and a client for a trait, the contract between provider and caller.
///
/// ```
/// use rpc_core::{CallError, rpc_service};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// pub enum GreetError {
///     EmptyName,
/// }
///
/// #[rpc_service(name = "demo.Greeter", version = "1.0")]
/// pub trait Greeter {
///     #[rpc(idempotent, timeout = "500ms")]
///     async fn hello(&self, name: String) -> Result<String, GreetError>;
/// }
///
/// struct MyGreeter;
///
/// impl Greeter for MyGreeter {
///     async fn hello(&self, name: String) -> Result<String, GreetError> {
///         if name.is_empty() { Err(GreetError::EmptyName) } else { Ok(format!("hello, {name}")) }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let greeter = GreeterClient::local(MyGreeter);
/// assert_eq!(greeter.hello("Bo".into()).await.unwrap(), "hello, Bo");
/// let error = greeter.hello(String::new()).await.unwrap_err();
/// assert!(matches!(error, CallError::Service(GreetError::EmptyName)));
/// # }
/// ```
///
/// # Generated items
///
/// For a trait `Greeter`, the macro generates next to it, with the same visibility:
///
/// | item | description |
/// |---|---|
/// | `Greeter` | the trait, with `Send` futures and the supertraits `Send + Sync + 'static`; implementations use `async fn` |
/// | `GreeterServer<T>` | an `rpc_core::Service`: `new(T)`, `from_arc(Arc<T>)` |
/// | `GreeterClient<C = DynCaller>` | `new(C)` for an `rpc_core::Caller`, `local(T)` for a `Greeter` in this process, and the methods of the trait, which return an `rpc_core::Call` |
/// | `contract()` of both | the description of the service, see `rpc_core::descriptor` |
/// | `greeter_methods` | a module with a type for each method: `hello` is `greeter_methods::Hello`, its call `Call<C, greeter_methods::Hello>` |
///
/// # Methods
///
/// Every method is an `async fn` with `&self` and named parameters of owned types. The client encodes the arguments as
/// a struct with the names and the order of the parameters, so a JSON peer sends `{"name":"Bo"}`, and may omit an
/// `Option`. The types of arguments, results and errors implement `serde::Serialize`, `serde::de::DeserializeOwned` and
/// `Send`. A value may be serialized more than once: for a retry, and for a long result that is compressed.
///
/// | return type of the method | result of the call |
/// |---|---|
/// | `T`, or nothing | `Result<T, rpc_core::Error>` |
/// | `Result<T, E>` | `Result<T, rpc_core::CallError<E>>` |
/// | `Result<T, rpc_core::Status>` | `Result<T, rpc_core::Error>` |
/// | `Result<T, rpc_core::HandlerError<E>>` | `Result<T, rpc_core::CallError<E>>` |
///
/// With a `Status`, the handler chooses the code, such as `NotFound`, or `Unavailable` with a retry-after. A result has
/// the same form on the wire in all rows, so a method may change its errors without breaking its callers.
///
/// A macro sees names, not types: a `Result` is a path that ends in `Result` and has two type arguments. An alias with
/// another name counts as a `T`. A `bytes::Bytes` that is written as `Bytes` is encoded without copying, see
/// `rpc_core::uncopied`.
///
/// # Streams
///
/// The last parameter of a method may be an `rpc_core::Streaming<T>`, which the caller sends. The result, or the `T` of a
/// `Result<T, E>`, may be an `rpc_core::Streaming<T, F>`, which the callee sends; `F` is the error with which it may end the
/// stream, by default `rpc_core::Status`. A macro sees names, not types: a `Streaming` is a path that ends in `Streaming`
/// and has one or two type arguments. An alias of it is taken for a value, and does not compile because a `Streaming` has
/// no serialization.
///
/// | return type of the method | result of the call |
/// |---|---|
/// | `Streaming<T, F>` | `Result<Streaming<T, F>, rpc_core::Error>` |
/// | `Result<Streaming<T, F>, E>` | as in the table above, with `Streaming<T, F>` as the result |
///
/// The timeout of a call limits the time until the callee has accepted it, which is when the handler has returned the
/// stream; without such a result, until the answer. The stream then lasts until either end ends it, or for the time of
/// `stream_timeout`. Calls with streams are never hedged, and are not repeated once an
/// item was sent.
///
/// A parameter `#[rpc(cursor)]`, an `Option` of the cursor of the items, lets a stream continue at another provider: see
/// `rpc_core::ResumableMethod`.
///
/// # Default bodies
///
/// Implementations may omit a method with a default body, which the provider executes.
///
/// # Types that bincode cannot represent
///
/// bincode, the default codec, describes neither types nor names: it decodes fields by their position. Calls with these
/// types fail in bincode. Choose JSON or MessagePack for them, with `ClientConfig::with_codec` or `Call::codec`.
///
/// | type | instead, for bincode |
/// |---|---|
/// | an enum with `#[serde(tag = "…")]`, with or without `content`, or `#[serde(untagged)]` | an enum without these attributes |
/// | a struct with `#[serde(flatten)]` | the inner struct as a field |
/// | a field with `#[serde(skip_serializing_if = "…")]` | the field without the attribute |
/// | a type that accepts any form, such as `serde_json::Value` | the concrete type, or its text in a `String` |
/// | a type with a human-readable form, such as `rust_decimal::Decimal` | its form as text or numbers, such as `rust_decimal::serde::str` |
///
/// # Options
///
/// | `#[rpc_service(…)]` | |
/// |---|---|
/// | `name = "demo.Greeter"` | the name of the service; default: the name of the trait |
/// | `version = "2.0"` | the version of the service; default: `1.0` |
/// | `codec = "messagepack"` | the codec of calls that set none: `bincode`, `json`, `messagepack` or `raw`; default: that of the client |
/// | `crate = "path::to::rpc_core"` | the path of rpc-core, or of msnb, in the generated code; default: the crate that exports the macro, `::msnb` or `::rpc_core` |
///
/// | `#[rpc(…)]` | |
/// |---|---|
/// | `idempotent` | the method may be executed twice without harm, so a client may retry a call |
/// | `once` | a server executes each call at most once: the client sends a key with it, and retries on that server only |
/// | `once = "cluster"` | the same for all servers of a cluster, which share a store of answers |
/// | `one_way` | the server sends no response; the call ends when its request is queued, and is lost if the connection or its runtime ends before the request is written |
/// | `timeout = "500ms"` | the timeout of calls without one: an integer with a unit `ns`, `us`, `ms`, `s` or `m`, at most 49 days; default: the timeout of the client |
/// | `stream_timeout = "10m"` | the time for which a stream that the method returns may last after the acceptance, for calls without one; default: no limit |
/// | `max_running = 50` | the handlers of the method that run at the same time on one server; it rejects further calls before they execute |
/// | `http = "GET /orders/{id}"` | the verb and the path of the method in HTTP, besides `POST /service/method`; a name in braces is a parameter |
/// | `status(NotFound = 404)` | the HTTP status of variants of the method's error, by their names on the wire; default: 422 |
/// | `name = "sayHello"` | the name of the method on the wire; default: its name in Rust |
///
/// Names consist of ASCII letters, digits, `.`, `_` and `-`. `name:version` and the name of a method have at most 256
/// bytes each.
#[proc_macro_attribute]
pub fn rpc_service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::rpc_service(attribute.into(), parse_macro_input!(item), parse_quote!(::rpc_core)).into()
}

/// Generates a server and a client for a trait, the contract between provider and caller.
///
/// `rpc_core::rpc_service` is the same macro and documents it. Code that this one generates names the crate msnb.
// Exported as `msnb::rpc_service`: a macro cannot find out under which path it was called.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn rpc_service_of_msnb(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::rpc_service(attribute.into(), parse_macro_input!(item), parse_quote!(::msnb)).into()
}
