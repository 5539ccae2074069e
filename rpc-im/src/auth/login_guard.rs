//! [`LoginGuard`]: limits the guesses of passwords, by address and by user.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::rates::RateTable;

/// Limits the guesses of passwords, by address and by user. It does no I/O; the caller passes the time.
///
/// | limit | counts | protects |
/// |---|---|---|
/// | a lockout that doubles with each failure | failures of one address for one user | a user against one guesser; other addresses of the user are not affected |
/// | a rate by address | failures of one address | users against one guesser that tries many of them |
/// | a rate by user | failures for one user at addresses from which the user has not logged in | a user against many guessers |
/// | checks at the same time, by address | unfinished checks of one address | the queue of password checks |
///
/// An attempt counts as a failure until it succeeds, so that concurrent guesses count too.
#[derive(Debug)]
pub(crate) struct LoginGuard {
    addresses: RateTable<IpAddr>,
    users: RateTable<String>,
    state: Mutex<State>,
}

/// A user, and the address of a client.
type Pair = (String, IpAddr);

#[derive(Debug, Default)]
struct State {
    failures: HashMap<Pair, Failures>,
    /// The addresses from which users have logged in.
    familiar: HashSet<Pair>,
    /// The number of unfinished checks of each address.
    running: HashMap<IpAddr, usize>,
    swept: Option<Instant>,
}

/// The failures of one address for one user.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    /// The end of the lockout.
    until: Instant,
}

/// An admitted attempt. Without [`succeed`](Self::succeed) or [`withdraw`](Self::withdraw) it counts as a failure.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    guard: &'a LoginGuard,
    pair: Pair,
    counts_for_user: bool,
}

impl LoginGuard {
    pub(crate) fn new() -> Self {
        Self {
            addresses: RateTable::new(MAX_FAILURES_OF_ADDRESS, FAILURES_OF_ADDRESS_PER_SECOND),
            users: RateTable::new(MAX_FAILURES_OF_USER, FAILURES_OF_USER_PER_SECOND),
            state: Mutex::default(),
        }
    }

    /// Admits an attempt to check a password.
    ///
    /// # Errors
    ///
    /// The time after which the client may try again, if a limit is reached.
    pub(crate) fn admit(&self, user: &str, address: IpAddr, now: Instant) -> Result<Attempt<'_>, Duration> {
        let pair = (user.to_owned(), address);
        let counts_for_user = {
            let mut state = self.state();
            state.forget(now);
            if let Some(failures) = state.failures.get(&pair)
                && failures.until > now
            {
                return Err(failures.until - now);
            }
            if state.running.get(&address).is_some_and(|running| *running >= MAX_CHECKS_OF_ADDRESS) {
                return Err(BUSY_RETRY);
            }
            !state.familiar.contains(&pair)
        };
        self.addresses.take(address, 1.0, now)?;
        if counts_for_user && let Err(wait) = self.users.take(user.to_owned(), 1.0, now) {
            self.addresses.give_back(address, 1.0, now);
            return Err(wait);
        }
        let mut state = self.state();
        *state.running.entry(address).or_default() += 1;
        state.count_failure(pair.clone(), now);
        Ok(Attempt { guard: self, pair, counts_for_user })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// Reports that the password is right: the failures of this address for this user are forgotten.
    pub(crate) fn succeed(self, now: Instant) {
        self.give_back(now);
        let mut state = self.guard.state();
        state.failures.remove(&self.pair);
        if state.familiar.len() >= MAX_PAIRS
            && let Some(other) = state.familiar.iter().next().cloned()
        {
            state.familiar.remove(&other);
        }
        state.familiar.insert(self.pair.clone());
    }

    /// Reports that the password was not checked: the attempt does not count.
    pub(crate) fn withdraw(self, now: Instant) {
        self.give_back(now);
        let mut state = self.guard.state();
        if let Some(failures) = state.failures.get_mut(&self.pair) {
            // A success of another attempt may have removed the failure of this one.
            failures.count = failures.count.saturating_sub(1);
            if failures.count < FREE_FAILURES {
                failures.until = now;
            }
        }
    }

    fn give_back(&self, now: Instant) {
        let (user, address) = &self.pair;
        self.guard.addresses.give_back(*address, 1.0, now);
        if self.counts_for_user {
            self.guard.users.give_back(user.clone(), 1.0, now);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = self.guard.state();
        if let Some(running) = state.running.get_mut(&self.pair.1) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(&self.pair.1);
            }
        }
    }
}

impl State {
    /// Counts a failure, and begins a lockout from the failure after the free ones on.
    ///
    /// If the table is full, the failures of further pairs are limited by their address and user only.
    fn count_failure(&mut self, pair: Pair, now: Instant) {
        if self.failures.len() >= MAX_PAIRS && !self.failures.contains_key(&pair) {
            return;
        }
        let failures = self.failures.entry(pair).or_insert(Failures { count: 0, last: now, until: now });
        if now.saturating_duration_since(failures.last) >= FORGET_AFTER {
            failures.count = 0;
        }
        failures.count += 1;
        failures.last = now;
        if let Some(over) = failures.count.checked_sub(FREE_FAILURES) {
            failures.until = now + MAX_LOCKOUT.min(FIRST_LOCKOUT * 2_u32.pow(over.min(16)));
        }
    }

    /// Removes old failures when the table is full, at most once in [`SWEEP_INTERVAL`].
    fn forget(&mut self, now: Instant) {
        let is_due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_INTERVAL);
        if self.failures.len() >= MAX_PAIRS && is_due {
            self.swept = Some(now);
            self.failures.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGET_AFTER);
        }
    }
}

