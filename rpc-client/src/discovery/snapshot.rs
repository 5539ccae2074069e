//! [`Snapshots`]: the list of a service's providers on disk, for a start while the registry is down.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rpc_core::{Instance, ServiceId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{debug, warn};

/// Keeps the list of one service's providers in a small file, and reads it when the registry does not answer.
#[derive(Debug)]
pub(crate) struct Snapshots {
    file: Option<PathBuf>,
    registry: String,
    service: ServiceId,
    answered: HashMap<SocketAddr, u64>,
    written: Vec<Instance>,
    next_write: Instant,
    waits: bool,
    /// The list was removed, and none written since.
    removed: bool,
}

/// The file: a checked envelope around the list.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    format: u32,
    /// CRC-32 of `list`.
    check: u32,
    list: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List {
    registry: String,
    service: String,
    /// Seconds since 1970.
    written: u64,
    providers: Vec<Provider>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Provider {
    address: SocketAddr,
    weight: f64,
    /// When it last answered, in seconds since 1970; 0 if it never did.
    answered: u64,
}

impl Snapshots {
    /// The list of `service` as `registry` tells it, in a file of its own below `directory`.
    pub(crate) fn new(directory: Option<&Path>, registry: &str, service: &ServiceId) -> Self {
        let name = |directory: &Path| {
            let registry = foldhash::fast::FixedState::default().hash_one(registry);
            directory.join(format!("{service}@{registry:016x}.json").replace(':', "_"))
        };
        Self {
            file: directory.map(name),
            registry: registry.to_owned(),
            service: service.clone(),
            answered: HashMap::new(),
            written: Vec::new(),
            next_write: Instant::now(),
            waits: false,
            removed: false,
        }
    }

    /// Keeps the list, at most once in a while; `due` then says when to come again. An empty list is not kept: it would help
    /// nobody.
    pub(crate) async fn keep(&mut self, instances: Vec<(Instance, bool)>) {
        let (Some(file), now) = (self.file.clone(), Instant::now()) else { return };
        let seconds = unix_seconds();
        self.answered.retain(|address, _| instances.iter().any(|(instance, _)| instance.address() == *address));
        for (instance, _) in instances.iter().filter(|(_, answers)| *answers) {
            self.answered.insert(instance.address(), seconds);
        }
        let mut list: Vec<Instance> = instances.into_iter().map(|(instance, _)| instance).collect();
        list.sort_by_key(Instance::address);
        let changed = list != self.written || list.iter().any(|i| !self.answered.contains_key(&i.address()));
        self.waits = changed && now < self.next_write;
        if list.is_empty() || list == self.written || self.waits {
            return;
        }
        self.next_write = now + WRITE_INTERVAL;
        let provider = |instance: &Instance| Provider {
            address: instance.address(),
            weight: instance.weight(),
            answered: self.answered.get(&instance.address()).copied().unwrap_or(0),
        };
        let providers = list.iter().take(MAX_PROVIDERS).map(provider).collect();
        let (registry, service) = (self.registry.clone(), self.service.to_string());
        let content = List { registry, service, written: seconds, providers };
        (self.written, self.removed) = (list, false);
        let outcome = tokio::task::spawn_blocking(move || write(&file, &content)).await;
        if let Ok(Err(error)) = outcome {
            debug!(%error, service = %self.service, "could not keep the list of providers");
        }
    }

    /// Removes the list: an operator has disabled all providers, and the one on disk has them as they were before.
    pub(crate) async fn remove(&mut self) {
        let Some(file) = self.file.clone().filter(|_| !self.removed) else { return };
        (self.written, self.waits, self.removed) = (Vec::new(), false, true);
        // A file that does not exist is as good.
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(file)).await;
    }

    /// When a list that was not written yet is to be.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waits.then_some(self.next_write)
    }

    /// The list on disk; empty when there is none that can be trusted.
    pub(crate) async fn load(&self) -> Arc<[Instance]> {
        let Some(file) = self.file.clone() else { return Arc::default() };
        let (registry, service) = (self.registry.clone(), self.service.to_string());
        let read = tokio::task::spawn_blocking(move || read(&file, &registry, &service)).await;
        match read {
            Ok(Ok(list)) => {
                let age = Duration::from_secs(unix_seconds().saturating_sub(list.written));
                warn!(service = %self.service, registry = self.registry, ?age, "the registry has not answered; using an old list of providers");
                list.providers.iter().map(|p| Instance::new(p.address).with_weight(p.weight)).collect()
            }
            Ok(Err(error)) => {
                debug!(%error, service = %self.service, "no list of providers on disk");
                Arc::default()
            }
            Err(_) => Arc::default(),
        }
    }
}

