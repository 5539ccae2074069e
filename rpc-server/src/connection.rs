//! [`Connection`]: the server's part in a connection.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll, Waker},
    time::Duration,
};

use rpc_core::{
    BoxFuture, Code, Context, Metadata, Payload, Peer, Responder, Status, StoredAnswer, WireSink,
    frame::{Frame, FrameType, Header, Violation},
    head::{CallFlags, HeadError, RequestHead},
    transport::{Activity, CloseReason, Outbox, PingWindow, Role, TransportConfig, Turn},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, trace, warn};

use crate::{
    config::ServerConfig,
    counters::Counters,
    dispatcher::{Dispatcher, Target},
    entrance::{Entrance, goaway},
    load::{Load, Permit, Place},
    once::{Admission, Asker, OnceCalls, Refused},
    running::{Ended, Running},
};

/// What all connections of a server share.
pub(crate) struct Shared {
    pub(crate) config: ServerConfig,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) entrance: Entrance,
    /// Set once the server says goodbye.
    pub(crate) draining: AtomicBool,
    /// Owns the tasks of handlers that were not done at once.
    pub(crate) handlers: TaskTracker,
    /// Ends what still runs when the drain's time is over.
    pub(crate) abort: CancellationToken,
    /// The calls that run once.
    pub(crate) once: OnceCalls,
    /// How many handlers run in all.
    pub(crate) load: Arc<Load>,
    pub(crate) counters: Counters,
}

