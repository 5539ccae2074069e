//! [`WatchList`]: the users whose presence a node watches. No I/O.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// The users whose presence a node watches, with the last announced state and the next check of each.
#[derive(Debug)]
pub(super) struct WatchList {
    delay: Duration,
    users: HashMap<String, WatchedUser>,
}

#[derive(Debug, Default)]
struct WatchedUser {
    announced_online: bool,
    check_at: Option<Instant>,
}

impl WatchList {
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, users: HashMap::new() }
    }

    /// Schedules a check of these users after the delay. Above [`MAX_USERS`], new users are ignored.
    pub(super) fn handle_change(&mut self, users: Vec<String>, now: Instant) {
        for user in users {
            if self.users.len() < MAX_USERS || self.users.contains_key(&user) {
                self.users.entry(user).or_default().check_at.get_or_insert(now + self.delay);
            }
        }
    }

    /// Schedules a check of all users after `ended` and the delay: the sessions of a lost node end without a report.
    pub(super) fn handle_lost_node(&mut self, ended: Instant) {
        for user in self.users.values_mut() {
            user.check_at.get_or_insert(ended + self.delay);
        }
    }

    /// Returns the users whose check is due, once for each check.
    pub(super) fn poll_due(&mut self, now: Instant) -> Vec<String> {
        let due = self.users.iter_mut().filter(|(_, user)| user.check_at.is_some_and(|at| at <= now));
        due.map(|(name, user)| {
            user.check_at = None;
            name.clone()
        })
        .collect()
    }

    /// Handles the result of a check; returns the state if it differs from the last announced one.
    pub(super) fn handle_checked(&mut self, name: &str, online: bool) -> Option<bool> {
        let user = self.users.get_mut(name)?;
        let changed = user.announced_online != online;
        user.announced_online = online;
        if !online && user.check_at.is_none() {
            self.users.remove(name);
        }
        changed.then_some(online)
    }
}

/// The maximum number of users that one node watches; it announces no changes of further ones.
const MAX_USERS: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn watch_list() -> (WatchList, Instant) {
        (WatchList::new(Duration::from_secs(5)), Instant::now())
    }

    fn ann() -> Vec<String> {
        vec!["ann".to_owned()]
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_is_due_once_and_after_the_delay() {
        let (mut list, now) = watch_list();
        list.handle_change(ann(), now);
        assert!(list.poll_due(now + Duration::from_millis(4999)).is_empty());
        assert_eq!(list.poll_due(now + Duration::from_secs(5)), ann());
        assert!(list.poll_due(now + Duration::from_secs(9)).is_empty(), "once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_return_before_the_check_is_not_announced() {
        let (mut list, now) = watch_list();
        list.handle_change(ann(), now);
        assert_eq!(list.handle_checked("ann", true), Some(true));
        for _ in 0..2 {
            list.handle_change(ann(), now);
        }
        assert_eq!(list.handle_checked("ann", true), None);
        assert_eq!(list.handle_checked("ann", false), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_ends_before_the_check_is_not_announced() {
        let (mut list, now) = watch_list();
        list.handle_change(ann(), now);
        list.poll_due(now + Duration::from_secs(5));
        assert_eq!(list.handle_checked("ann", false), None);
        assert!(list.users.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_node_schedules_a_check_of_all_users() {
        let (mut list, now) = watch_list();
        list.handle_change(ann(), now);
        list.poll_due(now + Duration::from_secs(5));
        list.handle_checked("ann", true);
        list.handle_lost_node(now);
        assert_eq!(list.poll_due(now + Duration::from_secs(5)), ann());
    }
}
