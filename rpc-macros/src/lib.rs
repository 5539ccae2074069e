//! `#[rpc_service]`: makes a server and a client of a trait. Users find it as `rpc_core::rpc_service`.
//!
//! A trait is read (`contract`, and under it `method`, `parameter`, `answer`, `options`), all its `mistakes` are told at once, and
//! what has none is expanded (`expand`).

mod answer;
mod contract;
mod duration;
mod expand;
mod ident;
mod method;
mod mistakes;
mod options;
mod parameter;
mod travel;
mod wire_name;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a contract of a trait: what a provider implements, the server that takes calls to it, and the client that makes them.
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
/// # What there is then
///
/// For a trait `Greeter`, beside it and as visible:
///
/// | item | what it is |
/// |---|---|
/// | `Greeter` | the trait, whose futures are `Send` and whose implementations are `Send + Sync + 'static`; they are written with `async fn` |
/// | `GreeterServer<T>` | an `rpc_core::Service`: `new(T)`, `from_arc(Arc<T>)` |
/// | `GreeterClient<C>` | `new(C)` for an `rpc_core::Caller`, `local(T)` for a `Greeter` in this process, and the trait's methods, which give an `rpc_core::Call` |
/// | `greeter_methods` | a module of the methods as types: `hello` is `greeter_methods::Hello`, a call of it `Call<C, greeter_methods::Hello>` |
///
/// # Methods
///
/// All are `async fn` of `&self` and named parameters, which own what they hold. Arguments travel as a struct with the
/// parameters' names, in their order, so a JSON peer sends `{"name":"Bo"}`; it may leave out an `Option`. The types of arguments,
/// results and errors are serde's `Serialize` and `DeserializeOwned`, and `Send`.
///
/// | a method that returns | gives its caller |
/// |---|---|
/// | `T`, or nothing | `Result<T, rpc_core::Error>` |
/// | `Result<T, E>` | `Result<T, rpc_core::CallError<E>>` |
///
/// A macro sees no types: a `Result` is what is called `Result` and has two arguments. An alias by another name is a `T`. What is
/// called `Bytes` and is `bytes::Bytes` passes uncopied, as `rpc_core::uncopied` says.
///
/// A method with a body need not be implemented. The body runs at the provider.
///
/// # Options
///
/// | `#[rpc_service(…)]` | |
/// |---|---|
/// | `name = "demo.Greeter"` | the service's name; else the trait's |
/// | `version = "2.0"` | the service's version; else `1.0` |
/// | `crate = "path::to::rpc_core"` | where the generated code finds rpc-core; else `::rpc_core` |
///
/// | `#[rpc(…)]` | |
/// |---|---|
/// | `idempotent` | the method may run twice without harm, so a client may send a call again |
/// | `once` | each call runs at most once on a server: the client sends a key with it, and sends it again to that server only |
/// | `once = "cluster"` | the same for all servers together, which share a store of answers |
/// | `one_way` | no response is sent; the call ends when it is sent |
/// | `timeout = "500ms"` | of calls whose caller names none: a whole number of `ns`, `us`, `ms`, `s` or `m`, up to 49 days; else the client's |
/// | `name = "sayHello"` | the method's name on the wire; else its own |
///
/// Names are made of ASCII letters, digits, `.`, `_` and `-`. `name:version`, and a method's name, have at most 256 bytes.
#[proc_macro_attribute]
pub fn rpc_service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::rpc_service(attribute.into(), parse_macro_input!(item)).into()
}