/// The server's part in a connection.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    peer: Arc<Peer>,
    running: Arc<Running>,
    pings: PingWindow,
    /// When this end said that it takes no new calls.
    goodbye: Option<Instant>,
    /// The context of a call that is over, for the next one.
    spare: Cell<Option<Context>>,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, peer: Peer) -> Self {
        let pings = PingWindow::new(shared.config.max_pings, Instant::now());
        Self {
            shared,
            outbox,
            peer: Arc::new(peer),
            running: Arc::default(),
            pings,
            goodbye: None,
            spare: Cell::default(),
        }
    }

    fn handle_request(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let Frame { header, mut body } = frame;
        let has_room = self.check(header.id)?;
        let head = match RequestHead::take(&mut body) {
            Ok(head) => head,
            Err(HeadError::Violation(violation)) => return Err(violation),
            Err(HeadError::Refused(status)) => {
                Counters::count(&self.shared.counters.malformed);
                self.sink(header).refuse(&status, None);
                return Ok(());
            }
        };
        let arguments = Payload {
            codec: header.codec,
            compression: header.compression,
            bytes: body,
            max_decompressed: self.shared.config.max_decompressed,
        };
        match self.admit(&head, has_room) {
            Ok((target, timeout)) => self.serve(header, head, target, arguments, now, timeout),
            Err(refusal) if head.flags.contains(CallFlags::ONE_WAY) => {
                debug!(status = %refusal.status, "a one-way call is refused and nobody is told");
            }
            Err(refusal) => self.sink(header).refuse(&refusal.status, refusal.retry_after),
        }
        Ok(())
    }

    /// Finds out who serves a call, and how long it may take.
    fn admit(&self, head: &RequestHead, has_room: bool) -> Result<(&Target, Duration), Refusal> {
        let Shared { config, counters, dispatcher, .. } = &*self.shared;
        let target = dispatcher.find(&head.route).inspect_err(|_| Counters::count(&counters.unknown))?;
        target.check(self.peer.identity()).inspect_err(|_| Counters::count(&counters.denied))?;
        if !has_room {
            Counters::count(&counters.crowded);
            let message = format!("{} calls run on this connection", config.max_in_flight);
            let status = Status::new(Code::ResourceExhausted, message);
            return Err(Refusal { status, retry_after: Some(RETRY_AFTER) });
        }
        let own_timeout = target.info().default_timeout();
        let mut timeout = head.timeout.or(own_timeout).unwrap_or(config.default_timeout);
        if head.flags.contains(CallFlags::ONE_WAY) || head.idempotency_key.is_some() {
            // Not even the end of its connection may end it.
            timeout = timeout.min(config.max_unattended.max(own_timeout.unwrap_or_default()));
        }
        if timeout.is_zero() {
            Counters::count(&counters.late);
            Err(Status::new(Code::DeadlineExceeded, "the deadline passed before the call was started"))?;
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
        if let (Some(_), Some(key), false) = (target.info().run_once(), head.idempotency_key, one_way) {
            let (service, method) = (Arc::clone(&target.service), target.method);
            let once = OnceRequest { key, head, sink: self.sink(header), arguments, deadline, now };
            return self.run_once(once, move |arguments, responder| service.call(method, arguments, responder));
        }
        let context = match self.spare.take() {
            Some(spare) => spare.renew(Some(deadline), head.metadata, head.idempotency_key),
            None => Context::new(Arc::clone(&self.peer), Some(deadline), head.metadata, head.idempotency_key),
        };
        let responder = if one_way {
            Responder::nobody(context.clone())
        } else {
            Responder::wire(context.clone(), self.sink(header))
        };
        let fate = |context: &Context| Fate { context: context.clone(), sink: self.sink(header), one_way, deadline };
        if !self.shared.load.has_room() {
            let fate = fate(&context);
            let (service, method) = (Arc::clone(&target.service), target.method);
            let begin = move |permit| {
                let call = service.call(method, arguments, responder);
                Handling { context, call, route: head.route, permit: Some(permit) }
            };
            return self.queue(begin, fate);
        }
        let call = target.service.call(target.method, arguments, responder);
        let mut handling = Handling { context, call, route: head.route, permit: None };
        // Most handlers are done at once: those cost neither a task nor an entry.
        if Pin::new(&mut handling).poll(&mut task::Context::from_waker(Waker::noop())).is_pending() {
            handling.permit = Some(self.shared.load.enter());
            let fate = fate(&handling.context);
            return self.spawn(handling, fate);
        }
        let Handling { context, call, .. } = handling;
        drop(call);
        // Kept with metadata, it would keep what was read alive.
        if context.metadata().is_empty() {
            self.spare.set(Some(context));
        }
    }

    /// Lets a call wait until fewer handlers run; it is begun only if its caller still waits then.
    fn queue(&self, begin: impl FnOnce(Permit) -> Handling + Send + 'static, fate: Fate) {
        let Some(place) = self.shared.load.place() else { return fate.refuse(self.shared.overload()) };
        let (shared, waiting) = (Arc::clone(&self.shared), fate.clone());
        let queued = async move {
            match shared.turn(place, waiting.deadline).await {
                Ok(permit) => begin(permit).await,
                Err(refusal) => waiting.refuse(refusal),
            }
        };
        self.spawn(queued, fate);
    }

    /// Serves a call that is to run once: nobody but its deadline ends its handler, because somebody may ask for its answer again.
    fn run_once(
        &self,
        once: OnceRequest,
        call: impl FnOnce(Payload, Responder) -> BoxFuture<'static, ()> + Send + 'static,
    ) {
        let OnceRequest { key, head, sink, arguments, deadline, now } = once;
        let calls = &self.shared.once;
        let asking = Context::new(Arc::clone(&self.peer), Some(deadline), Metadata::default(), Some(key));
        let asker = Asker::new(&self.running, asking, sink.clone());
        match calls.admit(key, head.route.as_str(), head.repeat, asker, now) {
            Ok(Admission::Served) => return,
            Err(Refused { asker, status, retry_after }) => return asker.refuse(&status, retry_after),
            Ok(Admission::Run) => {}
        }
        let refuse =
            move |shared: &Shared, Refusal { status, retry_after }| shared.once.release(key, &status, retry_after);
        let Some(place) = self.shared.load.place() else { return refuse(&self.shared, self.shared.overload()) };
        let context = Context::new(Arc::clone(&self.peer), Some(deadline), head.metadata, Some(key));
        let (shared, route) = (Arc::clone(&self.shared), head.route);
        self.shared.handlers.spawn(async move {
            let permit = match shared.turn(place, deadline).await {
                Ok(permit) => permit,
                Err(refusal) => return refuse(&shared, refusal),
            };
            let abort = shared.abort.clone();
            let overdue = context.clone();
            let mut serving = pin!(async {
                if let Some(store) = &shared.once.store
                    && let Some(answer) = OnceCalls::claim(&**store, key, route.as_str()).await?
                {
                    return Ok(answer);
                }
                let (answer, answered) = oneshot::channel();
                let call = call(arguments, Responder::kept(context.clone(), sink.clone(), answer));
                Handling { context, call, route, permit: Some(permit) }.await;
                let lost =
                    || StoredAnswer::status(&sink, &Status::new(Code::Internal, "the handler ended without an answer"));
                let answer = answered.await.unwrap_or_else(|_| lost());
                if let Some(store) = &shared.once.store
                    && let Err(error) = store.keep(key, answer.as_bytes().clone()).await
                {
                    warn!(%error, "an answer that others may ask for was not kept");
                }
                Ok(answer)
            });
            let served = abort.run_until_cancelled(timeout_at(deadline, serving.as_mut())).await;
            // Before the handler is dropped, so that layers learn why.
            overdue.claim_answer(Code::DeadlineExceeded);
            match served {
                Some(Ok(Ok(answer))) => shared.once.answer(key, answer, Instant::now()),
                Some(Ok(Err(status))) => shared.once.release(key, &status, None),
                Some(Err(_)) | None => {
                    let status = Status::new(Code::DeadlineExceeded, LATE);
                    shared.once.answer(key, StoredAnswer::status(&sink, &status), Instant::now());
                }
            }
        });
    }

    /// Gives a handler that waits for something, or for its turn, a task, where it is polled with a waker of its own.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static, fate: Fate) {
        let Fate { context, sink, one_way, deadline } = fate;
        if one_way {
            // Nobody waits for it, nobody cancels it, and it outlives its connection; but not its deadline, nor the server.
            let (ended, abort) = (self.running.enter_one_way(), self.shared.abort.clone());
            self.shared.handlers.spawn(async move {
                let mut work = pin!(until_ended(work, ended));
                // All are safe to drop, and the last two end the call.
                let outcome = tokio::select! {
                    biased;
                    () = &mut work => return,
                    () = sleep_until(deadline) => Code::DeadlineExceeded,
                    () = abort.cancelled() => Code::Cancelled,
                };
                // Before the handler is dropped, so that layers learn why.
                context.claim_answer(outcome);
            });
            return;
        }
        self.running.enter(sink, context, |ended| self.shared.handlers.spawn(until_ended(work, ended)).abort_handle());
    }

    fn handle_cancel(&self, id: u32) {
        if !self.running.end(id, &Status::new(Code::Cancelled, "the caller gave the call up")) {
            trace!(id, "cancelled too late");
        }
    }

    /// A frame of a stream: for a call that runs, which cannot be one, or for a call that was refused or is over.
    fn handle_stream(&self, id: u32) {
        if !self.running.end(id, &Status::new(Code::Unimplemented, "streaming calls are not implemented")) {
            self.stray();
        }
    }

    fn sink(&self, header: Header) -> WireSink {
        WireSink {
            outbox: Arc::clone(&self.outbox),
            id: header.id,
            codec: header.codec,
            compression: header.compression,
            max_frame: self.shared.config.transport.max_frame as usize,
        }
    }

    /// Whether there is room for another call, and a violation for an id that cannot be a new call's.
    fn check(&self, id: u32) -> Result<bool, Violation> {
        if id == 0 {
            return Err(Violation::ZeroId);
        }
        self.running.check(id, self.shared.config.max_in_flight)
    }

    fn stray(&self) {
        Counters::count(&self.shared.counters.strays);
    }
}

