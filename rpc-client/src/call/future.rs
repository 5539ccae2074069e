//! [`ClientCall`]: the future of one call, from the pick of a provider to the answer.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use rpc_core::{
    BoxFuture, CallOptions, CallerItems, Code, Delivery, Encode, EncodedPayload, Error, Explain, Explanation, Hedging,
    Reply, Request, ServiceClient, WriteBuffer, reflection::ReflectionClient,
};
use tokio::time::Instant;

use super::{
    acquire::acquire,
    acquired::Acquired,
    agreement::agree,
    attempts::Attempts,
    capacity::{FullChannel, until_capacity},
    encode::{RequestWriter, encode_arguments},
    error::{check_route, deadline_passed, invalid_request},
    extras::Extras,
    outcome,
    pick::{pick, pick_first},
    retry::CallFacts,
    streams::{AttemptStreams, stream_kind},
    target::Target,
};
use crate::{
    client_core::ClientCore,
    connection::{
        channel::Channel,
        in_flight::{CallId, NewCall},
        sending::SendError,
    },
    discovery::balance::Balance,
};

/// The future of one call.
///
/// It resolves by the call's deadline, with an answer or with an error that states whether the handler may have
/// executed.
///
/// # Cancel safety
///
/// A drop abandons the call, and the peer receives CANCEL if its handler may be executing. The handler may execute all
/// the same.
#[must_use = "futures do nothing unless polled"]
pub struct ClientCall<A> {
    /// Declared first, so that a drop abandons the attempts before it drops the client.
    pub(super) attempts: Attempts,
    pub(super) core: Arc<ClientCore>,
    pub(super) request: Request<A>,
    /// `None` until the first poll.
    pub(super) started: Option<Started>,
    pub(super) stage: Stage,
    /// `None` in most calls.
    pub(super) extras: Option<Box<Extras>>,
    /// Whether the call has waited for capacity of the channel that it tries next.
    pub(super) has_waited: bool,
    /// The arguments for the next attempt, if they are encoded and the attempt waits for capacity.
    pub(super) encoded: Option<EncodedPayload>,
    /// Whether an attempt ended with [`Delivery::Unknown`], however the last attempt ended.
    pub(super) may_have_executed: bool,
}

/// The values that the first poll determines.
pub(super) struct Started {
    pub(super) at: Instant,
    pub(super) deadline: Instant,
    /// The time from `at` to the deadline.
    pub(super) timeout: Duration,
    pub(super) balance: Balance,
}

pub(super) enum Stage {
    /// The call picks a channel.
    Picking,
    /// The call waits for a provider that accepts calls or for capacity.
    Acquiring(BoxFuture<'static, Result<Acquired, Error>>),
    /// The call waits for its attempts.
    Waiting,
    Done,
}

impl<A> ClientCall<A> {
    pub(crate) fn new(core: Arc<ClientCore>, request: Request<A>) -> Self {
        Self {
            attempts: Attempts::default(),
            core,
            request,
            started: None,
            stage: Stage::Picking,
            extras: None,
            has_waited: false,
            encoded: None,
            may_have_executed: false,
        }
    }

    /// Returns the client and the request of a call that was not polled.
    pub(crate) fn unpolled(&self) -> Option<(Arc<ClientCore>, &Request<A>)> {
        let is_unpolled = self.started.is_none() && !matches!(self.stage, Stage::Done);
        is_unpolled.then(|| (Arc::clone(&self.core), &self.request))
    }

    /// Returns the options of a call that was not polled.
    pub(crate) fn options_mut(&mut self) -> Option<&mut CallOptions> {
        let is_unpolled = self.started.is_none() && !matches!(self.stage, Stage::Done);
        is_unpolled.then_some(&mut self.request.options)
    }

    pub(super) fn started(&self) -> &Started {
        self.started.as_ref().expect("the first poll starts the call before it does anything else")
    }

    /// Returns the extras, to set one of them.
    pub(super) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Returns the error of an earlier attempt, or `error`.
    pub(super) fn last_error_or(&mut self, error: Error) -> Error {
        self.extras.as_mut().and_then(|extras| extras.last_error.take()).unwrap_or(error)
    }

