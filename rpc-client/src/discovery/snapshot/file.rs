//! [`SnapshotFile`]: the file with a provider list and its checksum.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rpc_core::{Instance, ServiceId, files, stable_hash};
use serde::{Deserialize, Serialize};

/// The file with the provider list of one service in one registry.
#[derive(Debug, Clone)]
pub(super) struct SnapshotFile {
    path: PathBuf,
    registry: String,
    service: String,
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
pub(super) struct SavedList {
    pub(super) registry: String,
    service: String,
    /// Seconds since 1970.
    pub(super) written: u64,
    pub(super) providers: Vec<SavedProvider>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedProvider {
    address: SocketAddr,
    weight: f64,
    metadata: BTreeMap<String, String>,
    /// When the provider last answered, in seconds since 1970; 0 if it never did.
    pub(super) answered: u64,
}

impl SavedProvider {
    pub(super) fn new(instance: &Instance, answered: u64) -> Self {
        let (address, weight, metadata) = (instance.address(), instance.weight(), instance.metadata().clone());
        Self { address, weight, metadata, answered }
    }

    fn to_instance(&self) -> Instance {
        let instance = Instance::new(self.address).with_weight(self.weight);
        self.metadata.iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value))
    }
}

impl SavedList {
    /// Returns the providers, without those that had not answered for a long time when the list was written.
    pub(super) fn instances(&self) -> Arc<[Instance]> {
        let max_age = MAX_AGE.as_secs();
        let is_current = |provider: &&SavedProvider| match provider.answered {
            0 => true,
            answered => self.written.saturating_sub(answered) <= max_age,
        };
        self.providers.iter().filter(is_current).map(SavedProvider::to_instance).collect()
    }
}

impl SnapshotFile {
    pub(super) fn new(directory: &Path, registry: &str, service: &ServiceId) -> Self {
        let service = service.to_string();
        let hash = stable_hash(format!("{registry}\n{service}").as_bytes());
        // The hash is unique; the name is for people, and file systems limit its length.
        let name: String = service.replace(':', "_").chars().take(MAX_NAME).collect();
        Self { path: directory.join(format!("{name}@{hash:016x}.json")), registry: registry.to_owned(), service }
    }

    /// Writes a list. Leaves out the last providers of one that is too long to be read.
    pub(super) fn write(&self, providers: Vec<SavedProvider>, seconds: u64) -> io::Result<()> {
        let directory = self.path.parent().ok_or(io::ErrorKind::NotFound)?;
        files::create_private_directory(directory)?;
        let (registry, service) = (self.registry.clone(), self.service.clone());
        let mut list = SavedList { registry, service, written: seconds, providers };
        let content = loop {
            let text = serde_json::to_string(&list)?;
            let content = serde_json::to_vec(&Checked { format: FORMAT, check: checksum(&text), list: text })?;
            if content.len() as u64 <= MAX_FILE || list.providers.is_empty() {
                break content;
            }
            list.providers.truncate(list.providers.len() / 2);
        };
        // Other processes read and write the same file; the rename lets each see a complete one.
        let mut temporary = temporary_file(directory)?;
        io::Write::write_all(&mut temporary, &content)?;
        temporary.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Reads the list.
    ///
    /// # Errors
    ///
    /// The file is missing, damaged, too old at the time `seconds`, or of another registry or service.
    pub(super) fn read(&self, seconds: u64) -> io::Result<SavedList> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut bytes = Vec::new();
        // The list decides where calls go, so it must not be another user's.
        io::Read::read_to_end(&mut io::Read::take(files::open_own(&self.path)?, MAX_FILE), &mut bytes)?;
        let checked: Checked = serde_json::from_slice(&bytes)?;
        if checked.format != FORMAT || checked.check != checksum(&checked.list) {
            return Err(invalid("the file is damaged or has another format version"));
        }
        let list: SavedList = serde_json::from_str(&checked.list)?;
        if list.registry != self.registry || list.service != self.service {
            return Err(invalid("the file belongs to another registry or service"));
        }
        if seconds.saturating_sub(list.written) > MAX_AGE.as_secs() {
            return Err(invalid("the list is too old"));
        }
        Ok(list)
    }

