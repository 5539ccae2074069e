//! [`Delivery`]: delivers payloads to sessions of users, on any node.

use std::{collections::HashMap, sync::Arc};

use rpc_core::contained;
use tracing::debug;

use super::{
    broadcast::Broadcast,
    local_node::LocalNode,
    member_cache::MemberCache,
    message::{NodeMessage, OutgoingMessage},
    router::NodeRouter,
    rpc::Recipients,
};
use crate::{
    directory::{Directory, DirectoryError, SessionEntry},
    identity::{NodeId, SessionId},
    session::{
        local_sessions::{LocalSessions, Payload},
        resync::ResyncNotifier,
    },
    store::Audience,
};

/// Delivers payloads to sessions of users, on any node.
///
/// A payload for a few users goes to the nodes on which the directory finds their sessions. A payload for a large group
/// goes once to each node, which delivers it to its own sessions of members; so does a payload for users while the
/// directory does not answer.
pub(crate) struct Delivery {
    local: Arc<LocalNode>,
    sessions: Arc<LocalSessions>,
    router: Arc<NodeRouter>,
    directory: Arc<dyn Directory>,
    members: MemberCache,
    broadcast: Broadcast,
    resync: Arc<ResyncNotifier>,
}

/// A message, and the session of this node that does not receive it because it is the sender.
pub(crate) type Sent = (Arc<NodeMessage>, Option<SessionId>);

impl Delivery {
    pub(crate) fn new(
        local: Arc<LocalNode>,
        sessions: Arc<LocalSessions>,
        router: Arc<NodeRouter>,
        directory: Arc<dyn Directory>,
        members: MemberCache,
        broadcast: Broadcast,
        resync: Arc<ResyncNotifier>,
    ) -> Self {
        Self { local, sessions, router, directory, members, broadcast, resync }
    }

    /// Returns the sessions of each of these users, in the order of the users.
    pub(crate) async fn locate(&self, users: Vec<String>) -> Result<Vec<Vec<SessionEntry>>, DirectoryError> {
        self.directory.lookup(users).await
    }

    /// Sends messages to the members of a conversation, in order.
    pub(crate) async fn send_to_members(&self, conversation: &str, audience: &Audience, messages: &[Sent]) {
        if audience.count == 0 || messages.is_empty() {
            return;
        }
        if audience.members.is_empty() {
            let to = Recipients::Members { conversation: conversation.into(), version: audience.version };
            self.send_to_all(&to, messages).await;
        } else {
            self.send_to_users(&audience.members, messages).await;
        }
    }

    /// Sends messages to these users, in order.
    pub(crate) async fn send_to_users(&self, users: &[String], messages: &[Sent]) {
        match self.locate(users.to_vec()).await {
            Ok(located) => {
                let targets: Vec<_> = located.into_iter().flatten().collect();
                for (message, from) in messages {
                    self.send(message, targets.iter().filter(|target| Some(target.session) != *from));
                }
            }
            Err(error) => {
                contained(|| debug!(%error, "the directory does not answer; sending messages to all nodes"));
                self.send_to_all(&Recipients::Users(users.to_vec()), messages).await;
            }
        }
    }

    /// Sends a message to these sessions.
    pub(crate) fn send<'a>(&self, message: &Arc<NodeMessage>, targets: impl IntoIterator<Item = &'a SessionEntry>) {
        let mut by_node = HashMap::<NodeId, Vec<SessionId>>::new();
        for target in targets {
            by_node.entry(target.node).or_default().push(target.session);
        }
        for (node, sessions) in by_node {
            if node == self.local.id() {
                for session in sessions {
                    let delivered = self.sessions.deliver(session, &message.payload);
                    if let (Err(_), Some(from)) = (delivered, message.from) {
                        self.sessions.kick(from, "the other side of the room is not connected");
                    }
                }
            } else {
                let to = Recipients::Sessions(sessions);
                self.router.send(node, OutgoingMessage { message: Arc::clone(message), to });
            }
        }
    }

    /// Delivers a payload to the sessions of this node, except to one session.
    pub(crate) async fn deliver_here(&self, to: &Recipients, payload: &Payload, except: Option<SessionId>) {
        let sessions = match to {
            Recipients::Sessions(sessions) => sessions.clone(),
            Recipients::Users(users) => self.sessions.ids_of(users.iter()),
            Recipients::Members { conversation, version } => {
                match self.members.members(conversation, *version).await {
                    Ok(members) => self.sessions.ids_of_members(&members),
                    Err(error) => {
                        contained(|| debug!(%conversation, %error, "reading the members of a conversation failed"));
                        // Any session may have missed the message.
                        self.resync.request();
                        return;
                    }
                }
            }
        };
        for session in sessions.into_iter().filter(|session| Some(*session) != except) {
            // A session that has ended needs no message.
            let _ = self.sessions.deliver(session, payload);
        }
    }

    /// Delivers the messages that other nodes send through the backplane, until dropped.
    pub(crate) async fn run(&self) {
        loop {
            match self.broadcast.next().await {
                Some((to, payload)) => self.deliver_here(&to, &payload, None).await,
                None => self.resync.request(),
            }
        }
    }

    async fn send_to_all(&self, to: &Recipients, messages: &[Sent]) {
        for (message, from) in messages {
            self.broadcast.send(message, to).await;
            self.deliver_here(to, &message.payload, *from).await;
        }
    }
}