    fn has_streams(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.streams.is_some())
    }

    pub(super) fn hedging(&self) -> Hedging {
        self.request.options.hedging.unwrap_or(self.core.config().hedging)
    }

    pub(super) fn facts(&self) -> CallFacts {
        CallFacts {
            sent: self.attempts.sent(),
            max_retries: self
                .request
                .options
                .retries
                .unwrap_or(self.core.config().retries)
                .min(CallOptions::MAX_RETRIES),
            pinned: self.request.options.address.is_some(),
            others_live: self.attempts.any_live(),
            newest_live: self.attempts.newest_live(),
            items_sent: self.request.options.items.as_ref().is_some_and(CallerItems::is_consumed),
            ..CallFacts::new(self.request.method)
        }
    }
}

fn polled_after_completion() -> Error {
    Error::unknown(Code::Internal, "call polled after completion")
}

/// The steps of a call.
impl<A: Encode> ClientCall<A> {
    fn poll_call(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Reply, Error>> {
        let is_first_poll = self.started.is_none();
        if is_first_poll {
            if matches!(self.stage, Stage::Done) {
                return Poll::Ready(Err(polled_after_completion()));
            }
            // Consume coop budget so that a loop of calls that fail at once cannot starve other tasks.
            let coop = ready!(tokio::task::coop::poll_proceed(cx));
            self.started = Some(self.begin()?);
            coop.made_progress();
        }
        loop {
            if let Some(result) = self.poll_attempts(cx) {
                return Poll::Ready(result);
            }
            let acquired = match &mut self.stage {
                Stage::Waiting => {
                    return match self.poll_streams(cx) {
                        Some(error) => Poll::Ready(Err(error)),
                        None => Poll::Pending,
                    };
                }
                Stage::Done => return Poll::Ready(Err(polled_after_completion())),
                Stage::Picking => self.pick().transpose().map(|channel| channel.map(Acquired::at_once)),
                Stage::Acquiring(acquiring) => Some(ready!(acquiring.as_mut().poll(cx))),
            };
            let acquired = match acquired {
                Some(Ok(acquired)) => acquired,
                None => {
                    self.acquire();
                    continue;
                }
                // No other provider accepts the call, but an earlier attempt may still be answered.
                Some(Err(_)) if self.attempts.any_live() => {
                    self.stage = Stage::Waiting;
                    continue;
                }
                Some(Err(error)) => return Poll::Ready(Err(self.last_error_or(error))),
            };
            if let Some(result) = self.start_attempt(acquired, is_first_poll, cx) {
                return Poll::Ready(result);
            }
            // The attempt has this task's waker, so there is nothing to poll now.
            if matches!(self.stage, Stage::Waiting) && !self.attempts.has_earlier() && !self.has_streams() {
                return Poll::Pending;
            }
        }
    }

    fn begin(&mut self) -> Result<Started, Error> {
        let Request { method, options, .. } = &mut self.request;
        check_route(method)?;
        let at = Instant::now();
        let mut balance = self.core.config().balance;
        let rule = self.core.rules().find(method, at);
        // The client requests descriptions for its calls, to which the rules apply.
        let rule = rule.filter(|_| method.service() != <ReflectionClient as ServiceClient>::service_id());
        if let Some(rule) = rule {
            let running = rule.enter()?;
            rule.apply(options, self.core.rng());
            balance = rule.balance().unwrap_or(balance);
            let extras = self.extras.get_or_insert_default();
            (extras.rule, extras.running) = (Some(rule), running);
        }
        if let Some(status) = &options.invalid {
            return Err(invalid_request(status.clone()));
        }
        let (deadline, timeout) = options.time_limit(at, method, self.core.config().timeout);
        if timeout.is_zero() {
            return Err(deadline_passed());
        }
        self.core.count_call();
        if method.once_scope().is_some() {
            let key = self.core.rng().idempotency_key();
            self.extras_mut().idempotency_key = Some(key);
        }
        Ok(Started { at, deadline, timeout, balance })
    }

    /// Picks a channel. Returns `None` when no provider accepts the call now.
    pub(super) fn pick(&mut self) -> Result<Option<Arc<Channel>>, Error> {
        let Request { method, options, .. } = &self.request;
        let balance = self.started().balance;
        let tried = |extras: &Extras| extras.target.is_some() || !extras.excluded.is_empty() || !extras.full.is_empty();
        let is_first = !self.extras.as_deref().is_some_and(tried);
        if is_first && let Some(channel) = pick_first(&self.core, method.service(), options, balance) {
            return Ok(Some(channel));
        }
        let extras = self.extras.get_or_insert_default();
        let target = match extras.target.take() {
            Some(target) => target,
            None => Target::resolve(&self.core, method.service(), options.address)?,
        };
        let channel = pick(&self.core, &target, options, balance, &extras.excluded, &extras.full);
        extras.target = Some(target);
        Ok(channel)
    }

    /// Starts to wait: for capacity if a channel was full, otherwise for a provider.
    pub(super) fn acquire(&mut self) {
        let Started { deadline, balance, .. } = *self.started();
        let core = Arc::clone(&self.core);
        let extras = self.extras.get_or_insert_default();
        self.stage = Stage::Acquiring(if extras.full.is_empty() {
            let target = extras.target.clone().expect("a pick without a channel resolves the target");
            Box::pin(acquire(core, target, self.request.options.clone(), balance, extras.excluded.clone(), deadline))
        } else {
            self.has_waited = true;
            Box::pin(until_capacity(core, std::mem::take(&mut extras.full), deadline))
        });
    }

    /// Sends an attempt on a channel. Returns the result if it ends the call.
    fn start_attempt(
        &mut self,
        acquired: Acquired,
        is_first_poll: bool,
        cx: &task::Context<'_>,
    ) -> Option<Result<Reply, Error>> {
        let Acquired { channel, turn, compared } = acquired;
        let Started { at, deadline, timeout, .. } = *self.started();
        let has_waited = std::mem::take(&mut self.has_waited);
        let codec = match agree(&self.core, &self.request, &channel, compared) {
            Ok(codec) => codec,
            Err(disagreement) => return self.handle_disagreement(disagreement, channel),
        };
        // Arguments that were encoded for another provider may have another codec.
        if self.encoded.as_ref().is_none_or(|encoded| encoded.codec() != codec) {
            // Before the slot, under no lock: `Serialize` may take long, panic, or make a call of its own.
            match encode_arguments(&self.request, codec, self.core.config()) {
                Ok(encoded) => self.encoded = Some(encoded),
                // The attempt in flight may still be answered.
                Err(_) if self.attempts.any_live() => {
                    channel.pass_on();
                    self.stage = Stage::Waiting;
                    return None;
                }
                Err(status) => return Some(Err(invalid_request(status))),
            }
        }
        // A read of the clock has a cost. Since the start of this poll only the encoding has taken time, and that of a
        // short value takes little.
        let is_short = self.encoded.as_ref().is_some_and(EncodedPayload::is_short);
        let (now, timeout) = if is_first_poll && is_short {
            (at, timeout)
        } else {
            let now = Instant::now();
            (now, deadline.saturating_duration_since(now))
        };
        if timeout.is_zero() {
            channel.pass_on();
            let error = deadline_passed().with_peer(channel.address());
            return Some(Err(self.last_error_or(error)));
        }
        let kind = stream_kind(self.request.method);
        let is_hedged = kind.is_none() && self.facts().may_repeat();
        let hedge_at = is_hedged.then(|| now + self.hedging().delay(timeout));
        let writer = RequestWriter {
            request: &self.request,
            config: self.core.config(),
            timeout,
            idempotency_key: self.extras.as_ref().and_then(|extras| extras.idempotency_key),
            repeat: self.may_have_executed || self.attempts.has_earlier(),
        };
        let encoded = &mut self.encoded;
        let length = encoded.as_ref().map_or(0, EncodedPayload::len);
        let write = |id: CallId, out: &mut WriteBuffer| match encoded.take() {
            Some(payload) => writer.write(id, payload, out),
            None => Ok(()),
        };
        if self.request.method.is_one_way() {
            return match channel.send(turn, length, write) {
                Ok(()) => Some(Ok(outcome::no_answer(channel.address()))),
                Err(error) => self.handle_send_error(channel, error),
            };
        }
        let call =
            NewCall { sent_at: now, deadline, hedge_at, has_waited, has_streams: kind.is_some(), waker: cx.waker() };
        let started = match kind {
            None => channel.start(call, turn, length, write),
            Some(kind) => channel.start_streams(call, kind, turn, length, write).map(|(sent, streams)| {
                let Request { method, options, .. } = &self.request;
                let streams = AttemptStreams::new(&self.core, &channel, sent.id, streams, options, method, codec);
                self.extras.get_or_insert_default().streams = Some(streams);
                sent
            }),
        };
        match started {
            Ok(sent) => {
                if self.attempts.sent() > 0 {
                    self.core.counters().count_repeat(self.request.method.route(), self.attempts.has_earlier());
                }
                self.attempts.add(channel, sent, now, self.request.options.explain.then_some(at));
                self.stage = Stage::Waiting;
                None
            }
            Err(error) => self.handle_send_error(channel, error),
        }
    }

    /// Handles a channel that did not accept the call. Returns the error if it ends the call.
    fn handle_send_error(&mut self, channel: Arc<Channel>, error: SendError) -> Option<Result<Reply, Error>> {
        match error {
            // The request of a hedge has one more entry than that of the attempt in flight.
            SendError::TooLong(_) if self.attempts.any_live() => self.stage = Stage::Waiting,
            SendError::TooLong(status) => return Some(Err(invalid_request(status))),
            SendError::Full(limit) => {
                if let Some(encoded) = &mut self.encoded {
                    encoded.shrink();
                }
                self.extras_mut().full.push(FullChannel { channel, limit });
                self.stage = Stage::Picking;
                if self.request.options.affinity.is_some() {
                    // The key belongs to this provider even while it is full.
                    self.acquire();
                }
            }
            // The channel closed after the pick, so the next pick skips it.
            SendError::Closed => self.stage = Stage::Picking,
        }
        None
    }

    /// Sends items of the attempt in flight. Returns the error if they end the call.
    fn poll_streams(&mut self, cx: &mut task::Context<'_>) -> Option<Error> {
        let failed = self.extras.as_mut()?.streams.as_mut()?.poll_send(cx)?;
        // The drop of the attempts cancels the call.
        self.attempts = Attempts::default();
        Some(Error::unknown(failed.code(), format!("the stream of the caller failed: {}", failed.message())))
    }
}

impl<A: Encode + Send + 'static> Future for ClientCall<A> {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut reply = ready!(self.poll_call(cx));
        self.stage = Stage::Done;
        // A handler may have executed, or may execute, whatever the last error was.
        if (self.may_have_executed || self.attempts.any_live())
            && let Err(error) = reply
        {
            reply = Err(error.with_delivery(Delivery::Unknown));
        }
        Poll::Ready(reply)
    }
}

impl<A: Encode + Send + 'static> Explain for ClientCall<A> {
    fn explanation(&self) -> Explanation {
        let target = self.extras.as_ref().and_then(|extras| extras.target.as_ref());
        let tag = self.request.options.tag.as_deref();
        let mut explanation = target.map_or_else(Explanation::default, |target| target.explain(&self.core, tag));
        let rule = self.extras.as_ref().and_then(|extras| extras.rule.as_ref());
        explanation.rule = rule.map_or_else(String::new, |rule| rule.name().to_owned());
        explanation.route = self.request.method.route().to_owned();
        explanation.attempts = self.attempts.log().to_vec();
        explanation.took = self.started.as_ref().map_or(Duration::ZERO, |started| started.at.elapsed());
        explanation
    }
}

/// The arguments are never pinned.
impl<A> Unpin for ClientCall<A> {}

impl<A> fmt::Debug for ClientCall<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCall").field("route", &self.request.method.route()).finish_non_exhaustive()
    }
}
