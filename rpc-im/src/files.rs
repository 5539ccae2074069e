//! Reads files of secrets, which other users of the machine must not control.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use rpc_core::contained;
use rustix::fs::{Mode, OFlags};
use tracing::warn;

/// Reads a regular file of secrets.
///
/// Logs a warning if other users of the machine can read or change it.
///
/// # Errors
///
/// `InvalidInput` for another kind of file: opening or reading a FIFO, for instance, may never end; `FileTooLarge` above
/// [`MAX_FILE`].
pub(crate) fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    let content = read(path)?;
    warn_if_accessible(path);
    Ok(content)
}

/// Logs a warning if other users of the machine can read or change a file.
pub(crate) fn warn_if_accessible(path: &Path) {
    let others = Mode::from_raw_mode(fs::metadata(path).map_or(0, |metadata| mode(&metadata)));
    if others.intersects(Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH) {
        let file = path.display();
        contained(|| warn!(%file, "other users of this machine can access this file: remove that permission"));
    }
}

/// Reads a regular file.
///
/// # Errors
///
/// As for [`read_secret`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Regular files ignore NONBLOCK. With it, opening a FIFO does not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        let message = format!("{} is not a regular file", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        let message = format!("{} is longer than {MAX_FILE} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(content)
}

fn mode(metadata: &fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata)
}

/// The longest accepted file, in bytes: 64 MiB, several 100 000 users.
const MAX_FILE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifo_and_long_file_are_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        for other in [path("fifo"), directory.path().to_owned()] {
            let (sender, done) = std::sync::mpsc::sync_channel(1);
            std::thread::spawn(move || sender.send(read_secret(&other).map(drop)));
            let error = done.recv_timeout(std::time::Duration::from_secs(30)).expect("reading does not block");
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        for (length, is_read) in [(MAX_FILE, true), (MAX_FILE + 1, false)] {
            File::create(path("long")).unwrap().set_len(length).unwrap();
            assert_eq!(read(&path("long")).is_ok(), is_read);
        }
    }
}
