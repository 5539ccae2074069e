//! [`JsonCall`]: a call of a method that is known by its name only, with JSON.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use rpc_core::{
    BoxFuture, CallError, CallOptions, Caller as _, CallerItems, Code, Codec, Error, Explain as _, Explanation,
    MethodError as _, MethodInfo, Reply, Request, ServiceId, Status, Streaming,
};
use serde_json::Value;

use crate::client::Client;

impl Client {
    /// Calls a method by its route, such as `demo.Greeter:1.0/hello`, with JSON and without its contract.
    ///
    /// `arguments` is an object with the names of the parameters. `msnb.Reflection:1.0` describes the methods of a
    /// server. The call is not retried after an unknown outcome. [`JsonCall::items`] and [`JsonCall::stream`] call methods
    /// with streams.
    ///
    /// # Errors
    ///
    /// As a call of the method: the service's own error as JSON, or an error that states whether the handler may have
    /// executed. `InvalidArgument` if the route or the arguments are not valid; `ResourceExhausted` for a route after
    /// this program has called 4096 others by their names.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example(client: rpc_client::Client) -> Result<(), rpc_core::CallError<serde_json::Value>> {
    /// let answer = client.call_json("demo.Greeter:1.0/hello", serde_json::json!({ "name": "Bo" })).await?;
    /// println!("{answer}");
    /// # Ok(()) }
    /// ```
    pub fn call_json(&self, route: &str, arguments: Value) -> JsonCall {
        let mut options = CallOptions::inherited();
        options.codec = Some(Codec::Json);
        JsonCall { client: self.clone(), route: route.to_owned(), arguments, options }
    }
}

/// A call of a method that is known by its name only. Created by [`Client::call_json`]; `.await` sends it.
#[must_use = "a call is sent when it is awaited"]
pub struct JsonCall {
    client: Client,
    route: String,
    arguments: Value,
    options: CallOptions,
}

impl JsonCall {
    /// Calls the provider at `address` instead of one from the registry.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.options.address = Some(address);
        self
    }

    /// Limits the duration of the call; default: the timeout of the client.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Adds a metadata entry, as `rpc_core::Call::metadata`.
    pub fn metadata(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        if let Err(status) = self.options.metadata.insert(key, value) {
            self.options.invalid.get_or_insert(status);
        }
        self
    }

    /// Prefers the providers with this tag, as `rpc_core::Call::tag`.
    pub fn tag(mut self, tag: &str) -> Self {
        self.options.set_tag(tag);
        self
    }

    /// Sets the items that the call sends, for a method whose last parameter is a stream.
    ///
    /// Such a call is not retried once an item was taken from the stream.
    pub fn items(mut self, items: Streaming<Value>) -> Self {
        self.options.items = Some(CallerItems::new(items));
        self
    }

    /// Sets whether the call waits for an available provider, as `rpc_core::Call::wait_for_ready`.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.options.wait_for_ready = Some(wait);
        self
    }

    /// Returns a future that resolves to the result and an [`Explanation`] of the call.
    pub fn explain(self) -> BoxFuture<'static, (JsonResult<Value>, Explanation)> {
        Box::pin(async move {
            let (reply, explanation) = self.send(false, true).await;
            (reply.map_err(CallError::Rpc).and_then(|(reply, _)| reply.fallible()), explanation)
        })
    }

    /// Returns a future that resolves to the stream of a method that returns one, and an [`Explanation`] of the call.
    ///
    /// The call ends when the stream is dropped or has ended. The timeout limits the time until the provider has accepted
    /// the call.
    pub fn stream(self) -> BoxFuture<'static, (JsonResult<Streaming<Value, Value>>, Explanation)> {
        Box::pin(async move {
            let (reply, explanation) = self.send(true, true).await;
            (reply.map_err(CallError::Rpc).and_then(|(reply, method)| stream(reply, method)), explanation)
        })
    }

    async fn send(
        self,
        returns_items: bool,
        explains: bool,
    ) -> (Result<(Reply, &'static MethodInfo), Error>, Explanation) {
        let Self { client, route, arguments, mut options } = self;
        let method = match interned(&route, options.items.is_some(), returns_items) {
            Ok(method) => method,
            Err(error) => return (Err(error), Explanation::default()),
        };
        if !arguments.is_object() {
            let message = "the arguments are not a JSON object with the names of the parameters";
            options.invalid.get_or_insert(Status::new(Code::InvalidArgument, message));
        }
        options.explain = explains;
        let mut calling = client.call(Request { method, arguments, options });
        let reply = (&mut calling).await;
        let explanation = if explains { calling.explanation() } else { Explanation::default() };
        (reply.map(|reply| (reply, method)), explanation)
    }
}

/// The outcome of a call with JSON; the service's own error is JSON too.
type JsonResult<T> = Result<T, CallError<Value>>;

impl IntoFuture for JsonCall {
    type Output = Result<Value, CallError<Value>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.send(false, false).await.0.map_err(CallError::Rpc)?.0.fallible() })
    }
}

impl fmt::Debug for JsonCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonCall").field("route", &self.route).finish_non_exhaustive()
    }
}

/// Returns the stream of a reply.
fn stream(reply: Reply, method: &'static MethodInfo) -> JsonResult<Streaming<Value, Value>> {
    if reply.is_application_error {
        return Err(Value::decode(reply));
    }
    Streaming::of_reply(reply, method).map_err(CallError::Rpc)
}

/// Returns the method with this route and these streams, which remains in memory until the end of the program.
fn interned(route: &str, sends_items: bool, returns_items: bool) -> Result<&'static MethodInfo, Error> {
    let mut methods = METHODS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (route.to_owned(), sends_items, returns_items);
    if let Some(method) = methods.get(&key) {
        return Ok(method);
    }
    let (service, name) = route.split_once('/').unwrap_or((route, ""));
    let service: ServiceId = service.parse()?;
    if name.is_empty() {
        let message = format!("route `{route}` is invalid: expected `service:version/method`");
        return Err(Error::not_executed(Code::InvalidArgument, message));
    }
    if methods.len() >= MAX_INTERNED {
        let message = format!("this program has called {MAX_INTERNED} other methods by their names");
        return Err(Error::not_executed(Code::ResourceExhausted, message));
    }
    let mut method = MethodInfo::new(service, name);
    if sends_items {
        method = method.sends_items();
    }
    if returns_items {
        method = method.returns_items();
    }
    let method: &'static MethodInfo = Box::leak(Box::new(method));
    methods.insert(key, method);
    Ok(method)
}

static METHODS: LazyLock<Mutex<HashMap<Key, &'static MethodInfo>>> = LazyLock::new(Mutex::default);

/// A route, and whether the caller and the callee send items.
type Key = (String, bool, bool);

/// The largest number of methods that a program calls by their names.
const MAX_INTERNED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_interned_up_to_the_limit() {
        let code = |route: &str| interned(route, false, false).unwrap_err().code();
        for invalid in ["", "demo.Greeter", "demo.Greeter:1.0", "demo.Greeter:1.0/", "demo/hello"] {
            assert_eq!(code(invalid), Code::InvalidArgument, "{invalid}");
        }
        let route = |number: usize| format!("demo.Many:1.0/m{number}");
        let first = interned(&route(0), false, true).unwrap();
        assert!(first.is_returning_items() && !first.is_sending_items());
        for number in 1..MAX_INTERNED {
            interned(&route(number), false, false).unwrap();
        }
        assert_eq!(code(&route(MAX_INTERNED)), Code::ResourceExhausted);
        assert!(std::ptr::eq(interned(&route(0), false, true).unwrap(), first));
    }
}
