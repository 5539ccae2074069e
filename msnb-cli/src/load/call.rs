//! [`Call`]: a repeatable call of one method with fixed arguments.

use std::time::Duration;

use rpc_client::Client;
use rpc_core::{CallOptions, Caller, Codec, Error, MethodInfo, Reply, Request, ServiceId};
use serde_json::Value;

/// A call that can be repeated.
#[derive(Clone)]
pub(crate) struct Call {
    client: Client,
    method: &'static MethodInfo,
    arguments: Value,
    options: CallOptions,
}

impl Call {
    /// Creates a call. The method remains in memory until the end of the program.
    pub(crate) fn new(client: Client, service: &ServiceId, method: &str, arguments: Value) -> Self {
        let method = Box::leak(Box::new(MethodInfo::new(service.clone(), method)));
        let mut options = CallOptions::default();
        options.codec = Some(Codec::Json);
        Self { client, method, arguments, options }
    }

    /// Limits the duration of each call.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Returns the options of each call.
    pub(crate) fn options_mut(&mut self) -> &mut CallOptions {
        &mut self.options
    }

    /// Makes one call.
    pub(crate) async fn once(&self) -> Result<Reply, Error> {
        let request = Request { method: self.method, arguments: self.arguments.clone(), options: self.options.clone() };
        self.client.call(request).await
    }
}

/// Returns the payload of an answer as text.
pub(crate) fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.payload.bytes).into_owned()
}
