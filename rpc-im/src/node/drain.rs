//! How a node leaves in order.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::Node;
use crate::envelope::{Reconnect, ServerFrame};

impl Node {
    /// Leaves in order: takes no more logins, sends its clients to other nodes, gives their conversations away, takes itself off
    /// the registry, and ends. What clients hold on to after that is closed. Meant to be called once; a second call returns at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it takes no logins any more, and has got as far as it has got.
    pub async fn drain(&self) {
        if !self.parts.me.set_draining() {
            return;
        }
        info!(node = %self.key(), sessions = self.connections(), "a node leaves");
        self.parts.router.say_hello();
        // The others see it leave, and become homes of its conversations, while it can still be asked.
        let _ = timeout(NOTICE, self.until_seen_leaving()).await;
        self.send_away().await;
        let begun = Instant::now();
        while self.connections() > 0 && begun.elapsed() < LINGER {
            sleep(LOOK).await;
        }
        self.parts.sessions.close_all();
        self.parts.tasks.close();
        if timeout(LAST_WORDS, self.parts.tasks.wait()).await.is_err() {
            warn!(node = %self.key(), tasks = self.parts.tasks.len(), "not all that was asked of the node has ended");
        }
        self.stop.cancel();
        let mut tasks = self.tasks.lock().await;
        // The first to end by itself is the server.
        let _ = timeout(LAST_CALLS, tasks.join_next()).await;
        tasks.shutdown().await;
        self.parts.directory.leave().await;
        self.parts.homes.0.working.stop();
        self.parts.homes.0.working.stopped().await;
    }

    async fn until_seen_leaving(&self) {
        let mut views = self.parts.router.watch();
        while !views.borrow_and_update().node(self.key()).is_some_and(|me| me.draining) {
            if views.changed().await.is_err() {
                return;
            }
        }
        sleep(SETTLE).await;
    }

    /// Tells clients to go elsewhere, so many a second.
    async fn send_away(&self) {
        let others = self.nodes().into_iter().filter(|node| !node.draining);
        let reconnect = Reconnect { nodes: others.map(|node| node.websocket).collect(), within_ms: WITHIN_MS };
        self.parts.sessions.tell_clients(ServerFrame::Reconnect(reconnect), self.drain_rate).await;
    }
}

/// How long a node that leaves waits until it is seen to leave.
const NOTICE: Duration = Duration::from_secs(3);
/// How long others have to ask it for its conversations.
const SETTLE: Duration = Duration::from_secs(1);
/// Within what time a client that is sent away goes.
const WITHIN_MS: u32 = 1000;
/// How long clients that were sent away may stay.
const LINGER: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);
/// How long what was asked for before has to end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long calls of other nodes have to end.
const LAST_CALLS: Duration = Duration::from_secs(10);
