//! [`Announcement`]: the file by which a provider says that it lives.
//!
//! Two rules make a file's lock mean its provider's life:
//!
//! 1. **A file is locked before it can be found.** It is written and locked under a name that readers pass over, and then renamed. So
//!    a reader that finds a file without a lock has found a dead provider, never one that is about to lock; and since a provider
//!    never waits for a lock on a file that others can see, a reader's own lock is in nobody's way.
//! 2. **A name is used once.** So what a reader removes, after it found it without a lock, is the file it looked at, not a fresh one
//!    that took its place meanwhile; and a file without a lock never gets one again.
//!
//! Readers take a shared lock to look, so that two of them do not take each other for the provider.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rpc_core::{Instance, ServiceId};
use serde::{Deserialize, Serialize};

use crate::user_directory;

/// A provider's file and its lock. Dropping it removes the file.
pub(super) struct Announcement {
    path: PathBuf,
    /// Held for its lock, which ends with it.
    _locked: File,
}

/// What a file says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Content {
    format: u32,
    service: String,
    address: SocketAddr,
    weight: f64,
    metadata: BTreeMap<String, String>,
}

/// The only format so far. A reader passes over another.
const FORMAT: u32 = 1;

/// The longest file that is read, in bytes.
const MAX_LEN: u64 = 64 * 1024;

/// The end of the names that readers look at.
const PUBLISHED: &str = "json";

/// The end of the names of files that are being written.
const UNPUBLISHED: &str = "new";

/// A file that was not published within this time never will be: its provider died between two system calls.
const ABANDONED: Duration = Duration::from_secs(60);

impl Announcement {
    /// Lists `instance` in `directory`, which is made if it is not there. Blocks.
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
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is longer than {MAX_LEN} bytes")));
        }
        user_directory::create(directory)?;
        remove_abandoned(directory);

        let name = unique_name(instance.address());
        let unpublished = directory.join(&name).with_extension(UNPUBLISHED);
        let mut file = File::create_new(&unpublished)?;
        // From here on the file is removed if a step fails.
        let mut announcement = Self { path: unpublished, _locked: file.try_clone()? };
        file.try_lock()?;
        file.write_all(&text)?;
        let published = directory.join(name);
        fs::rename(&announcement.path, &published)?;
        announcement.path = published;
        Ok(announcement)
    }

    /// Takes the provider off the list. Blocks.
    pub(super) fn withdraw(self) -> io::Result<()> {
        gone_is_fine(fs::remove_file(&self.path))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // What remains is a file without a lock, which the next reader removes.
        let _ = fs::remove_file(&self.path);
    }
}

/// The providers of `service` that live, by address; and what could not be read. Removes the files of the dead. Blocks.
pub(super) fn scan(directory: &Path, service: &ServiceId) -> io::Result<(Vec<Instance>, Vec<io::Error>)> {
    let mut paths = Vec::new();
    match fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                let path = entry.path();
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                if is_file && path.extension().is_some_and(|end| end == PUBLISHED) {
                    paths.push(path);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Names begin with the time, so of two files for one address the newer wins.
    paths.sort();
    let (mut living, mut unreadable) = (BTreeMap::new(), Vec::new());
    for path in paths {
        match look(&path, service) {
            Ok(Some(instance)) => {
                living.insert(instance.address(), instance);
            }
            Ok(None) => {}
            Err(cause) => unreadable.push(io::Error::new(cause.kind(), format!("{}: {cause}", path.display()))),
        }
    }
    Ok((living.into_values().collect(), unreadable))
}

/// The provider whose file this is, or `None` when it is dead; then the file is removed.
fn look(path: &Path, service: &ServiceId) -> io::Result<Option<Instance>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read(file, service).map(Some),
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => gone_is_fine(fs::remove_file(path)).map(|()| None),
    }
}

fn read(file: File, service: &ServiceId) -> io::Result<Instance> {
    let mut text = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut text)?;
    parse(&text, service)
}

