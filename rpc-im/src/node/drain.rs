//! Graceful shutdown of a node.

use std::time::Duration;

use rpc_core::contained;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::Node;
use crate::envelope::{Reconnect, ServerFrame};

impl Node {
    /// Shuts the node down gracefully.
    ///
    /// The node rejects logins, sends its clients to other nodes, deregisters and stops. It closes the sessions that are
    /// still open 5 s after it sent the last client away. A second call returns immediately.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future interrupts the shutdown; the node rejects logins from the first poll on.
    pub async fn drain(&self) {
        if !self.context.local.set_draining() {
            return;
        }
        contained(|| info!(node = self.name(), sessions = self.connections(), "draining the node"));
        self.context.router.send_hello();
        self.send_clients_away().await;
        let started = Instant::now();
        while self.connections() > 0 && started.elapsed() < RECONNECT_TIME {
            sleep(CHECK_INTERVAL).await;
        }
        self.context.sessions.close_all();
        self.context.tasks.close();
        if timeout(REQUEST_TIME, self.context.tasks.wait()).await.is_err() {
            let tasks = self.context.tasks.len();
            contained(
                || warn!(node = self.name(), tasks, limit = ?REQUEST_TIME, "requests of clients did not end in time"),
            );
        }
        let _ = timeout(REQUEST_TIME, self.context.appender.finished()).await;
        self.context.lease.leave().await;
        self.stop.cancel();
        let mut tasks = self.tasks.lock().await;
        // The server's task is the first one that ends.
        let _ = timeout(CALL_TIME, tasks.join_next()).await;
        tasks.shutdown().await;
        self.membership.leave().await;
    }

    /// Sends the clients to other nodes at the drain rate.
    async fn send_clients_away(&self) {
        let others = self.nodes().into_iter().filter(|node| !node.draining);
        let reconnect = Reconnect { nodes: others.map(|node| node.websocket).collect(), within_ms: WITHIN_MS };
        self.context.sessions.send_to_clients(ServerFrame::Reconnect(reconnect), self.drain_rate).await;
    }
}

/// The time within which clients reconnect to other nodes.
const WITHIN_MS: u32 = 1000;
/// The time after which sessions of clients that were sent away are closed.
const RECONNECT_TIME: Duration = Duration::from_secs(5);
/// The interval at which the node checks whether all clients have left.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// The time limit for waiting requests of clients.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// The time limit for calls of other nodes.
const CALL_TIME: Duration = Duration::from_secs(10);
