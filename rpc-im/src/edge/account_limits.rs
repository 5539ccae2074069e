//! [`AccountLimits`]: limits of the requests of a user, over all sessions of the user on this node.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::config::EdgeConfig;
use crate::{
    envelope::{ChangeMembers, ClientFrame, Create, MemberChange, Names, code},
    rates::RateTable,
};

/// Limits of the requests of a user, over all sessions of the user on this node.
#[derive(Debug)]
pub(super) struct AccountLimits {
    rate: u32,
    requests: RateTable<String>,
    groups: Quota,
    /// Additions of members by a user.
    additions: Quota,
    /// Additions of a user by others.
    added: Quota,
    bytes: Quota,
    /// The number of requests that were rejected by a quota.
    pub(super) rejected: AtomicU64,
}

/// An amount that a user may use in a period.
#[derive(Debug)]
struct Quota {
    amount: u64,
    per: &'static str,
    setting: &'static str,
    used: RateTable<String>,
}

/// A rejected request: the code and the reason of its error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) code: &'static str,
    pub(super) reason: String,
}

impl AccountLimits {
    pub(super) fn new(config: &EdgeConfig) -> Self {
        let (hour, day) = ((HOUR, "hour"), (DAY, "day"));
        Self {
            rate: config.rate,
            requests: RateTable::new(config.burst.into(), config.rate.into()),
            groups: Quota::new(config.groups_per_hour.into(), hour, "EdgeConfig::groups_per_hour"),
            additions: Quota::new(config.additions_per_hour.into(), hour, "EdgeConfig::additions_per_hour"),
            added: Quota::new(config.additions_of_user_per_day.into(), day, "EdgeConfig::additions_of_user_per_day"),
            bytes: Quota::new(config.bytes_per_day, day, "EdgeConfig::bytes_per_day"),
            rejected: AtomicU64::new(0),
        }
    }

    /// Admits a request of a user.
    ///
    /// # Errors
    ///
    /// The limit that the request exceeds. It then counts towards the rate only.
    pub(super) fn admit(&self, user: &str, frame: &ClientFrame, now: Instant) -> Result<(), Rejected> {
        if self.requests.take(user.to_owned(), 1.0, now).is_err() {
            let reason = format!("rate limit of the user is {} per second (EdgeConfig::rate), retry in 1 s", self.rate);
            return Err(Rejected { code: code::TOO_MANY, reason });
        }
        let admitted = match frame {
            ClientFrame::Send(send) => self.bytes.take(user, send.body.len() as u64 + MESSAGE_BYTES, now),
            ClientFrame::Edit(edit) => self.bytes.take(user, edit.body.len() as u64 + MESSAGE_BYTES, now),
            ClientFrame::Recall(_) => self.bytes.take(user, MESSAGE_BYTES, now),
            ClientFrame::Create(Create { members, .. }) => {
                self.groups.take(user, 1, now).and_then(|()| self.add(user, members, now))
            }
            ClientFrame::ChangeMembers(ChangeMembers { change: Some(MemberChange::Add(Names { users })), .. }) => {
                self.add(user, users, now)
            }
            ClientFrame::ChangeMembers(_) => self.bytes.take(user, MESSAGE_BYTES, now),
            _ => Ok(()),
        };
        admitted.inspect_err(|_| {
            self.rejected.fetch_add(1, Relaxed);
        })
    }

    /// Counts the addition of members to a group, for the user and for each of them.
    fn add(&self, user: &str, members: &[String], now: Instant) -> Result<(), Rejected> {
        let others: Vec<_> = members.iter().filter(|member| *member != user).collect();
        self.additions.take(user, others.len() as u64, now)?;
        for (index, other) in others.iter().enumerate() {
            if self.added.take(other, 1, now).is_err() {
                others[..index].iter().for_each(|admitted| self.added.give_back(admitted, 1, now));
                let Quota { amount, per, setting, .. } = &self.added;
                let reason =
                    format!("others have added {other} to {amount} groups within a {per} ({setting}), retry later");
                return Err(Rejected { code: code::QUOTA, reason });
            }
        }
        Ok(())
    }
}

impl Quota {
    fn new(amount: u64, (period, per): (Duration, &'static str), setting: &'static str) -> Self {
        let used = RateTable::new(amount as f64, amount as f64 / period.as_secs_f64());
        Self { amount, per, setting, used }
    }

    fn take(&self, user: &str, count: u64, now: Instant) -> Result<(), Rejected> {
        self.used.take(user.to_owned(), count as f64, now).map_err(|wait| {
            let Self { amount, per, setting, .. } = self;
            let wait = wait.as_secs().saturating_add(1);
            let reason = format!("quota of the user is {amount} per {per} ({setting}), retry in {wait} s");
            Rejected { code: code::QUOTA, reason }
        })
    }

    fn give_back(&self, user: &str, count: u64, now: Instant) {
        self.used.give_back(user.to_owned(), count as f64, now);
    }
}

/// The bytes that a message counts besides its body: names, ids and the index.
const MESSAGE_BYTES: u64 = 200;
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Recipient, Send};

    fn create(members: &[&str]) -> ClientFrame {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        ClientFrame::Create(Create { id: "1".into(), members, ..Create::default() })
    }

    fn send(length: usize) -> ClientFrame {
        let to = Some(Recipient::User("bo".into()));
        ClientFrame::Send(Send { id: "1".into(), to, body: "x".repeat(length) })
    }

    #[test]
    fn each_quota_is_reached_at_its_amount() {
        let config = EdgeConfig::default()
            .with_rate(1000, 1000)
            .with_groups_per_hour(2)
            .with_additions_per_hour(5)
            .with_additions_of_user_per_day(3)
            .with_bytes_per_day(10 * MESSAGE_BYTES);
        let (limits, now) = (AccountLimits::new(&config), Instant::now());
        let admit = |user: &str, frame: &ClientFrame, now| limits.admit(user, frame, now).map_err(|error| error.reason);
        assert_eq!(admit("ann", &send(9 * MESSAGE_BYTES as usize), now), Ok(()));
        assert_eq!(
            admit("ann", &send(0), now).unwrap_err(),
            "quota of the user is 2000 per day (EdgeConfig::bytes_per_day), retry in 8641 s"
        );
        assert_eq!(admit("bo", &send(0), now), Ok(()), "another user");
        for _ in 0..2 {
            assert_eq!(admit("ann", &create(&["ann", "bo", "cy"]), now), Ok(()));
        }
        let full = "quota of the user is 2 per hour (EdgeConfig::groups_per_hour), retry in 1801 s";
        assert_eq!(admit("ann", &create(&[]), now).unwrap_err(), full);
        let later = now + HOUR / 2;
        let full = "quota of the user is 5 per hour (EdgeConfig::additions_per_hour), retry in ";
        assert!(admit("ann", &create(&["a", "b", "c", "d"]), later).unwrap_err().starts_with(full));
        // Others have added bo twice.
        assert_eq!(admit("cy", &create(&["bo"]), later), Ok(()));
        let full = "others have added bo to 3 groups within a day (EdgeConfig::additions_of_user_per_day), retry later";
        for _ in 0..2 {
            assert_eq!(admit("cy", &create(&["dee", "bo"]), later + HOUR).unwrap_err(), full);
        }
        assert_eq!(admit("cy", &create(&["dee", "eve"]), later + HOUR * 2), Ok(()));
        assert_eq!(limits.rejected.load(Relaxed), 5);
    }
}
