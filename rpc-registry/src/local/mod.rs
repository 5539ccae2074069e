//! [`Local`]: a registry for the processes of one machine, without a server.

mod announcement;
mod watcher;

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::runtime::Handle;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::announcement::Announcement;
#[cfg(feature = "fuzzing")]
pub(crate) use self::announcement::parse as announced;
use crate::{address, user_directory, watches::Watches};

/// A directory that the processes of one machine share: `local:` for this user's own, `local:/dir` for another.
///
/// A provider keeps one file for each service, under a lock that the system drops when the process dies, however it dies. A consumer
/// reads the directory every 100 ms: a provider is found, and a killed one is gone, within about 200 ms.
///
/// This user's own directory is `$XDG_RUNTIME_DIR/msnb` where that is set, else `msnb-<user id>` in the directory for temporary
/// files; processes which are to see each other must agree on it. It is made with permissions for this user only, and refused
/// if somebody else owns it or may write to it. A directory that is named is used as it is, and made likewise if it is not there.
///
/// It needs a local file system: locks on network file systems may outlive their process. A provider that forks without `exec` stays
/// listed until the child ends too.
///
/// # Drop
///
/// Takes off what was registered through this handle and ends its watches.
pub struct Local {
    directory: PathBuf,
    url: String,
    announced: Mutex<HashMap<(ServiceId, SocketAddr), Announcement>>,
    watches: Arc<Watches>,
    watchers: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Local {
    /// Uses `directory`, or this user's own.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the directory can neither be used nor made, `PermissionDenied` when this user's own is not only this
    /// user's, `Unimplemented` on a system other than Unix, where a locked file cannot be read.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its time driver enabled.
    pub async fn open(directory: Option<PathBuf>) -> Result<Self, Error> {
        if !cfg!(unix) {
            return Err(Error::not_executed(Code::Unimplemented, "`local:` works on Unix only"));
        }
        let url = directory.as_ref().map_or_else(|| "local:".to_owned(), |path| format!("local:{}", path.display()));
        let directory = blocking(move || {
            let own = directory.is_none();
            let directory = directory.unwrap_or_else(user_directory::path);
            user_directory::create(&directory)?;
            if own {
                user_directory::check_private(&directory)?;
            }
            Ok(directory)
        })
        .await
        .map_err(|cause| failed("the directory of `local:` cannot be used", cause))?;
        let stop = CancellationToken::new();
        Ok(Self {
            directory,
            url,
            announced: Mutex::default(),
            watches: Arc::default(),
            watchers: TaskTracker::new(),
            runtime: Handle::current(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    fn announced(&self) -> MutexGuard<'_, HashMap<(ServiceId, SocketAddr), Announcement>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for Local {
    /// As the trait says; and `Unavailable` when the file cannot be written, or its file system has no locks.
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            address::check_connectable(&instance)?;
            let key = (service.clone(), instance.address());
            let directory = service_directory(&self.directory, service)?;
            let service = service.clone();
            let announcement = blocking(move || Announcement::publish(&directory, &service, &instance))
                .await
                .map_err(|cause| failed("the provider cannot be announced", cause))?;
            let replaced = self.announced().insert(key, announcement);
            remove(replaced).await?;
            Ok(RegisterOutcome::Confirmed)
        })
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let announcement = self.announced().remove(&(service.clone(), address));
            remove(announcement).await
        })
    }
}

impl Discovery for Local {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let (receiver, publisher) = self.watches.watch(service);
        if let Some(publisher) = publisher {
            let directory = service_directory(&self.directory, service);
            let watches = Arc::clone(&self.watches);
            let watcher = watcher::run(service.clone(), directory, publisher, watches, self.stop.clone());
            self.watchers.spawn_on(watcher, &self.runtime);
        }
        receiver
    }

    fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("url", &self.url).field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The files of one service. `@` stands for the colon, which not every file system takes.
fn service_directory(root: &Path, service: &ServiceId) -> Result<PathBuf, Error> {
    // A constant ServiceId was not checked, and must not lead out of the directory.
    let service = ServiceId::new(service.name(), service.version())?;
    Ok(root.join(format!("{}@{}", service.name(), service.version())))
}

/// Dropping an announcement removes a file, which may block.
async fn remove(announcement: Option<Announcement>) -> Result<(), Error> {
    let Some(announcement) = announcement else { return Ok(()) };
    blocking(move || announcement.withdraw())
        .await
        .map_err(|cause| failed("the provider's announcement cannot be removed", cause))
}

/// Runs `work` where it may block. A caller that goes away leaves it to end by itself.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|ended| Err(io::Error::other(ended)))
}

fn failed(what: &'static str, cause: io::Error) -> Error {
    let code = match cause.kind() {
        io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        _ => Code::Unavailable,
    };
    Error::not_executed(code, what).with_source(cause)
}
