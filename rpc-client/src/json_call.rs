//! [`JsonCall`]: a call of a method that is known by its name only, with JSON.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use rpc_core::{
    BoxFuture, CallError, CallOptions, Caller as _, Code, Codec, Error, MethodInfo, Request, ServiceId, Status,
};
use serde_json::Value;

use crate::client::Client;

impl Client {
    /// Calls a method by its route, such as `demo.Greeter:1.0/hello`, with JSON and without its contract.
    ///
    /// `arguments` is an object with the names of the parameters. `msnb.Reflection:1.0` describes the methods of a
    /// server. The call is not retried after an unknown outcome. Methods with streams cannot be called in this way.
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
        JsonCall { client: self.clone(), method: interned(route), arguments, options }
    }
}

/// A call of a method that is known by its name only. Created by [`Client::call_json`]; `.await` sends it.
#[must_use = "a call is sent when it is awaited"]
pub struct JsonCall {
    client: Client,
    method: Result<&'static MethodInfo, Error>,
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

    /// Sets whether the call waits for an available provider, as `rpc_core::Call::wait_for_ready`.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.options.wait_for_ready = Some(wait);
        self
    }
}

impl IntoFuture for JsonCall {
    type Output = Result<Value, CallError<Value>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { client, method, arguments, mut options } = self;
            let method = method?;
            if !arguments.is_object() {
                let message = "the arguments are not a JSON object with the names of the parameters";
                options.invalid.get_or_insert(Status::new(Code::InvalidArgument, message));
            }
            client.call(Request { method, arguments, options }).await?.fallible()
        })
    }
}

impl fmt::Debug for JsonCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonCall").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Returns the method with this route, which remains in memory until the end of the program.
fn interned(route: &str) -> Result<&'static MethodInfo, Error> {
    let mut methods = METHODS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(method) = methods.get(route) {
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
    let method: &'static MethodInfo = Box::leak(Box::new(MethodInfo::new(service, name)));
    methods.insert(route.to_owned(), method);
    Ok(method)
}

static METHODS: LazyLock<Mutex<HashMap<String, &'static MethodInfo>>> = LazyLock::new(Mutex::default);

/// The largest number of methods that a program calls by their names.
const MAX_INTERNED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_interned_up_to_the_limit() {
        let code = |route: &str| interned(route).unwrap_err().code();
        for invalid in ["", "demo.Greeter", "demo.Greeter:1.0", "demo.Greeter:1.0/", "demo/hello"] {
            assert_eq!(code(invalid), Code::InvalidArgument, "{invalid}");
        }
        let route = |number: usize| format!("demo.Many:1.0/m{number}");
        let first = interned(&route(0)).unwrap();
        for number in 1..MAX_INTERNED {
            interned(&route(number)).unwrap();
        }
        assert_eq!(code(&route(MAX_INTERNED)), Code::ResourceExhausted);
        assert!(std::ptr::eq(interned(&route(0)).unwrap(), first));
    }
}
