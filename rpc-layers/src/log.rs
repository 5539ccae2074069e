//! [`Log`]: a line for each call.

use rpc_core::{
    Context, Error, MethodInfo, Reply,
    layer::{Arrival, ClientLayer, ClientNext, Outgoing, Served, ServerLayer, ServerNext},
};
use tokio::time::Instant;
use tracing::info;

use crate::outcome;

/// Logs each call when it has ended, on info: what was called, by or from whom, how it ended, how long it took. Neither
/// arguments nor metadata are logged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log;

impl ServerLayer for Log {
    async fn serve(&self, arrival: &Arrival, next: ServerNext<'_>) -> Served {
        let _line = ServedLine { method: arrival.method(), context: arrival.context(), begun: Instant::now() };
        next.run().await
    }
}

impl ClientLayer for Log {
    async fn call(&self, call: Outgoing, next: ClientNext<'_>) -> Result<Reply, Error> {
        let mut line = CallLine { method: call.method, outcome: None, begun: Instant::now() };
        let outcome = next.run(call).await;
        line.outcome = Some(match &outcome {
            Ok(_) => outcome::called(&outcome).to_string(),
            Err(error) => error.to_string(),
        });
        outcome
    }
}

/// Logs a call when it is dropped: a handler may be dropped as well as end.
struct ServedLine<'a> {
    method: &'a MethodInfo,
    context: &'a Context,
    begun: Instant,
}

impl Drop for ServedLine<'_> {
    fn drop(&mut self) {
        let code = outcome::served(self.context);
        let (route, peer, took) = (self.method.route(), self.context.peer().address, self.begun.elapsed());
        info!(route, ?peer, %code, ?took, "served");
    }
}

/// As [`ServedLine`]; without an outcome, the caller has dropped the call.
struct CallLine {
    method: &'static MethodInfo,
    outcome: Option<String>,
    begun: Instant,
}

impl Drop for CallLine {
    fn drop(&mut self) {
        let outcome = self.outcome.as_deref().unwrap_or("dropped by its caller");
        info!(route = self.method.route(), outcome, took = ?self.begun.elapsed(), "called");
    }
}
