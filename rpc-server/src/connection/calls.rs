//! [`ConnectionCalls`]: the calls of one connection, from the frame to the handler.

use std::{
    cell::{Cell, OnceCell},
    pin::Pin,
    sync::Arc,
    task::{self, Waker},
    time::Duration,
};

use bytes::Bytes;
use rpc_core::{
    Code, Compression, Context, Draining, Payload, Peer, Responder, Status, StatusAnswer, contained, deadline_after,
    frame::{Frame, Header, Violation},
    head::{CallFlags, HeadError, RequestHead},
    transport::{Outbox, StreamMemory, WireSink},
};
use tokio::time::{Instant, sleep_until};
use tracing::{Level, debug, enabled, trace, warn};

use super::{
    handler::HandlerFuture,
    known_heads::KnownHeads,
    once_call::{self, OnceRequest},
    pending_call::PendingCall,
    shared::Shared,
};
use crate::{
    call::{
        concurrency::{PeerShare, Permit},
        dispatcher::Target,
        guarded::Guarded,
        peer_key::PeerKey,
        rejection::Rejection,
        running::RunningCalls,
    },
    counters::Counters,
    peer_warnings::Subject,
};

/// The calls of one connection.
pub(super) struct ConnectionCalls {
    pub(super) shared: Arc<Shared>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) peer: Arc<Peer>,
    /// Notifies handlers that the connection drains.
    pub(super) draining: Draining,
    pub(super) running: Arc<RunningCalls>,
    /// The memory of the items that the connection receives. Created by the first call with streams.
    pub(super) stream_memory: OnceCell<Arc<StreamMemory>>,
    pub(super) share: Arc<PeerShare>,
    /// Whether the server no longer accepts the token or certificate of the peer.
    pub(super) is_revoked: bool,
    known_heads: KnownHeads,
    /// The context of an ended call, for the next one to reuse.
    spare: Cell<Option<Context>>,
    /// The number of handlers that were polled after the clock was last read.
    polled: Cell<u32>,
    /// The time at which it was last read after a handler, in this turn.
    clock: Cell<Option<Instant>>,
}