/// The number of failures of one address for one user before the first lockout.
const FREE_FAILURES: u32 = 5;
/// The first lockout; each further failure doubles it.
const FIRST_LOCKOUT: Duration = Duration::from_secs(1);
/// The longest lockout.
const MAX_LOCKOUT: Duration = Duration::from_secs(15 * 60);
/// The time after which failures are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);
/// The maximum number of failures of one address that are saved up, and their rate.
const MAX_FAILURES_OF_ADDRESS: f64 = 30.0;
const FAILURES_OF_ADDRESS_PER_SECOND: f64 = 1.0;
/// The maximum number of failures for one user that are saved up, and their rate.
const MAX_FAILURES_OF_USER: f64 = 30.0;
const FAILURES_OF_USER_PER_SECOND: f64 = 0.2;
/// The maximum number of password checks of one address at the same time.
const MAX_CHECKS_OF_ADDRESS: usize = 16;
/// The maximum number of pairs of a user and an address in each table.
const MAX_PAIRS: usize = 65_536;
/// The minimum time between two removals of old failures.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The time after which a client whose address has too many unfinished checks may try again.
const BUSY_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const GUESSER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    /// Lets an attempt fail; returns the time until the next one, if the guard rejects it.
    fn fail(guard: &LoginGuard, user: &str, address: IpAddr, now: Instant) -> Result<(), Duration> {
        guard.admit(user, address, now).map(drop)
    }

    #[test]
    fn lockout_doubles_for_one_user_and_address() {
        let (guard, mut now) = (LoginGuard::new(), Instant::now());
        for _ in 0..FREE_FAILURES {
            assert_eq!(fail(&guard, "ann", GUESSER, now), Ok(()));
        }
        for lockout in [1, 2, 4, 8].map(Duration::from_secs) {
            assert_eq!(fail(&guard, "ann", GUESSER, now), Err(lockout));
            assert_eq!(fail(&guard, "ann", GUESSER, now + lockout / 2), Err(lockout / 2));
            now += lockout;
            assert_eq!(fail(&guard, "ann", GUESSER, now), Ok(()));
        }
        for _ in 0..20 {
            now += MAX_LOCKOUT;
            assert_eq!(fail(&guard, "ann", GUESSER, now), Ok(()));
        }
        assert_eq!(fail(&guard, "ann", GUESSER, now), Err(MAX_LOCKOUT));
        guard.admit("ann", OTHER, now).unwrap().succeed(now);
        assert_eq!(fail(&guard, "bo", GUESSER, now), Ok(()), "another user of the same address");
        now += FORGET_AFTER;
        for _ in 0..FREE_FAILURES {
            assert_eq!(fail(&guard, "ann", GUESSER, now), Ok(()), "the failures are forgotten");
        }
        assert!(fail(&guard, "ann", GUESSER, now).is_err());
    }

    #[test]
    fn success_ends_the_count_and_busy_checks_do_not_count() {
        let (guard, now) = (LoginGuard::new(), Instant::now());
        for _ in 0..100 {
            for _ in 1..FREE_FAILURES {
                let _ = guard.admit("ann", GUESSER, now).map(|attempt| attempt.withdraw(now));
            }
            guard.admit("ann", GUESSER, now).unwrap().succeed(now);
        }
    }

    #[test]
    fn withdrawals_after_a_success_count_no_failure_twice() {
        let (guard, now) = (LoginGuard::new(), Instant::now());
        let admit = || guard.admit("ann", GUESSER, now).unwrap();
        let (early, right) = (admit(), admit());
        right.succeed(now);
        let late = admit();
        early.withdraw(now);
        late.withdraw(now);
        for _ in 0..FREE_FAILURES {
            assert_eq!(fail(&guard, "ann", GUESSER, now), Ok(()));
        }
        assert_eq!(fail(&guard, "ann", GUESSER, now), Err(FIRST_LOCKOUT));
    }

    #[test]
    fn address_with_many_failures_leaves_others_alone() {
        let (guard, now) = (LoginGuard::new(), Instant::now());
        let admitted = (0..1000).filter(|user| fail(&guard, &format!("user-{user}"), GUESSER, now).is_ok()).count();
        assert_eq!(admitted, MAX_FAILURES_OF_ADDRESS as usize);
        assert_eq!(fail(&guard, "user-0", OTHER, now), Ok(()));
    }

    #[test]
    fn user_keeps_familiar_addresses_while_many_guess() {
        let (guard, now) = (LoginGuard::new(), Instant::now());
        guard.admit("ann", OTHER, now).unwrap().succeed(now);
        let guessers = (0..1000_u32).map(|number| IpAddr::from([10, 0, (number >> 8) as u8, number as u8]));
        let admitted = guessers.filter(|address| fail(&guard, "ann", *address, now).is_ok()).count();
        assert_eq!(admitted, MAX_FAILURES_OF_USER as usize);
        guard.admit("ann", OTHER, now).unwrap().succeed(now);
    }

    #[test]
    fn address_has_a_share_of_the_checks() {
        let (guard, now) = (LoginGuard::new(), Instant::now());
        let attempt = |user: usize, address| guard.admit(&format!("user-{user}"), address, now);
        let mut running: Vec<_> = (0..MAX_CHECKS_OF_ADDRESS).map(|user| attempt(user, GUESSER).unwrap()).collect();
        assert_eq!(attempt(100, GUESSER).unwrap_err(), BUSY_RETRY);
        assert!(attempt(100, OTHER).is_ok());
        drop(running.pop());
        assert!(attempt(100, GUESSER).is_ok());
    }
}
