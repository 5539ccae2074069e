//! [`Reloadable`]: a value that is rebuilt when its files change.

use std::{
    fmt,
    io::{self, Read as _},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{Code, Error, contained, files};

/// A value that is built from files, and rebuilt when their content changes.
///
/// If the new content is unusable, a warning is logged once and the previous value stays in use.
pub struct Reloadable<T> {
    files: Vec<PathBuf>,
    build: Build<T>,
    state: Mutex<State<T>>,
}

/// Builds the value from the contents of the files, in the order of the files.
pub(crate) type Build<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, Error> + Send + Sync>;

struct State<T> {
    current: Arc<T>,
    /// The number of times that the value was rebuilt.
    version: u64,
    content: [u8; 32],
    check_at: Instant,
    /// Whether a warning was logged that a file cannot be read.
    unreadable: bool,
}

impl<T: Send + Sync + 'static> Reloadable<T> {
    /// Builds the value for the first time.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the file that cannot be read or is not a regular file; or the error of `build`.
    pub fn load(files: Vec<PathBuf>, build: Build<T>) -> Result<Arc<Self>, Error> {
        let contents = read_all(&files)?;
        warn_if_writable(&files);
        let state = State {
            current: Arc::new(build(&contents)?),
            version: 0,
            content: hash(&contents),
            check_at: Instant::now() + CHECK_INTERVAL,
            unreadable: false,
        };
        Ok(Arc::new(Self { files, build, state: Mutex::new(state) }))
    }

    /// Returns the latest value.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.lock().current)
    }

    /// Returns the number of times that the value was rebuilt.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Checks the files, unless they were checked within the last [`CHECK_INTERVAL`].
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time; the check then completes in the background.
    pub async fn refresh(self: &Arc<Self>) {
        if self.is_due() {
            let this = Arc::clone(self);
            // The panic hook reports a panic of `build`; the previous value stays in use.
            let _ = tokio::task::spawn_blocking(move || this.check()).await;
        }
    }

    /// Checks the files at each interval, and passes the latest value to `apply`, forever.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn follow(self: &Arc<Self>, apply: impl Fn(Arc<T>)) {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            self.refresh().await;
            apply(self.current());
        }
    }

    /// Returns whether this caller must check the files. Concurrent callers use the current value.
    fn is_due(&self) -> bool {
        let (mut state, now) = (self.lock(), Instant::now());
        let due = now >= state.check_at;
        if due {
            state.check_at = now + CHECK_INTERVAL;
        }
        due
    }

    fn check(&self) {
        let contents = match read_all(&self.files) {
            Ok(contents) => contents,
            Err(error) => {
                if !std::mem::replace(&mut self.lock().unreadable, true) {
                    contained(|| warn!(%error, "cannot read a changed file, the previous content stays in use"));
                }
                return;
            }
        };
        let content = hash(&contents);
        {
            let mut state = self.lock();
            state.unreadable = false;
            if std::mem::replace(&mut state.content, content) == content {
                return;
            }
        }
        match (self.build)(&contents) {
            Ok(value) => {
                {
                    let mut state = self.lock();
                    state.current = Arc::new(value);
                    state.version += 1;
                }
                warn_if_writable(&self.files);
                contained(|| info!(files = ?self.files, "files were reloaded"));
            }
            // A key may be written shortly after its certificate: the next change is checked again.
            Err(error) => {
                contained(
                    || warn!(%error, files = ?self.files, "changed files are unusable, the previous content stays in use"),
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Reloadable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloadable").field("files", &self.files).finish_non_exhaustive()
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, Error> {
    let read = |path: &PathBuf| -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        files::open_regular(path)?.take(MAX_FILE + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("file is longer than {MAX_FILE} bytes")));
        }
        Ok(content)
    };
    let named = |path: &PathBuf| {
        read(path).map_err(|error| {
            let message = format!("cannot read {}: {error}", path.display());
            Error::not_executed(Code::InvalidArgument, message).with_source(error)
        })
    };
    files.iter().map(named).collect()
}

/// Logs the files that every user of the machine can replace the content of.
fn warn_if_writable(files: &[PathBuf]) {
    for file in files.iter().filter(|file| files::is_world_writable(file)) {
        contained(
            || warn!(file = %file.display(), "every user of this machine can write to this file: remove that permission"),
        );
    }
}

/// Returns the hash that is kept instead of the contents, which may be secret.
fn hash(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for content in contents {
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hash.finalize().into()
}

/// The shortest time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest accepted file, in bytes.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changed_files_are_reloaded_if_usable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("1");
        let build = |contents: &[Vec<u8>]| {
            let text = String::from_utf8_lossy(&contents[0]).into_owned();
            text.parse::<u8>().map_err(|_| Error::not_executed(Code::InvalidArgument, "not a number"))
        };
        let number = Reloadable::load(vec![path.clone()], Box::new(build)).unwrap();
        write("2");
        number.refresh().await;
        assert_eq!(*number.current(), 1, "checked within the interval");
        for (content, expected, version) in [("2", 2, 1), ("two", 2, 1), ("3", 3, 2)] {
            write(content);
            tokio::time::advance(CHECK_INTERVAL).await;
            number.refresh().await;
            assert_eq!((*number.current(), number.version()), (expected, version));
        }
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(CHECK_INTERVAL).await;
        number.refresh().await;
        assert_eq!(*number.current(), 3);
    }

    /// A FIFO in place of a key or token file must not delay the handshakes that check it.
    #[cfg(unix)]
    #[tokio::test]
    async fn fifo_in_place_of_file_keeps_previous_value() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "secret").unwrap();
        let token = Reloadable::load(vec![path.clone()], Box::new(|contents| Ok(contents[0].clone()))).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        token.lock().check_at = Instant::now();
        tokio::time::timeout(Duration::from_secs(30), token.refresh()).await.expect("the check does not block");
        assert!(token.lock().unreadable);
        assert_eq!(*token.current(), b"secret");
        let build: Build<()> = Box::new(|_| Ok(()));
        let (sender, loaded) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || sender.send(Reloadable::load(vec![path], build).map(drop)));
        let error = loaded.recv_timeout(Duration::from_secs(30)).expect("loading does not block").unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }

    #[test]
    fn files_are_limited_to_1_mib() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        for (length, fits) in [(MAX_FILE, true), (MAX_FILE + 1, false)] {
            std::fs::write(&path, vec![0; length as usize]).unwrap();
            assert_eq!(read_all(std::slice::from_ref(&path)).is_ok(), fits);
        }
    }
}
