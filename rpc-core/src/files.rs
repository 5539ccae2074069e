//! Files and directories that other users of the machine must not control.
//!
//! Systems other than Unix have no owners and modes to check: there, every file and directory is accepted.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};

#[cfg(unix)]
use rustix::fs::OFlags;

/// Opens a regular file for reading.
///
/// # Errors
///
/// `InvalidInput` if the path names another kind of file: opening or reading a FIFO, for instance, may never end.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Regular files ignore the flag. With it, opening a FIFO does not wait for a writer.
    #[cfg(unix)]
    let file = open(path, OFlags::NONBLOCK)?;
    #[cfg(not(unix))]
    let file = OpenOptions::new().read(true).open(path)?;
    check_regular(&file)?;
    Ok(file)
}

/// Opens a regular file that this user or root owns, for reading.
///
/// # Errors
///
/// `PermissionDenied` if another user owns the file or can write to it, and the errors of [`open_regular`]. Symbolic
/// links are not followed.
pub fn open_own(path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    let file = open(path, OFlags::NONBLOCK | OFlags::NOFOLLOW)?;
    #[cfg(not(unix))]
    let file = OpenOptions::new().read(true).open(path)?;
    check_regular(&file)?;
    #[cfg(unix)]
    {
        let (metadata, user) = (file.metadata()?, user());
        if ![0, user].contains(&metadata.uid()) || metadata.mode() & OTHERS_WRITE != 0 {
            let message = format!("{} must be a file that only user {user} or root can write to", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
    }
    Ok(file)
}

/// Returns whether every user of the machine can write to the file.
#[cfg(unix)]
pub fn is_world_writable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o002 != 0)
}

/// Returns `false`: this system has no modes.
#[cfg(not(unix))]
pub fn is_world_writable(_: &Path) -> bool {
    false
}

/// Creates a directory that only this user can access, with its parents.
///
/// The umask cannot extend its permissions. An existing directory keeps its own.
pub fn create_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(directory)
}

/// Rejects a directory that another user owns or can write to, and a symbolic link.
///
/// # Errors
///
/// `PermissionDenied`, with the path.
#[cfg(unix)]
pub fn check_private_directory(directory: &Path) -> io::Result<()> {
    let (metadata, user) = (fs::symlink_metadata(directory)?, user());
    if !metadata.is_dir() || metadata.uid() != user || metadata.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} must be a directory that only user {user} owns and can write to", directory.display()),
        ));
    }
    Ok(())
}

/// Accepts every directory.
#[cfg(not(unix))]
pub fn check_private_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

fn check_regular(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file"))
}

#[cfg(unix)]
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The mode bits that let the group or all users write.
#[cfg(unix)]
const OTHERS_WRITE: u32 = 0o022;

#[cfg(all(test, unix))]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, sync::mpsc, time::Duration};

    use super::*;

    /// Returns the result of `work`, which must not block forever.
    fn unblocked<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::spawn(move || sender.send(work()));
        receiver.recv_timeout(Duration::from_secs(30)).expect("the work does not block")
    }

    #[test]
    fn fifo_is_rejected_without_waiting() {
        let scratch = tempfile::tempdir().unwrap();
        let fifo = scratch.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for open in [open_regular, open_own] {
            let fifo = fifo.clone();
            assert_eq!(unblocked(move || open(&fifo)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn open_own_rejects_links_and_writable_files() {
        let scratch = tempfile::tempdir().unwrap();
        let (file, link) = (scratch.path().join("file"), scratch.path().join("link"));
        fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open_own(&file).is_ok() && open_own(&link).is_err() && open_regular(&link).is_ok());
        assert!(!is_world_writable(&file));
        for mode in [0o664, 0o646] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open_own(&file).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        assert!(is_world_writable(&file));
    }

    #[test]
    fn check_rejects_directories_writable_by_others() {
        let scratch = tempfile::tempdir().unwrap();
        let private = scratch.path().join("a/b");
        create_private_directory(&private).unwrap();
        check_private_directory(&private).unwrap();
        for directory in [&private, &scratch.path().join("a")] {
            assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
        }

        fs::set_permissions(&private, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(check_private_directory(&private).is_err());

        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(scratch.path(), &link).unwrap();
        assert!(check_private_directory(&link).is_err());
    }
}
