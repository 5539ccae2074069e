//! [`Kicks`]: ends sessions, wherever they are.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use tracing::{debug, warn};

use crate::{
    cluster::forward::NodeForwardClient,
    cluster::local_node::Me,
    cluster::router::NodeRouter,
    directory::Entry,
    identity::{NodeKey, SessionId},
    session::local_sessions::Sessions,
};

/// Ends sessions, wherever they are, while nobody waits for it: so it happens also where who has replaced them is gone itself.
pub(crate) struct Kicks {
    me: Arc<Me>,
    sessions: Arc<Sessions>,
    router: Arc<NodeRouter>,
    queue: mpsc::Sender<Kick>,
    waiting: Mutex<mpsc::Receiver<Kick>>,
}

type Kick = (Vec<Entry>, String);

impl Kicks {
    pub(crate) fn new(me: Arc<Me>, sessions: Arc<Sessions>, router: Arc<NodeRouter>) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        Self { me, sessions, router, queue, waiting: Mutex::new(waiting) }
    }

    /// Ends these sessions soon.
    pub(crate) fn kick(&self, entries: Vec<Entry>, reason: &str) {
        if !entries.is_empty() && self.queue.try_send((entries, reason.to_owned())).is_err() {
            warn!("too many sessions are to be ended at once; some go on until their nodes find out");
        }
    }

    /// Ends what is to be ended, for as long as it is polled. For one who does it.
    pub(crate) async fn run(&self) {
        let mut waiting = self.waiting.lock().await;
        let mut telling = JoinSet::new();
        while let Some((entries, reason)) = waiting.recv().await {
            let mut by_node = HashMap::<NodeKey, Vec<SessionId>>::new();
            for entry in entries {
                by_node.entry(entry.node).or_default().push(entry.session);
            }
            for (node, sessions) in by_node {
                if node == self.me.key() {
                    for session in sessions {
                        self.sessions.kick(session, &reason);
                    }
                    continue;
                }
                if telling.len() >= AT_ONCE {
                    telling.join_next().await;
                }
                telling.spawn(tell(Arc::clone(&self.router), node, sessions, reason.clone()));
            }
            while telling.try_join_next().is_some() {}
        }
    }
}

async fn tell(router: Arc<NodeRouter>, node: NodeKey, sessions: Vec<SessionId>, reason: String) {
    let client = NodeForwardClient::new(router.client().clone());
    for _ in 0..ATTEMPTS {
        let address = router.view().node(node).map(|node| node.address);
        if let Some(address) = address {
            match client.kick(sessions.clone(), reason.clone()).address(address).await {
                Ok(()) => return,
                Err(error) => debug!(%node, %error, "a node could not be told to end sessions"),
            }
        } else if !router.is_to_come(node) {
            // Of a node that is gone, the sessions are too; one that comes back tells what it has, and what has lost is ended then.
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Logins whose predecessors are to be ended.
const MAX_WAITING: usize = 8192;
/// Nodes that are told at once.
const AT_ONCE: usize = 64;
/// Times that a node is told.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(1500);
