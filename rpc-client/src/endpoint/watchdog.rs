//! The watchdog: one task for each lane of an endpoint, which keeps a living channel to its address.

use std::sync::Arc;

use rpc_core::{
    Code, Error, Phase,
    transport::{Connect, Driver, Io, Outbox},
};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::{
    changes::Changes,
    config::ClientConfig,
    connection::channel::Channel,
    connection::credentials::{Credentials, Papers, refused_certificate},
    connection::role::Connection,
    counters::Counters,
    endpoint::backoff::Backoff,
    endpoint::{Endpoint, Lane},
    planted::{Bug, planted},
    retry_budget::ConnectBudget,
    rng::Chance,
};

/// What a watchdog needs of its client.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) credentials: Credentials,
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
        |message: String| Error::not_executed(Code::Unavailable, message).with_peer(address).with_phase(Phase::Connect);
    let connected = async {
        surroundings.connects.permit().await;
        timeout(config.connect_timeout, connect(endpoint, surroundings)).await.unwrap_or_else(|_| {
            Err(Error::not_executed(Code::Unavailable, format!("cannot connect within {:?}", config.connect_timeout)))
        })
    };
    let (stream, papers) = tokio::select! {
        biased;
        // Nothing was sent on a connection that is not there yet.
        () = endpoint.retired() => return (unavailable("not wanted any more".to_owned()), false),
        connected = connected => match connected {
            Ok(connected) => connected,
            Err(error) => {
                Counters::count(&counters.not_connected);
                return (error.with_peer(address).with_phase(Phase::Connect), false);
            }
        },
    };
    let outbox = Arc::new(Outbox::new(config.transport.outbox));
    let channel = Arc::new(Channel::new(address, Arc::clone(&outbox), config.max_in_flight, Arc::clone(counters)));
    let role =
        Connection::new(Arc::clone(&channel), Arc::clone(&outbox), config, Arc::clone(&surroundings.changes), papers);
    Counters::count(&counters.connected);
    let driver = Driver::new(stream, role, outbox, config.transport.clone()).counted_in(Arc::clone(&counters.traffic));
    endpoint.enter(lane, Lane::Connected(Arc::clone(&channel)));
    if endpoint.is_retired() {
        // `retire` looked for a channel before there was this one.
        channel.retire();
    }
    let reason = driver.await;
    debug!(%address, %reason, "connection over");
    let unauthenticated =
        |why: String| Error::not_executed(Code::Unauthenticated, why).with_peer(address).with_phase(Phase::Connect);
    let error = match (channel.goodbye(), refused_certificate(&reason)) {
        (Some(status), _) if status.code() == Code::Unauthenticated => unauthenticated(status.message().to_owned()),
        (Some(status), _) => unavailable(format!("it said goodbye: {}", status.message())),
        (None, Some(why)) => unauthenticated(why).with_source(reason),
        (None, None) => unavailable(format!("the connection was lost: {}", told(&reason))).with_source(reason),
    };
    (error, channel.is_proved() || planted(Bug::AttemptsResetByConnect))
}

/// Connects, and makes the connection safe.
async fn connect(endpoint: &Endpoint, surroundings: &Surroundings) -> Result<(Box<dyn Io>, Papers), Error> {
    let address = endpoint.address();
    let io = surroundings.connector.connect(address).await.map_err(|error| {
        Error::not_executed(Code::Unavailable, format!("cannot connect: {error}")).with_source(error)
    })?;
    surroundings.credentials.secure(io, address, endpoint.certificate_name().as_deref()).await
}

/// An error and its causes: who is told that a provider takes no calls sees nothing but the text.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
