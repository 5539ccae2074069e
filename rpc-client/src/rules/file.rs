//! [`RulesFile`]: the file from which a client reads its rules.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rpc_core::{Code, Error, contained};
use tokio::{runtime::Handle, time::Instant};
use tracing::{info, warn};

use super::document::Rules;

/// The file from which a client reads its rules.
///
/// A call checks the file at most once per second, in a thread for blocking work, and does not wait for the result.
#[derive(Debug)]
pub(super) struct RulesFile {
    path: PathBuf,
    epoch: Instant,
    /// The time of the next check, in milliseconds since the epoch.
    next_check: AtomicU64,
    seen: Mutex<Seen>,
}

/// The texts that the checks of a file have read.
#[derive(Debug)]
struct Seen {
    /// The text that was applied last, valid or not.
    applied: String,
    /// Another text, which the last check has read for the first time.
    ///
    /// It may be a part of a file that a program is writing, so the next check must read it again.
    candidate: Option<String>,
}

impl RulesFile {
    /// Reads the rules of a file.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the file cannot be read or has a mistake.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Rules), Error> {
        let text = read(&path)?;
        let rules = Rules::parse(&text).map_err(|error| at(&path, &error))?;
        let next_check = AtomicU64::new(CHECK_INTERVAL.as_millis() as u64);
        let seen = Mutex::new(Seen { applied: text, candidate: None });
        Ok((Self { path, epoch: Instant::now(), next_check, seen }, rules))
    }

    /// Returns whether the caller must check the file, and sets the time of the next check.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let at = now.saturating_duration_since(self.epoch).as_millis() as u64;
        let due = self.next_check.load(Ordering::Relaxed);
        let next = at + CHECK_INTERVAL.as_millis() as u64;
        at >= due && self.next_check.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Runs a check in a thread for blocking work, if this is a runtime.
    pub(super) fn check_later(check: impl FnOnce() + Send + 'static) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(check);
        }
    }

    /// Reads the file. Returns its rules if they have changed, two checks have read the same text, and it is valid.
    pub(super) fn check(&self) -> Option<Rules> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // An editor may remove a file before it writes the new one.
        let text = read(&self.path).ok().filter(|text| *text != seen.applied);
        if text.is_none() || seen.candidate != text {
            seen.candidate = text;
            return None;
        }
        let text = seen.candidate.take()?;
        let parsed = Rules::parse(&text);
        seen.applied = text;
        drop(seen);
        let path = self.path.display();
        match parsed {
            Ok(rules) => {
                contained(|| info!(%path, rules = rules.names().count(), "rules reloaded"));
                Some(rules)
            }
            Err(error) => {
                contained(|| warn!(%path, %error, "invalid rules, the earlier ones remain in use"));
                None
            }
        }
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let length = fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
    if length > Rules::MAX_LEN as u64 {
        let message = format!("{} is {length} bytes, limit is {} (Rules::MAX_LEN)", path.display(), Rules::MAX_LEN);
        return Err(Error::not_executed(Code::InvalidArgument, message));
    }
    fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read the rules in {}: {error}", path.display());
        Error::not_executed(Code::InvalidArgument, message).with_source(error)
    })
}

/// Adds the file to an error.
fn at(path: &Path, error: &Error) -> Error {
    Error::not_executed(error.code(), format!("{}: {}", path.display(), error.message()))
}

/// The interval between two checks of the file while calls are made.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn names(rules: Option<Rules>) -> Vec<String> {
        rules.iter().flat_map(Rules::names).map(str::to_owned).collect()
    }

    #[test]
    fn invalid_file_keeps_the_last_valid_rules() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.json");
        let write = |text: &str| fs::write(&path, text).unwrap();
        let open = || RulesFile::open(path.clone());
        assert!(open().unwrap_err().message().contains("cannot read the rules"));
        write("{\n]");
        assert!(open().unwrap_err().message().contains("line 2 of the rules"));

        write(r#"{"rules": [{"name": "one"}]}"#);
        let (file, rules) = open().unwrap();
        assert_eq!(names(Some(rules)), ["one"]);
        write(r#"{"rules": [{"name": "two", "timeout": "never"}]}"#);
        assert!((0..3).all(|_| file.check().is_none()));
        fs::remove_file(&path).unwrap();
        assert!(file.check().is_none());
        write(r#"{"rules": [{"name": "two"}]}"#);
        assert!(file.check().is_none());
        assert_eq!(names(file.check()), ["two"]);
        assert!(file.check().is_none(), "no change since");
    }

    /// The first part of a document may be valid by itself.
    #[test]
    fn partly_written_file_is_not_applied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.json");
        let write = |text: &str| fs::write(&path, text).unwrap();
        write("{}");
        let (file, _) = RulesFile::open(path.clone()).unwrap();
        for part in [r#"{"rules": ["#, r#"{"rules": [{"name": "o"#, r#"{"rules": [{"name": "one"}]}"#] {
            write(part);
            assert!(file.check().is_none(), "{part}");
        }
        assert_eq!(names(file.check()), ["one"]);
    }
}