impl Shared {
    /// Waits until a call may run, for as long as its caller waits and the queue's time is.
    async fn turn(&self, place: Place, deadline: Instant) -> Result<Permit, Refusal> {
        let patience = self.config.queue_time.min(deadline.saturating_duration_since(Instant::now()));
        let permit = timeout(patience, place.permit()).await;
        // With a permit too: it may have come between the deadline and the look at it.
        if Instant::now() >= deadline {
            Counters::count(&self.counters.late);
            Err(Status::new(Code::DeadlineExceeded, LATE))?;
        }
        permit.map_err(|_| self.overload())
    }

    /// Counts a call that is refused because as many run as may, and says so.
    fn overload(&self) -> Refusal {
        Counters::count(&self.counters.overloaded);
        let message = format!("{} calls run on this server, and others wait", self.config.max_running);
        Refusal { status: Status::new(Code::ResourceExhausted, message), retry_after: Some(OVERLOAD_REST) }
    }
}

/// How a call that is not done at once ends.
#[derive(Clone)]
struct Fate {
    context: Context,
    sink: WireSink,
    one_way: bool,
    deadline: Instant,
}

impl Fate {
    /// Ends a call that was not begun, unless it has ended.
    fn refuse(&self, Refusal { status, retry_after }: Refusal) {
        if self.one_way {
            debug!(%status, "a one-way call is refused and nobody is told");
            self.context.claim_answer(status.code());
        } else {
            self.sink.refuse_once(&self.context, &status, retry_after);
        }
    }
}

/// Why a call is not run, and when it may be sent again.
struct Refusal {
    status: Status,
    retry_after: Option<Duration>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { status, retry_after: None }
    }
}

/// A request that is to run once.
struct OnceRequest {
    key: [u8; 16],
    head: RequestHead,
    sink: WireSink,
    arguments: Payload,
    deadline: Instant,
    now: Instant,
}

impl Role for Connection {
    fn backlog(config: &TransportConfig) -> usize {
        // Nothing more is read from a peer that does not read.
        config.outbox
    }

