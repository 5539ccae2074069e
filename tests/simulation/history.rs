//! [`History`]: the events of a run, recorded outside the simulated network.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_core::{Code, Delivery};

use super::{
    services::{Kind, SimService},
    stream_record::{Direction, StreamCall, StreamRecord},
};

/// Records the events of a run. All times are simulated.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Events>);

/// The recorded events.
#[derive(Debug, Default, Clone)]
pub(crate) struct Events {
    /// Calls, indexed by nonce.
    pub(crate) calls: Vec<CallRecord>,
    /// Executions of handlers.
    pub(crate) executions: Vec<Execution>,
    /// Streams, by nonce and direction.
    pub(crate) streams: BTreeMap<(u64, Direction), StreamRecord>,
    /// Connection attempts of clients.
    pub(crate) connections: Vec<ConnectionRecord>,
    /// Lists that the registry pushed.
    pub(crate) pushes: Vec<Push>,
    /// Endpoints of the clients after the repair: client, address, state.
    pub(crate) endpoints: Vec<(usize, SocketAddr, String)>,
    /// Number of connections that servers hold.
    pub(crate) server_connections: usize,
    /// The servers that began to drain, with the times.
    pub(crate) drains: Vec<(SocketAddr, Duration)>,
    /// Violations that were detected during the run.
    pub(crate) violations: Vec<String>,
}

/// A call that a client made.
#[derive(Debug, Clone)]
pub(crate) struct CallRecord {
    /// Number of the client.
    pub(crate) client: usize,
    /// Called service.
    pub(crate) service: SimService,
    /// Kind of the called method.
    pub(crate) kind: Kind,
    /// Start of the call.
    #[expect(dead_code, reason = "the debug output contains it")]
    pub(crate) at: Duration,
    /// Deadline of the call.
    pub(crate) deadline: Duration,
    /// Whether the handler panics.
    pub(crate) panics: bool,
    /// Whether the call has no obstacle.
    pub(crate) must_succeed: bool,
    /// The streams of the call.
    pub(crate) streams: Option<StreamCall>,
    /// Time and outcome of the end.
    pub(crate) end: Option<(Duration, CallOutcome)>,
}

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// An answer or the service's own error: the nonce that it contains, and whether it is complete.
    Answered { nonce: Option<u64>, whole: bool },
    /// An error of the framework.
    Failed { code: Code, delivery: Delivery, text: String },
    /// The caller dropped the call.
    Dropped,
}

/// An execution of a handler.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    /// Number of the call.
    pub(crate) nonce: u64,
    /// Address of the server.
    pub(crate) server: SocketAddr,
    /// Executed service.
    pub(crate) service: SimService,
    /// Start of the execution.
    pub(crate) at: Duration,
    /// Time at which the handler completed, if it was not dropped.
    pub(crate) ended: Option<Duration>,
}

/// A connection or connection attempt.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionRecord {
    /// Number of the client.
    pub(crate) client: usize,
    /// Address of the server.
    pub(crate) address: SocketAddr,
    /// Start of the connection attempt.
    pub(crate) at: Duration,
    /// Whether the client has received any bytes.
    pub(crate) received: bool,
    /// End of the connection or of the failed attempt.
    pub(crate) ended: Option<Duration>,
}

/// A list that the registry pushed to a client.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    /// Number of the client.
    pub(crate) client: usize,
    /// Service of the list.
    pub(crate) service: SimService,
    /// Time of the push.
    pub(crate) at: Duration,
    /// Pushed addresses.
    pub(crate) list: Vec<SocketAddr>,
}

/// Records the end of a connection when it is dropped.
pub(crate) struct ConnectionGuard {
    history: Arc<History>,
    index: usize,
}

impl History {
    /// Returns a copy of all events so far.
    pub(crate) fn events(&self) -> Events {
        self.lock().clone()
    }

    /// Records the start of a call and returns its nonce.
    pub(crate) fn record_call(&self, call: CallRecord) -> u64 {
        let calls = &mut self.lock().calls;
        calls.push(call);
        calls.len() as u64 - 1
    }

