//! [`Users`]: a file of users and Argon2 hashes.

use std::{collections::HashMap, fmt, fs, io, path::Path, sync::Arc};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::envelope::check_name;

/// Users and the hashes of their passwords, from a file with a line `user:hash` for each.
///
/// A hash is a PHC string such as `$argon2id$v=19$m=19456,t=2,p=1$…`. Empty lines and those that begin with `#` say nothing.
pub struct Users {
    hashes: HashMap<String, String>,
    /// Checked instead of the hash of a user that is not there, so that both take as long.
    nobody: String,
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

/// Too many passwords wait to be checked.
#[derive(Debug, thiserror::Error)]
#[error("too many logins at once")]
pub struct Busy;

/// Why a file of users is none.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("the file of users cannot be read")]
    Io(#[from] io::Error),
    /// A line of it is wrong.
    #[error("line {line} of the file of users: {reason}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Users {
    /// How many passwords are checked at a time. Each takes a processor for some 20 ms, and 19 MiB of memory.
    pub const RUNNING: usize = 2;
    /// How many more wait for that.
    pub const WAITING: usize = 64;

    /// Reads a file of users.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and for the first line that is wrong.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        Self::parse(&fs::read_to_string(path)?)
    }

    /// Users from the text of such a file.
    ///
    /// # Errors
    ///
    /// For the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut hashes = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason: String| UsersError::Line { line: number + 1, reason };
            let (user, hash) = line.split_once(':').ok_or_else(|| wrong("no colon after the user".into()))?;
            check_name("user", user).map_err(|error| wrong(error.to_string()))?;
            let parsed = PasswordHash::new(hash).map_err(|error| wrong(format!("not a hash: {error}")))?;
            if !parsed.algorithm.as_str().starts_with("argon2") {
                return Err(wrong(format!("the hash is of {}, not of argon2", parsed.algorithm)));
            }
            if hashes.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(wrong(format!("{user} is there twice")));
            }
        }
        Ok(Self {
            hashes,
            nobody: hash("nobody"),
            running: Arc::new(Semaphore::new(Self::RUNNING)),
            waiting: Semaphore::new(Self::RUNNING + Self::WAITING),
        })
    }

    /// The line for a user with that password.
    pub fn line(user: &str, password: &str) -> String {
        format!("{user}:{}", hash(password))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether this is the password of that user.
    ///
    /// # Errors
    ///
    /// [`Busy`] when [`WAITING`](Self::WAITING) others wait already.
    ///
    /// # Cancel safety
    ///
    /// Dropped, a check that has begun goes on to its end, and keeps its place until then.
    pub async fn check(&self, user: &str, password: &str) -> Result<bool, Busy> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Busy)?;
        let place = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Busy)?;
        let known = self.hashes.get(user);
        let hash = known.unwrap_or(&self.nobody).clone();
        let password = password.to_owned();
        let matches = spawn_blocking(move || {
            let _place = place;
            let hash = PasswordHash::new(&hash).expect("it was parsed when the file was read");
            Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
        });
        Ok(matches.await.unwrap_or(false) && known.is_some())
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Users").field("len", &self.len()).finish_non_exhaustive()
    }
}

fn hash(password: &str) -> String {
    let hash: PasswordHash = Argon2::default()
        .hash_password(password.as_bytes())
        .expect("the defaults take any password, and there is chance");
    hash.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_its_users_alone() {
        let text = format!("# staff\n\n{}\n{}\n", Users::line("ann", "apple"), Users::line("bo", "banana"));
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.len(), 2);
        assert!(users.check("ann", "apple").await.unwrap());
        assert!(!users.check("ann", "banana").await.unwrap());
        assert!(!users.check("cy", "apple").await.unwrap());
        assert!(!users.check("cy", "nobody").await.unwrap(), "the stand-in is nobody's password");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = Users::line("ann", "apple");
        let cases = [
            ("ann", "line 1 of the file of users: no colon after the user"),
            ("\n:x", "line 2 of the file of users: user is missing"),
            ("ann:apple", "line 1 of the file of users: not a hash: "),
            (
                "ann:$pbkdf2-sha256$i=1$c2FsdHNhbHQ",
                "line 1 of the file of users: the hash is of pbkdf2-sha256, not of argon2",
            ),
            (&format!("{good}\n{good}"), "line 2 of the file of users: ann is there twice"),
        ];
        for (text, error) in cases {
            let said = Users::parse(text).unwrap_err().to_string();
            assert!(said.starts_with(error), "{said}");
        }
    }

    #[tokio::test]
    async fn those_who_would_wait_too_long_are_told() {
        let users = Users::parse(&Users::line("ann", "apple")).unwrap();
        let places = users.running.clone().acquire_many_owned(Users::RUNNING as u32).await.unwrap();
        let mut waiting: Vec<_> =
            (0..Users::RUNNING + Users::WAITING).map(|_| Box::pin(users.check("ann", "apple"))).collect();
        for check in &mut waiting {
            assert!(futures_util::poll!(check).is_pending());
        }
        assert!(users.check("ann", "apple").await.is_err());
        drop(waiting.pop());
        assert!(futures_util::poll!(Box::pin(users.check("ann", "apple"))).is_pending(), "one place is free again");
        // Those who wait are served in turn, and these are not polled.
        drop((waiting, places));
        assert!(users.check("ann", "apple").await.unwrap());
    }
}
