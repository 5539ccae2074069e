//! [`Calling`]: one call on its way, from the choice of a provider to its answer.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use futures_util::future::select_all;
use rpc_core::{
    Attempt, BoxFuture, Code, Delivery, Error, Explain, Explanation, Message, MethodInfo, Once, Phase, Reply, Request,
    Status, WriteBuffer,
    frame::FrameType,
    head::{CallFlags, RequestHeadRef},
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{
    call::outcome as answer,
    client::{Client, Target},
    connection::channel::{Channel, Refused, Sent},
    connection::in_flight::{CallId, Look, Outcome},
    counters::Counters,
};

/// One call on its way. It ends by its deadline, with an answer or an error that says whether the call may have run.
///
/// # Cancel safety
///
/// Dropped, the call is given up, and the peer is told.
#[must_use = "futures do nothing unless polled"]
pub struct Calling<A> {
    client: Client,
    request: Request<A>,
    begun: Option<Begun>,
    stage: Stage,
    /// The attempt that was sent last, if it has not ended.
    newest: Option<Live>,
    /// Attempts that were silent for too long and may still be answered.
    earlier: Vec<Live>,
    tried: Vec<Tried>,
    /// Those that had no room for the call when it was last looked around.
    full: Vec<Arc<Channel>>,
    /// Whether one of them has room now, for which this call has waited.
    has_waited: bool,
    /// How many times the request was sent.
    sent: usize,
    /// Whether an attempt ended without telling whether it ran: then the call may have run, however the last attempt ended.
    may_have_run: bool,
    /// How the last attempt that failed did.
    last_error: Option<Error>,
    /// For who asked for an explanation.
    log: Vec<Attempt>,
}

/// What is settled when the call is first polled.
struct Begun {
    at: Instant,
    deadline: Instant,
    /// Whom it is for, once that must be kept: a call that is sent to the first choice does without.
    target: Option<Target>,
    /// The same for every attempt, when the server is to run the call at most once.
    key: Option<[u8; 16]>,
}

/// A connection on which the call failed or was silent, and how. It is not chosen again for this call; a new one to the same
/// address may be. One whose peer asked for a rest is none of them.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    pub(crate) channel: Arc<Channel>,
    pub(crate) why: Arc<str>,
}

/// An attempt that was sent and has not ended.
struct Live {
    channel: Arc<Channel>,
    sent: Sent,
    at: Instant,
    /// Its place in the log.
    number: usize,
}

