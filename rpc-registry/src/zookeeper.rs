//! [`ZooKeeper`]: ZooKeeper.
//!
//! | znode | data |
//! |---|---|
//! | `<chroot>/msnb/<service>/<address>~<hash>` | ephemeral: JSON of a registration |
//! | `<chroot>/msnb/<service>/<address>~change~<hash>` | persistent: JSON of a change of an operator |
//!
//! `<hash>` is that of the data. The data of a znode therefore never changes, and a list of names shows every change.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rpc_core::{Code, Error, stable_hash};
use tokio::time::timeout;
use zookeeper_client::{
    Acls, Client, CreateMode, CreateOptions, Error as ZooKeeperError, OneshotWatcher, SessionState,
};

use crate::{
    address::HostPort,
    directory::{
        Directory,
        engine::{Changes, Engine, Failure, Session},
        entry::{Entry, Kind, MAX_ENTRIES},
    },
};

/// Providers in ZooKeeper: `zookeeper://host:2181,host2:2181/chroot`.
///
/// A registration is an ephemeral znode: the ensemble removes it when the provider deregisters, or 6 s after the provider's
/// process or network fails. The handle opens another session when one ends, and registers again. While the ensemble is
/// unreachable, watches keep their last list.
///
/// The znodes are readable and writable for everyone. Access control and TLS are not supported.
///
/// # Drop
///
/// Removes the registrations made through this handle and ends its watches.
pub struct ZooKeeper(Directory<Ensemble>);

/// The servers of an ensemble.
struct Ensemble {
    hosts: String,
    /// The path of the parent of the services.
    root: String,
}

/// A session with an ensemble.
struct ZooKeeperSession {
    client: Client,
    root: String,
    /// The data of the znodes that were read, by path.
    read: Mutex<HashMap<String, Option<Entry>>>,
}

/// The changes of the names of a service's entries.
struct NameChanges(OneshotWatcher);

impl ZooKeeper {
    /// Connects in the background.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the URL is invalid.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its I/O and time drivers enabled.
    pub fn connect(url: &str) -> Result<Self, Error> {
        let (servers, chroot) = parse(url)?;
        let hosts = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let url = format!("zookeeper://{hosts}{chroot}");
        Ok(Self(Directory::start(Ensemble { hosts, root: format!("{chroot}/msnb") }, url, servers)))
    }
}

impl Engine for Ensemble {
    type Session = ZooKeeperSession;

    async fn connect(&self) -> Result<ZooKeeperSession, Failure> {
        let connector = Client::connector().with_session_timeout(SESSION_TIME);
        let client = in_time(CONNECT_TIME, connector.connect(&self.hosts)).await?;
        in_time(ANSWER_TIME, client.mkdir(&self.root, &persistent())).await?;
        Ok(ZooKeeperSession { client, root: self.root.clone(), read: Mutex::default() })
    }
}

impl ZooKeeperSession {
    fn directory(&self, service: &str) -> String {
        format!("{}/{service}", self.root)
    }

