//! [`Local`]: a registry for the processes of one machine, without a server.

mod announcement;
mod blocking;
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
pub(crate) use self::announcement::parse as parse_announcement;
use crate::{address, user_directory, watches::Watches};

/// A registry in a directory that the processes of one machine share: `local:` or `local:/dir`.
///
/// A provider keeps one locked file per service; the operating system releases the lock when the process ends, even
/// after a crash. A consumer reads the directory every 100 ms, so it finds a new provider, and drops a killed one,
/// within about 200 ms.
///
/// `local:` names this user's directory: `$XDG_RUNTIME_DIR/msnb` if that variable is set, otherwise `msnb-<user id>` in
/// the directory for temporary files. All processes must resolve it to the same path. It is created with permissions
/// for this user only, and rejected if another user owns it or can write to it. `local:/dir` uses `/dir` without this
/// check, and creates it with the same permissions if it does not exist.
///
/// The directory must be on a local file system: locks on network file systems may outlive their process. A provider
/// that forks without `exec` stays listed until the child ends too.
///
/// # Drop
///
/// Removes the registrations made through this handle and ends its watches.
pub struct Local {
    directory: PathBuf,
    url: String,
    announcements: Mutex<HashMap<(ServiceId, SocketAddr), Announcement>>,
    watches: Arc<Watches>,
    watchers: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Local {
    /// Opens the registry in `directory`, or in this user's directory if `None`.
    ///
    /// # Errors
    ///
    /// - `Unavailable` if the directory can neither be used nor created.
    /// - `PermissionDenied` if another user owns this user's directory or can write to it.
    /// - `Unimplemented` on systems other than Unix, where a locked file cannot be read.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its time driver enabled.
    pub async fn open(directory: Option<PathBuf>) -> Result<Self, Error> {
        if !cfg!(unix) {
            return Err(Error::not_executed(Code::Unimplemented, "`local:` is supported on Unix only"));
        }
        let url = directory.as_ref().map_or_else(|| "local:".to_owned(), |path| format!("local:{}", path.display()));
        let directory = blocking::run(move || {
            let is_private = directory.is_none();
            let directory = directory.unwrap_or_else(user_directory::path);
            user_directory::create(&directory)?;
            if is_private {
                user_directory::check_private(&directory)?;
            }
            Ok(directory)
        })
        .await
        .map_err(|cause| failed("cannot use the directory of `local:`", cause))?;
        let stop = CancellationToken::new();
        Ok(Self {
            directory,
            url,
            announcements: Mutex::default(),
            watches: Arc::default(),
            watchers: TaskTracker::new(),
            runtime: Handle::current(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    fn announcements(&self) -> MutexGuard<'_, HashMap<(ServiceId, SocketAddr), Announcement>> {
        self.announcements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for Local {
    /// As specified by the trait.
    ///
    /// Also returns `Unavailable` if the file cannot be written or the file system has no locks.
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
            let announcement = blocking::run(move || Announcement::publish(&directory, &service, &instance))
                .await
                .map_err(|cause| failed("cannot write the announcement of the provider", cause))?;
            let replaced = self.announcements().insert(key, announcement);
            remove(replaced).await?;
            Ok(RegisterOutcome::Confirmed)
        })
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let announcement = self.announcements().remove(&(service.clone(), address));
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

/// Returns the directory for the files of one service.
///
/// `@` replaces the colon, which some file systems reject.
fn service_directory(root: &Path, service: &ServiceId) -> Result<PathBuf, Error> {
    // A constant ServiceId is not validated at construction, and must not escape the directory.
    let service = ServiceId::new(service.name(), service.version())?;
    Ok(root.join(format!("{}@{}", service.name(), service.version())))
}

/// Withdraws an announcement off the runtime's worker threads, because removing a file may block.
async fn remove(announcement: Option<Announcement>) -> Result<(), Error> {
    let Some(announcement) = announcement else { return Ok(()) };
    blocking::run(move || announcement.withdraw())
        .await
        .map_err(|cause| failed("cannot remove the announcement of the provider", cause))
}

fn failed(what: &'static str, cause: io::Error) -> Error {
    let code = match cause.kind() {
        io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        _ => Code::Unavailable,
    };
    Error::not_executed(code, what).with_source(cause)
}
