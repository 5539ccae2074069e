//! [`Shared`]: the state that all connections of a server share.

use std::sync::{Arc, atomic::AtomicBool};

use rpc_core::{Code, Status, frame::Frame};
use tokio::{
    sync::{Notify, watch},
    time::{Duration, Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    call::{
        concurrency::{ConcurrencyLimit, Permit, Reservation},
        dispatcher::Dispatcher,
        once::OnceCalls,
        rejection::Rejection,
        running::OVERDUE,
    },
    config::ServerConfig,
    counters::Counters,
    credentials::Credentials,
    peer_warnings::PeerWarnings,
};

/// The state that all connections of a server share.
pub(crate) struct Shared {
    pub(crate) config: ServerConfig,
    pub(crate) dispatcher: Dispatcher,
    /// The frame with the digests of all methods.
    pub(crate) digests: Frame,
    /// Set when the server starts to drain; each connection then sends GOAWAY.
    pub(crate) draining: AtomicBool,
    /// Set at the end of the drain timeout; each connection then ends its streams.
    pub(crate) ends_streams: AtomicBool,
    /// Owns the tasks of handlers that did not finish in their first poll.
    pub(crate) handlers: TaskTracker,
    /// Ends the remaining handlers after the drain timeout.
    pub(crate) abort: CancellationToken,
    /// Notified when the connections of endpoints must check whether they drain.
    pub(crate) endpoints_woken: Notify,
    pub(crate) once: OnceCalls,
    pub(crate) concurrency: Arc<ConcurrencyLimit>,
    pub(crate) counters: Counters,
    pub(crate) credentials: Credentials,
    pub(crate) warnings: PeerWarnings,
    /// The tags that replace those of the registration, separated by commas.
    pub(crate) tags: watch::Sender<Option<String>>,
}

impl Shared {
    /// Waits until a call may run, at most for the queue time and until its deadline.
    pub(super) async fn acquire(&self, reservation: Reservation, deadline: Instant) -> Result<Permit, Rejection> {
        let limit = self.config.queue_time.min(deadline.saturating_duration_since(Instant::now()));
        let permit = timeout(limit, reservation.permit()).await;
        // Checked with a permit too: the deadline may have passed before this task was polled.
        if Instant::now() >= deadline {
            Counters::count(&self.counters.late);
            Err(Status::new(Code::DeadlineExceeded, OVERDUE))?;
        }
        permit.map_err(|_| {
            let (waited, running) = (self.config.queue_time, self.config.max_running);
            self.overloaded(format!(
                "call waited {waited:?} (ServerConfig::queue_time) for one of {running} running handlers \
                 (ServerConfig::max_running)"
            ))
        })
    }

    /// Counts and rejects a call for which the queue has no capacity.
    pub(super) fn queue_full(&self) -> Rejection {
        let (running, queued) = (self.config.max_running, self.config.max_queued);
        self.overloaded(format!(
            "running handlers reached the limit of {running} (ServerConfig::max_running) and queued calls the limit of \
             {queued} (ServerConfig::max_queued), or this peer has its share of them"
        ))
    }

    fn overloaded(&self, message: String) -> Rejection {
        Counters::count(&self.counters.overloaded);
        Rejection::until(Status::new(Code::ResourceExhausted, message), OVERLOAD_RETRY_AFTER)
    }
}

/// The retry-after of a call that a full server rejects.
const OVERLOAD_RETRY_AFTER: Duration = Duration::from_millis(10);
