//! [`watch`]: the watchdog, a task that keeps one connection of an endpoint established.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use rpc_core::{
    Code, Error, Phase, contained,
    transport::{CloseReason, Connect, Driver, Outbox},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Endpoint, Reconnect,
    backoff::Backoff,
    connect_budget::ConnectBudget,
    connection_state::ConnectionState,
    shortage::{Shortages, is_shortage},
};
use crate::{
    config::ClientConfig,
    connection::{
        channel::Channel,
        credentials::{Credentials, Secured, rejected_certificate},
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
    pub(crate) shortages: Arc<Shortages>,
    pub(crate) rng: Arc<RngSource>,
    pub(crate) counters: Arc<Counters>,
}

/// Connects, and reconnects with growing delays, until the endpoint is retired or has failed too often.
///
/// Every change of state precedes the log, and a panic of the subscriber or of the connector does not end this task.
///
/// A connection that the peer drains stays open until its calls have ended. The watchdog connects again meanwhile: the
/// peer may drain one connection only, or another process may take over its address.
pub(crate) async fn watch(endpoint: &Endpoint, index: usize, context: &WatchdogContext) {
    let mut draining = JoinSet::new();
    keep_connected(endpoint, index, context, &mut draining).await;
    while draining.join_next().await.is_some() {}
}

async fn keep_connected(endpoint: &Endpoint, index: usize, context: &WatchdogContext, draining: &mut JoinSet<()>) {
    let mut backoff = Backoff::default();
    let (address, lane) = (endpoint.address(), &endpoint.lanes()[index]);
    lane.set_failures(0);
    loop {
        if endpoint.is_retired() {
            return endpoint.set_connection(index, ConnectionState::Retired);
        }
        endpoint.set_connection(index, ConnectionState::Connecting);
        while draining.try_join_next().is_some() {}
        let ran = AssertUnwindSafe(run_connection(endpoint, index, context, draining)).catch_unwind().await;
        let Ended { error, cause } = ran.unwrap_or_else(|panic| panicked(&*panic, endpoint));
        if endpoint.is_retired() {
            return endpoint.set_connection(index, ConnectionState::Retired);
        }
        let (error, failures_before) = (Arc::new(error), backoff.failures());
        match cause {
            Cause::Loss => backoff.reset(),
            Cause::Failure => backoff.count_failure(),
            Cause::Shortage => {}
        }
        lane.set_failures(backoff.failures());
        let jitter = context.rng.fraction();
        let delay = match (cause, endpoint.reconnect()) {
            (Cause::Shortage, _) => Shortages::PAUSE.mul_f64((1.0 + jitter) / 2.0),
            (_, Reconnect::Normally) => backoff.delay(jitter),
            (_, Reconnect::Eagerly) => backoff.delay(jitter).min(Backoff::MAX_EAGER_DELAY),
        };
        match cause {
            Cause::Loss => endpoint.set_connection(index, ConnectionState::Lost(Arc::clone(&error))),
            Cause::Failure if endpoint.has_failed() => {
                endpoint.set_connection(index, ConnectionState::Evicted(Arc::clone(&error)));
                endpoint.retire();
                Counters::count(&context.counters.evictions);
                contained(|| warn!(%address, %error, failures = backoff.failures(), "endpoint evicted"));
                return;
            }
            Cause::Failure | Cause::Shortage => {
                endpoint.set_connection(index, ConnectionState::Backoff(Arc::clone(&error)));
            }
        }
        match cause {
            Cause::Shortage => context.shortages.report(address, &error),
            _ if failures_before == 0 => {
                contained(|| info!(%address, %error, "connection lost, will reconnect"));
            }
            _ => {
                let failures = backoff.failures();
                contained(|| debug!(%address, %error, failures, ?delay, "connect failed, will retry"));
            }
        }
        let requested = async {
            match cause {
                Cause::Shortage => std::future::pending().await,
                Cause::Loss | Cause::Failure => sleep(Backoff::MIN_REQUESTED_DELAY).await,
            }
            lane.connect_requested().await;
        };
        // Cancel-safe: all branches only wait.
        tokio::select! {
            biased;
            () = endpoint.retired() => {}
            () = sleep(delay) => {}
            () = requested => {}
        }
    }
}

/// The end of a connection or of an attempt to connect.
struct Ended {
    error: Error,
    cause: Cause,
}

/// Why a connection ended or was not established.
#[derive(Clone, Copy)]
enum Cause {
    /// A connection that worked was lost.
    Loss,
    /// The peer did not accept the connection, or closed it before it worked.
    Failure,
    /// This machine lacks a resource.
    Shortage,
}

/// Connects and drives the connection until it ends, or until its peer drains it and calls are in flight.
///
/// In the latter case, a task of `draining` drives it to its end.
async fn run_connection(
    endpoint: &Endpoint,
    index: usize,
    context: &WatchdogContext,
    draining: &mut JoinSet<()>,
) -> Ended {
    let (address, config, counters) = (endpoint.address(), &context.config, &context.counters);
    let Secured { io, credentials, socket_writes } = tokio::select! {
        biased;
        // Cancel-safe: a connection that is not established yet carries no call.
        () = endpoint.retired() => {
            let error = Error::not_executed(Code::Unavailable, "the endpoint was retired");
            return Ended { error: at_peer(error, endpoint), cause: Cause::Failure };
        }
        connected = connect_in_time(endpoint, context) => match connected {
            Ok(connected) => connected,
            Err(error) => {
                Counters::count(&counters.connect_failures);
                let cause = if is_shortage(&error) { Cause::Shortage } else { Cause::Failure };
                return Ended { error: at_peer(error, endpoint), cause };
            }
        },
    };
    let outbox = Arc::new(Outbox::new(config.transport.outbox));
    let channel =
        Channel::new(address, Arc::clone(&outbox), config.max_in_flight, Arc::clone(counters), &config.transport);
    let channel = Arc::new(channel);
    let changes = Arc::clone(endpoint.changes());
    let role = ClientRole::new(Arc::clone(&channel), Arc::clone(&outbox), config, changes, credentials);
    Counters::count(&counters.connects);
    let driver = Driver::new(io, role, outbox, config.transport.clone())
        .with_traffic(Arc::clone(&counters.traffic))
        .with_socket_writes(socket_writes);
    endpoint.set_connection(index, ConnectionState::Connected(Arc::clone(&channel)));
    if endpoint.is_retired() {
        // `Endpoint::retire` may have run before the endpoint had this channel.
        channel.retire();
    }
    let established_at = Instant::now();
    let mut driver = Box::pin(driver);
    let reason = tokio::select! {
        biased;
        // Cancel-safe: the driver continues below, or in its task.
        reason = &mut driver => reason,
        () = channel.until_draining() => match channel.goaway() {
            Some(status) if channel.is_proven() && channel.in_flight() > 0 && !endpoint.is_retired() => {
                let error = Error::not_executed(Code::Unavailable, format!("peer sent GOAWAY: {}", status.message()));
                draining.spawn(async move {
                    let reason = driver.await;
                    contained(|| debug!(%address, %reason, "drained connection closed"));
                });
                return Ended { error: at_peer(error, endpoint), cause: Cause::Loss };
            }
            _ => driver.await,
        },
    };
    contained(|| debug!(%address, %reason, "connection closed"));
    let worked = Backoff::worked(channel.is_proven(), channel.has_answered(), established_at.elapsed());
    let cause = if worked { Cause::Loss } else { Cause::Failure };
    Ended { error: at_peer(closed_error(&channel, reason), endpoint), cause }
}

/// Returns the failure of an attempt in which the connector or the driver panicked.
fn panicked(panic: &(dyn Any + Send), endpoint: &Endpoint) -> Ended {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = format!("the connection's task panicked: {}", text.unwrap_or("no message"));
    Ended { error: at_peer(Error::not_executed(Code::Unavailable, message), endpoint), cause: Cause::Failure }
}

/// Connects within the connect budget and `connect_timeout`.
async fn connect_in_time(endpoint: &Endpoint, context: &WatchdogContext) -> Result<Secured, Error> {
    context.connects.permit().await;
    let limit = context.config.connect_timeout;
    timeout(limit, connect(endpoint, context)).await.unwrap_or_else(|_| {
        let message = format!("cannot connect within {limit:?} (ClientConfig::connect_timeout)");
        Err(Error::not_executed(Code::Unavailable, message))
    })
}

/// Connects and performs the TLS handshake.
async fn connect(endpoint: &Endpoint, context: &WatchdogContext) -> Result<Secured, Error> {
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
