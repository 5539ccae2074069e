//! The driver of one watch: reads the list from Nacos after each change notification.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use nacos_sdk::api::naming::{NamingChangeEvent, NamingEventListener, ServiceInstance};
use rpc_core::Error;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    backoff,
    catalog::{States, Wanted},
    host_names::HostNames,
    listing,
    missing_instances::{MAX_QUERY_DELAY, MissingInstances},
    naming::Naming,
    pace::pause_after,
    shared::Shared,
};
use crate::{
    address::HostPort,
    supervision::{completes, log},
    throttle::Throttle,
    watches::Watch,
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

/// Publishes the list of a service until the watch has no receivers or the handle is dropped.
pub(super) async fn run(watch: Watch, shared: Arc<Shared>) {
    let changed = Arc::new(Notify::new());
    let listener: Arc<dyn NamingEventListener> = Arc::new(ChangeListener(Arc::clone(&changed)));
    let subscription = Subscription {
        watch,
        changed,
        listener,
        shared,
        warnings: Throttle::default(),
        catalog_warnings: Throttle::default(),
        host_warnings: Throttle::default(),
    };
    let mut state = State::default();
    loop {
        // `follow` may be dropped at any await: a subscription that it has made is ended below.
        tokio::select! {
            () = subscription.shared.tasks.stop().cancelled() => break,
            () = subscription.watch.closed() => {}
            () = async { while !completes("nacos watch", subscription.follow(&mut state)).await {} } => {}
        }
        // Unsubscribe before the watch ends: a new watch may subscribe at once, and this must not undo its
        // subscription.
        subscription.unsubscribe().await;
        if subscription.watch.end_if_unwatched() {
            return;
        }
    }
    subscription.unsubscribe().await;
}

struct Subscription {
    watch: Watch,
    changed: Arc<Notify>,
    /// The listener of the whole watch.
    ///
    /// The SDK identifies a listener by its address, so subscribing again does not add a second one.
    listener: Arc<dyn NamingEventListener>,
    shared: Arc<Shared>,
    warnings: Throttle,
    catalog_warnings: Throttle,
    host_warnings: Throttle,
}

/// The known instances of the service.
#[derive(Default)]
struct State {
    /// The latest list.
    listed: Vec<ServiceInstance>,
    hosts: HostNames,
    missing: MissingInstances,
}

/// A result that a list does not contain.
enum Found {
    /// The states of missing instances.
    States(Result<States, Error>),
    /// The addresses of host names.
    Addresses(Vec<(String, std::io::Result<Vec<SocketAddr>>)>),
}

impl Subscription {
    /// Reads and publishes the list until it is dropped.
    async fn follow(&self, state: &mut State) {
        let (mut failures, mut subscribed) = (0, false);
        // The query for missing instances and the lookup of host names in flight. Lists are read concurrently.
        let (mut query, mut lookup) = (None::<BoxFuture<'_, Found>>, None::<BoxFuture<'_, Found>>);
        loop {
            let naming = self.shared.consumer().await;
            match self.refresh(&naming, &mut subscribed, state).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    // The server may have lost the subscription, regardless of the SDK's state.
                    subscribed = false;
                    if self.warnings.allow(std::time::Instant::now()) {
                        let (service, cause) = (self.watch.service(), std::error::Error::source(&error));
                        log(|| tracing::warn!(%service, %error, cause, "the list may be old; trying again"));
                    }
                }
            }
            let refresh_interval = REFRESH_INTERVAL.max(pause_after(state.listed.len()));
            let next = Instant::now() + if failures == 0 { refresh_interval } else { backoff::delay(failures) };
            loop {
                let now = Instant::now();
                if query.is_none()
                    && let Some(addresses) = state.missing.poll_query(now)
                {
                    query = Some(Box::pin(self.query(Wanted { addresses, hosts: state.hosts.known().clone() })));
                }
                if lookup.is_none()
                    && let Some(names) = state.hosts.poll_lookup(now)
                {
                    lookup = Some(Box::pin(look_up(names)));
                }
                let next_query = state.missing.next_query().filter(|_| query.is_none());
                let next_lookup = state.hosts.next_lookup().filter(|_| lookup.is_none());
                let next_found = [next_query, next_lookup].into_iter().flatten().min();
                // All branches are cancel-safe: `query` and `lookup` outlive the select.
                let found = tokio::select! {
                    () = self.changed.notified() => break,
                    () = sleep_until(next) => break,
                    found = wait_for(query.as_mut()) => {
                        query = None;
                        found
                    }
                    found = wait_for(lookup.as_mut()) => {
                        lookup = None;
                        found
                    }
                    () = sleep_until(next_found.unwrap_or(next)), if next_found.is_some() => continue,
                };
                self.handle_found(state, found);
            }
        }
    }

    async fn query(&self, wanted: Wanted) -> Found {
        Found::States(self.shared.catalog.states(self.watch.service(), &wanted).await)
    }

    fn handle_found(&self, state: &mut State, found: Found) {
        let (now, service) = (Instant::now(), self.watch.service());
        match found {
            Found::States(states) => {
                state.missing.handle_states(now, states.as_ref().ok());
                self.publish(state);
                if let Err(error) = states
                    && self.catalog_warnings.allow(std::time::Instant::now())
                {
                    let cause = std::error::Error::source(&error);
                    log(
                        || tracing::warn!(%service, %error, cause, "cannot read which providers an operator has disabled"),
                    );
                }
            }
            Found::Addresses(results) => {
                let mut failure = None;
                for (name, result) in results {
                    match result {
                        Ok(addresses) => {
                            let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
                            state.hosts.handle_addresses(name, ips);
                        }
                        Err(error) => failure = Some((name, error)),
                    }
                }
                self.handle_listed(state);
                if let Some((host, error)) = failure
                    && self.host_warnings.allow(std::time::Instant::now())
                {
                    log(
                        || tracing::warn!(%service, host, %error, "cannot resolve the host name of a provider; trying again"),
                    );
                }
            }
        }
    }

    /// Reads the list and publishes it.
    ///
    /// An empty list or a shorter one is published too: only the client's channels detect which providers are alive.
    /// Disabled instances remain in the list as disabled. After an error, nothing is published.
    async fn refresh(&self, naming: &Naming, subscribed: &mut bool, state: &mut State) -> Result<(), Error> {
        let service = self.watch.service();
        if !*subscribed {
            // Subscribe before reading the list, so that no change is missed in between.
            naming.subscribe(service, Arc::clone(&self.listener)).await?;
            *subscribed = true;
        }
        state.listed = naming.list(service).await?;
        let names = listing::host_names(&state.listed, self.cluster());
        state.hosts.handle_names(Instant::now(), names);
        if !self.watch.has_list()
            && let Some(names) = state.hosts.poll_lookup(Instant::now())
        {
            // Callers wait for the first list, and take it for complete.
            self.handle_found(state, look_up(names).await);
        } else {
            self.handle_listed(state);
        }
        Ok(())
    }

    /// Publishes the instances of the latest list, with the known addresses of their host names.
    fn handle_listed(&self, state: &mut State) {
        let at = Instant::now() + MAX_QUERY_DELAY.mul_f64(rand::random());
        let instances = listing::from_nacos(&state.listed, self.cluster(), state.hosts.known());
        state.missing.handle_list(at, instances);
        self.publish(state);
    }

    fn publish(&self, state: &State) {
        let instances = state.missing.instances();
        let providers = instances.len();
        let disabled = instances.iter().filter(|instance| !instance.is_enabled()).count();
        if self.watch.publish(instances) {
            log(
                || tracing::debug!(service = %self.watch.service(), providers, disabled, "the list of providers changed"),
            );
        }
    }

    fn cluster(&self) -> Option<&str> {
        self.shared.config.cluster.as_deref()
    }

    async fn unsubscribe(&self) {
        let service = self.watch.service();
        if let Some(naming) = self.shared.existing_consumer()
            && let Err(error) = naming.unsubscribe(service, Arc::clone(&self.listener)).await
        {
            log(|| tracing::debug!(%service, %error, "cannot unsubscribe from Nacos"));
        }
    }
}

/// Looks up the addresses of host names concurrently.
async fn look_up(names: Vec<String>) -> Found {
    let lookup = async |name: String| {
        // The port has no effect.
        let addresses = HostPort { host: name.clone(), port: 1 }.resolve().await;
        (name, addresses)
    };
    Found::Addresses(join_all(names.into_iter().map(lookup)).await)
}