/// The instance that the text of a file is about.
pub(crate) fn parse(text: &[u8], service: &ServiceId) -> io::Result<Instance> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if text.len() as u64 > MAX_LEN {
        return Err(wrong(format!("longer than {MAX_LEN} bytes")));
    }
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(text)?;
    if format != FORMAT {
        return Err(wrong(format!("its format is {format}, this version reads {FORMAT}")));
    }
    let content: Content = serde_json::from_slice(text)?;
    if content.service != service.to_string() {
        return Err(wrong(format!("it is about `{}`", content.service)));
    }
    let instance = Instance::new(content.address).with_weight(content.weight);
    Ok(content.metadata.into_iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value)))
}

/// Removes files that were left half-made, which only a kill at the wrong moment does.
fn remove_abandoned(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_old = || entry.metadata()?.modified()?.elapsed().map_err(io::Error::other);
        if path.extension().is_some_and(|end| end == UNPUBLISHED) && is_old().is_ok_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// A name that no other file ever has: time, process, count. The address is for people.
fn unique_name(address: SocketAddr) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let address = address.to_string().replace([':', '[', ']', '%'], "_");
    format!("{time:020}-{}-{count}-{address}.{PUBLISHED}", std::process::id())
}

fn gone_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    fn instance(port: u16) -> Instance {
        Instance::new(([127, 0, 0, 1], port).into()).with_weight(2.5).with_metadata("protocol", "msnb")
    }

    fn living(directory: &Path) -> Vec<Instance> {
        let (living, unreadable) = scan(directory, &SERVICE).unwrap();
        assert!(unreadable.is_empty(), "{unreadable:?}");
        living
    }

    #[test]
    fn what_is_announced_is_found_until_it_is_dropped() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("not yet there");
        assert_eq!(living(&directory), []);
        let one = Announcement::publish(&directory, &SERVICE, &instance(1)).unwrap();
        let two = Announcement::publish(&directory, &SERVICE, &instance(2)).unwrap();
        assert_eq!(living(&directory), [instance(1), instance(2)]);
        drop(one);
        assert_eq!(living(&directory), [instance(2)]);
        two.withdraw().unwrap();
        assert_eq!(living(&directory), []);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn the_newer_of_two_files_for_one_address_wins() {
        let scratch = tempfile::tempdir().unwrap();
        let _old = Announcement::publish(scratch.path(), &SERVICE, &instance(1)).unwrap();
        let new = Announcement::publish(scratch.path(), &SERVICE, &instance(1).with_weight(7.0)).unwrap();
        assert_eq!(living(scratch.path()), [instance(1).with_weight(7.0)]);
        drop(new);
        assert_eq!(living(scratch.path()), [instance(1)]);
    }

    #[test]
    fn a_file_without_a_lock_is_dead_and_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let lives = Announcement::publish(scratch.path(), &SERVICE, &instance(1)).unwrap();
        let dead = scratch.path().join("0-1-0-dead.json");
        fs::copy(&lives.path, &dead).unwrap();
        assert_eq!(living(scratch.path()), [instance(1)]);
        assert!(!dead.exists() && lives.path.exists());
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
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
            let path = scratch.path().join(format!("bad{n}.json"));
            fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            file.lock().unwrap();
            held.push(file);
        }
        let (living, unreadable) = scan(scratch.path(), &SERVICE).unwrap();
        assert_eq!((living, unreadable.len()), (vec![instance(1)], bad.len()));
    }

    #[test]
    fn the_longest_file_is_read_and_a_longer_one_not_written() {
        let scratch = tempfile::tempdir().unwrap();
        let with = |len| Instance::new(([127, 0, 0, 1], 1).into()).with_metadata("a", "x".repeat(len));
        let lengths = |instance: &Instance| {
            let announced = Announcement::publish(scratch.path(), &SERVICE, instance)?;
            fs::metadata(&announced.path).map(|file| file.len())
        };
        let frame = lengths(&with(0)).unwrap();
        let room = (MAX_LEN - frame) as usize;
        let longest = Announcement::publish(scratch.path(), &SERVICE, &with(room)).unwrap();
        assert_eq!(living(scratch.path()), [with(room)]);
        drop(longest);
        assert!(lengths(&with(room + 1)).is_err());
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
