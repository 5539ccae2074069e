//! [`SnapshotFile`]: the provider list of a service on disk, for a start while the registry is down.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rpc_core::{Instance, ServiceId, files};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{debug, warn};

/// The provider list of one service in a small file.
///
/// The follower saves it after answers of the registry, and loads it when the registry does not answer.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    file: Option<PathBuf>,
    registry: String,
    service: ServiceId,
    /// When each provider last answered, in seconds since 1970.
    answered: HashMap<SocketAddr, u64>,
    /// The list as last written.
    written: Vec<Instance>,
    /// The earliest time of the next write.
    next_write: Instant,
    /// Whether a changed list waits for `next_write`.
    pending: bool,
    /// Whether the file was removed and not written since.
    removed: bool,
}

/// The content of the file: the list as text, with its checksum.
#[derive(Debug, Serialize, Deserialize)]
struct Checked {
    format: u32,
    /// CRC-32 of `list`.
    check: u32,
    list: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SavedList {
    registry: String,
    service: String,
    /// Seconds since 1970.
    written: u64,
    providers: Vec<SavedProvider>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SavedProvider {
    address: SocketAddr,
    weight: f64,
    /// When the provider last answered, in seconds since 1970; 0 if it never did.
    answered: u64,
}

impl SnapshotFile {
    /// Uses one file below `directory` for the list of `service` in `registry`.
    ///
    /// Without a directory, all operations do nothing.
    pub(crate) fn new(directory: Option<&Path>, registry: &str, service: &ServiceId) -> Self {
        let name = |directory: &Path| {
            let registry = foldhash::fast::FixedState::default().hash_one(registry);
            directory.join(format!("{service}@{registry:016x}.json").replace(':', "_"))
        };
        Self {
            file: directory.map(name),
            registry: registry.to_owned(),
            service: service.clone(),
            answered: HashMap::new(),
            written: Vec::new(),
            next_write: Instant::now(),
            pending: false,
            removed: false,
        }
    }

    /// Saves the list, at most once per second; [`due`](Self::due) then returns when to call this again.
    ///
    /// An empty list is not saved, because the previous one is of more use.
    pub(crate) async fn save(&mut self, instances: Vec<(Instance, bool)>) {
        let (Some(file), now) = (self.file.clone(), Instant::now()) else { return };
        let seconds = unix_seconds();
        self.answered.retain(|address, _| instances.iter().any(|(instance, _)| instance.address() == *address));
        for (instance, _) in instances.iter().filter(|(_, answers)| *answers) {
            self.answered.insert(instance.address(), seconds);
        }
        let mut list: Vec<Instance> = instances.into_iter().map(|(instance, _)| instance).collect();
        list.sort_by_key(Instance::address);
        let changed = list != self.written || list.iter().any(|i| !self.answered.contains_key(&i.address()));
        self.pending = changed && now < self.next_write;
        if list.is_empty() || list == self.written || self.pending {
            return;
        }
        self.next_write = now + WRITE_INTERVAL;
        let provider = |instance: &Instance| SavedProvider {
            address: instance.address(),
            weight: instance.weight(),
            answered: self.answered.get(&instance.address()).copied().unwrap_or(0),
        };
        let providers = list.iter().take(MAX_PROVIDERS).map(provider).collect();
        let (registry, service) = (self.registry.clone(), self.service.to_string());
        let content = SavedList { registry, service, written: seconds, providers };
        (self.written, self.removed) = (list, false);
        let outcome = tokio::task::spawn_blocking(move || write(&file, &content)).await;
        if let Ok(Err(error)) = outcome {
            debug!(%error, service = %self.service, "cannot save the provider list");
        }
    }

    /// Removes the file: an operator has disabled all providers, and the file lists them as enabled.
    pub(crate) async fn remove(&mut self) {
        let Some(file) = self.file.clone().filter(|_| !self.removed) else { return };
        (self.written, self.pending, self.removed) = (Vec::new(), false, true);
        // A missing file needs no removal.
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(file)).await;
    }

    /// Returns when to save a list that was not written yet.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.pending.then_some(self.next_write)
    }

