//! The driver of one watch: reads the list from Nacos after each change notification.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use nacos_sdk::api::naming::{NamingChangeEvent, NamingEventListener};
use rpc_core::{Error, ServiceId};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    backoff,
    catalog::States,
    listing,
    missing_instances::{MAX_QUERY_DELAY, MissingInstances},
    naming::Naming,
    shared::Shared,
};
use crate::{
    throttle::Throttle,
    watches::{Publisher, publish},
};

/// The time between two reads of the list without a push, in case a push was lost.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// Forwards the SDK's change notifications.
///
/// It does nothing else, because a blocking listener would stall the whole SDK.
///
/// The list in the push is ignored. The SDK delivers each push in a separate task, so two pushes may arrive in the
/// wrong order, and they carry no version. The list that is read after the last push is the newest.
struct ChangeListener(Arc<Notify>);

impl NamingEventListener for ChangeListener {
    fn event(&self, _: Arc<NamingChangeEvent>) {
        self.0.notify_one();
    }
}

/// Waits for the future if there is one, otherwise forever.
async fn wait_for<T>(future: Option<&mut BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Publishes the list of `service` until the watch has no receivers or the handle is dropped.
pub(super) async fn run(service: ServiceId, publisher: Arc<Publisher>, shared: Arc<Shared>) {
    let changed = Arc::new(Notify::new());
    let listener: Arc<dyn NamingEventListener> = Arc::new(ChangeListener(Arc::clone(&changed)));
    let subscription = Subscription { service, publisher, changed, listener, shared };
    let mut missing = MissingInstances::default();
    loop {
        // `follow` may be dropped at any await: a subscription that it has made is ended below.
        tokio::select! {
            () = subscription.shared.stop.cancelled() => break,
            () = subscription.publisher.closed() => {}
            () = subscription.follow(&mut missing) => {}
        }
        // Unsubscribe before the watch ends: a new watch may subscribe at once, and this must not undo its
        // subscription.
        subscription.unsubscribe().await;
        if subscription.shared.watches.end_if_unwatched(&subscription.service) {
            return;
        }
    }
    subscription.unsubscribe().await;
}

struct Subscription {
    service: ServiceId,
    publisher: Arc<Publisher>,
    changed: Arc<Notify>,
    /// The listener of the whole watch.
    ///
    /// The SDK identifies a listener by its address, so subscribing again does not add a second one.
    listener: Arc<dyn NamingEventListener>,
    shared: Arc<Shared>,
}

impl Subscription {
    /// Reads and publishes the list until it is dropped.
    async fn follow(&self, missing: &mut MissingInstances) {
        let (warnings, catalog_warnings) = (Throttle::default(), Throttle::default());
        let (mut failures, mut subscribed) = (0, false);
        // The query for missing instances in flight. Lists are read concurrently.
        let mut query: Option<BoxFuture<'_, Result<States, Error>>> = None;
        loop {
            let naming = self.shared.consumer().await;
            match self.refresh(naming, &mut subscribed, missing).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    // The server may have lost the subscription, regardless of the SDK's state.
                    subscribed = false;
                    if warnings.allow(std::time::Instant::now()) {
                        let (service, cause) = (&self.service, std::error::Error::source(&error));
                        tracing::warn!(%service, %error, cause, "the list may be old; trying again");
                    }
                }
            }
            let next = Instant::now() + if failures == 0 { REFRESH_INTERVAL } else { backoff::delay(failures) };
            loop {
                if query.is_none()
                    && let Some(addresses) = missing.poll_query(Instant::now())
                {
                    let states = async move { self.shared.catalog.states(&self.service, &addresses).await };
                    query = Some(Box::pin(states));
                }
                let next_query = missing.next_query().filter(|_| query.is_none());
                // All branches are cancel-safe: `query` outlives the select.
                tokio::select! {
                    () = self.changed.notified() => break,
                    () = sleep_until(next) => break,
                    states = wait_for(query.as_mut()) => {
                        query = None;
                        if let Err(error) = &states
                            && catalog_warnings.allow(std::time::Instant::now())
                        {
                            let (service, cause) = (&self.service, std::error::Error::source(error));
                            tracing::warn!(%service, %error, cause, "cannot read which providers an operator has disabled");
                        }
                        missing.handle_states(Instant::now(), states.as_ref().ok());
                        self.publish(missing);
                    }
                    () = sleep_until(next_query.unwrap_or(next)), if next_query.is_some() => {}
                }
            }
        }
    }

    /// Reads the list and publishes it.
    ///
    /// An empty list or a shorter one is published too: only the client's channels detect which providers are alive.
    /// Disabled instances remain in the list as disabled. After an error, nothing is published.
    async fn refresh(
        &self,
        naming: &Naming,
        subscribed: &mut bool,
        missing: &mut MissingInstances,
    ) -> Result<(), Error> {
        if !*subscribed {
            // Subscribe before reading the list, so that no change is missed in between.
            naming.subscribe(&self.service, Arc::clone(&self.listener)).await?;
            *subscribed = true;
        }
        let listed = naming.list(&self.service).await?;
        let at = Instant::now() + MAX_QUERY_DELAY.mul_f64(rand::random());
        missing.handle_list(at, listing::from_nacos(listed, self.shared.config.cluster.as_deref()));
        self.publish(missing);
        Ok(())
    }

    fn publish(&self, missing: &MissingInstances) {
        let instances = missing.instances();
        let providers = instances.len();
        let disabled = instances.iter().filter(|instance| !instance.is_enabled()).count();
        if publish(&self.publisher, instances) {
            tracing::debug!(service = %self.service, providers, disabled, "the list of providers changed");
        }
    }

    async fn unsubscribe(&self) {
        if let Some(naming) = self.shared.existing_consumer()
            && let Err(error) = naming.unsubscribe(&self.service, Arc::clone(&self.listener)).await
        {
            tracing::debug!(service = %self.service, %error, "cannot unsubscribe from Nacos");
        }
    }
}
