//! [`Log`]: logs each call.

use rpc_core::{
    Context, Error, MethodInfo, Reply, contained,
    layer::{ClientLayer, ClientNext, IncomingCall, OutgoingCall, Served, ServerLayer, ServerNext},
};
use tokio::time::Instant;
use tracing::{field::display, info};

use crate::outcome;

/// Logs each call at level info when it ends.
///
/// A server logs `served` with the fields `route`, `peer`, `identity`, `code` and `took`; a client logs `called` with
/// `route`, `outcome` and `took`. Calls within the process have no `peer`, and anonymous callers have no `identity`.
/// Arguments and metadata are never logged.
///
/// If the subscriber panics, the line is lost and the call continues.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log;

impl ServerLayer for Log {
    async fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> Served {
        let _line = ServedLine { method: arrival.method(), context: arrival.context(), started: Instant::now() };
        next.run().await
    }
}

impl ClientLayer for Log {
    async fn call(&self, call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
        let mut line = CallLine { method: call.method, outcome: None, started: Instant::now() };
        let outcome = next.run(call).await;
        line.outcome = Some(match &outcome {
            Ok(_) => outcome::called(&outcome).to_string(),
            Err(error) => error.to_string(),
        });
        outcome
    }
}

/// Logs a served call when it is dropped, because a handler may be dropped before it ends.
struct ServedLine<'a> {
    method: &'a MethodInfo,
    context: &'a Context,
    started: Instant,
}

impl Drop for ServedLine<'_> {
    fn drop(&mut self) {
        let code = outcome::served(self.context);
        let (route, peer, took) = (self.method.route(), self.context.peer(), self.started.elapsed());
        let identity = Some(peer.identity()).filter(|identity| !identity.is_anonymous());
        let (peer, identity) = (peer.address.map(display), identity.map(display));
        contained(|| info!(route, peer, identity, %code, ?took, "served"));
    }
}

/// Logs a call to a server when it is dropped; without an outcome, the caller has dropped the call.
struct CallLine {
    method: &'static MethodInfo,
    outcome: Option<String>,
    started: Instant,
}

impl Drop for CallLine {
    fn drop(&mut self) {
        let outcome = self.outcome.as_deref().unwrap_or("dropped by the caller");
        contained(|| info!(route = self.method.route(), outcome, took = ?self.started.elapsed(), "called"));
    }
}
