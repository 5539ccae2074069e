//! [`Users`]: a password file with Argon2 hashes.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    io,
    path::Path,
    sync::Arc,
    thread::available_parallelism,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    envelope::{appearance, check_user_name},
    files,
};

/// Users and the hashes of their passwords, from a file with one line `user:hash` per user.
///
/// A hash is a PHC string such as `$argon2id$v=19$m=19456,t=2,p=1$…`. The parser ignores empty lines and lines that
/// start with `#`.
pub struct Users {
    /// User → index in `hashes`.
    users: HashMap<String, usize>,
    hashes: Vec<String>,
    running: Arc<Semaphore>,
    waiting: Semaphore,
    /// Selects the hash that is verified for an unknown user.
    unknown: RandomState,
}

/// The error of a login that exceeds the limit of waiting password checks.
#[derive(Debug, thiserror::Error)]
#[error("too many waiting password checks, limit is {limit} (Users::WAITING)", limit = Users::WAITING)]
pub struct Busy;

/// An error in a password file.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file cannot be read.
    #[error("cannot read the password file")]
    Io(#[from] io::Error),
    /// A line is invalid.
    #[error("password file line {line}: {reason}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// The cause.
        reason: String,
    },
}

impl Users {
    /// The maximum number of concurrent password checks: half of the cores, at least 1 and at most this number.
    ///
    /// With the parameters of [`line`](Self::line), a check uses one core for about 20 ms and 19 MiB of memory.
    pub const MAX_RUNNING: usize = 8;
    /// The maximum number of password checks that wait for a running one.
    pub const WAITING: usize = 64;

