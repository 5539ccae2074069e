//! [`DatabaseFile`]: the file of the store, which is opened again after its disk has failed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use redb::{Database, backends::InMemoryBackend};
use rpc_core::contained;
use tracing::{info, warn};

use super::{super::StoreError, error::failed, tables::Tables};

/// The file of the store, or a memory.
///
/// After an error of the disk, such as a full one, redb rejects everything until the file is opened again.
pub(super) struct DatabaseFile {
    /// `None` for a memory.
    path: Option<PathBuf>,
    /// `None` while the file cannot be opened again.
    database: RwLock<Option<Database>>,
}

/// When the writer tries to open a failed file again.
#[derive(Debug, Default)]
pub(super) struct Reopening {
    /// Whether the last transaction failed.
    pub(super) is_suspected: bool,
    attempted: Option<Instant>,
}

impl DatabaseFile {
    /// Opens or creates the file.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let database = match path {
            Some(path) => {
                create_private(path).map_err(failed)?;
                Database::create(path).map_err(failed)?
            }
            None => Database::builder().create_with_backend(InMemoryBackend::new()).map_err(failed)?,
        };
        let begin = database.begin_write().map_err(failed)?;
        // Create all tables: opening a missing table in a read transaction is an error.
        Tables::open(&begin)?;
        begin.commit().map_err(failed)?;
        Ok(Self { path: path.map(Path::to_owned), database: RwLock::new(Some(database)) })
    }

    /// Calls `access` with the database, unless the file is being opened.
    pub(super) fn with<T>(&self, access: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self.database.try_read().as_deref() {
            Ok(Some(database)) => access(database),
            _ => Err(StoreError::Unavailable("the disk of the store has failed".to_owned())),
        }
    }

    /// Opens the file again if its disk has failed, at most once in [`REOPEN_INTERVAL`]; only the writer calls this.
    pub(super) fn reopen_if_failed(&self, reopening: &mut Reopening) {
        let Some(path) = self.path.as_deref().filter(|_| reopening.is_suspected) else { return };
        // An entry that cannot be decoded fails a transaction too, but not the next one.
        if self.with(|database| database.begin_write().map_err(failed)).is_ok() {
            reopening.is_suspected = false;
            return;
        }
        if reopening.attempted.is_some_and(|last| last.elapsed() < REOPEN_INTERVAL) {
            return;
        }
        reopening.attempted = Some(Instant::now());
        // Waits for the readers, which end with an error.
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Closes the file: it is locked while it is open.
        *database = None;
        match Database::open(path) {
            Ok(opened) => {
                *database = Some(opened);
                reopening.is_suspected = false;
                contained(|| info!(path = %path.display(), "opened the file of the store again after a failure"));
            }
            Err(error) => {
                contained(|| {
                    warn!(path = %path.display(), %error, "the file of the store cannot be opened again; retrying");
                });
            }
        }
    }
}

/// Creates the file, if it does not exist, for this user only, because it has the messages of all users.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// The minimum interval between two attempts to open a failed file again.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);