    /// Records the outcome of a call.
    pub(crate) fn record_outcome(&self, nonce: u64, outcome: CallOutcome) {
        let now = now();
        let mut events = self.lock();
        let earlier = events.calls[nonce as usize].end.replace((now, outcome));
        if let Some(earlier) = earlier {
            events.violations.push(format!("call {nonce} ended twice, first {earlier:?}"));
        }
    }

    /// Records the start of a handler and returns its index for [`record_completion`](Self::record_completion).
    pub(crate) fn record_execution(&self, nonce: u64, server: SocketAddr, service: SimService) -> usize {
        let executions = &mut self.lock().executions;
        executions.push(Execution { nonce, server, service, at: now(), ended: None });
        executions.len() - 1
    }

    /// Records that a handler completed.
    pub(crate) fn record_completion(&self, execution: usize) {
        self.lock().executions[execution].ended = Some(now());
    }

    /// Changes the record of a stream, which is created if it does not exist.
    pub(crate) fn update_stream<T>(
        &self,
        nonce: u64,
        direction: Direction,
        update: impl FnOnce(&mut StreamRecord) -> T,
    ) -> T {
        update(self.lock().streams.entry((nonce, direction)).or_default())
    }

    /// Records the start of a connection attempt.
    pub(crate) fn record_connection(self: &Arc<Self>, client: usize, address: SocketAddr) -> ConnectionGuard {
        let connections = &mut self.lock().connections;
        connections.push(ConnectionRecord { client, address, at: now(), received: false, ended: None });
        ConnectionGuard { history: Arc::clone(self), index: connections.len() - 1 }
    }

    /// Records a list that the registry pushed.
    pub(crate) fn record_push(&self, push: Push) {
        self.lock().pushes.push(push);
    }

    /// Records an endpoint of a client.
    pub(crate) fn record_endpoint(&self, client: usize, address: SocketAddr, state: String) {
        self.lock().endpoints.push((client, address, state));
    }

    /// Changes the number of connections that servers hold.
    pub(crate) fn change_server_connections(&self, change: isize) {
        let server_connections = &mut self.lock().server_connections;
        *server_connections = server_connections.saturating_add_signed(change);
    }

    /// Records the start of a server's drain.
    pub(crate) fn record_drain(&self, server: SocketAddr, at: Duration) {
        self.lock().drains.push((server, at));
    }

    /// Records a violation.
    pub(crate) fn record_violation(&self, violation: String) {
        self.lock().violations.push(violation);
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// Returns all events, one per line.
    pub(crate) fn to_lines(&self) -> Vec<String> {
        fn lines<T: std::fmt::Debug>(events: &[T]) -> impl Iterator<Item = String> {
            events.iter().map(|event| format!("{event:?}"))
        }
        let Self { calls, executions, streams, connections, pushes, endpoints, violations, .. } = self;
        let streams: Vec<_> = streams.iter().collect();
        let of_clients_and_servers =
            lines(calls).chain(lines(connections)).chain(lines(executions)).chain(lines(&streams).collect::<Vec<_>>());
        of_clients_and_servers.chain(lines(pushes)).chain(lines(endpoints)).chain(lines(violations)).collect()
    }
}

impl ConnectionGuard {
    /// Records that the client received bytes.
    pub(crate) fn record_received(&self) {
        self.history.lock().connections[self.index].received = true;
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.history.lock().connections[self.index].ended = Some(now());
    }
}

/// Returns the simulated time, or zero outside a simulation.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// Returns whether an error reports that a node violated the protocol. The impostors that answer in HTTP do.
pub(crate) fn reports_violation(text: &str) -> bool {
    text.matches(VIOLATION).count() > text.matches(HTTP_VIOLATION).count()
}

/// A part of the text of [`CloseReason::Violation`](rpc_core::transport::CloseReason::Violation).
const VIOLATION: &str = "violated the protocol";
/// Continues with the bytes of `HTTP`.
const HTTP_VIOLATION: &str = "violated the protocol: magic is [48, 54, 54, 50]";
