//! [`Announcement`]: the locked file that announces a provider.
//!
//! Two rules ensure that a file is locked exactly as long as its provider is alive:
//!
//! 1. **A file is locked before readers can find it.** The provider writes and locks the file under a name that readers
//!    skip, and then renames it. A reader that finds an unlocked file has therefore found a dead provider, never one
//!    that is about to lock. Since a provider never waits for a lock on a published file, the lock of a reader blocks
//!    no provider.
//! 2. **A file name is used once.** A reader that removes an unlocked file therefore removes the file that it checked,
//!    not a new file under the same name; and an unlocked file is never locked again.
//!
//! Readers probe with a shared lock, so that two readers do not mistake each other for the provider.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rpc_core::{Instance, ServiceId};
use serde::{Deserialize, Serialize};

use super::{
    overrides::Overrides,
    service_directory::{self, ServiceDirectory},
};

/// A provider's file and its lock. Dropping it removes the file.
pub(super) struct Announcement {
    directory: ServiceDirectory,
    name: String,
    /// Holds the lock until it is dropped.
    locked: File,
}

/// The content of a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Content {
    format: u32,
    service: String,
    address: SocketAddr,
    weight: f64,
    metadata: BTreeMap<String, String>,
}

/// The only format version. Readers skip files of other versions.
const FORMAT: u32 = 1;

/// The maximum length of a file, in bytes.
const MAX_LEN: u64 = 64 * 1024;

/// The extension of published files.
const PUBLISHED: &str = ".json";

/// The extension of files that are being written; readers skip them.
const UNPUBLISHED: &str = ".new";

/// The age after which an unpublished file is removed: its provider died between two system calls.
const ABANDONED_AGE: Duration = Duration::from_secs(60);

impl Announcement {
    /// Publishes `instance` in `directory`, which is created if it does not exist. Blocks.
    pub(super) fn publish(directory: &Path, service: &ServiceId, instance: &Instance) -> io::Result<Self> {
        let content = Content {
            format: FORMAT,
            service: service.to_string(),
            address: instance.address(),
            weight: instance.weight(),
            metadata: instance.metadata().clone(),
        };
        let text = serde_json::to_vec(&content)?;
        if text.len() as u64 > MAX_LEN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("announcement is {} bytes, limit is {MAX_LEN}", text.len()),
            ));
        }
        let directory = ServiceDirectory::open_or_create(directory)?;
        remove_abandoned(&directory);

        let name = unique_name(instance.address());
        let unpublished = format!("{name}{UNPUBLISHED}");
        let locked = directory.create_file(&unpublished)?;
        // From here on, dropping the announcement removes the file if a step fails.
        let mut announcement = Self { directory, name: unpublished, locked };
        announcement.locked.try_lock()?;
        announcement.locked.write_all(&text)?;
        let published = format!("{name}{PUBLISHED}");
        announcement.directory.rename(&announcement.name, &published)?;
        announcement.name = published;
        Ok(announcement)
    }

    /// Returns whether readers find the file in `directory`. Blocks.
    ///
    /// Another program may have removed it, as a cleanup of temporary files does.
    pub(super) fn is_published(&self, directory: &Path) -> io::Result<bool> {
        service_directory::is_at(&self.locked, &directory.join(&self.name))
    }

    /// Removes the file. Blocks.
    pub(super) fn withdraw(&self) -> io::Result<()> {
        self.directory.remove(&self.name)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // If this fails, the file is unlocked, and the next reader removes it.
        let _ = self.directory.remove(&self.name);
    }
}

/// Returns the alive providers of `service` with the changes of an operator, sorted by address, and the errors of unreadable files.
///
/// Blocks.
///
/// Removes this user's files of dead providers. All other files stay, also those in a directory that is not the
/// registry's.
pub(super) fn scan(directory: &Path, service: &ServiceId) -> io::Result<(Vec<Instance>, Vec<io::Error>)> {
    let Some(directory) = ServiceDirectory::open(directory)? else { return Ok(Default::default()) };
    let mut names = directory.names()?;
    names.retain(|name| is_announcement(name, PUBLISHED));
    // File names begin with the time, so the newer of two files for one address replaces the older.
    names.sort();
    let (mut alive, mut unreadable) = (BTreeMap::new(), Vec::new());
    for name in names {
        match read_if_alive(&directory, &name, service) {
            Ok(Some(instance)) => {
                alive.insert(instance.address(), instance);
            }
            Ok(None) => {}
            Err(cause) => unreadable.push(io::Error::new(cause.kind(), format!("{name}: {cause}"))),
        }
    }
    let overrides = Overrides::read(&directory).unwrap_or_else(|cause| {
        unreadable.push(cause);
        Overrides::default()
    });
    Ok((alive.into_values().map(|instance| overrides.apply(instance)).collect(), unreadable))
}

