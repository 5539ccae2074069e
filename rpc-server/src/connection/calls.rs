//! [`ConnectionCalls`]: the calls of one connection, from the frame to the handler.

use std::{
    cell::Cell,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Waker},
    time::Duration,
};

use rpc_core::{
    Code, Context, Payload, Peer, Responder, Status, StatusAnswer,
    frame::{Frame, Header, Violation},
    head::{CallFlags, HeadError, RequestHead},
    transport::{Outbox, WireSink},
};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, trace};

use super::{
    handler::{HandlerFuture, run_guarded},
    once_call::{self, OnceRequest},
    pending_call::PendingCall,
    shared::Shared,
};
use crate::{
    call::{concurrency::Permit, dispatcher::Target, rejection::Rejection, running::RunningCalls},
    counters::Counters,
};

/// The calls of one connection.
pub(super) struct ConnectionCalls {
    pub(super) shared: Arc<Shared>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) peer: Arc<Peer>,
    pub(super) running: Arc<RunningCalls>,
    /// The context of an ended call, for the next one to reuse.
    spare: Cell<Option<Context>>,
}

impl ConnectionCalls {
    pub(super) fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, peer: Peer) -> Self {
        Self { shared, outbox, peer: Arc::new(peer), running: Arc::default(), spare: Cell::default() }
    }

    pub(super) fn handle_request(&self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let Frame { header, mut body } = frame;
        let has_capacity = self.check(header.id)?;
        let head = match RequestHead::take(&mut body) {
            Ok(head) => head,
            Err(HeadError::Violation(violation)) => return Err(violation),
            Err(HeadError::Rejected(status)) => {
                Counters::count(&self.shared.counters.malformed);
                self.sink(header).answer_unclaimed(&StatusAnswer::rejection(status, None));
                return Ok(());
            }
        };
        let arguments = Payload {
            codec: header.codec,
            compression: header.compression,
            bytes: body,
            max_decompressed: self.shared.config.max_decompressed,
        };
        match self.admit(&head, has_capacity) {
            Ok((target, timeout)) => self.serve(header, head, target, arguments, now, timeout),
            Err(Rejection { status, .. }) if head.flags.contains(CallFlags::ONE_WAY) => {
                debug!(%status, "one-way call rejected");
            }
            Err(rejection) => self.sink(header).answer_unclaimed(&rejection.to_answer()),
        }
        Ok(())
    }

    /// Rejects a request that is longer than the frame limit; its body was skipped.
    pub(super) fn reject_overlong(&self, header: Header, limit: u32) -> Result<(), Violation> {
        self.check(header.id)?;
        Counters::count(&self.shared.counters.malformed);
        let message =
            format!("request frame is {} bytes, limit is {limit} (TransportConfig::max_frame)", header.full_length);
        let status = Status::new(Code::ResourceExhausted, message);
        self.sink(header).answer_unclaimed(&StatusAnswer::rejection(status, None));
        Ok(())
    }

    pub(super) fn handle_cancel(&self, id: u32) {
        if !self.running.end(id, &Status::new(Code::Cancelled, "the caller cancelled the call")) {
            trace!(id, "cancelled call has already ended");
        }
    }

    /// Handles a frame of a stream.
    ///
    /// It ends a running call, which cannot be a stream; without one, the call was rejected or has ended.
    pub(super) fn handle_stream(&self, id: u32) {
        // Not `Unimplemented`, which states that the handler did not execute.
        if !self.running.end(id, &Status::new(Code::InvalidArgument, "the call is not a stream")) {
            self.count_stray();
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

    /// Returns the method that serves a call, and the call's timeout.
    fn admit(&self, head: &RequestHead, has_capacity: bool) -> Result<(&Target, Duration), Rejection> {
        let Shared { config, counters, dispatcher, .. } = &*self.shared;
        let target = dispatcher.find(&head.route).inspect_err(|_| Counters::count(&counters.unknown))?;
        dispatcher.check(target, self.peer.identity()).inspect_err(|_| Counters::count(&counters.denied))?;
        if head.once && (head.flags.contains(CallFlags::ONE_WAY) || target.info().once_scope().is_none()) {
            Counters::count(&counters.unknown);
            let message = format!("{} is not a once method here, and the caller requires it", target.info().route());
            return Err(Status::new(Code::Unimplemented, message).into());
        }
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
        let mut timeout = head.timeout.or(method_timeout).unwrap_or(config.default_timeout);
        if head.flags.contains(CallFlags::ONE_WAY) || head.idempotency_key.is_some() {
            // The end of the connection does not end these handlers, so their timeout needs a limit of its own.
            timeout = timeout.min(config.max_unattended.max(method_timeout.unwrap_or_default()));
        }
        if timeout.is_zero() {
            Counters::count(&counters.late);
            Err(Status::new(Code::DeadlineExceeded, "the deadline passed before the handler started"))?;
        }
        Ok((target, timeout))
    }

    fn serve(
        &self,
        header: Header,
        head: RequestHead,
        target: &Target,
        arguments: Payload,
        now: Instant,
        timeout: Duration,
    ) {
        trace!(route = head.route.as_str(), id = header.id, "call");
        let (one_way, deadline) = (head.flags.contains(CallFlags::ONE_WAY), now + timeout);
        let (service, method) = (&target.service, target.method);
        if let (Some(_), Some(key), false) = (target.info().once_scope(), head.idempotency_key, one_way) {
            let (service, sink) = (Arc::clone(service), self.sink(header));
            let request = OnceRequest { key, service, method, head, sink, arguments, deadline };
            return once_call::serve(&self.shared, &self.peer, &self.running, request, now);
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
        if !self.shared.concurrency.has_capacity() {
            let (pending, service) = (pending(&context), Arc::clone(service));
            let start = move |permit| {
                let call = service.call(method, arguments, responder);
                HandlerFuture { context, call, route: head.route, permit: Some(permit) }
            };
            return self.queue(start, pending);
        }
        let call = service.call(method, arguments, responder);
        let mut handler = HandlerFuture { context, call, route: head.route, permit: None };
        // Most handlers finish in this first poll. Those need neither a task nor an entry in `running`.
        if Pin::new(&mut handler).poll(&mut task::Context::from_waker(Waker::noop())).is_pending() {
            handler.permit = Some(self.shared.concurrency.acquire());
            let pending = pending(&handler.context);
            return self.spawn(handler, pending);
        }
        let HandlerFuture { context, call, .. } = handler;
        drop(call);
        // A context with metadata would keep the read buffer alive, to which the metadata refers.
        if context.metadata().is_empty() {
            self.spare.set(Some(context));
        }
    }

    /// Queues a call until the server has capacity.
    ///
    /// The handler starts only if the call has not ended by then.
    fn queue(&self, start: impl FnOnce(Permit) -> HandlerFuture + Send + 'static, pending: PendingCall) {
        let Some(reservation) = self.shared.concurrency.reserve() else {
            return pending.reject(self.shared.queue_full());
        };
        let (shared, queued) = (Arc::clone(&self.shared), pending.clone());
        let work = async move {
            match shared.acquire(reservation, queued.deadline).await {
                Ok(permit) => start(permit).await,
                Err(rejection) => queued.reject(rejection),
            }
        };
        self.spawn(work, pending);
    }

    /// Spawns a task for a handler that is pending or queued.
    ///
    /// The task polls the handler with a waker of its own.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static, pending: PendingCall) {
        let PendingCall { context, sink, one_way, deadline } = pending;
        if one_way {
            // A one-way call cannot be cancelled and outlives its connection, but neither its deadline nor the server.
            let (guard, abort) = (self.running.add_one_way(), self.shared.abort.clone());
            self.shared.handlers.spawn(async move {
                let mut work = pin!(run_guarded(work, guard));
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
        self.running.spawn(sink, context, |guard| self.shared.handlers.spawn(run_guarded(work, guard)).abort_handle());
    }

    fn sink(&self, header: Header) -> WireSink {
        WireSink::new(Arc::clone(&self.outbox), &header, self.shared.config.transport.max_frame as usize)
    }
}

/// The retry-after of a call that a full connection rejects.
const CONNECTION_FULL_RETRY_AFTER: Duration = Duration::from_millis(100);
