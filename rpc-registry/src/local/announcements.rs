//! [`Announcements`]: the providers that one handle announces, and the task that announces removed ones again.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use rpc_core::{Instance, ServiceId};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{announcement::Announcement, blocking};
use crate::{
    supervision::{completes, log},
    tasks::Tasks,
    throttle::Throttle,
};

/// The providers that one handle announces.
#[derive(Default)]
pub(super) struct Announcements(Mutex<State>);

#[derive(Default)]
struct State {
    announced: HashMap<Key, Announced>,
    /// Refers to a value that the keeper owns. Its runtime may have dropped the keeper.
    keeper: Weak<()>,
}

type Key = (ServiceId, SocketAddr);

#[derive(Clone)]
struct Announced {
    /// The directory of the service.
    directory: PathBuf,
    instance: Instance,
    announcement: Arc<Announcement>,
}

impl Announcements {
    /// Announces `instance` in `directory` until it is removed.
    pub(super) async fn announce(
        self: &Arc<Self>,
        directory: PathBuf,
        service: &ServiceId,
        instance: Instance,
        tasks: &Tasks,
    ) -> io::Result<()> {
        let key = (service.clone(), instance.address());
        let announced = publish(directory, service.clone(), instance).await?;
        let replaced = {
            let mut state = self.lock();
            if state.keeper.strong_count() == 0 {
                let keeper = Arc::new(());
                state.keeper = Arc::downgrade(&keeper);
                tasks.spawn(keep(Arc::clone(self), keeper, tasks.stop().clone()));
            }
            state.announced.insert(key, announced)
        };
        withdraw(replaced).await
    }

    /// Removes the announcement of this address.
    pub(super) async fn remove(&self, service: &ServiceId, address: SocketAddr) -> io::Result<()> {
        let removed = self.lock().announced.remove(&(service.clone(), address));
        withdraw(removed).await
    }

    /// Removes all announcements. Blocks for as long as it takes to remove a few files.
    pub(super) fn clear(&self) {
        let removed = std::mem::take(&mut self.lock().announced);
        drop(removed);
    }

    /// Checks the announcements periodically, until it is dropped.
    async fn keep_published(&self, warnings: &Throttle) {
        let mut ticks = interval(KEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.restore(warnings).await;
        }
    }

    /// Announces the providers again whose files another program has removed.
    async fn restore(&self, warnings: &Throttle) {
        let announced: Vec<_> = self.lock().announced.iter().map(|(key, one)| (key.clone(), one.clone())).collect();
        for ((service, address), old) in announced {
            let (directory, announcement) = (old.directory.clone(), Arc::clone(&old.announcement));
            let published = blocking::run(move || announcement.is_published(&directory)).await;
            if let Ok(true) = published {
                continue;
            }
            let restored = publish(old.directory.clone(), service.clone(), old.instance).await;
            let directory = old.directory.display();
            match restored {
                Ok(new) => {
                    let unused = self.replace((service.clone(), address), &old.announcement, new);
                    let kept = unused.is_none();
                    _ = withdraw(unused).await;
                    if kept {
                        log(
                            || tracing::warn!(%service, %address, %directory, "another program removed an announcement; announced again"),
                        );
                    }
                }
                Err(error) if warnings.allow(Instant::now()) => {
                    log(
                        || tracing::warn!(%service, %address, %directory, %error, "cannot announce a provider again; trying again"),
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Replaces an announcement; returns `new` if the provider was registered anew or deregistered in the meantime.
    fn replace(&self, key: Key, old: &Arc<Announcement>, new: Announced) -> Option<Announced> {
        match self.lock().announced.get_mut(&key) {
            Some(current) if Arc::ptr_eq(&current.announcement, old) => {
                *current = new;
                None
            }
            _ => Some(new),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver of the restoration; owns `keeper` until `stop` is cancelled.
async fn keep(announcements: Arc<Announcements>, keeper: Arc<()>, stop: CancellationToken) {
    let warnings = Throttle::default();
    // Cancel-safe: an announcement that is not stored yet is removed when it is dropped.
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { while !completes("local announcements", announcements.keep_published(&warnings)).await {} } => {}
    }
    drop(keeper);
}

async fn publish(directory: PathBuf, service: ServiceId, instance: Instance) -> io::Result<Announced> {
    blocking::run(move || {
        let announcement = Arc::new(Announcement::publish(&directory, &service, &instance)?);
        Ok(Announced { directory, instance, announcement })
    })
    .await
}

/// Withdraws an announcement off the runtime's worker threads, because removing a file may block.
async fn withdraw(announced: Option<Announced>) -> io::Result<()> {
    let Some(announced) = announced else { return Ok(()) };
    blocking::run(move || announced.announcement.withdraw()).await
}

/// The time between two checks whether the announcements are still published.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);
