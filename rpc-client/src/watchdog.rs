//! The watchdog: one task for each lane of an endpoint, which keeps a living channel to its address.

use std::sync::Arc;

use rpc_core::{
    Code, Error, Phase,
    transport::{Connect, Driver, Outbox},
};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    budgets::ConnectBudget,
    chance::Chance,
    changes::Changes,
    channel::Channel,
    config::ClientConfig,
    connection::Connection,
    counters::Counters,
    endpoint::{Endpoint, Lane},
    planted::{Bug, planted},
};

/// What a watchdog needs of its client.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) connector: Arc<dyn Connect>,
    /// Bounds the connects.
    pub(crate) connects: Arc<ConnectBudget>,
    pub(crate) chance: Arc<Chance>,
    /// Told whenever the state of an endpoint changes.
    pub(crate) changes: Arc<Changes>,
    pub(crate) counters: Arc<Counters>,
}

/// Connects, and connects again with growing delays, until the address is not wanted any more or has failed too often.
pub(crate) async fn watch(endpoint: Arc<Endpoint>, lane: usize, surroundings: Surroundings) {
    let mut backoff = Backoff::default();
    let enter = |state| {
        endpoint.enter(lane, state);
        surroundings.changes.tell();
    };
    loop {
        if endpoint.is_retired() {
            return enter(Lane::Retired);
        }
        enter(Lane::Connecting);
        let (error, proved) = attempt(&endpoint, lane, &surroundings).await;
        if endpoint.is_retired() {
            return enter(Lane::Retired);
        }
        let (address, failed_before) = (endpoint.address(), backoff.failures());
        let error = Arc::new(error);
        if proved {
            backoff.proved();
        } else if !backoff.failed() {
            warn!(%address, %error, failures = backoff.failures(), "evicted");
            Counters::count(&surroundings.counters.evicted);
            enter(Lane::Evicted(error));
            // One lane's failures are the address's.
            return endpoint.retire();
        }
        let delay = backoff.delay(surroundings.chance.fraction());
        if failed_before == 0 {
            info!(%address, %error, "lost; will connect again");
        } else {
            debug!(%address, %error, failures = backoff.failures(), ?delay, "will connect again");
        }
        enter(Lane::Backoff(error));
        // Both are safe to drop.
        tokio::select! {
            biased;
            () = endpoint.retired() => {}
            () = sleep(delay) => {}
        }
    }
}

/// Connects and stays until the connection is over; says why, and whether the peer had proved to be alive.
async fn attempt(endpoint: &Endpoint, lane: usize, surroundings: &Surroundings) -> (Error, bool) {
    let (address, config, counters) = (endpoint.address(), &surroundings.config, &surroundings.counters);
    let unavailable =
        |message: String| Error::new(Code::Unavailable, message).with_peer(address).with_phase(Phase::Connect);
    let connected = async {
        surroundings.connects.permit().await;
        match timeout(config.connect_timeout, surroundings.connector.connect(address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(unavailable(format!("cannot connect: {error}")).with_source(error)),
            Err(_) => Err(unavailable(format!("cannot connect within {:?}", config.connect_timeout))),
        }
    };
    let stream = tokio::select! {
        biased;
        // Nothing was sent on a connection that is not there yet.
        () = endpoint.retired() => return (unavailable("not wanted any more".to_owned()), false),
        connected = connected => match connected {
            Ok(stream) => stream,
            Err(error) => {
                Counters::count(&counters.not_connected);
                return (error, false);
            }
        },
    };
    let outbox = Arc::new(Outbox::new(config.transport.outbox));
    let channel = Arc::new(Channel::new(address, Arc::clone(&outbox), config.max_in_flight, Arc::clone(counters)));
    let role = Connection::new(Arc::clone(&channel), Arc::clone(&outbox), config, Arc::clone(&surroundings.changes));
    Counters::count(&counters.connected);
    let driver = Driver::new(stream, role, outbox, config.transport.clone()).counted_in(Arc::clone(&counters.traffic));
    endpoint.enter(lane, Lane::Connected(Arc::clone(&channel)));
    if endpoint.is_retired() {
        // `retire` looked for a channel before there was this one.
        channel.retire();
    }
    let reason = driver.await;
    debug!(%address, %reason, "connection over");
    let error = unavailable(format!("the connection was lost: {reason}")).with_source(reason);
    (error, channel.is_proved() || planted(Bug::AttemptsResetByConnect))
}
