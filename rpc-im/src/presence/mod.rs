//! [`Presence`]: announces to a user's contacts that the user came online or went offline.

mod watch_list;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_core::contained;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::{
    cluster::{
        delivery::Delivery, local_node::LocalNode, message::NodeMessage, router::NodeRouter, rpc::NodeForwardClient,
    },
    envelope::{Presence as PresenceFrame, ServerFrame},
    store::{ConversationPager, MessageStore, StoreError},
};
use watch_list::WatchList;

/// Announces to a user's contacts that the user came online or went offline.
///
/// A node checks a user some time after the first report of a change (`NodeConfig::presence_delay`), so it does not
/// announce a user who returns within this time.
///
/// Two nodes watch each user, by rendezvous hashing, and the first of them announces. When it is lost, the second one
/// has the last announced state.
pub(crate) struct Presence {
    local: Arc<LocalNode>,
    router: Arc<NodeRouter>,
    watch_list: Mutex<WatchList>,
    /// The time after which the directory has no sessions of a lost node.
    lease: Duration,
}

impl Presence {
    pub(crate) fn new(local: Arc<LocalNode>, router: Arc<NodeRouter>, delay: Duration, lease: Duration) -> Self {
        Self { local, router, watch_list: Mutex::new(WatchList::new(delay)), lease }
    }

    /// Schedules a check of these users, whose sessions began or ended.
    pub(crate) fn schedule_check(&self, users: Vec<String>) {
        self.watch_list().handle_change(users, Instant::now());
    }

    /// Reports to the watching nodes that a session of a user on this node began or ended.
    pub(crate) async fn announce(&self, user: &str) {
        let view = self.router.view();
        for node in view.ranked(user).into_iter().take(WATCHERS) {
            if node.id == self.local.id() {
                self.schedule_check(vec![user.to_owned()]);
            } else {
                let client = NodeForwardClient::new(self.router.client().clone());
                // A lost report is repaired by the user's next change.
                let _ = client.sessions_changed(vec![user.to_owned()]).address(node.address).await;
            }
        }
    }

    /// Checks users and announces changes until dropped.
    pub(crate) async fn run(&self, delivery: &Delivery, store: &dyn MessageStore) {
        let mut view = self.router.view();
        loop {
            sleep(CHECK_INTERVAL).await;
            let last = std::mem::replace(&mut view, self.router.view());
            let now = Instant::now();
            if !last.has_same_nodes(&view) {
                self.watch_list().handle_lost_node(now + self.lease);
            }
            let due = self.watch_list().poll_due(now);
            for users in due.chunks(MAX_LOOKUP) {
                let Ok(located) = delivery.locate(users.to_vec()).await else {
                    self.schedule_check(users.to_vec());
                    continue;
                };
                for (user, entries) in users.iter().zip(located) {
                    let Some(online) = self.watch_list().handle_checked(user, !entries.is_empty()) else { continue };
                    if view.ranked(user).first().is_some_and(|first| first.id == self.local.id()) {
                        notify_contacts(user, online, delivery, store).await;
                    }
                }
            }
        }
    }

    fn watch_list(&self) -> MutexGuard<'_, WatchList> {
        self.watch_list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn notify_contacts(user: &str, online: bool, delivery: &Delivery, store: &dyn MessageStore) {
    match contacts(user, store).await {
        Ok(contacts) => {
            let message = NodeMessage::frame(ServerFrame::Presence(PresenceFrame { user: user.to_owned(), online }));
            delivery.send_to_users(&contacts, &[(message, None)]).await;
        }
        Err(error) => {
            contained(|| debug!(%error, "presence change not announced: reading the user's conversations failed"));
        }
    }
}

/// Reports to new contacts of a conversation which members are online, and to the other members which new ones are.
pub(crate) async fn introduce(delivery: &Delivery, new: &[String], members: &[String]) {
    // Without the directory, later changes are announced.
    let Ok(located) = delivery.locate(members.to_vec()).await else { return };
    let online: Vec<_> = members.iter().zip(located).filter(|(_, entries)| !entries.is_empty()).collect();
    for (user, _) in &online {
        let is_new = new.contains(user);
        let contacts = online.iter().filter(|(other, _)| other != user && (is_new || new.contains(other)));
        let frame = ServerFrame::Presence(PresenceFrame { user: String::clone(user), online: true });
        delivery.send(&NodeMessage::frame(frame), contacts.flat_map(|(_, entries)| entries));
    }
}

/// Returns up to [`MAX_CONTACTS`] other members of the user's small conversations.
async fn contacts(user: &str, store: &dyn MessageStore) -> Result<Vec<String>, StoreError> {
    let (mut contacts, mut pager) = (BTreeSet::new(), ConversationPager::new(store, user, String::new()));
    while contacts.len() < MAX_CONTACTS
        && let Some(page) = pager.next().await?
    {
        let small = page.into_iter().filter(|info| info.audience.count <= MAX_CONTACT_GROUP as u64);
        contacts.extend(small.flat_map(|info| info.audience.members).filter(|member| member != user));
    }
    Ok(contacts.into_iter().take(MAX_CONTACTS).collect())
}

/// The number of nodes that watch one user.
const WATCHERS: usize = 2;
/// The interval at which due checks are executed.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// The maximum number of users in one lookup.
const MAX_LOOKUP: usize = 256;
/// The maximum size of a conversation whose members are contacts of each other.
pub(crate) const MAX_CONTACT_GROUP: usize = 50;
/// The maximum number of contacts that one change is announced to.
const MAX_CONTACTS: usize = 500;
