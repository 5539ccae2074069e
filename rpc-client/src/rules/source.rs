//! [`RulesSource`]: the rules of a client, and the file from which it reads them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use rpc_core::{Code, Error, MethodInfo, contained};
use tokio::{runtime::Handle, time::Instant};
use tracing::{info, warn};

use super::{document::Rules, rule::Rule};

/// The rules of a client, and the file from which it reads them.
///
/// A call checks the file at most once per second, in a thread for blocking work, and does not wait for the result.
#[derive(Debug)]
pub(crate) struct RulesSource {
    /// Whether `rules` is set. Most clients have no rules, and their calls read only this.
    is_set: AtomicBool,
    rules: ArcSwapOption<Rules>,
    file: Option<RulesFile>,
}

#[derive(Debug)]
struct RulesFile {
    path: PathBuf,
    epoch: Instant,
    /// The time of the next check, in milliseconds since the epoch.
    next_check: AtomicU64,
    /// The text that was read last, valid or not.
    last: Mutex<String>,
}

impl RulesSource {
    /// Creates the rules of a client.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the file cannot be read or has a mistake.
    pub(crate) fn new(rules: Option<Rules>, path: Option<PathBuf>) -> Result<Arc<Self>, Error> {
        let (rules, file) = match path {
            None => (rules, None),
            Some(path) => {
                let text = read(&path)?;
                let rules = Rules::parse(&text).map_err(|error| at(&path, &error))?;
                let next_check = AtomicU64::new(CHECK_INTERVAL.as_millis() as u64);
                let file = RulesFile { path, epoch: Instant::now(), next_check, last: Mutex::new(text) };
                (Some(rules), Some(file))
            }
        };
        let source = Self { is_set: AtomicBool::new(false), rules: ArcSwapOption::empty(), file };
        source.set(rules);
        Ok(Arc::new(source))
    }

    /// Replaces the rules.
    pub(crate) fn set(&self, rules: Option<Rules>) {
        let is_set = rules.is_some() || self.file.is_some();
        self.rules.store(rules.map(Arc::new));
        self.is_set.store(is_set, Ordering::Release);
    }

    /// Returns the rule for a call of a method that begins at `now`, and starts to check the file if that is due.
    pub(crate) fn find(self: &Arc<Self>, method: &MethodInfo, now: Instant) -> Option<Arc<Rule>> {
        if !self.is_set.load(Ordering::Acquire) {
            return None;
        }
        self.check_later(now);
        self.rules.load().as_ref()?.find(method).cloned()
    }

    /// Returns the current rules.
    pub(crate) fn current(&self) -> Option<Arc<Rules>> {
        self.rules.load_full()
    }

    /// Checks the file in a thread for blocking work, if that is due and this is a runtime.
    fn check_later(self: &Arc<Self>, now: Instant) {
        let Some(file) = &self.file else { return };
        let at = now.saturating_duration_since(file.epoch).as_millis() as u64;
        let due = file.next_check.load(Ordering::Relaxed);
        let next = at + CHECK_INTERVAL.as_millis() as u64;
        if at >= due && file.next_check.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let source = Arc::clone(self);
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn_blocking(move || source.check());
            }
        }
    }

    /// Reads the file, and replaces the rules if it has changed and is valid.
    fn check(&self) {
        let Some(file) = &self.file else { return };
        let mut last = file.last.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match read(&file.path) {
            Ok(text) if text == *last => return,
            Ok(text) => text,
            // An editor replaces a file in several steps. The next check follows soon.
            Err(_) => return,
        };
        let parsed = Rules::parse(&text);
        *last = text;
        drop(last);
        let path = file.path.display();
        match parsed {
            Ok(rules) => {
                let count = rules.names().count();
                self.set(Some(rules));
                contained(|| info!(%path, rules = count, "rules reloaded"));
            }
            Err(error) => {
                contained(|| warn!(%path, %error, "invalid rules, the earlier ones remain in use"));
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

    #[test]
    fn invalid_file_keeps_the_last_valid_rules() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.json");
        let write = |text: &str| fs::write(&path, text).unwrap();
        assert!(RulesSource::new(None, Some(path.clone())).unwrap_err().message().contains("cannot read the rules"));
        write("{\n]");
        let error = RulesSource::new(None, Some(path.clone())).unwrap_err();
        assert!(error.message().contains("line 2 of the rules"), "{error}");

        write(r#"{"rules": [{"name": "one"}]}"#);
        let source = RulesSource::new(None, Some(path.clone())).unwrap();
        let names = || source.current().unwrap().names().map(str::to_owned).collect::<Vec<_>>();
        write(r#"{"rules": [{"name": "two", "timeout": "never"}]}"#);
        source.check();
        assert_eq!(names(), ["one"]);
        fs::remove_file(&path).unwrap();
        source.check();
        assert_eq!(names(), ["one"]);
        write(r#"{"rules": [{"name": "two"}]}"#);
        source.check();
        assert_eq!(names(), ["two"]);
    }
}
