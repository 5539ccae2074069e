//! [`Snapshot`]: the provider list of a service on disk, for a start while the registry is down.
//!
//! | topic | module |
//! |---|---|
//! | the file: its name, its format, reading, writing, removing old ones | `file` |

mod file;

use std::{
    collections::HashMap,
    future,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rpc_core::{Instance, ServiceId, contained};
use tokio::{task::JoinHandle, time::Instant};
use tracing::{debug, warn};

use self::file::{SavedList, SavedProvider, SnapshotFile};

/// Keeps the provider list of one service in a small file.
///
/// The follower saves the list after answers of the registry, and loads it when the registry does not answer. It never
/// waits for the disk: at most one file operation is in progress, and [`finished`](Self::finished) returns its result.
#[derive(Debug)]
pub(crate) struct Snapshot {
    file: Option<SnapshotFile>,
    service: ServiceId,
    /// When each provider last answered, in seconds since 1970.
    answered: HashMap<SocketAddr, u64>,
    /// The change that waits for the file.
    pending: Option<Change>,
    /// The list as last written, and the number of its providers that had answered.
    written: (Vec<Instance>, usize),
    /// The earliest time of the next change.
    next_write: Instant,
    /// When an unchanged list is written again, so that its age is that of the registry's last answer.
    refresh_at: Option<Instant>,
    /// Whether the file was removed and not written since.
    removed: bool,
    /// Whether the list was loaded, or is being loaded.
    load_began: bool,
    work: Option<JoinHandle<Option<SavedList>>>,
    /// Whether a file operation of this client has removed the old files of the directory.
    cleaned: Arc<AtomicBool>,
}

/// A change of the file.
#[derive(Debug)]
enum Change {
    Write(Vec<Instance>),
    Remove,
}

impl Snapshot {
    /// Uses one file below `directory` for the list of `service` in `registry`.
    ///
    /// Without a directory, all operations do nothing. The snapshots of a client share `cleaned`.
    pub(crate) fn new(
        directory: Option<&Path>,
        registry: &str,
        service: &ServiceId,
        cleaned: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            file: directory.map(|directory| SnapshotFile::new(directory, registry, service)),
            service: service.clone(),
            answered: HashMap::new(),
            pending: None,
            written: Default::default(),
            next_write: Instant::now(),
            refresh_at: None,
            removed: false,
            load_began: false,
            work: None,
            cleaned: Arc::clone(cleaned),
        }
    }

    /// Saves the list, at most once per second; each provider comes with whether it answers now.
    ///
    /// An empty list is not saved, because the previous one is of more use.
    pub(crate) fn save(&mut self, mut instances: Vec<(Instance, bool)>) {
        if self.file.is_none() {
            return;
        }
        let now = Instant::now();
        if instances.is_empty() {
            self.pending = None;
            self.refresh_at = self.refresh_at.map(|at| at.max(now + REFRESH_INTERVAL));
            return;
        }
        let seconds = unix_seconds();
        instances.sort_by_key(|(instance, _)| instance.address());
        let addresses: Vec<_> = instances.iter().map(|(instance, _)| instance.address()).collect();
        retain_sorted(&mut self.answered, &addresses);
        for (instance, _) in instances.iter().filter(|(_, answers)| *answers) {
            self.answered.insert(instance.address(), seconds);
        }
        let list: Vec<Instance> = instances.into_iter().map(|(instance, _)| instance).collect();
        let is_due = self.refresh_at.is_none_or(|at| now >= at);
        let changed = list != self.written.0 || self.answered.len() > self.written.1;
        self.pending = (changed || is_due).then_some(Change::Write(list));
        self.begin_change();
    }

    /// Removes the file: an operator has disabled all providers, and the file lists them as enabled.
    pub(crate) fn remove(&mut self) {
        if self.file.is_some() && !self.removed {
            self.pending = Some(Change::Remove);
            self.begin_change();
        }
    }

    /// Starts to load the list, at the first call only.
    pub(crate) fn load(&mut self) {
        if std::mem::replace(&mut self.load_began, true) || self.work.is_some() {
            return;
        }
        let Some(file) = self.file.clone() else { return };
        let service = self.service.clone();
        self.work = Some(tokio::task::spawn_blocking(move || match file.read(unix_seconds()) {
            Ok(list) => Some(list),
            Err(error) => {
                contained(|| debug!(%error, %service, "no usable provider list on disk"));
                None
            }
        }));
    }

    /// Returns when to call [`save`](Self::save) or [`remove`](Self::remove) again at the latest.
    pub(crate) fn due(&self) -> Option<Instant> {
        match (&self.work, &self.pending) {
            // The end of the work triggers the next call.
            (Some(_), _) => None,
            (None, Some(_)) => Some(self.next_write),
            (None, None) => self.refresh_at,
        }
    }

    /// Waits until the file operation in progress ends. Returns the list if it was loaded; an empty one on failure.
    ///
    /// Without an operation in progress, this never resolves.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: the next call waits for the same operation.
    pub(crate) async fn finished(&mut self) -> Option<Arc<[Instance]>> {
        let Some(work) = &mut self.work else { return future::pending().await };
        let outcome = work.await;
        self.work = None;
        let list = outcome.ok().flatten()?;
        let age = Duration::from_secs(unix_seconds().saturating_sub(list.written));
        contained(
            || warn!(service = %self.service, registry = list.registry, ?age, "registry has not answered, using an old provider list"),
        );
        Some(list.instances())
    }

    /// Starts the pending change, unless an operation is in progress or the last change was less than a second ago.
    fn begin_change(&mut self) {
        let now = Instant::now();
        let Some(file) = self.file.clone().filter(|_| self.work.is_none() && now >= self.next_write) else { return };
        let Some(change) = self.pending.take() else { return };
        self.next_write = now + WRITE_INTERVAL;
        let (service, seconds) = (self.service.clone(), unix_seconds());
        self.removed = matches!(change, Change::Remove);
        let clean = !self.cleaned.swap(true, Ordering::Relaxed);
        let saved = match change {
            Change::Write(list) => {
                let answered = |instance: &Instance| self.answered.get(&instance.address()).copied().unwrap_or(0);
                let saved = list.iter().take(MAX_PROVIDERS).map(|i| SavedProvider::new(i, answered(i))).collect();
                (self.written, self.refresh_at) = ((list, self.answered.len()), Some(now + REFRESH_INTERVAL));
                Some(saved)
            }
            Change::Remove => {
                (self.written, self.refresh_at) = (Default::default(), None);
                None
            }
        };
        self.work = Some(tokio::task::spawn_blocking(move || {
            let outcome = match saved {
                Some(providers) => file.write(providers, seconds),
                None => file.remove(),
            };
            if let Err(error) = outcome {
                contained(|| debug!(%error, %service, "cannot change the provider list on disk"));
            }
            if clean {
                file.remove_old_files();
            }
            None
        }));
    }
}