impl ConnectionCalls {
    pub(super) fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, peer: Peer) -> Self {
        let share = shared.concurrency.share_of(PeerKey::of(&peer));
        let draining = Draining::of_connection();
        let peer = peer.with_work(share.work().for_connection()).with_draining(draining.clone());
        let (peer, running) = (Arc::new(peer), Arc::default());
        Self {
            shared,
            outbox,
            peer,
            draining,
            running,
            stream_memory: OnceCell::new(),
            share,
            is_revoked: false,
            known_heads: KnownHeads::default(),
            spare: Cell::default(),
            polled: Cell::default(),
            clock: Cell::default(),
        }
    }

    pub(super) fn handle_request(&self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let Frame { mut header, mut body } = frame;
        let has_capacity = self.check(header.id)?;
        let dispatcher = &self.shared.dispatcher;
        let (head, target) = match self.known_heads.take(&mut body) {
            Some((head, target)) => (head, Some(dispatcher.target(target))),
            None => match self.parse_head(&mut body) {
                Ok((head, target)) => (head, target.map(|target| dispatcher.target(target))),
                Err(HeadError::Violation(violation)) => return Err(violation),
                Err(HeadError::Rejected(status)) => {
                    Counters::count(&self.shared.counters.malformed);
                    self.sink(header).answer_unclaimed(&StatusAnswer::rejection(status));
                    return Ok(());
                }
            },
        };
        let arguments = Payload {
            codec: header.codec,
            compression: header.compression,
            bytes: body,
            max_decompressed: self.shared.config.max_decompressed,
        };
        let admitted = self.admit(target, &head, has_capacity, now);
        let admitted = admitted.and_then(|admitted| self.check_compression(header.compression).map(|()| admitted));
        // From here on, the header determines the format of the answer.
        if let Some(wanted) = head.response_compression {
            header.compression = self.response_compression(wanted);
        }
        match admitted {
            Ok((target, deadline)) => self.serve(header, head, target, arguments, now, deadline),
            Err(Rejection { status, .. }) if head.flags.contains(CallFlags::ONE_WAY) => {
                contained(|| debug!(%status, "one-way call rejected"));
            }
            Err(rejection) => {
                if let (Some(key), false) = (head.idempotency_key, head.repeat)
                    && (head.once || target.is_some_and(Target::is_once))
                    && !(self.is_revoked || is_repeated(&rejection))
                {
                    self.shared.once.record_rejected(key, &rejection, now);
                }
                self.sink(header).answer_unclaimed(&rejection.to_answer());
            }
        }
        Ok(())
    }

    /// Parses the head at the start of a request. Also returns the index of its target.
    fn parse_head(&self, body: &mut Bytes) -> Result<(RequestHead, Option<usize>), HeadError> {
        let whole = body.clone();
        let head = RequestHead::take(body)?;
        let target = self.shared.dispatcher.find(&head.route);
        if let Some(target) = target {
            self.known_heads.insert(&whole[..whole.len() - body.len()], &head, target);
        }
        Ok((head, target))
    }

    /// Releases the memory that only makes further calls faster.
    pub(super) fn release_memory(&self) {
        self.known_heads.release();
        self.spare.take();
    }

    /// Rejects a request that is longer than the frame limit; its body was skipped.
    pub(super) fn reject_overlong(&self, header: Header, limit: u32) -> Result<(), Violation> {
        self.check(header.id)?;
        Counters::count(&self.shared.counters.malformed);
        let message =
            format!("request frame is {} bytes, limit is {limit} (TransportConfig::max_frame)", header.full_length);
        let status = Status::new(Code::ResourceExhausted, message);
        self.sink(header).answer_unclaimed(&StatusAnswer::rejection(status));
        Ok(())
    }

    /// Handles the end of the frames that the connection has read in this turn.
    pub(super) fn handle_read(&self) {
        self.polled.set(0);
        self.clock.set(None);
    }

    pub(super) fn handle_cancel(&self, id: u32) {
        if !self.running.end(id, &Status::new(Code::Cancelled, "the caller cancelled the call")) {
            contained(|| trace!(id, "cancelled call has already ended"));
        }
    }

    pub(super) fn count_stray(&self) {
        Counters::count(&self.shared.counters.strays);
    }

    /// Returns whether the connection has capacity for another call.
    ///
    /// # Errors
    ///
    /// A violation for an id that cannot be the id of a new call.
    fn check(&self, id: u32) -> Result<bool, Violation> {
        if id == 0 {
            return Err(Violation::ZeroId);
        }
        self.running.check(id, self.shared.config.max_in_flight)
    }

    /// Returns the method that serves a call that was read at `now`, and the call's deadline.
    ///
    /// `target` is that of the call's route.
    fn admit<'a>(
        &self,
        target: Option<&'a Target>,
        head: &RequestHead,
        has_capacity: bool,
        now: Instant,
    ) -> Result<(&'a Target, Instant), Rejection> {
        let Shared { config, counters, dispatcher, .. } = &*self.shared;
        if self.is_revoked {
            // The peer may have other credentials, with which it can connect and send the call again.
            return Err(Status::new(Code::Unavailable, REVOKED).into());
        }
        let Some(target) = target else {
            Counters::count(&counters.unknown);
            return Err(dispatcher.unknown(&head.route).into());
        };
        dispatcher.check(target, self.peer.identity()).inspect_err(|_| self.record_denied(target))?;
        if head.once && (head.flags.contains(CallFlags::ONE_WAY) || !target.is_once()) {
            Counters::count(&counters.unknown);
            let message = format!("{} is not a once method here, and the caller requires it", target.info().route());
            return Err(Status::new(Code::Unimplemented, message).into());
        }
        target.check_streams(head.flags)?;
        if !has_capacity {
            Counters::count(&counters.connection_full);
            let message = format!(
                "calls in flight on this connection reached the limit of {} (ServerConfig::max_in_flight)",
                config.max_in_flight
            );
            let status = Status::new(Code::ResourceExhausted, message);
            return Err(Rejection::until(status, CONNECTION_FULL_RETRY_AFTER));
        }
        let method_timeout = target.info().default_timeout();
        let timeout = head.timeout.or(method_timeout).unwrap_or(config.default_timeout);
        // The end of the connection does not end unattended handlers, so their timeout has a limit of its own.
        let is_once = head.idempotency_key.is_some() && target.is_once();
        let unattended = head.flags.contains(CallFlags::ONE_WAY) || is_once;
        let limit = if unattended { config.max_unattended.min(config.max_timeout) } else { config.max_timeout };
        let timeout = timeout.min(limit.max(method_timeout.unwrap_or_default()));
        let deadline = deadline_after(now, timeout);
        if self.time(now, timeout) >= deadline {
            Counters::count(&counters.late);
            Err(Status::new(Code::DeadlineExceeded, "the deadline passed before the handler started"))?;
        }
        Ok((target, deadline))
    }

    /// Returns the current time, for a call with this timeout that was read at `read_at`.
    ///
    /// Handlers that the connection polled since then may have taken long. A read of the clock has a cost, so a few of
    /// them share one if the timeout is long.
    fn time(&self, read_at: Instant, timeout: Duration) -> Instant {
        let known = self.clock.get().map_or(read_at, |clock| clock.max(read_at));
        // The subtraction is rare: the clock was read in this turn already.
        let left = || if known > read_at { timeout.saturating_sub(known - read_at) } else { timeout };
        if self.polled.get() == 0 || self.polled.get() < HANDLERS_PER_CLOCK && left() >= LONG_TIMEOUT {
            return known;
        }
        let now = Instant::now();
        self.polled.set(0);
        self.clock.set(Some(now));
        now
    }

    /// Counts a call that its caller may not make, and warns about it.
    #[cold]
    fn record_denied(&self, target: &Target) {
        let (shared, peer) = (&self.shared, &self.peer);
        Counters::count(&shared.counters.denied);
        if shared.warnings.is_due(Subject::Denied, peer.network(), Instant::now()) {
            let (address, route) = (peer.address.map(tracing::field::display), target.info().route());
            let identity = peer.identity();
            contained(|| {
                warn!(
                    peer = address, %identity, route,
                    "call denied by ServerBuilder::allow; further warnings about this peer follow after 10 s"
                );
            });
        }
    }

    /// Checks that the server accepts the compression of a request.
    fn check_compression(&self, number: u8) -> Result<(), Rejection> {
        let accepted = &self.shared.config.compressions;
        Compression::check_accepted(number, accepted, "ServerConfig::compressions")
            .inspect_err(|_| Counters::count(&self.shared.counters.malformed))?;
        Ok(())
    }

    /// Returns the compression of the answer to a caller that wants the one with this number.
    fn response_compression(&self, wanted: u8) -> u8 {
        let accepted = &self.shared.config.compressions;
        let supported = Compression::from_u8(wanted).is_ok_and(|compression| accepted.contains(&compression));
        if supported { wanted } else { Compression::None as u8 }
    }

    fn serve(
        &self,
        header: Header,
        head: RequestHead,
        target: &Target,
        arguments: Payload,
        now: Instant,
        deadline: Instant,
    ) {
        if enabled!(Level::TRACE) {
            contained(|| trace!(route = target.route.as_str(), id = header.id, "call"));
        }
        let (service, method, one_way) = (&target.service, target.method, head.flags.contains(CallFlags::ONE_WAY));
        if let (Some(_), Some(key), false) = (target.info().once_scope(), head.idempotency_key, one_way) {
            let (service, sink) = (Arc::clone(service), self.sink(header));
            let share = Arc::clone(&self.share);
            let request = OnceRequest { key, service, method, head, sink, arguments, deadline, share };
            return once_call::serve(&self.shared, &self.peer, &self.running, request, now);
        }
        if head.flags.has_streams() {
            return self.serve_streams(header, head, target, arguments, deadline);
        }
        let context = match self.spare.take() {
            Some(spare) => spare.renew(Some(deadline), head.metadata, head.idempotency_key),
            None => Context::new(Arc::clone(&self.peer), Some(deadline), head.metadata, head.idempotency_key),
        };
        let responder = if one_way {
            Responder::discard(context.clone())
        } else {
            Responder::wire(context.clone(), self.sink(header))
        };
        let pending =
            |context: &Context| PendingCall { context: context.clone(), sink: self.sink(header), one_way, deadline };
        if !self.share.has_capacity() {
            let (pending, service, route) = (pending(&context), Arc::clone(service), target.route.clone());
            let start = move |permit| {
                let call = service.call(method, arguments, responder);
                HandlerFuture { context, call, route, permit: Some(permit) }
            };
            return self.queue(start, pending);
        }
        self.polled.set(self.polled.get() + 1);
        let call = service.call(method, arguments, responder);
        let mut handler = HandlerFuture { context, call, route: target.route.clone(), permit: None };
        // Most handlers finish in this first poll. Those need neither a task nor an entry in `running`.
        if Pin::new(&mut handler).poll(&mut task::Context::from_waker(Waker::noop())).is_pending() {
            handler.permit = Some(self.share.acquire());
            let pending = pending(&handler.context);
            return self.spawn(handler, pending);
        }
        let HandlerFuture { context, call, .. } = handler;
        drop(call);
        // A context with metadata would keep the read buffer alive, to which the metadata refers, or that of the answer.
        if context.metadata().is_empty() && context.inserted_response_metadata().is_none() {
            self.spare.set(Some(context));
        }
    }

    /// Queues a call until the server has capacity.
    ///
    /// The handler starts only if the call has not ended by then.
    pub(super) fn queue<H: Future<Output = ()> + Send>(
        &self,
        start: impl FnOnce(Permit) -> H + Send + 'static,
        pending: PendingCall,
    ) {
        let Some(reservation) = self.share.reserve() else {
            return pending.reject(self.shared.queue_full());
        };
        let (shared, queued) = (Arc::clone(&self.shared), pending.clone());
        let work = async move {
            match shared.acquire(reservation, queued.deadline).await {
                Ok(permit) => start(permit).await,
                Err(rejection) => queued.reject(rejection),
            }
        };
        self.spawn(Box::pin(work), pending);
    }

    /// Spawns a task for a handler that is pending or queued.
    ///
    /// The task polls the handler with a waker of its own.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + Unpin + 'static, pending: PendingCall) {
        let PendingCall { context, sink, one_way, deadline } = pending;
        if one_way {
            // A one-way call cannot be cancelled and outlives its connection, but neither its deadline nor the server.
            let (guard, abort) = (self.running.add_one_way(), self.shared.abort.clone());
            self.shared.handlers.spawn(async move {
                let mut work = Guarded::new(work, guard);
                // All three futures are safe to drop, and the last two branches end the call.
                let outcome = tokio::select! {
                    biased;
                    () = &mut work => return,
                    () = sleep_until(deadline) => Code::DeadlineExceeded,
                    () = abort.cancelled() => Code::Cancelled,
                };
                // Claimed before the handler is dropped, so that layers see the code.
                context.claim_answer(outcome);
            });
            return;
        }
        self.running.spawn(sink, context, |guard| self.shared.handlers.spawn(Guarded::new(work, guard)).abort_handle());
    }

    pub(super) fn sink(&self, header: Header) -> WireSink {
        WireSink::new(Arc::clone(&self.outbox), &header, self.shared.config.transport.max_frame as usize)
    }
}

/// Returns whether a repeat of the rejected request is rejected in the same way while routes and access rules stay the
/// same, so that a peer without permission does not use up the records.
fn is_repeated(rejection: &Rejection) -> bool {
    matches!(rejection.status.code(), Code::PermissionDenied | Code::Unimplemented | Code::InvalidArgument)
}

/// The reason for which a connection ends whose peer has no accepted credentials any more.
pub(super) const REVOKED: &str = "the token or certificate of this connection is no longer accepted";
/// The number of handlers that the connection polls between two reads of the clock.
const HANDLERS_PER_CLOCK: u32 = 8;
/// The time to a deadline from which handlers share a read of the clock.
const LONG_TIMEOUT: Duration = Duration::from_secs(1);
/// The retry-after of a call that a full connection rejects.
const CONNECTION_FULL_RETRY_AFTER: Duration = Duration::from_millis(100);
