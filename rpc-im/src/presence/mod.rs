//! [`Presence`]: tells users that somebody they talk with came or went, unless it was only for a moment.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::{
    cluster::delivery::Delivery,
    cluster::forward::NodeForwardClient,
    cluster::local_node::Me,
    cluster::peer_link::Letter,
    cluster::router::NodeRouter,
    conversation::Homes,
    envelope::{Presence as Told, ServerFrame},
};

/// Tells users that somebody they talk with came or went. It waits a while after the first sign, and then looks: who has come back
/// by then has not been gone.
///
/// Two nodes keep watch over each user, by rendezvous hashing; the first of them tells. When it is gone, the second knows what was
/// told.
pub(crate) struct Presence {
    me: Arc<Me>,
    router: Arc<NodeRouter>,
    watched: Mutex<Watched>,
}

/// What was told of users, and who is to be looked at: a state machine.
#[derive(Debug)]
struct Watched {
    delay: Duration,
    users: HashMap<String, Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    told_online: bool,
    look_at: Option<Instant>,
}

impl Presence {
    pub(crate) fn new(me: Arc<Me>, router: Arc<NodeRouter>, delay: Duration) -> Self {
        let watched = Mutex::new(Watched { delay, users: HashMap::new() });
        Self { me, router, watched }
    }

    /// Sessions of these users have come or gone.
    pub(crate) fn stir(&self, users: Vec<String>) {
        self.watched().handle_stir(users, Instant::now());
    }

    /// Tells those who watch over a user of this node that one of its sessions came or went.
    pub(crate) async fn announce(&self, user: &str) {
        let view = self.router.view();
        for node in view.ranked(user).into_iter().take(WATCHERS) {
            if node.key == self.me.key() {
                self.stir(vec![user.to_owned()]);
            } else {
                let client = NodeForwardClient::new(self.router.client().clone());
                // Who is not told of it now, learns it with the next change.
                let _ = client.stirred(vec![user.to_owned()]).address(node.address).await;
            }
        }
    }

    /// Looks and tells for as long as it is polled.
    pub(crate) async fn run(&self, delivery: &Delivery, homes: &Homes) {
        let mut views = self.router.watch();
        let mut nodes = 0;
        loop {
            sleep(LOOK).await;
            let view = Arc::clone(&views.borrow_and_update());
            let now = Instant::now();
            if nodes != view.fingerprint {
                nodes = view.fingerprint;
                // Whoever was on a node that is gone was not announced.
                self.watched().handle_doubt(now);
            }
            let due = self.watched().poll_due(now);
            for users in due.chunks(AT_ONCE) {
                for (user, entries) in users.iter().zip(delivery.locate(users.to_vec()).await) {
                    let Some(online) = self.watched().handle_found(user, !entries.is_empty()) else { continue };
                    if view.owner(user).key == self.me.key() {
                        tell(user, online, delivery, homes).await;
                    }
                }
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn handle_stir(&mut self, users: Vec<String>, now: Instant) {
        for user in users {
            if self.users.len() < MAX_USERS || self.users.contains_key(&user) {
                self.users.entry(user).or_default().look_at.get_or_insert(now + self.delay);
            }
        }
    }

    /// Everybody may have gone.
    fn handle_doubt(&mut self, now: Instant) {
        for watch in self.users.values_mut() {
            watch.look_at.get_or_insert(now + self.delay);
        }
    }

    /// Who is to be looked at now.
    fn poll_due(&mut self, now: Instant) -> Vec<String> {
        let due = self.users.iter_mut().filter(|(_, watch)| watch.look_at.is_some_and(|at| at <= now));
        due.map(|(user, watch)| {
            watch.look_at = None;
            user.clone()
        })
        .collect()
    }

    /// What is to be told now, if anything.
    fn handle_found(&mut self, user: &str, online: bool) -> Option<bool> {
        let watch = self.users.get_mut(user)?;
        let is_news = watch.told_online != online;
        watch.told_online = online;
        if !online && watch.look_at.is_none() {
            self.users.remove(user);
        }
        is_news.then_some(online)
    }
}

async fn tell(user: &str, online: bool, delivery: &Delivery, homes: &Homes) {
    let conversations = match homes.conversations(user).await {
        Ok(conversations) => conversations,
        Err(error) => return debug!(%error, "nobody is told that a user came or went"),
    };
    let small = conversations.into_iter().filter(|conversation| conversation.members.len() <= SMALL);
    let friends: BTreeSet<_> =
        small.flat_map(|conversation| conversation.members).filter(|member| member != user).collect();
    let friends: Vec<_> = friends.into_iter().take(MAX_TOLD).collect();
    let letter = Letter::of_frame(ServerFrame::Presence(Told { user: user.to_owned(), online }));
    delivery.send_to_users(&friends, &[(letter, None)]).await;
}

/// Nodes that watch over one user.
const WATCHERS: usize = 2;
/// How often it is looked who is due.
const LOOK: Duration = Duration::from_millis(200);
/// Users that are looked up at once.
const AT_ONCE: usize = 256;
/// Users that are watched over by one node at most; of others nothing is told.
const MAX_USERS: usize = 1_000_000;
/// In conversations of more members nobody is told who came or went.
pub(crate) const SMALL: usize = 50;
/// Users that are told of one at most.
const MAX_TOLD: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> (Watched, Instant) {
        (Watched { delay: Duration::from_secs(5), users: HashMap::new() }, Instant::now())
    }

    fn ann() -> Vec<String> {
        vec!["ann".to_owned()]
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_looked_at_before_the_delay_is_over() {
        let (mut watched, now) = watched();
        watched.handle_stir(ann(), now);
        assert!(watched.poll_due(now + Duration::from_millis(4999)).is_empty());
        assert_eq!(watched.poll_due(now + Duration::from_secs(5)), ann());
        assert!(watched.poll_due(now + Duration::from_secs(9)).is_empty(), "once");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_in_time_has_not_been_gone() {
        let (mut watched, now) = watched();
        watched.handle_stir(ann(), now);
        assert_eq!(watched.handle_found("ann", true), Some(true));
        for _ in 0..2 {
            watched.handle_stir(ann(), now);
        }
        assert_eq!(watched.handle_found("ann", true), None);
        assert_eq!(watched.handle_found("ann", false), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_ends_at_once_is_not_told_at_all() {
        let (mut watched, now) = watched();
        watched.handle_stir(ann(), now);
        watched.poll_due(now + Duration::from_secs(5));
        assert_eq!(watched.handle_found("ann", false), None);
        assert!(watched.users.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn when_a_node_is_gone_everybody_is_looked_at() {
        let (mut watched, now) = watched();
        watched.handle_stir(ann(), now);
        watched.poll_due(now + Duration::from_secs(5));
        watched.handle_found("ann", true);
        watched.handle_doubt(now);
        assert_eq!(watched.poll_due(now + Duration::from_secs(5)), ann());
    }
}