/// Returns the provider of a file. If the provider is dead, removes the file and returns `None`.
fn read_if_alive(directory: &ServiceDirectory, name: &str, service: &ServiceId) -> io::Result<Option<Instance>> {
    let Some(file) = directory.open_file(name)? else { return Ok(None) };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read(&file, service).map(Some),
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) if service_directory::is_own(&file)? && read(&file, service).is_ok() => {
            directory.remove(name).map(|()| None)
        }
        Ok(()) => Ok(None),
    }
}

fn read(file: &File, service: &ServiceId) -> io::Result<Instance> {
    let mut text = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut text)?;
    parse(&text, service)
}

/// Parses the content of a file.
pub(crate) fn parse(text: &[u8], service: &ServiceId) -> io::Result<Instance> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if text.len() as u64 > MAX_LEN {
        return Err(invalid(format!("announcement is longer than {MAX_LEN} bytes")));
    }
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(text)?;
    if format != FORMAT {
        return Err(invalid(format!("announcement has format version {format}, supported is {FORMAT}")));
    }
    let content: Content = serde_json::from_slice(text)?;
    if content.service != service.to_string() {
        return Err(invalid(format!("announcement is for the service `{}`, expected `{service}`", content.service)));
    }
    let instance = Instance::new(content.address).with_weight(content.weight);
    Ok(content.metadata.into_iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value)))
}

/// Removes this user's unpublished files that a provider left behind because it was killed while it published.
fn remove_abandoned(directory: &ServiceDirectory) {
    let is_abandoned = |name: &str| -> io::Result<bool> {
        let Some(file) = directory.open_file(name)? else { return Ok(false) };
        let age = file.metadata()?.modified()?.elapsed().map_err(io::Error::other)?;
        Ok(age > ABANDONED_AGE && service_directory::is_own(&file)?)
    };
    for name in directory.names().unwrap_or_default() {
        if is_announcement(&name, UNPUBLISHED) && is_abandoned(&name).unwrap_or(false) {
            let _ = directory.remove(&name);
        }
    }
}

/// Returns a name for a file that readers skip, and that is removed if it is abandoned.
pub(super) fn unpublished_name(address: SocketAddr) -> String {
    unique_name(address) + UNPUBLISHED
}

/// Returns a unique file name, without extension, of time, process id and count. The address only helps operators.
fn unique_name(address: SocketAddr) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let address = address.to_string().replace([':', '[', ']', '%'], "_");
    format!("{time:020}-{}-{count}-{address}", std::process::id())
}

