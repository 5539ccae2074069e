//! [`Registrar`]: keeps the instances of this process registered.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::Instance;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    engine::{Engine, Failure, Session},
    entry::{Entry, Kind},
    sessions::Sessions,
};
use crate::supervision::{completes, log};

/// A service and the address of its provider.
pub(super) type Key = (String, SocketAddr);

/// Compares the instances that should be registered with those that are, and adds and removes the differences.
pub(super) struct Registrar<E: Engine> {
    sessions: Arc<Sessions<E>>,
    wanted: watch::Receiver<BTreeMap<Key, Instance>>,
    /// The instances that the server may have, also from an earlier session.
    listed: watch::Sender<BTreeMap<Key, Instance>>,
}

impl<E: Engine> Registrar<E> {
    pub(super) fn new(
        sessions: Arc<Sessions<E>>,
        wanted: watch::Receiver<BTreeMap<Key, Instance>>,
        listed: watch::Sender<BTreeMap<Key, Instance>>,
    ) -> Self {
        Self { sessions, wanted, listed }
    }

    /// Runs until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        // Cancel-safe: the end of the session removes what it registered.
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { while !completes("registry registrar", self.serve_all()).await {} } => {}
        }
    }

    async fn serve_all(&mut self) {
        loop {
            let session = self.sessions.current().await;
            if let Err(failure) = self.serve(&session).await {
                self.sessions.end(&session, &failure);
            } else {
                // The handle was dropped.
                return;
            }
        }
    }

    /// Registers in one session, until it fails or the handle is dropped.
    async fn serve(&mut self, session: &E::Session) -> Result<(), Failure> {
        let mut registered: BTreeMap<Key, Instance> = BTreeMap::new();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let removed: Vec<Key> =
                self.listed.borrow().keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
            for key in removed {
                session.remove(&key.0, &Entry::registered(&Instance::new(key.1))).await?;
                registered.remove(&key);
                self.listed.send_modify(|listed| drop(listed.remove(&key)));
            }
            for (key, instance) in wanted {
                if registered.get(&key) != Some(&instance) {
                    session.put(&key.0, &Entry::registered(&instance)).await?;
                    self.listed.send_modify(|listed| drop(listed.insert(key.clone(), instance.clone())));
                    registered.insert(key, instance);
                }
            }
            // All futures are cancel-safe.
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                failure = session.ended() => return Err(failure),
                () = sleep(CHECK_INTERVAL) => registered = check(session, registered).await?,
            }
        }
    }
}

/// Returns those of the registered instances that the server lists.
async fn check(
    session: &impl Session,
    mut registered: BTreeMap<Key, Instance>,
) -> Result<BTreeMap<Key, Instance>, Failure> {
    let mut services: Vec<String> = registered.keys().map(|(service, _)| service.clone()).collect();
    services.dedup();
    for service in services {
        let (entries, _) = session.list(&service).await?;
        registered.retain(|(of, address), _| {
            let is_listed =
                *of != service || entries.iter().any(|entry| entry.kind == Kind::Provider && entry.address == *address);
            if !is_listed {
                log(|| tracing::warn!(%service, %address, "the registry has lost a registration; registering again"));
            }
            is_listed
        });
    }
    Ok(registered)
}

/// The time between two checks whether the server lists what is registered.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
