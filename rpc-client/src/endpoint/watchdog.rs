//! [`watch`]: the watchdog, a task that keeps one connection of an endpoint established.

use std::sync::Arc;

use rpc_core::{
    Code, Error, Phase,
    transport::{CloseReason, Connect, Driver, Io, Outbox},
};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::{Endpoint, backoff::Backoff, connect_budget::ConnectBudget, connection_state::ConnectionState};
use crate::{
    changes::ChangeNotifier,
    config::ClientConfig,
    connection::{
        channel::Channel,
        credentials::{Credentials, HandshakeCredentials, rejected_certificate},
        role::ClientRole,
    },
    counters::Counters,
    rng::RngSource,
};

/// The parts of a client that its watchdogs use.
#[derive(Clone)]
pub(crate) struct WatchdogContext {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) credentials: Credentials,
    pub(crate) connects: Arc<ConnectBudget>,
    pub(crate) rng: Arc<RngSource>,
    /// Notified when the state of an endpoint changes.
    pub(crate) changes: Arc<ChangeNotifier>,
    pub(crate) counters: Arc<Counters>,
}

/// Connects, and reconnects with growing delays, until the endpoint is retired or has failed too often.
pub(crate) async fn watch(endpoint: Arc<Endpoint>, index: usize, context: WatchdogContext) {
    let mut backoff = Backoff::default();
    let set_state = |state| {
        endpoint.set_connection(index, state);
        context.changes.notify();
    };
    loop {
        if endpoint.is_retired() {
            return set_state(ConnectionState::Retired);
        }
        set_state(ConnectionState::Connecting);
        let Ended { error, proven } = run_connection(&endpoint, index, &context).await;
        if endpoint.is_retired() {
            return set_state(ConnectionState::Retired);
        }
        let (address, failures_before) = (endpoint.address(), backoff.failures());
        let error = Arc::new(error);
        if proven {
            backoff.reset();
        } else if !backoff.count_failure() {
            warn!(%address, %error, failures = backoff.failures(), "endpoint evicted");
            Counters::count(&context.counters.evictions);
            set_state(ConnectionState::Evicted(error));
            // The failures of one connection evict the whole address.
            return endpoint.retire();
        }
        let delay = backoff.delay(context.rng.fraction());
        if failures_before == 0 {
            info!(%address, %error, "connection lost, will reconnect");
        } else {
            debug!(%address, %error, failures = backoff.failures(), ?delay, "connect failed, will retry");
        }
        set_state(ConnectionState::Backoff(error));
        // Cancel-safe: both branches only wait.
        tokio::select! {
            biased;
            () = endpoint.retired() => {}
            () = sleep(delay) => {}
        }
    }
}

/// The end of a connection or of an attempt to connect.
struct Ended {
    error: Error,
    /// Whether the peer had sent a pong or a response.
    proven: bool,
}

/// Connects and drives the connection until it ends.
async fn run_connection(endpoint: &Endpoint, index: usize, context: &WatchdogContext) -> Ended {
    let (address, config, counters) = (endpoint.address(), &context.config, &context.counters);
    let (stream, credentials) = tokio::select! {
        biased;
        // Cancel-safe: a connection that is not established yet carries no call.
        () = endpoint.retired() => {
            let error = Error::not_executed(Code::Unavailable, "the endpoint was retired");
            return Ended { error: at_peer(error, endpoint), proven: false };
        }
        connected = connect_in_time(endpoint, context) => match connected {
            Ok(connected) => connected,
            Err(error) => {
                Counters::count(&counters.connect_failures);
                return Ended { error: at_peer(error, endpoint), proven: false };
            }
        },
    };
    let outbox = Arc::new(Outbox::new(config.transport.outbox));
    let channel = Arc::new(Channel::new(address, Arc::clone(&outbox), config.max_in_flight, Arc::clone(counters)));
    let role =
        ClientRole::new(Arc::clone(&channel), Arc::clone(&outbox), config, Arc::clone(&context.changes), credentials);
    Counters::count(&counters.connects);
    let driver =
        Driver::new(stream, role, outbox, config.transport.clone()).with_traffic(Arc::clone(&counters.traffic));
    endpoint.set_connection(index, ConnectionState::Connected(Arc::clone(&channel)));
    if endpoint.is_retired() {
        // `Endpoint::retire` may have run before the endpoint had this channel.
        channel.retire();
    }
    let reason = driver.await;
    debug!(%address, %reason, "connection closed");
    let proven = channel.is_proven();
    Ended { error: at_peer(closed_error(&channel, reason), endpoint), proven }
}

/// Connects within the connect budget and `connect_timeout`.
async fn connect_in_time(
    endpoint: &Endpoint,
    context: &WatchdogContext,
) -> Result<(Box<dyn Io>, HandshakeCredentials), Error> {
    context.connects.permit().await;
    let limit = context.config.connect_timeout;
    timeout(limit, connect(endpoint, context)).await.unwrap_or_else(|_| {
        let message = format!("cannot connect within {limit:?} (ClientConfig::connect_timeout)");
        Err(Error::not_executed(Code::Unavailable, message))
    })
}

/// Connects and performs the TLS handshake.
async fn connect(endpoint: &Endpoint, context: &WatchdogContext) -> Result<(Box<dyn Io>, HandshakeCredentials), Error> {
    let address = endpoint.address();
    let io = context.connector.connect(address).await.map_err(|error| {
        Error::not_executed(Code::Unavailable, format!("cannot connect: {error}")).with_source(error)
    })?;
    context.credentials.secure(io, address, endpoint.certificate_name().as_deref()).await
}

/// Returns why a connection ended: a GOAWAY, a rejected certificate, or the driver's reason.
fn closed_error(channel: &Channel, reason: Arc<CloseReason>) -> Error {
    match (channel.goaway(), rejected_certificate(&reason)) {
        (Some(status), _) if status.code() == Code::Unauthenticated => {
            Error::not_executed(Code::Unauthenticated, status.message().to_owned())
        }
        (Some(status), _) => Error::not_executed(Code::Unavailable, format!("peer sent GOAWAY: {}", status.message())),
        (None, Some(why)) => Error::not_executed(Code::Unauthenticated, why).with_source(reason),
        (None, None) => {
            let message = format!("connection lost: {}", with_causes(&reason));
            Error::not_executed(Code::Unavailable, message).with_source(reason)
        }
    }
}

fn at_peer(error: Error, endpoint: &Endpoint) -> Error {
    error.with_peer(endpoint.address()).with_phase(Phase::Connect)
}

/// Formats an error with its causes, because callers receive only the text.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
