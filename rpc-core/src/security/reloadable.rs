//! [`Reloadable`]: something made of files, and made anew when they change.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{Code, Error};

/// Something made of files, which is made anew when their content has changed. What cannot be used is told, once, and the former
/// stays in use.
pub(crate) struct Reloadable<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    state: Mutex<State<T>>,
}

/// Makes it of the files' contents, in their order.
pub(crate) type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, Error> + Send + Sync>;

struct State<T> {
    current: Arc<T>,
    content: [u8; 32],
    look_at: Instant,
    /// Whether it was told that a file cannot be read.
    unreadable: bool,
}

impl<T: Send + Sync + 'static> Reloadable<T> {
    /// Makes it for the first time.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the file that cannot be read, or what `make` says.
    pub(crate) fn load(files: Vec<PathBuf>, make: Make<T>) -> Result<Arc<Self>, Error> {
        let contents = read_all(&files)?;
        let state = State {
            current: Arc::new(make(&contents)?),
            content: hash(&contents),
            look_at: Instant::now() + LOOK_EVERY,
            unreadable: false,
        };
        Ok(Arc::new(Self { files, make, state: Mutex::new(state) }))
    }

    /// What was made last.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.lock().current)
    }

    /// Looks at the files, unless somebody did less than [`LOOK_EVERY`] ago.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time; the files are looked at nevertheless.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        if self.is_due() {
            let this = Arc::clone(self);
            // A panic in there is told by the panic hook, and leaves what there was.
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
    }

    /// Of many who ask at once, one looks; the others take what there is.
    fn is_due(&self) -> bool {
        let (mut state, now) = (self.lock(), Instant::now());
        let due = now >= state.look_at;
        if due {
            state.look_at = now + LOOK_EVERY;
        }
        due
    }

    fn look(&self) {
        let contents = match read_all(&self.files) {
            Ok(contents) => contents,
            Err(error) => {
                if !std::mem::replace(&mut self.lock().unreadable, true) {
                    warn!(%error, "what was read before stays in use");
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
        match (self.make)(&contents) {
            Ok(made) => {
                self.lock().current = Arc::new(made);
                info!(files = ?self.files, "read anew");
            }
            // A key may be written a moment after its certificate: the next change is looked at again.
            Err(error) => warn!(%error, files = ?self.files, "what was read before stays in use"),
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
        File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_FILE} bytes")));
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

/// Kept instead of the contents, which may be secret.
fn hash(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for content in contents {
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hash.finalize().into()
}

/// How often files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_made_anew_when_the_content_changes_and_not_for_what_is_no_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("1");
        let make = |contents: &[Vec<u8>]| {
            let text = String::from_utf8_lossy(&contents[0]).into_owned();
            text.parse::<u8>().map_err(|_| Error::not_executed(Code::InvalidArgument, "no number"))
        };
        let number = Reloadable::load(vec![path.clone()], Box::new(make)).unwrap();
        write("2");
        number.refresh().await;
        assert_eq!(*number.current(), 1, "looked at a moment ago");
        for (content, expected) in [("2", 2), ("two", 2), ("3", 3)] {
            write(content);
            tokio::time::advance(LOOK_EVERY).await;
            number.refresh().await;
            assert_eq!(*number.current(), expected);
        }
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        number.refresh().await;
        assert_eq!(*number.current(), 3);
    }

    #[test]
    fn a_file_may_have_1_mib() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        for (length, fits) in [(MAX_FILE, true), (MAX_FILE + 1, false)] {
            std::fs::write(&path, vec![0; length as usize]).unwrap();
            assert_eq!(read_all(std::slice::from_ref(&path)).is_ok(), fits);
        }
    }
}