    /// Returns the names of the znodes of an entry, whatever their data is.
    async fn names(&self, service: &str, entry: &Entry) -> Result<Vec<String>, Failure> {
        let prefix = format!("{}~", entry.name());
        let is_entry = |name: &String| name.strip_prefix(&prefix).is_some_and(|hash| !hash.contains('~'));
        match in_time(ANSWER_TIME, self.client.list_children(&self.directory(service))).await {
            Ok(names) => Ok(names.into_iter().filter(is_entry).collect()),
            Err(ZooKeeperError::NoNode) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns an entry; `None` if it does not exist any more or is not one of msnb.
    async fn read(&self, service: &str, name: &str) -> Result<Option<Entry>, Failure> {
        let path = format!("{}/{name}", self.directory(service));
        if let Some(known) = self.lock().get(&path) {
            return Ok(known.clone());
        }
        match in_time(ANSWER_TIME, self.client.get_data(&path)).await {
            Ok((data, _)) => {
                let entry = name.rsplit_once('~').and_then(|(name, _)| Entry::parse(name, &data));
                self.lock().insert(path, entry.clone());
                Ok(entry)
            }
            // The watch reports the removal.
            Err(ZooKeeperError::NoNode) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<Entry>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session for ZooKeeperSession {
    type Changes = NameChanges;

    async fn put(&self, service: &str, entry: &Entry) -> Result<(), Failure> {
        let directory = self.directory(service);
        in_time(ANSWER_TIME, self.client.mkdir(&directory, &persistent())).await?;
        let mode = if entry.kind == Kind::Provider { CreateMode::Ephemeral } else { CreateMode::Persistent };
        let path = format!("{directory}/{}~{:016x}", entry.name(), stable_hash(entry.data.as_bytes()));
        for _ in 0..MAX_TRIES {
            // In one transaction: a consumer finds the earlier entry or this one. The znode of an earlier session with the
            // same data must be replaced too, because it ends with that session.
            let mut writer = self.client.new_multi_writer();
            for earlier in self.names(service, entry).await? {
                writer.add_delete(&format!("{directory}/{earlier}"), None).map_err(Failure::new)?;
            }
            writer
                .add_create(&path, entry.data.as_bytes(), &mode.with_acls(Acls::anyone_all()))
                .map_err(Failure::new)?;
            match timeout(ANSWER_TIME, writer.commit()).await {
                Ok(Ok(_)) => return Ok(()),
                // A znode was removed or created meanwhile.
                Ok(Err(zookeeper_client::MultiWriteError::OperationFailed { .. })) => {}
                Ok(Err(error)) => return Err(Failure::new(error)),
                Err(_) => return Err(ZooKeeperError::Timeout.into()),
            }
        }
        Err(Failure::new(format!("another program keeps changing {path}")))
    }

    async fn remove(&self, service: &str, entry: &Entry) -> Result<(), Failure> {
        for name in self.names(service, entry).await? {
            let path = format!("{}/{name}", self.directory(service));
            match in_time(ANSWER_TIME, self.client.delete(&path, None)).await {
                Ok(()) | Err(ZooKeeperError::NoNode) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn list(&self, service: &str) -> Result<(Vec<Entry>, NameChanges), Failure> {
        let directory = self.directory(service);
        // A watch for children needs their parent.
        in_time(ANSWER_TIME, self.client.mkdir(&directory, &persistent())).await?;
        let (mut names, watcher) = in_time(ANSWER_TIME, self.client.list_and_watch_children(&directory)).await?;
        names.truncate(MAX_ENTRIES);
        let known: HashSet<String> = names.iter().map(|name| format!("{directory}/{name}")).collect();
        self.lock().retain(|path, _| known.contains(path) || !path.starts_with(&format!("{directory}/")));
        let reads = names.into_iter().map(async |name| self.read(service, &name).await);
        let reads = stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        let entries: Vec<_> = reads.collect().await;
        let entries = entries.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok((entries, NameChanges(watcher)))
    }

    async fn services(&self) -> Result<Vec<String>, Failure> {
        let mut services = Vec::new();
        for service in in_time(ANSWER_TIME, self.client.list_children(&self.root)).await? {
            let (entries, _) = self.list(&service).await?;
            if entries.iter().any(|entry| entry.kind == Kind::Provider) {
                services.push(service);
            }
        }
        Ok(services)
    }

    async fn ended(&self) -> Failure {
        let mut states = self.client.state_watcher();
        let mut state = self.client.state();
        loop {
            if matches!(state, SessionState::Expired | SessionState::AuthFailed | SessionState::Closed) {
                return Failure::new(format_args!("the session ended: {state:?}"));
            }
            state = states.changed().await;
        }
    }

    async fn close(&self) {
        // The client closes its session when it is dropped, but a provider must be gone when this returns.
        if let Ok(Ok(paths)) = timeout(ANSWER_TIME, self.client.list_ephemerals(&self.root)).await {
            for path in paths {
                let _ = timeout(ANSWER_TIME, self.client.delete(&path, None)).await;
            }
        }
    }
}

impl Changes for NameChanges {
    async fn changed(self) -> Result<(), Failure> {
        let event = self.0.changed().await;
        if event.session_state.is_terminated() { Err(ZooKeeperError::SessionExpired.into()) } else { Ok(()) }
    }
}

impl From<ZooKeeperError> for Failure {
    fn from(error: ZooKeeperError) -> Self {
        Self::new(error)
    }
}

/// Limits the wait for an answer, which otherwise lasts until the session ends.
async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, ZooKeeperError>>,
) -> Result<T, ZooKeeperError> {
    timeout(limit, answer).await.unwrap_or(Err(ZooKeeperError::Timeout))
}

fn persistent() -> CreateOptions<'static> {
    CreateMode::Persistent.with_acls(Acls::anyone_all())
}

/// Returns the servers, and the chroot without a slash at its end.
fn parse(url: &str) -> Result<(Vec<HostPort>, String), Error> {
    let invalid = || {
        let message = "invalid ZooKeeper URL, expected `zookeeper://host:2181,host2:2181/chroot`";
        Error::not_executed(Code::InvalidArgument, message)
    };
    let rest = url.strip_prefix("zookeeper://").ok_or_else(invalid)?;
    if rest.contains(['@', '?', '#']) || rest.contains(char::is_whitespace) {
        return Err(invalid());
    }
    let (hosts, chroot) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let chroot = chroot.trim_end_matches('/');
    if chroot.contains("//") {
        return Err(invalid());
    }
    let servers = hosts.split(',').map(|host| HostPort::parse(host, Some(PORT))).collect::<Result<_, _>>()?;
    Ok((servers, chroot.to_owned()))
}

const PORT: u16 = 2181;
/// The time after which the ensemble removes the registrations of a process that does not answer.
const SESSION_TIME: Duration = Duration::from_secs(6);
/// The time limit to establish a session.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The time limit of a request, which waits while the client reconnects.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The number of znodes that are read at the same time.
const CONCURRENT_READS: usize = 32;
/// The number of times that a registration is tried while others change it.
const MAX_TRIES: usize = 3;

crate::directory::delegate!(ZooKeeper);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_hosts_and_a_chroot() {
        let parsed = |url: &str| {
            let (servers, chroot) = parse(url).ok()?;
            Some((servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), chroot))
        };
        let is = |hosts: &str, chroot: &str| Some((hosts.to_owned(), chroot.to_owned()));
        assert_eq!(parsed("zookeeper://a"), is("a:2181", ""));
        assert_eq!(parsed("zookeeper://a:1,[::1]:2/x/y/"), is("a:1,[::1]:2", "/x/y"));
        for bad in [
            "zookeeper:a",
            "zookeeper://",
            "zookeeper://a:0",
            "zookeeper://a,",
            "zookeeper://a/x//y",
            "zookeeper://u@a",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
