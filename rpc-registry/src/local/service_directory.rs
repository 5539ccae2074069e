//! [`ServiceDirectory`]: the directory with the announcements of one service.
//!
//! Other users may be able to write to the registry's directory. Therefore no symbolic link is followed, and a file or
//! directory counts only if its owner is this user, root, or the owner of the registry's directory.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rpc_core::files;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};

/// An open directory. All files are opened relative to it, so replacing its path has no effect.
pub(super) struct ServiceDirectory {
    directory: File,
    path: PathBuf,
    /// The users whose files count.
    trusted: [u32; 3],
}

impl ServiceDirectory {
    /// Opens the directory of a service; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the owner is not trusted, and an error if the path is not a directory.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let root = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = fs::metadata(root)
            .and_then(|root| Ok((root.uid(), rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?)));
        let Some((owner, directory)) = existing(opened)? else { return Ok(None) };
        let opened = Self { directory: directory.into(), path: path.to_owned(), trusted: [user(), 0, owner] };
        opened.check_owner(&opened.directory, path)?;
        Ok(Some(opened))
    }

    /// Opens the directory of a service, and creates it for this user only if it does not exist.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub(super) fn open_or_create(path: &Path) -> io::Result<Self> {
        files::create_private_directory(path)?;
        Self::open(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Returns the names of all entries.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        Ok(names)
    }

    /// Opens a file; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if its owner is not trusted or every user can write to it; an error if it is not a regular
    /// file.
    pub(super) fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        // Without `NONBLOCK`, opening a FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Some(file) = existing(self.open_at(name, flags))? else { return Ok(None) };
        let (file, path) = (File::from(file), self.path.join(name));
        self.check_owner(&file, &path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file"));
        }
        if metadata.mode() & 0o002 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "every user can write to the file"));
        }
        Ok(Some(file))
    }

    /// Creates a file to which only this user can write, whatever the umask.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the name exists.
    pub(super) fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.open_at(name, flags).map(File::from)
    }

    /// Renames a file within the directory.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, from, &self.directory, to)?)
    }

    /// Removes a file; succeeds if it does not exist.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        existing(rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()).map_err(io::Error::from)).map(drop)
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(0o644))?)
    }

    fn check_owner(&self, file: &File, path: &Path) -> io::Result<()> {
        let owner = file.metadata()?.uid();
        if self.trusted.contains(&owner) {
            return Ok(());
        }
        let message = format!("{} belongs to user {owner}, who may not announce providers here", path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }
}

/// Returns whether this user owns the file.
pub(super) fn is_own(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.uid() == user())
}

/// Returns whether `path` names this file, and not another one or none.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let file = file.metadata()?;
    let named = existing(fs::symlink_metadata(path))?;
    Ok(named.is_some_and(|named| (named.dev(), named.ino()) == (file.dev(), file.ino())))
}

/// Returns whether users other than the owner can write to the directory.
pub(super) fn is_writable_by_others(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & 0o022 != 0)
}

fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}