    fn expects_more(&self, read: bool) -> bool {
        // Handlers that are done at once have spoken when their frame is handled; of those on tasks, several may be ready.
        !read && self.running.has_several()
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let id = frame.header.id;
        match frame.header.frame_type {
            FrameType::Request => self.handle_request(frame, now)?,
            FrameType::Cancel => self.handle_cancel(id),
            FrameType::Ping => {
                self.pings.count(now)?;
                // A connection that is closing has nobody to be answered.
                let _ = self
                    .outbox
                    .push_control(|out| out.extend_from_slice(&Header::empty(FrameType::Pong, id).to_bytes()));
            }
            FrameType::Item | FrameType::End | FrameType::Credit => self.handle_stream(id),
            FrameType::Response => self.stray(),
            // What proves a token came before the first frame that is handled here, where one is required.
            FrameType::Proof | FrameType::Challenge => {}
            FrameType::Pong | FrameType::Goaway | FrameType::Extension(_) => {}
        }
        Ok(())
    }

    fn handle_overlong(&mut self, header: Header, limit: u32) -> Result<(), Violation> {
        match header.frame_type {
            FrameType::Request => {
                let message = format!("the request has {} bytes, over the limit of {limit}", header.full_length);
                self.check(header.id)?;
                Counters::count(&self.shared.counters.malformed);
                self.sink(header).refuse(&Status::new(Code::ResourceExhausted, message), None);
            }
            FrameType::Item | FrameType::End | FrameType::Credit => self.handle_stream(header.id),
            _ => self.stray(),
        }
        Ok(())
    }

    fn handle_turn(&mut self, activity: &Activity, now: Instant) -> Result<Turn, CloseReason> {
        let config = &self.shared.config;
        let idle_at = activity.last_read + config.read_idle;
        // A frame on its way has a deadline of its own, and a peer that does not read is found by the write.
        let watches_idle = !(activity.mid_frame || activity.paused || activity.peer_closed);
        if watches_idle && now >= idle_at {
            return Err(CloseReason::Idle(config.read_idle));
        }
        if self.shared.draining.load(Ordering::Acquire) && self.goodbye.is_none() {
            self.goodbye = Some(now);
            let _ = self.outbox.push_control(|out| goaway(Code::Unavailable, "the server is draining").write(out));
        }
        // A peer that has closed its sending side says nothing any more, also when it is gone: writing shows that, and only that.
        let probe_at = activity.peer_closed.then(|| activity.last_read.max(activity.last_write) + config.read_idle);
        if probe_at.is_some_and(|at| now >= at) {
            let ping = Header::empty(FrameType::Ping, 0).to_bytes();
            let _ = self.outbox.push_control(|out| out.extend_from_slice(&ping));
        }
        let overdue_at = self.running.end_overdue(now).map(|due| due.max(now + SWEEP));
        // A call that crossed the goodbye on its way is served: nothing is lost when the peer takes its time to learn of it.
        let quiet_at = self.goodbye.map(|at| at.max(activity.last_read) + GOODBYE);
        let over = activity.peer_closed || quiet_at.is_some_and(|at| now >= at);
        let probe_at = probe_at.filter(|at| *at > now);
        let wake_at = [watches_idle.then_some(idle_at), probe_at, overdue_at, quiet_at.filter(|at| *at > now)];
        Ok(Turn { wake_at: wake_at.into_iter().flatten().min(), finish: over && self.running.is_idle() })
    }

    fn handle_close(&mut self, reason: &Arc<CloseReason>) {
        let cause = std::error::Error::source(&**reason).map(tracing::field::display);
        debug!(peer = ?self.peer.address, %reason, cause, "connection closed");
        self.running.end_all();
    }
}

/// A handler's future under its context. A panic ends it and nothing else; its responder tells the caller.
struct Handling {
    context: Context,
    call: BoxFuture<'static, ()>,
    route: rpc_core::head::Route,
    /// Given back when all of the handler is gone: the last field is dropped last.
    permit: Option<Permit>,
}

impl Future for Handling {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let Self { context, call, route, .. } = &mut *self;
        // Nothing of the future is used after a panic: it is dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| context.sync_scope(|| call.as_mut().poll(cx))));
        polled.unwrap_or_else(|_| {
            error!(route = route.as_str(), "a handler panicked");
            Poll::Ready(())
        })
    }
}

/// Runs a handler; `ended` goes after all of it is gone.
async fn until_ended(work: impl Future<Output = ()>, ended: Ended) {
    work.await;
    drop(ended);
}

/// How long a caller is asked to wait when its connection is full.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long a caller is asked to wait when the server is full.
const OVERLOAD_REST: Duration = Duration::from_millis(10);
const LATE: &str = "the deadline passed before the handler had ended";
/// Overdue calls are looked for at most this often.
const SWEEP: Duration = Duration::from_millis(5);
/// How long a connection must be quiet after the goodbye before this end closes it.
const GOODBYE: Duration = Duration::from_secs(1);