/// Removes the entries whose keys are not in the sorted `keys`.
fn retain_sorted<K: Ord, V>(entries: &mut HashMap<K, V>, keys: &[K]) {
    entries.retain(|key, _| keys.binary_search(key).is_ok());
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// The time after which an unchanged list is written again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(3600);
const MAX_PROVIDERS: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    fn snapshot(directory: &Path, registry: &str) -> Snapshot {
        Snapshot::new(Some(directory), registry, &SERVICE, &Arc::default())
    }

    /// A key that counts its comparisons.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Counted(usize);

    thread_local! {
        static COMPARISONS: Cell<usize> = const { Cell::new(0) };
    }

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            COMPARISONS.set(COMPARISONS.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }

    /// The follower saves a list after each change of an endpoint.
    #[test]
    fn saving_a_list_takes_few_comparisons() {
        const COUNT: usize = 1 << 12;
        let mut entries: HashMap<Counted, ()> = (0..COUNT).map(|number| (Counted(number), ())).collect();
        let even: Vec<_> = (0..COUNT).step_by(2).map(Counted).collect();
        retain_sorted(&mut entries, &even);
        assert!(entries.len() == COUNT / 2 && even.iter().all(|key| entries.contains_key(key)));
        let comparisons = COMPARISONS.get();
        assert!(comparisons <= COUNT * (COUNT.ilog2() as usize + 1), "{comparisons} comparisons of {COUNT} entries");
    }

    fn instance() -> Instance {
        Instance::new(([127, 0, 0, 1], 7788).into()).with_weight(2.0)
    }

    async fn loaded(directory: &Path, registry: &str) -> Vec<Instance> {
        let mut snapshot = snapshot(directory, registry);
        snapshot.load();
        snapshot.finished().await.unwrap_or_default().to_vec()
    }

    #[tokio::test]
    async fn list_keeps_metadata_and_belongs_to_its_registry() {
        let directory = tempfile::tempdir().unwrap();
        let named = instance().with_metadata(Instance::TLS_NAME, "greeter.example");
        let mut kept = snapshot(directory.path(), "nacos://a");
        kept.save(vec![(named.clone(), true)]);
        kept.finished().await;
        assert_eq!(loaded(directory.path(), "nacos://a").await, [named]);
        assert!(loaded(directory.path(), "nacos://b").await.is_empty());
    }

    #[tokio::test]
    async fn removed_list_is_not_used_and_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut kept = snapshot(directory.path(), "nacos://a");
        kept.save(vec![(instance(), true)]);
        kept.finished().await;
        kept.next_write = Instant::now();
        kept.remove();
        kept.finished().await;
        assert!(loaded(directory.path(), "nacos://a").await.is_empty());
        assert!(kept.due().is_none(), "the file is gone");
        kept.next_write = Instant::now();
        kept.save(vec![(instance(), true)]);
        kept.finished().await;
        assert_eq!(loaded(directory.path(), "nacos://a").await, [instance()]);
    }

    #[tokio::test]
    async fn empty_list_does_not_replace_a_saved_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut kept = snapshot(directory.path(), "nacos://a");
        kept.save(vec![(instance(), true)]);
        kept.finished().await;
        kept.next_write = Instant::now();
        kept.save(vec![]);
        assert!(kept.work.is_none());
        assert_eq!(loaded(directory.path(), "nacos://a").await.len(), 1);
    }

    /// The file is written again when a provider answers for the first time, and after the refresh interval.
    #[tokio::test(start_paused = true)]
    async fn unchanged_list_is_written_again_when_its_age_matters() {
        let directory = tempfile::tempdir().unwrap();
        let mut kept = snapshot(directory.path(), "nacos://a");
        kept.save(vec![(instance(), false)]);
        kept.finished().await;
        kept.save(vec![(instance(), true)]);
        assert_eq!(kept.due(), Some(kept.next_write), "the provider answers now");
        tokio::time::sleep_until(kept.next_write).await;
        kept.save(vec![(instance(), true)]);
        kept.finished().await;
        let file = kept.file.clone().unwrap();
        assert!(file.read(unix_seconds()).unwrap().providers[0].answered > 0);
        kept.save(vec![(instance(), true)]);
        assert!(kept.work.is_none() && kept.pending.is_none());
        tokio::time::sleep_until(kept.due().unwrap()).await;
        kept.save(vec![(instance(), true)]);
        assert!(kept.work.is_some());
        kept.finished().await;
    }
}