    /// Reads a password file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read, and for the first invalid line.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        let text = String::from_utf8(files::read_secret(path)?);
        Self::parse(&text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?)
    }

    /// Parses the text of a password file.
    ///
    /// # Errors
    ///
    /// Returns an error for the first invalid line.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let (mut users, mut hashes, mut appearances) = (HashMap::new(), Vec::new(), HashMap::new());
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid = |reason: String| UsersError::Line { line: number + 1, reason };
            let (user, hash) = line.split_once(':').ok_or_else(|| invalid("no colon after the user".into()))?;
            check_user_name("user", user).map_err(|error| invalid(error.to_string()))?;
            let parsed = PasswordHash::new(hash).map_err(|error| invalid(format!("invalid hash: {error}")))?;
            if !parsed.algorithm.as_str().starts_with("argon2") {
                return Err(invalid(format!("hash algorithm is {}, expected argon2", parsed.algorithm)));
            }
            if users.insert(user.to_owned(), hashes.len()).is_some() {
                return Err(invalid(format!("duplicate user {user}")));
            }
            // Names in ASCII are told apart by attention, such as `list` and `1ist`.
            if let Some(other) = appearances.insert(appearance(user), user.to_owned())
                && !(other.is_ascii() && user.is_ascii())
            {
                return Err(invalid(format!("user {user} looks like {other}")));
            }
            hashes.push(hash.to_owned());
        }
        if hashes.is_empty() {
            // Verified for unknown users.
            hashes.push(hash("nobody"));
        }
        let running = running_checks();
        Ok(Self {
            users,
            hashes,
            running: Arc::new(Semaphore::new(running)),
            waiting: Semaphore::new(running + Self::WAITING),
            unknown: RandomState::new(),
        })
    }

    /// Returns the line of a password file for a user and a password.
    pub fn line(user: &str, password: &str) -> String {
        format!("{user}:{}", hash(password))
    }

    /// Returns the number of users.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Returns whether there are no users.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Returns whether `password` is the password of `user`.
    ///
    /// # Errors
    ///
    /// Returns [`Busy`] if [`WAITING`](Self::WAITING) other checks wait already.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a check that has started runs to its end and holds its permit until then.
    pub async fn check(&self, user: &str, password: &str) -> Result<bool, Busy> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Busy)?;
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Busy)?;
        let (is_known, hash) = (self.users.contains_key(user), self.hash_for(user).to_owned());
        let password = password.to_owned();
        let matches = spawn_blocking(move || {
            let _permit = permit;
            let hash = PasswordHash::new(&hash).expect("`Users::parse` validated every hash");
            Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
        });
        Ok(matches.await.unwrap_or(false) && is_known)
    }

    /// Returns the hash to verify for a user: for an unknown one, that of another user, always the same one.
    ///
    /// So the time of a check does not depend on whether the user exists, whatever parameters the hashes have.
    fn hash_for(&self, user: &str) -> &str {
        let index = self.users.get(user).copied();
        &self.hashes[index.unwrap_or_else(|| self.unknown.hash_one(user) as usize % self.hashes.len())]
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Users").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Returns the number of concurrent password checks, fewer than cores so that they delay no message.
fn running_checks() -> usize {
    (available_parallelism().map_or(1, usize::from) / 2).clamp(1, Users::MAX_RUNNING)
}

fn hash(password: &str) -> String {
    let hash: PasswordHash = Argon2::default()
        .hash_password(password.as_bytes())
        .expect("Argon2's defaults accept any password, and the system provides random numbers");
    hash.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn check_accepts_only_the_users_password() {
        let text = format!("# staff\n\n{}\n{}\n", Users::line("ann", "apple"), Users::line("bo", "banana"));
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.len(), 2);
        assert!(users.check("ann", "apple").await.unwrap());
        assert!(!users.check("ann", "banana").await.unwrap());
        assert!(!users.check("cy", "apple").await.unwrap());
        for password in ["apple", "banana", "nobody"] {
            assert!(!users.check("cy", password).await.unwrap(), "the password of another user logs no user in");
        }
        let nobody = Users::parse("").unwrap();
        assert!(nobody.is_empty());
        assert!(!nobody.check("nobody", "nobody").await.unwrap());
    }

    /// The time of a check must not depend on whether the user exists.
    #[test]
    fn unknown_users_have_the_parameters_of_known_ones() {
        let lines: String = (0..8)
            .map(|number| {
                format!("user-{number}:$argon2id$v=19$m={},t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo\n", 8 + number)
            })
            .collect();
        let users = Users::parse(&lines).unwrap();
        let mut chosen = std::collections::BTreeSet::new();
        for number in 0..1000 {
            let name = format!("unknown-{number}");
            let hash = users.hash_for(&name);
            assert_eq!(hash, users.hash_for(&name), "always the same hash for one name");
            chosen.insert(hash.to_owned());
        }
        assert_eq!(chosen.len(), 8);
        assert_eq!(users.hash_for("user-3"), users.hashes[3]);
    }

    #[test]
    fn parse_names_the_invalid_line() {
        let good = Users::line("ann", "apple");
        let cases = [
            ("ann", "password file line 1: no colon after the user"),
            ("\n:x", "password file line 2: user is missing"),
            ("ann:apple", "password file line 1: invalid hash: "),
            (
                "ann:$pbkdf2-sha256$i=1$c2FsdHNhbHQ",
                "password file line 1: hash algorithm is pbkdf2-sha256, expected argon2",
            ),
            (&format!("{good}\n{good}"), "password file line 2: duplicate user ann"),
            (&good.replace("ann", "an\u{200b}n"), "password file line 1: user contains invisible"),
            (
                // In Cyrillic letters.
                &format!("{}\n{}", good.replace("ann", "scope"), good.replace("ann", "ѕсоре")),
                "password file line 2: user ѕсоре looks like scope",
            ),
        ];
        for (text, expected) in cases {
            let error = Users::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn check_rejects_logins_over_the_waiting_limit() {
        let users = Users::parse(&Users::line("ann", "apple")).unwrap();
        let running = running_checks();
        let permits = users.running.clone().acquire_many_owned(running as u32).await.unwrap();
        let mut waiting: Vec<_> =
            (0..running + Users::WAITING).map(|_| Box::pin(users.check("ann", "apple"))).collect();
        for check in &mut waiting {
            assert!(futures_util::poll!(check).is_pending());
        }
        assert!(users.check("ann", "apple").await.is_err());
        drop(waiting.pop());
        assert!(
            futures_util::poll!(Box::pin(users.check("ann", "apple"))).is_pending(),
            "a dropped check frees its permit"
        );
        // The semaphore is fair: the unpolled checks would block a new one, so drop them first.
        drop((waiting, permits));
        assert!(users.check("ann", "apple").await.unwrap());
    }
}
