//! [`Acceptor`]: accepts the connections of one relay and owns their tasks.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    gate::{Decision, Gate},
    splice,
};
use crate::{
    address::HostPort,
    supervision::{completes, log},
};

/// The two listeners of a relay, with its connections.
///
/// Dropping it aborts their tasks and closes their sockets.
pub(super) struct Acceptor {
    listeners: [TcpListener; 2],
    servers: Arc<[HostPort]>,
    gate: Gate,
    /// Accepted connections whose first bytes are being checked.
    incoming: JoinSet<Option<(usize, TcpStream)>>,
    connections: JoinSet<()>,
}

impl Acceptor {
    pub(super) fn new(listeners: [TcpListener; 2], servers: Arc<[HostPort]>) -> Self {
        Self { listeners, servers, gate: Gate::default(), incoming: JoinSet::new(), connections: JoinSet::new() }
    }

    /// Accepts connections until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !completes("nacos relay", self.accept(&stop)).await {}
    }

    async fn accept(&mut self, stop: &CancellationToken) {
        loop {
            let below_limit = self.incoming.len() + self.connections.len() < MAX_CONNECTIONS;
            // All branches are cancel-safe.
            let (port, accepted) = tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = self.connections.join_next(), if !self.connections.is_empty() => continue,
                Some(checked) = self.incoming.join_next(), if !self.incoming.is_empty() => {
                    if let Ok(Some((port, client))) = checked {
                        self.handle_client(port, client);
                    }
                    continue;
                }
                accepted = self.listeners[0].accept(), if below_limit => (0, accepted),
                accepted = self.listeners[1].accept(), if below_limit => (1, accepted),
            };
            match accepted {
                Ok((client, _)) => {
                    self.incoming.spawn(async move { is_http2(&client).await.then_some((port, client)) });
                }
                Err(error) => {
                    log(|| tracing::debug!(%error, "the relay to Nacos cannot accept a connection"));
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    fn handle_client(&mut self, port: usize, client: TcpStream) {
        match self.gate.decide(Instant::now(), port) {
            Decision::Forward => {
                self.connections.abort_all();
                self.connections.spawn(splice::run(client, Arc::clone(&self.servers)));
            }
            Decision::Close => {}
            Decision::Hold => {
                self.connections.spawn(async move {
                    sleep(HOLD_TIME).await;
                    drop(client);
                });
            }
        }
    }
}

/// Returns whether the client sends the first bytes of an HTTP/2 client.
async fn is_http2(client: &TcpStream) -> bool {
    let preface = async {
        let mut bytes = [0; HTTP2_PREFACE.len()];
        loop {
            match client.peek(&mut bytes).await {
                Ok(length) if length > 0 && HTTP2_PREFACE.starts_with(&bytes[..length]) => {
                    if length == HTTP2_PREFACE.len() {
                        return true;
                    }
                    // The peeked part keeps the socket readable, so readiness does not signal the next bytes.
                    sleep(Duration::from_millis(1)).await;
                }
                _ => return false,
            }
        }
    };
    timeout(PREFACE_TIMEOUT, preface).await.unwrap_or(false)
}

/// The maximum number of connections: the forwarded one and those that are being closed or held.
///
/// Others wait in the listeners' backlogs.
const MAX_CONNECTIONS: usize = 8;
/// The first bytes of every HTTP/2 connection.
pub(super) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// The time a client has for its first bytes. The SDK sends them at once; port scanners do not.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(1);
/// The delay after a failed accept.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long a held connection stays without an answer.
///
/// Once the SDK has set up a connection, it abandons the connection if three health checks fail. It makes the checks
/// every 5 s, and only after 5 s in which no call has ended.
const HOLD_TIME: Duration = Duration::from_secs(12);
