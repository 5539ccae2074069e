//! The driver of one watch: asks Nacos for the list whenever it says that it changed.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use nacos_sdk::api::naming::{NamingChangeEvent, NamingEventListener};
use rpc_core::{Error, ServiceId};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    Shared, backoff,
    catalog::States,
    listing,
    missing::{Missing, SPREAD},
    naming::Naming,
};
use crate::{
    throttle::Throttle,
    watches::{Publisher, publish},
};

/// How often the list is asked for without a push, in case one was lost.
const PERIOD: Duration = Duration::from_secs(30);

/// Told by the SDK that a list changed. It only passes that on: a listener that blocks would stall the whole SDK.
///
/// What the push says is not used. The SDK hands each to a task of its own, so two of them may arrive in the wrong order, and nothing in
/// them tells which is newer. The list that is asked for after the last push is the newest.
struct Changed(Arc<Notify>);

impl NamingEventListener for Changed {
    fn event(&self, _: Arc<NamingChangeEvent>) {
        self.0.notify_one();
    }
}

/// Waits for a future that there may be.
async fn ready<T>(future: Option<&mut BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Publishes the list of `service` until nobody receives it, or the handle is dropped.
pub(super) async fn run(service: ServiceId, publisher: Arc<Publisher>, shared: Arc<Shared>) {
    let changed = Arc::new(Notify::new());
    let listener: Arc<dyn NamingEventListener> = Arc::new(Changed(Arc::clone(&changed)));
    let watch = Watch { service, publisher, changed, listener, shared };
    let mut missing = Missing::default();
    loop {
        // Dropping the work at any of its awaits is fine: what it may have subscribed is ended below.
        tokio::select! {
            () = watch.shared.stop.cancelled() => break,
            () = watch.publisher.closed() => {}
            () = watch.work(&mut missing) => {}
        }
        // Before the watch ends, because a new one would begin at once, and this must not undo its subscription.
        watch.unsubscribe().await;
        if watch.shared.watches.end_if_unwatched(&watch.service) {
            return;
        }
    }
    watch.unsubscribe().await;
}

struct Watch {
    service: ServiceId,
    publisher: Arc<Publisher>,
    changed: Arc<Notify>,
    /// One for the whole watch: the SDK knows a listener by its address, so subscribing again does not add a second.
    listener: Arc<dyn NamingEventListener>,
    shared: Arc<Shared>,
}

impl Watch {
    /// Works for ever.
    async fn work(&self, missing: &mut Missing) {
        let (warnings, catalog_warnings) = (Throttle::default(), Throttle::default());
        let (mut failures, mut subscribed) = (0, false);
        // The question about missing instances that is under way, beside which lists are read.
        let mut question: Option<BoxFuture<'_, Result<States, Error>>> = None;
        loop {
            let naming = self.shared.connected().await;
            match self.refresh(naming, &mut subscribed, missing).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    // The server may have forgotten us, whatever the SDK believes.
                    subscribed = false;
                    if warnings.pass(std::time::Instant::now()) {
                        let (service, cause) = (&self.service, std::error::Error::source(&error));
                        tracing::warn!(%service, %error, cause, "the list may be old; trying again");
                    }
                }
            }
            let next = Instant::now() + if failures == 0 { PERIOD } else { backoff::delay(failures) };
            loop {
                if question.is_none()
                    && let Some(addresses) = missing.poll_question(Instant::now())
                {
                    let states = async move { self.shared.catalog.states(&self.service, &addresses).await };
                    question = Some(Box::pin(states));
                }
                let next_question = missing.next_question().filter(|_| question.is_none());
                // All are cancel-safe: the question is kept.
                tokio::select! {
                    () = self.changed.notified() => break,
                    () = sleep_until(next) => break,
                    states = ready(question.as_mut()) => {
                        question = None;
                        if let Err(error) = &states
                            && catalog_warnings.pass(std::time::Instant::now())
                        {
                            let (service, cause) = (&self.service, std::error::Error::source(error));
                            tracing::warn!(%service, %error, cause, "cannot read which providers an operator has disabled");
                        }
                        missing.handle_states(Instant::now(), states.as_ref().ok());
                        self.publish(missing);
                    }
                    () = sleep_until(next_question.unwrap_or(next)), if next_question.is_some() => {}
                }
            }
        }
    }

    /// Asks for the list and publishes it as it is, empty or shrunken: only the channels know which providers live. Instances that are
    /// known to be disabled stay in it as such. An error publishes nothing.
    async fn refresh(&self, naming: &Naming, subscribed: &mut bool, missing: &mut Missing) -> Result<(), Error> {
        if !*subscribed {
            // Subscribed before the list is asked for, so that no change falls in between.
            naming.subscribe(&self.service, Arc::clone(&self.listener)).await?;
            *subscribed = true;
        }
        let listed = naming.list(&self.service).await?;
        let at = Instant::now() + SPREAD.mul_f64(rand::random());
        missing.handle_list(at, listing::from_nacos(listed, self.shared.config.cluster.as_deref()));
        self.publish(missing);
        Ok(())
    }

    fn publish(&self, missing: &Missing) {
        let instances = missing.instances();
        let providers = instances.len();
        let disabled = instances.iter().filter(|instance| !instance.is_enabled()).count();
        if publish(&self.publisher, instances) {
            tracing::debug!(service = %self.service, providers, disabled, "the list of providers changed");
        }
    }

    async fn unsubscribe(&self) {
        if let Some(naming) = self.shared.consumer.get()
            && let Err(error) = naming.unsubscribe(&self.service, Arc::clone(&self.listener)).await
        {
            tracing::debug!(service = %self.service, %error, "the server could not be told that a watch ended");
        }
    }
}