    /// Removes the file. A missing one needs no removal.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the lists in the same directory that are too old to be used, and temporary files of killed processes.
    pub(super) fn remove_old_files(&self) {
        let Some(entries) = self.path.parent().and_then(|directory| fs::read_dir(directory).ok()) else { return };
        let now = SystemTime::now();
        let is_old = |entry: &fs::DirEntry| {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > MAX_AGE))
        };
        for entry in entries.flatten().take(MAX_ENTRIES) {
            if entry.file_name().to_str().is_some_and(is_own) && is_old(&entry) {
                // Another process may have removed it.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Creates a temporary file, which is removed when it is dropped.
fn temporary_file(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(TEMPORARY.0).suffix(TEMPORARY.1).tempfile_in(directory)
}

/// Returns whether a file has the name of a list or of its temporary file.
fn is_own(name: &str) -> bool {
    let is_list = || {
        let (_, hash) = name.strip_suffix(".json")?.rsplit_once('@')?;
        Some(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let is_temporary = || {
        let random = name.strip_prefix(TEMPORARY.0)?.strip_suffix(TEMPORARY.1)?;
        Some(!random.is_empty() && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    is_temporary() == Some(true) || is_list() == Some(true)
}

fn checksum(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

/// The first and the last characters in the name of a temporary file. Other programs may use the directory too.
const TEMPORARY: (&str, &str) = (".msnb-list-", ".tmp");
const FORMAT: u32 = 2;
const MAX_FILE: u64 = 4 << 20;
/// The age from which a list is not used and its file is removed: its addresses may belong to other programs.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The characters of a service in the name of its file.
const MAX_NAME: usize = 150;
/// The directory entries that one search for old files reads.
const MAX_ENTRIES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: u64 = 7 * 24 * 3600;

    fn file(directory: &Path) -> SnapshotFile {
        SnapshotFile::new(directory, "nacos://a", &ServiceId::from_static("demo.Greeter", "1.0"))
    }

    fn provider(port: u16, answered: u64) -> SavedProvider {
        SavedProvider::new(&Instance::new(([127, 0, 0, 1], port).into()), answered)
    }

    #[test]
    fn damage_and_age_are_detected() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path());
        file.write(vec![provider(7788, 0)], 1000).unwrap();
        assert_eq!(file.read(1000 + WEEK).unwrap().providers, [provider(7788, 0)]);
        assert!(file.read(1001 + WEEK).unwrap_err().to_string().contains("too old"));
        let damaged = fs::read_to_string(&file.path).unwrap().replace("7788", "7789");
        fs::write(&file.path, damaged).unwrap();
        assert!(file.read(1000).is_err());
    }

    #[test]
    fn provider_without_recent_answer_is_left_out() {
        let written = 10 * WEEK;
        let providers = vec![provider(1, written), provider(2, written - WEEK), provider(3, written - WEEK - 1)];
        let never = provider(4, 0);
        let providers = [providers, vec![never]].concat();
        let list = SavedList { registry: String::new(), service: String::new(), written, providers };
        let ports: Vec<_> = list.instances().iter().map(|instance| instance.address().port()).collect();
        assert_eq!(ports, [1, 2, 4]);
    }

    /// A file at the limit is read; one that would exceed it has fewer providers.
    #[test]
    fn long_list_is_shortened_to_a_readable_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path());
        let long = |port| Instance::new(([127, 0, 0, 1], port).into()).with_metadata("key", "v".repeat(1024));
        let providers: Vec<_> = (1..=5000).map(|port| SavedProvider::new(&long(port), 0)).collect();
        file.write(providers, 0).unwrap();
        assert_eq!(file.read(0).unwrap().providers.len(), 2500);
    }

    #[test]
    fn only_old_files_of_lists_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - MAX_AGE - Duration::from_secs(60);
        let create = |name: &str, modified| {
            let path = directory.path().join(name);
            fs::File::create(&path).unwrap().set_modified(modified).unwrap();
            path
        };
        let gone = [create("demo.Greeter_1.0@0123456789abcdef.json", old), create(".msnb-list-A1b2C3.tmp", old)];
        let kept = [
            create("demo.Other_1.0@0123456789abcdef.json", SystemTime::now()),
            create(".msnb-list-A1b2C4.tmp", SystemTime::now()),
            create(".tmpA1b2C3", old),
            create(".msnb-list-notes.txt", old),
            create("notes.json", old),
            create("demo.Greeter_1.0@0123456789abcdef.txt", old),
        ];
        file(directory.path()).remove_old_files();
        assert_eq!(gone.map(|path| path.exists()), [false; 2]);
        assert_eq!(kept.map(|path| path.exists()), [true; 6]);
    }

    /// Otherwise the files of killed processes would stay.
    #[test]
    fn temporary_file_is_recognized_as_own() {
        let directory = tempfile::tempdir().unwrap();
        let temporary = temporary_file(directory.path()).unwrap();
        assert!(is_own(temporary.path().file_name().unwrap().to_str().unwrap()), "{temporary:?}");
    }

    #[cfg(unix)]
    #[test]
    fn list_is_private_and_foreign_files_are_ignored() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("cache");
        let file = file(&cache);
        file.write(vec![provider(7788, 0)], 0).unwrap();
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(file.read(0).is_ok());

        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(file.read(0).is_err());
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o600)).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(&file.path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file.path).unwrap();
        assert!(file.read(0).is_err());
    }

    #[test]
    fn longest_service_has_a_valid_file_name() {
        let directory = tempfile::tempdir().unwrap();
        let service = ServiceId::new("n".repeat(ServiceId::MAX_LEN - 2), "1").unwrap();
        let file = SnapshotFile::new(directory.path(), "nacos://a", &service);
        file.write(vec![provider(1, 0)], 0).unwrap();
        assert_eq!(file.read(0).unwrap().providers.len(), 1);
    }
}