/// Returns whether a file has a name of [`unique_name`] with this extension.
fn is_announcement(name: &str, extension: &str) -> bool {
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u64>().is_ok());
    let mut parts = name.strip_suffix(extension).unwrap_or_default().splitn(4, '-');
    parts.next().is_some_and(|time| time.len() == 20 && is_number(Some(time)))
        && is_number(parts.next())
        && is_number(parts.next())
        && parts.next().is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    fn instance(port: u16) -> Instance {
        Instance::new(([127, 0, 0, 1], port).into()).with_weight(2.5).with_metadata("protocol", "msnb")
    }

    fn alive(directory: &Path) -> Vec<Instance> {
        let (alive, unreadable) = scan(directory, &SERVICE).unwrap();
        assert!(unreadable.is_empty(), "{unreadable:?}");
        alive
    }

    #[test]
    fn scan_finds_announcement_until_it_is_dropped() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("new");
        assert_eq!(alive(&directory), []);
        let one = Announcement::publish(&directory, &SERVICE, &instance(1)).unwrap();
        let two = Announcement::publish(&directory, &SERVICE, &instance(2)).unwrap();
        assert_eq!(alive(&directory), [instance(1), instance(2)]);
        drop(one);
        assert_eq!(alive(&directory), [instance(2)]);
        two.withdraw().unwrap();
        assert_eq!(alive(&directory), []);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn newer_of_two_files_for_one_address_wins() {
        let scratch = tempfile::tempdir().unwrap();
        let _old = Announcement::publish(scratch.path(), &SERVICE, &instance(1)).unwrap();
        let new = Announcement::publish(scratch.path(), &SERVICE, &instance(1).with_weight(7.0)).unwrap();
        assert_eq!(alive(scratch.path()), [instance(1).with_weight(7.0)]);
        drop(new);
        assert_eq!(alive(scratch.path()), [instance(1)]);
    }

    #[test]
    fn scan_removes_unlocked_files() {
        let scratch = tempfile::tempdir().unwrap();
        let owned = Announcement::publish(scratch.path(), &SERVICE, &instance(1)).unwrap();
        let owned = scratch.path().join(&owned.name);
        let dead = scratch.path().join(dead_name("7"));
        fs::copy(&owned, &dead).unwrap();
        assert_eq!(alive(scratch.path()), [instance(1)]);
        assert!(!dead.exists() && owned.exists());
    }

    /// Returns the name of an announcement that no provider holds.
    fn dead_name(address: &str) -> String {
        format!("{:020}-1-0-{address}.json", 1)
    }

    /// Another user may replace the service's directory by a link to any directory.
    #[test]
    fn scan_follows_no_symbolic_link() {
        let scratch = tempfile::tempdir().unwrap();
        let (project, service) = (scratch.path().join("project"), scratch.path().join("service"));
        let other = Announcement::publish(&project, &SERVICE, &instance(1)).unwrap();
        let dead = project.join(dead_name("7"));
        fs::copy(project.join(&other.name), &dead).unwrap();
        std::os::unix::fs::symlink(&project, &service).unwrap();
        assert!(scan(&service, &SERVICE).is_err());
        assert!(Announcement::publish(&service, &SERVICE, &instance(2)).is_err());
        assert!(dead.exists());

        fs::remove_file(&service).unwrap();
        fs::create_dir(&service).unwrap();
        std::os::unix::fs::symlink(&dead, service.join(dead_name("8"))).unwrap();
        let (alive, unreadable) = scan(&service, &SERVICE).unwrap();
        assert_eq!((alive, unreadable.len()), (vec![], 1));
        assert!(dead.exists());
    }

    #[test]
    fn scan_removes_no_other_files() {
        let scratch = tempfile::tempdir().unwrap();
        let announced = {
            let announced = Announcement::publish(scratch.path(), &SERVICE, &instance(1)).unwrap();
            fs::read(scratch.path().join(&announced.name)).unwrap()
        };
        let others = [("package.json", &announced[..]), (&dead_name("7"), b"{}"), ("settings.new", b"")];
        for (name, content) in others {
            fs::write(scratch.path().join(name), content).unwrap();
        }
        let fifo = scratch.path().join(dead_name("8"));
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (alive, unreadable) = scan(scratch.path(), &SERVICE).unwrap();
        assert_eq!((alive, unreadable.len()), (vec![], 1));
        assert!(others.iter().all(|(name, _)| scratch.path().join(name).exists()) && fifo.exists());
    }

    #[test]
    fn announcement_is_writable_by_its_user_only() {
        use std::os::unix::fs::PermissionsExt as _;

        let scratch = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let directory = scratch.path().join("new");
        let announcement = Announcement::publish(&directory, &SERVICE, &instance(1)).unwrap();
        let file = directory.join(&announcement.name);
        assert_eq!((mode(&directory), mode(&file) & 0o022), (0o700, 0));

        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let (alive, unreadable) = scan(&directory, &SERVICE).unwrap();
        assert_eq!((alive, unreadable.len()), (vec![], 1));
    }

    #[test]
    fn scan_skips_unreadable_files() {
        let scratch = tempfile::tempdir().unwrap();
        let _good = Announcement::publish(scratch.path(), &SERVICE, &instance(1)).unwrap();
        let content = |format, service: &str| {
            format!(
                r#"{{"format":{format},"service":"{service}","address":"127.0.0.1:2","weight":1.0,"metadata":{{}}}}"#
            )
        };
        let bad = [
            String::new(),
            "{".to_owned(),
            r#"{"format":2,"new":true}"#.to_owned(),
            content(1, "demo.Other:1.0"),
            " ".repeat(MAX_LEN as usize + 1),
        ];
        let mut held = Vec::new();
        for (n, text) in bad.iter().enumerate() {
            let path = scratch.path().join(dead_name(&n.to_string()));
            fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            file.lock().unwrap();
            held.push(file);
        }
        let (alive, unreadable) = scan(scratch.path(), &SERVICE).unwrap();
        assert_eq!((alive, unreadable.len()), (vec![instance(1)], bad.len()));
    }

    #[test]
    fn files_up_to_the_limit_are_read_longer_rejected() {
        let scratch = tempfile::tempdir().unwrap();
        let with = |len| Instance::new(([127, 0, 0, 1], 1).into()).with_metadata("a", "x".repeat(len));
        let published_length = |instance: &Instance| {
            let announcement = Announcement::publish(scratch.path(), &SERVICE, instance)?;
            announcement.locked.metadata().map(|file| file.len())
        };
        let overhead = published_length(&with(0)).unwrap();
        let longest_value = (MAX_LEN - overhead) as usize;
        let longest = Announcement::publish(scratch.path(), &SERVICE, &with(longest_value)).unwrap();
        assert_eq!(alive(scratch.path()), [with(longest_value)]);
        drop(longest);
        assert!(published_length(&with(longest_value + 1)).is_err());
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
