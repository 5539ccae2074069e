//! [`Timeouts`]: the timeouts of calls by method and service.

use std::{collections::HashMap, time::Duration};

use rpc_core::{
    Error, Reply,
    layer::{ClientLayer, ClientNext, OutgoingCall},
};

/// Sets the timeouts of a client's calls by method and service.
///
/// The first of these timeouts applies: that of the call (`.timeout(…)`), that of this layer for the method, that of
/// this layer for the service, that of the method in the contract, and that of the client. A call inside a handler ends
/// by the deadline of the handler in any case.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use rpc_core::layer::Layered;
/// # use rpc_layers::Timeouts;
/// # let client = rpc_client::Client::builder().build().unwrap();
/// let timeouts = Timeouts::new()
///     .with("shop.Goods:1.0", Duration::from_secs(1))
///     .with("shop.Goods:1.0/report", Duration::from_secs(60));
/// let caller = Layered::new(client).layer(timeouts);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Timeouts(HashMap<String, Duration>);

impl Timeouts {
    /// Creates the layer without timeouts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the timeout of a method such as `"demo.Greeter:1.0/hello"`, or of the methods of a service such as
    /// `"demo.Greeter:1.0"`.
    #[must_use]
    pub fn with(mut self, target: impl Into<String>, timeout: Duration) -> Self {
        self.0.insert(target.into(), timeout);
        self
    }

    fn of(&self, route: &str) -> Option<Duration> {
        let service = route.split('/').next().unwrap_or_default();
        self.0.get(route).or_else(|| self.0.get(service)).copied()
    }
}

impl ClientLayer for Timeouts {
    async fn call(&self, mut call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
        if let Some(timeout) = self.of(call.method.route()) {
            call.set_default_timeout(timeout);
        }
        next.run(call).await
    }
}