enum Stage {
    /// A provider is to be chosen.
    Choosing,
    /// There is none that takes calls now, or the chosen one has no room.
    Acquiring(BoxFuture<'static, Result<Arc<Channel>, Error>>),
    /// Whatever can be done was done; the answer is awaited.
    Waiting,
    Done,
}

impl<A> Calling<A> {
    pub(crate) fn new(client: Client, request: Request<A>) -> Self {
        Self {
            client,
            request,
            begun: None,
            stage: Stage::Choosing,
            newest: None,
            earlier: Vec::new(),
            tried: Vec::new(),
            full: Vec::new(),
            has_waited: false,
            sent: 0,
            may_have_run: false,
            last_error: None,
            log: Vec::new(),
        }
    }
}

impl<A: Serialize> Calling<A> {
    fn poll_call(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Reply, Error>> {
        if self.begun.is_none() {
            // Who calls in a loop what fails at once must let others run.
            let cooperates = ready!(tokio::task::coop::poll_proceed(cx));
            self.begun = Some(self.begin()?);
            cooperates.made_progress();
        }
        loop {
            if let Some(ended) = self.look(cx) {
                return Poll::Ready(ended);
            }
            let channel = match &mut self.stage {
                Stage::Waiting => return Poll::Pending,
                Stage::Done => return Poll::Ready(Err(Error::unknown(Code::Internal, "polled after its end"))),
                Stage::Choosing => self.choose().transpose(),
                Stage::Acquiring(acquiring) => Some(ready!(acquiring.as_mut().poll(cx))),
            };
            let channel = match channel {
                Some(Ok(channel)) => channel,
                None if !self.full.is_empty() => {
                    self.wait_for_room();
                    continue;
                }
                None => {
                    self.acquire();
                    continue;
                }
                // Nobody else can be asked, but somebody was and may still answer.
                Some(Err(_)) if self.is_live() => {
                    self.stage = Stage::Waiting;
                    continue;
                }
                Some(Err(error)) => return Poll::Ready(Err(self.last_error.take().unwrap_or(error))),
            };
            if let Some(ended) = self.start(channel, cx) {
                return Poll::Ready(ended);
            }
            // What was sent just now wakes this task when there is something to look at.
            if matches!(self.stage, Stage::Waiting) && self.earlier.is_empty() {
                return Poll::Pending;
            }
        }
    }

    fn begin(&mut self) -> Result<Begun, Error> {
        let Request { method, options, .. } = &mut self.request;
        if let Some(status) = options.invalid.take() {
            return Err(unsendable(status));
        }
        let at = Instant::now();
        let deadline = options.deadline_from(at, method, self.client.config().timeout);
        if deadline <= at {
            return Err(overdue());
        }
        self.client.count_call();
        let key = method.run_once().map(|_| self.client.chance().key());
        Ok(Begun { at, deadline, target: None, key })
    }

    fn begun(&self) -> &Begun {
        self.begun.as_ref().expect("a call is begun before anything else happens to it")
    }

    fn begun_mut(&mut self) -> &mut Begun {
        self.begun.as_mut().expect("a call is begun before anything else happens to it")
    }

    fn choose(&mut self) -> Result<Option<Arc<Channel>>, Error> {
        let Request { method, options, .. } = &self.request;
        if self.begun().target.is_none()
            && self.tried.is_empty()
            && self.full.is_empty()
            && let Some(channel) = self.client.choose_at_once(method.service(), options)
        {
            return Ok(Some(channel));
        }
        let target = match self.begun_mut().target.take() {
            Some(target) => target,
            None => self.client.target(self.request.method.service(), self.request.options.address)?,
        };
        let channel = self.client.choose(&target, &self.request.options, &self.tried, &self.full);
        self.begun_mut().target = Some(target);
        Ok(channel)
    }

    fn wait_for_room(&mut self) {
        let (full, deadline) = (std::mem::take(&mut self.full), self.begun().deadline);
        self.has_waited = true;
        self.stage = Stage::Acquiring(Box::pin(until_room(full, deadline)));
    }

    fn acquire(&mut self) {
        let Begun { target, deadline, .. } = self.begun();
        let (target, deadline) = (target.clone().expect("there was nothing to choose of it"), *deadline);
        let acquire = self.client.clone().acquire(target, self.request.options.clone(), self.tried.clone(), deadline);
        self.stage = Stage::Acquiring(Box::pin(acquire));
    }

    /// Hands the request to a channel; `Some` when the call ends with that.
    fn start(&mut self, channel: Arc<Channel>, cx: &task::Context<'_>) -> Option<Result<Reply, Error>> {
        let Begun { deadline, key, .. } = *self.begun();
        let has_waited = std::mem::take(&mut self.has_waited);
        let Request { method, arguments, options } = &self.request;
        let config = self.client.config();
        // The first attempt goes at once, and looking at the clock is not free.
        let now =
            if self.sent == 0 && matches!(self.stage, Stage::Choosing) { self.begun().at } else { Instant::now() };
        let timeout = deadline.saturating_duration_since(now);
        if timeout.is_zero() {
            channel.pass_on();
            let error = overdue().with_peer(channel.address());
            return Some(Err(self.last_error.take().unwrap_or(error)));
        }
        let (metadata, flags) = (&options.metadata, flags(method));
        let head = RequestHeadRef {
            route: method.route(),
            timeout: Some(timeout),
            flags,
            metadata,
            idempotency_key: key,
            repeat: self.may_have_run || !self.earlier.is_empty(),
        };
        let encode = |id: CallId, out: &mut WriteBuffer| {
            let message = Message {
                frame_type: FrameType::Request,
                id: id.as_u32(),
                codec: options.codec.unwrap_or(config.codec),
                compression: options.compression.unwrap_or(config.compression),
                value: arguments,
                max_frame: config.transport.max_frame as usize,
            };
            message.write(out, |out| head.write(out))
        };
        let refused = if method.is_one_way() {
            match channel.send(encode) {
                Ok(()) => return Some(Ok(answer::nothing(channel.address()))),
                Err(refused) => refused,
            }
        } else {
            let nudge_at = self.may_repeat().then(|| now + timeout / ATTEMPTS_A_TIMEOUT);
            match channel.start(deadline, nudge_at, has_waited, cx.waker(), encode) {
                Ok(sent) => {
                    if self.sent > 0 {
                        Counters::count(&self.client.counters().repeated);
                    }
                    self.sent += 1;
                    let number = self.log_attempt(&channel, now);
                    self.newest = Some(Live { channel, sent, at: now, number });
                    self.stage = Stage::Waiting;
                    return None;
                }
                Err(refused) => refused,
            }
        };
        match refused {
            Refused::Unsendable(status) => return Some(Err(unsendable(status))),
            Refused::Full => {
                self.full.push(channel);
                self.stage = Stage::Choosing;
                if options.affinity.is_some() {
                    // Its key belongs to this provider, full or not.
                    self.wait_for_room();
                }
            }
            // It closed between the choice and now, and is not chosen again.
            Refused::Closed => self.stage = Stage::Choosing,
        }
        None
    }

    /// Looks for answers; `Some` when the call ends.
    fn look(&mut self, cx: &mut task::Context<'_>) -> Option<Result<Reply, Error>> {
        if let Some(live) = self.newest.take() {
            match live.channel.look(live.sent.id, cx.waker()) {
                Look::Pending => self.newest = Some(live),
                Look::Silent => self.give_time_up(live),
                Look::Ended(outcome) => {
                    if let Some(ended) = self.settle(live, outcome) {
                        return Some(ended);
                    }
                }
            }
        }
        let mut index = 0;
        while let Some(live) = self.earlier.get(index) {
            if let Look::Ended(outcome) = live.channel.look(live.sent.id, cx.waker()) {
                let live = self.earlier.swap_remove(index);
                if let Some(ended) = self.settle(live, outcome) {
                    return Some(ended);
                }
            } else {
                index += 1;
            }
        }
        None
    }

    /// An attempt has had its time: its peer is looked into, and another provider is tried while it may still answer.
    fn give_time_up(&mut self, live: Live) {
        // What was read just after the call was sent says nothing: a peer that stops under load has always answered somebody
        // since. A ping that was not needed costs a round trip.
        live.channel.suspect(live.at + live.at.elapsed() / 2);
        if !self.may_send_again() || !self.client.take_retry() {
            self.newest = Some(live);
            return;
        }
        let why = format!("{} has not answered within {:?}", live.channel.address(), live.at.elapsed());
        self.tried.push(Tried { channel: Arc::clone(&live.channel), why: why.into() });
        self.earlier.push(live);
        self.stage = Stage::Choosing;
    }

    /// Takes in how an attempt ended; `Some` when the call ends with it.
    fn settle(&mut self, live: Live, outcome: Outcome) -> Option<Result<Reply, Error>> {
        let limit = self.client.config().max_decompressed;
        let concluded = answer::conclude(outcome, &live.channel, live.sent, limit);
        self.log_end(&live, concluded.as_ref().err());
        let error = match concluded {
            Ok(reply) => return Some(Ok(reply)),
            Err(error) => error,
        };
        self.may_have_run |= error.delivery() == Delivery::Unknown;
        let asked_to_wait = error.retry_after().is_some();
        if let Some(time) = error.retry_after() {
            self.client.rest(&live.channel, time);
        }
        if error.code() == Code::Unimplemented && error.delivery() == Delivery::NotExecuted {
            return self.ask_who_knows(live, error);
        }
        let final_word = error.delivery() == Delivery::Answered || error.is_timeout();
        if final_word || !(self.is_live() || self.may_try_again(&error)) {
            return Some(Err(error));
        }
        if error.delivery() == Delivery::Unknown && self.request.method.run_once() == Some(Once::Server) {
            self.pin(&live.channel);
        }
        // Who asked to be left alone for a while is asked again after it, if nobody else is.
        if !asked_to_wait {
            self.tried.push(Tried { channel: live.channel, why: error.to_string().into() });
        }
        self.last_error = Some(error);
        if !self.is_live() && matches!(self.stage, Stage::Waiting) {
            self.stage = Stage::Choosing;
        }
        None
    }

    /// A peer that does not know the method has not run it: it took the port of one that did, or is of another version. If
    /// nobody else can be asked now, that is the answer. It costs no retry of the budget: it was no load.
    fn ask_who_knows(&mut self, live: Live, error: Error) -> Option<Result<Reply, Error>> {
        self.tried.push(Tried { channel: live.channel, why: error.to_string().into() });
        if !self.is_live() {
            if !self.may_send_again() || !matches!(self.choose(), Ok(Some(_))) {
                return Some(Err(error));
            }
            self.stage = Stage::Choosing;
        }
        self.last_error = Some(error);
        None
    }

    /// The server that may have run the call is the only one that knows: the call waits for it to come back.
    fn pin(&mut self, channel: &Channel) {
        self.request.options.wait_for_ready = Some(true);
        if let Some(begun) = &mut self.begun {
            begun.target = Some(Target::Address(channel.address()));
        }
    }

    /// A call that did not run is sent to another provider; one that may have run only where that does no harm.
    fn may_try_again(&self, error: &Error) -> bool {
        let harmless = match error.delivery() {
            Delivery::NotExecuted => error.is_retryable(),
            Delivery::Unknown => {
                error.code() == Code::Unavailable && (self.may_repeat() || self.request.method.run_once().is_some())
            }
            Delivery::Answered => false,
        };
        // What never reached a server has not loaded one.
        let free = error.delivery() == Delivery::NotExecuted && error.phase() == Some(Phase::Send);
        harmless && self.may_send_again() && (free || self.client.take_retry())
    }

    fn may_send_again(&self) -> bool {
        self.sent <= MAX_RETRIES && self.request.options.address.is_none()
    }

    /// Whether the method may be sent to another provider although it may have run.
    fn may_repeat(&self) -> bool {
        self.request.method.is_idempotent() || self.request.method.run_once() == Some(Once::Cluster)
    }

    fn is_live(&self) -> bool {
        self.newest.is_some() || !self.earlier.is_empty()
    }

    fn log_attempt(&mut self, channel: &Channel, now: Instant) -> usize {
        if self.request.options.explain {
            let sent = now.saturating_duration_since(self.begun().at);
            self.log.push(Attempt::new(channel.address(), sent));
        }
        self.log.len().saturating_sub(1)
    }

    fn log_end(&mut self, live: &Live, error: Option<&Error>) {
        if let Some(attempt) = self.log.get_mut(live.number) {
            attempt.ended = self.begun.as_ref().map(|begun| begun.at.elapsed());
            attempt.error = error.map(ToString::to_string);
        }
    }
}

impl<A: Serialize + Send + 'static> Future for Calling<A> {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut reply = ready!(self.poll_call(cx));
        self.stage = Stage::Done;
        // An attempt that has not ended may run, whatever became of the last one.
        if (self.may_have_run || self.is_live())
            && let Err(error) = reply
        {
            reply = Err(error.with_delivery(Delivery::Unknown));
        }
        Poll::Ready(reply)
    }
}