fn write(file: &Path, list: &List) -> io::Result<()> {
    let directory = file.parent().ok_or(io::ErrorKind::NotFound)?;
    std::fs::create_dir_all(directory)?;
    let list = serde_json::to_string(list)?;
    let envelope = serde_json::to_vec(&Envelope { format: FORMAT, check: checksum(&list), list })?;
    // Other processes read and write the same file: each sees a whole one.
    let mut whole = tempfile::NamedTempFile::new_in(directory)?;
    io::Write::write_all(&mut whole, &envelope)?;
    whole.persist(file).map_err(|error| error.error)?;
    Ok(())
}

fn read(file: &Path, registry: &str, service: &str) -> io::Result<List> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(file)?, MAX_FILE), &mut bytes)?;
    let envelope: Envelope = serde_json::from_slice(&bytes)?;
    if envelope.format != FORMAT || envelope.check != checksum(&envelope.list) {
        return Err(invalid("the file is damaged or of another version"));
    }
    let list: List = serde_json::from_str(&envelope.list)?;
    if list.registry != registry || list.service != service {
        return Err(invalid("the file is another registry's or service's"));
    }
    Ok(list)
}

fn checksum(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const FORMAT: u32 = 1;
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_PROVIDERS: usize = 10_000;
const MAX_FILE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    fn snapshots(directory: &Path, registry: &str) -> Snapshots {
        Snapshots::new(Some(directory), registry, &SERVICE)
    }

    #[tokio::test]
    async fn a_list_is_found_again_and_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let instance = Instance::new(([127, 0, 0, 1], 7788).into()).with_weight(2.0);
        let mut kept = snapshots(directory.path(), "nacos://a");
        kept.keep(vec![(instance.clone(), true)]).await;
        assert_eq!(*snapshots(directory.path(), "nacos://a").load().await, [instance]);
        assert!(snapshots(directory.path(), "nacos://b").load().await.is_empty());

        let file = kept.file.clone().unwrap();
        let damaged = std::fs::read_to_string(&file).unwrap().replace("7788", "7789");
        std::fs::write(&file, damaged).unwrap();
        assert!(kept.load().await.is_empty());
    }

    #[tokio::test]
    async fn removed_list_is_not_used_and_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let instance = Instance::new(([127, 0, 0, 1], 7788).into());
        let mut kept = snapshots(directory.path(), "nacos://a");
        kept.keep(vec![(instance.clone(), true)]).await;
        kept.remove().await;
        assert!(kept.load().await.is_empty());
        kept.next_write = Instant::now();
        kept.keep(vec![(instance.clone(), true)]).await;
        assert_eq!(*kept.load().await, [instance]);
    }

    #[tokio::test]
    async fn an_empty_list_does_not_replace_a_good_one() {
        let directory = tempfile::tempdir().unwrap();
        let instance = Instance::new(([127, 0, 0, 1], 7788).into());
        let mut kept = snapshots(directory.path(), "nacos://a");
        kept.keep(vec![(instance, true)]).await;
        kept.keep(vec![]).await;
        assert_eq!(kept.load().await.len(), 1);
    }
}
