//! [`Call`]: a repeatable call of one method with fixed arguments.

use std::time::Duration;

use rpc_client::Client;
use rpc_core::{CallOptions, Caller, MethodInfo, Request};
use serde_json::Value;

/// A call that can be repeated.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) client: Client,
    pub(super) method: &'static MethodInfo,
    pub(super) arguments: Value,
    pub(super) timeout: Duration,
}

/// The answer of a provider.
pub(super) struct Answer {
    pub(super) reply: rpc_core::Reply,
}

impl Call {
    /// Makes one call.
    pub(super) async fn once(&self) -> Result<Answer, rpc_core::Error> {
        let mut options = CallOptions::default();
        options.timeout = Some(self.timeout);
        let request = Request { method: self.method, arguments: self.arguments.clone(), options };
        self.client.call(request).await.map(|reply| Answer { reply })
    }
}

impl Answer {
    /// Returns the payload as text, with a prefix if it is an application error.
    pub(super) fn text(&self) -> String {
        let value = String::from_utf8_lossy(&self.reply.payload.bytes);
        if self.reply.is_application_error { format!("application error {value}") } else { value.into_owned() }
    }
}