    /// Loads the list.
    ///
    /// Returns an empty one when the file is missing, damaged, or of another registry or service.
    pub(crate) async fn load(&self) -> Arc<[Instance]> {
        let Some(file) = self.file.clone() else { return Arc::default() };
        let (registry, service) = (self.registry.clone(), self.service.to_string());
        let read = tokio::task::spawn_blocking(move || read(&file, &registry, &service)).await;
        match read {
            Ok(Ok(list)) => {
                let age = Duration::from_secs(unix_seconds().saturating_sub(list.written));
                let (service, registry) = (&self.service, &self.registry);
                warn!(%service, registry, ?age, "registry has not answered, using an old provider list");
                list.providers.iter().map(|p| Instance::new(p.address).with_weight(p.weight)).collect()
            }
            Ok(Err(error)) => {
                debug!(%error, service = %self.service, "no usable provider list on disk");
                Arc::default()
            }
            Err(_) => Arc::default(),
        }
    }
}

fn write(file: &Path, list: &SavedList) -> io::Result<()> {
    let directory = file.parent().ok_or(io::ErrorKind::NotFound)?;
    files::create_private_directory(directory)?;
    let list = serde_json::to_string(list)?;
    let checked = serde_json::to_vec(&Checked { format: FORMAT, check: checksum(&list), list })?;
    // Other processes read and write the same file; the rename lets each see a complete one.
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    io::Write::write_all(&mut temporary, &checked)?;
    temporary.persist(file).map_err(|error| error.error)?;
    Ok(())
}

fn read(file: &Path, registry: &str, service: &str) -> io::Result<SavedList> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut bytes = Vec::new();
    // The list decides where calls go, so it must not be another user's.
    io::Read::read_to_end(&mut io::Read::take(files::open_own(file)?, MAX_FILE), &mut bytes)?;
    let checked: Checked = serde_json::from_slice(&bytes)?;
    if checked.format != FORMAT || checked.check != checksum(&checked.list) {
        return Err(invalid("the file is damaged or has another format version"));
    }
    let list: SavedList = serde_json::from_str(&checked.list)?;
    if list.registry != registry || list.service != service {
        return Err(invalid("the file belongs to another registry or service"));
    }
    Ok(list)
}

fn checksum(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const FORMAT: u32 = 1;
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_PROVIDERS: usize = 10_000;
const MAX_FILE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    fn snapshot(directory: &Path, registry: &str) -> SnapshotFile {
        SnapshotFile::new(Some(directory), registry, &SERVICE)
    }

    #[tokio::test]
    async fn list_is_loaded_again_and_damage_is_detected() {
        let directory = tempfile::tempdir().unwrap();
        let instance = Instance::new(([127, 0, 0, 1], 7788).into()).with_weight(2.0);
        let mut kept = snapshot(directory.path(), "nacos://a");
        kept.save(vec![(instance.clone(), true)]).await;
        assert_eq!(*snapshot(directory.path(), "nacos://a").load().await, [instance]);
        assert!(snapshot(directory.path(), "nacos://b").load().await.is_empty());

        let file = kept.file.clone().unwrap();
        let damaged = std::fs::read_to_string(&file).unwrap().replace("7788", "7789");
        std::fs::write(&file, damaged).unwrap();
        assert!(kept.load().await.is_empty());
    }

    #[tokio::test]
    async fn removed_list_is_not_used_and_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let instance = Instance::new(([127, 0, 0, 1], 7788).into());
        let mut kept = snapshot(directory.path(), "nacos://a");
        kept.save(vec![(instance.clone(), true)]).await;
        kept.remove().await;
        assert!(kept.load().await.is_empty());
        kept.next_write = Instant::now();
        kept.save(vec![(instance.clone(), true)]).await;
        assert_eq!(*kept.load().await, [instance]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn list_is_private_and_foreign_files_are_ignored() {
        use std::{fs, os::unix::fs::PermissionsExt as _};

        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("cache");
        let instance = Instance::new(([127, 0, 0, 1], 7788).into());
        let mut kept = snapshot(&cache, "nacos://a");
        kept.save(vec![(instance.clone(), true)]).await;
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(*kept.load().await, [instance]);

        let file = kept.file.clone().unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(kept.load().await.is_empty());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        assert!(kept.load().await.is_empty());
    }

    #[tokio::test]
    async fn empty_list_does_not_replace_a_saved_one() {
        let directory = tempfile::tempdir().unwrap();
        let instance = Instance::new(([127, 0, 0, 1], 7788).into());
        let mut kept = snapshot(directory.path(), "nacos://a");
        kept.save(vec![(instance, true)]).await;
        kept.save(vec![]).await;
        assert_eq!(kept.load().await.len(), 1);
    }
}