impl<A: Serialize + Send + 'static> Explain for Calling<A> {
    fn explanation(&self) -> Explanation {
        let mut explanation = match &self.begun {
            Some(begun) => begun.target.as_ref().map_or_else(Explanation::default, |t| self.client.explain_target(t)),
            None => Explanation::default(),
        };
        explanation.route = self.request.method.route().to_owned();
        explanation.attempts.clone_from(&self.log);
        explanation.took = self.begun.as_ref().map_or(Duration::ZERO, |begun| begun.at.elapsed());
        explanation
    }
}

/// The arguments are never pinned.
impl<A> Unpin for Calling<A> {}

impl<A> Drop for Calling<A> {
    fn drop(&mut self) {
        for live in self.newest.iter().chain(&self.earlier) {
            live.channel.abandon(live.sent.id);
        }
    }
}

impl<A> fmt::Debug for Calling<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calling")
            .field("route", &self.request.method.route())
            .field("tried", &self.tried)
            .finish_non_exhaustive()
    }
}

/// Waits until the first of these channels has room: one whose peer reads nothing must not hold up what others could take.
async fn until_room(channels: Vec<Arc<Channel>>, deadline: Instant) -> Result<Arc<Channel>, Error> {
    let waited = match &channels[..] {
        [only] => timeout_at(deadline, only.room()).await.map(|()| 0),
        _ => {
            let rooms = channels.iter().map(|channel| Box::pin(channel.room()));
            timeout_at(deadline, select_all(rooms)).await.map(|(_, first, _)| first)
        }
    };
    let first = waited.map_err(|_| {
        let error =
            Error::not_executed(Code::ResourceExhausted, "no connection had room for another call until the deadline");
        let error = error.with_phase(Phase::Send).with_retry_after(Duration::ZERO);
        match &channels[..] {
            [only] => error.with_peer(only.address()),
            _ => error,
        }
    })?;
    Ok(Arc::clone(&channels[first]))
}

fn flags(method: &MethodInfo) -> CallFlags {
    let one_way = if method.is_one_way() { CallFlags::ONE_WAY } else { CallFlags::default() };
    if method.is_idempotent() { one_way.union(CallFlags::IDEMPOTENT) } else { one_way }
}

fn unsendable(status: Status) -> Error {
    Error::not_executed(status.code(), status.message().to_owned()).with_phase(Phase::Send)
}

fn overdue() -> Error {
    Error::not_executed(Code::DeadlineExceeded, answer::OVERDUE).with_phase(Phase::Send)
}

/// How often a call is sent again after its first attempt.
const MAX_RETRIES: usize = 2;
/// An attempt of a call that may be repeated has a third of the time that the call has left.
const ATTEMPTS_A_TIMEOUT: u32 = 3;
