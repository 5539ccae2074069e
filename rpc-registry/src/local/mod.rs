//! [`Local`]: a registry for the processes of one machine, without a server.

mod announcement;
mod announcements;
mod blocking;
mod overrides;
mod service_directory;
mod watcher;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId, files};

#[cfg(feature = "fuzzing")]
pub(crate) use self::announcement::parse as parse_announcement;
use self::announcements::Announcements;
use crate::{
    Administration, InstanceChange, address, supervision::log, tasks::Tasks, user_directory, watches::Watches,
};

/// A registry in a directory that the processes of one machine share: `local:` or `local:/dir`.
///
/// A provider keeps one locked file per service; the operating system releases the lock when the process ends, even
/// after a crash. A consumer reads the directory every 100 ms, so it finds a new provider, and drops a killed one,
/// within about 200 ms. If another program removes the file, as a cleanup of temporary files does, the provider writes
/// it again within about a second.
///
/// `local:` names this user's directory: `$XDG_RUNTIME_DIR/msnb` if that variable is set, otherwise `msnb-<user id>` in
/// the directory for temporary files. All processes must resolve it to the same path. It is created with permissions
/// for this user only, and rejected if another user owns it or can write to it. `local:/dir` uses `/dir` without this
/// check, and creates it with the same permissions if it does not exist. If other users can write to `/dir`, opening it
/// logs a warning: they can remove announcements. They cannot announce false providers, because a file or directory
/// counts only if its owner is this user, root or the owner of `/dir`, and symbolic links are not followed. A consumer
/// removes only this user's announcements of dead providers.
///
/// An operator's changes of instances are in the file `overrides.json` of a service's directory. They apply to an address
/// until they are changed again, also after the restart of its provider.
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
    announcements: Arc<Announcements>,
    watches: Arc<Watches>,
    tasks: Tasks,
}

impl Local {
    /// Opens the registry in `directory`, or in this user's directory if `None`.
    ///
    /// # Errors
    ///
    /// - `Unavailable` if the directory can neither be used nor created.
    /// - `PermissionDenied` if another user owns this user's directory or can write to it.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its time driver enabled.
    pub async fn open(directory: Option<PathBuf>) -> Result<Self, Error> {
        let url = directory.as_ref().map_or_else(|| "local:".to_owned(), |path| format!("local:{}", path.display()));
        let directory = blocking::run(move || {
            let is_private = directory.is_none();
            let directory = directory.unwrap_or_else(user_directory::path);
            files::create_private_directory(&directory)?;
            if is_private {
                files::check_private_directory(&directory)?;
            } else if service_directory::is_writable_by_others(&directory) {
                let directory = directory.display();
                log(|| {
                    tracing::warn!(%directory, "other users can write to the directory of `local:`, and remove providers");
                });
            }
            Ok(directory)
        })
        .await
        .map_err(|cause| failed("cannot use the directory of `local:`", cause))?;
        Ok(Self { directory, url, announcements: Arc::default(), watches: Arc::default(), tasks: Tasks::new() })
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
            let directory = directory_of(&self.directory, service)?;
            self.announcements
                .announce(directory, service, instance, &self.tasks)
                .await
                .map_err(|cause| failed("cannot write the announcement of the provider", cause))?;
            Ok(RegisterOutcome::Confirmed)
        })
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let removed = self.announcements.remove(service, address).await;
            removed.map_err(|cause| failed("cannot remove the announcement of the provider", cause))
        })
    }
}

impl Discovery for Local {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let (receiver, watch) = self.watches.watch(service);
        if let Some(watch) = watch {
            let directory = directory_of(&self.directory, service);
            self.tasks.spawn(watcher::run(watch, directory, self.tasks.stop().clone()));
        }
        receiver
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn is_cacheable(&self) -> bool {
        false
    }
}

impl Administration for Local {
    /// As specified by the trait: the services with a running provider.
    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async {
            let root = self.directory.clone();
            let listed = blocking::run(move || services(&root)).await;
            listed.map_err(|cause| failed("cannot read the directory of `local:`", cause))
        })
    }

    fn instances<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Vec<Instance>, Error>> {
        Box::pin(async move {
            let Ok(service) = service.parse::<ServiceId>() else { return Ok(Vec::new()) };
            let directory = directory_of(&self.directory, &service)?;
            let scanned = blocking::run(move || announcement::scan(&directory, &service)).await;
            Ok(scanned.map_err(|cause| failed("cannot read the announcements of the service", cause))?.0)
        })
    }

    /// As specified by the trait. The change is in a file of the directory, and outlives the provider's process.
    fn change<'a>(
        &'a self,
        service: &'a str,
        address: SocketAddr,
        change: InstanceChange,
    ) -> BoxFuture<'a, Result<Option<Instance>, Error>> {
        Box::pin(async move {
            let listed = self.instances(service).await?;
            let Some(instance) = listed.into_iter().find(|instance| instance.address() == address) else {
                return Ok(None);
            };
            let directory = directory_of(&self.directory, &service.parse()?)?;
            let unpublished = announcement::unpublished_name(address);
            let written = blocking::run(move || overrides::change(&directory, &unpublished, address, change)).await;
            written.map_err(|cause| failed("cannot write the change of the instance", cause))?;
            Ok(Some(change.apply(instance)))
        })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.announcements.clear();
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
fn directory_of(root: &Path, service: &ServiceId) -> Result<PathBuf, Error> {
    // A constant ServiceId is not validated at construction, and must not escape the directory.
    let service = ServiceId::new(service.name(), service.version())?;
    Ok(root.join(format!("{}@{}", service.name(), service.version())))
}

/// Returns the names of the services with a running provider, sorted. Blocks.
fn services(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let Some(service) = name.split_once('@').and_then(|(name, version)| ServiceId::new(name, version).ok()) else {
            continue;
        };
        if announcement::scan(&root.join(&name), &service).is_ok_and(|(alive, _)| !alive.is_empty()) {
            names.push(service.to_string());
        }
    }
    names.sort();
    Ok(names)
}

fn failed(what: &'static str, cause: io::Error) -> Error {
    let code = match cause.kind() {
        io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        _ => Code::Unavailable,
    };
    Error::not_executed(code, what).with_source(cause)
}
