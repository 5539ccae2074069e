//! [`Calling`]: one call on its way, from the choice of a provider to its answer.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use rpc_core::{
    BoxFuture, Code, Codec, Compression, Delivery, Error, Message, MethodInfo, Payload, Phase, Reply, Request, Status,
    frame::{Frame, FrameType},
    head::{CallFlags, HeadError, RequestHeadRef, ResponseHead},
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{
    channel::{Channel, Refused, Sent},
    client::{Client, Target},
    in_flight::{CallId, Outcome},
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
    /// Set when the call is sent, that is, first polled.
    deadline: Option<Instant>,
    tried: Vec<Tried>,
    state: State,
}

/// A connection on which the call failed, and why. It is not chosen again for this call; a new one to the same address may be.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    pub(crate) channel: Arc<Channel>,
    pub(crate) error: Arc<Error>,
}

enum State {
    /// A provider is to be chosen.
    Choosing,
    /// There is none that takes calls now, or the chosen one has no room.
    Acquiring(BoxFuture<'static, Result<Arc<Channel>, Error>>),
    /// The request is on its way, or the answer is.
    Waiting {
        channel: Arc<Channel>,
        sent: Sent,
    },
    Done,
}

impl<A> Calling<A> {
    pub(crate) fn new(client: Client, request: Request<A>) -> Self {
        Self { client, request, deadline: None, tried: Vec::new(), state: State::Choosing }
    }
}

impl<A: Serialize> Calling<A> {
    fn poll_call(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Reply, Error>> {
        let deadline = match self.deadline {
            Some(deadline) => deadline,
            None => self.begin()?,
        };
        loop {
            match &mut self.state {
                State::Choosing => {
                    let target = self.client.target(self.request.method.service(), self.request.options.address)?;
                    match self.client.choose(&target, &self.tried) {
                        Some(channel) => {
                            if let Some(ended) = self.start(channel, deadline) {
                                return Poll::Ready(ended);
                            }
                        }
                        None => self.acquire(target, deadline),
                    }
                }
                State::Acquiring(acquiring) => {
                    let channel = ready!(acquiring.as_mut().poll(cx))?;
                    if let Some(ended) = self.start(channel, deadline) {
                        return Poll::Ready(ended);
                    }
                }
                State::Waiting { channel, sent } => {
                    let outcome = ready!(channel.poll(sent.id, cx.waker()));
                    let (channel, sent) = (Arc::clone(channel), *sent);
                    self.state = State::Choosing;
                    let error = match self.conclude(outcome, &channel, sent) {
                        Ok(reply) => return Poll::Ready(Ok(reply)),
                        Err(error) => error,
                    };
                    if !self.may_try_again(&error) {
                        return Poll::Ready(Err(error));
                    }
                    self.tried.push(Tried { channel, error: Arc::new(error) });
                }
                State::Done => return Poll::Ready(Err(Error::new(Code::Internal, "polled after its end"))),
            }
        }
    }

    fn begin(&mut self) -> Result<Instant, Error> {
        let Request { method, options, .. } = &mut self.request;
        if let Some(status) = options.invalid.take() {
            return Err(unsendable(status));
        }
        let now = Instant::now();
        let deadline = options.deadline_from(now, method, self.client.config().timeout);
        if deadline <= now {
            return Err(overdue(Phase::Send, Delivery::NotSent));
        }
        self.deadline = Some(deadline);
        Ok(deadline)
    }

    fn acquire(&mut self, target: Target, deadline: Instant) {
        let acquire = self.client.clone().acquire(target, self.tried.clone(), deadline);
        self.state = State::Acquiring(Box::pin(acquire));
    }

    /// Hands the request to a channel; `Some` when the call ends with that.
    fn start(&mut self, channel: Arc<Channel>, deadline: Instant) -> Option<Result<Reply, Error>> {
        let Request { method, arguments, options } = &self.request;
        let config = self.client.config();
        let timeout = deadline.saturating_duration_since(Instant::now());
        if timeout.is_zero() {
            return Some(Err(overdue(Phase::Send, Delivery::NotSent).with_peer(channel.address())));
        }
        let head = RequestHeadRef {
            route: method.route(),
            timeout: Some(timeout),
            flags: flags(method),
            metadata: &options.metadata,
            idempotency_key: None,
        };
        let encode = |id: CallId, out: &mut bytes::BytesMut| {
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
                Ok(()) => return Some(Ok(nothing(channel.address()))),
                Err(refused) => refused,
            }
        } else {
            match channel.start(deadline, encode) {
                Ok(sent) => {
                    self.state = State::Waiting { channel, sent };
                    return None;
                }
                Err(refused) => refused,
            }
        };
        match refused {
            Refused::Unsendable(status) => return Some(Err(unsendable(status))),
            Refused::Full => self.state = State::Acquiring(Box::pin(until_room(channel, deadline))),
            // It closed between the choice and now, and is not chosen again.
            Refused::Closed => self.state = State::Choosing,
        }
        None
    }

    /// What a call's outcome on its connection means to its caller.
    fn conclude(&self, outcome: Outcome, channel: &Channel, sent: Sent) -> Result<Reply, Error> {
        let peer = channel.address();
        match outcome {
            Outcome::Response(frame) => self.read(frame, peer),
            Outcome::Overlong { length, limit } => {
                let message = format!("the response has {length} bytes, over the limit of {limit}");
                let error = Error::new(Code::ResourceExhausted, message);
                Err(error.with_peer(peer).with_phase(Phase::Decode).with_delivery(Delivery::Answered))
            }
            Outcome::Overdue => {
                let begun = channel.has_begun(sent);
                let delivery = if begun { Delivery::Unknown } else { Delivery::NotSent };
                Err(overdue(if begun { Phase::Wait } else { Phase::Send }, delivery).with_peer(peer))
            }
            Outcome::Closed(reason) => {
                // What was not handed to the socket before the connection closed never will be.
                let begun = channel.has_begun(sent);
                let error = Error::new(Code::Unavailable, format!("the connection was lost: {reason}"));
                let error = error.with_peer(peer).with_source(reason);
                Err(if begun {
                    error.with_phase(Phase::Wait).with_delivery(Delivery::Unknown)
                } else {
                    error.with_phase(Phase::Send).with_delivery(Delivery::NotSent)
                })
            }
        }
    }

    fn read(&self, frame: Frame, peer: SocketAddr) -> Result<Reply, Error> {
        let Frame { header, mut body } = frame;
        let head = ResponseHead::take(&mut body).map_err(|error| {
            let message = match error {
                HeadError::Violation(violation) => format!("the response's head is malformed: {violation}"),
                HeadError::Refused(status) => format!("the response's head is not understood: {}", status.message()),
            };
            let error = Error::new(Code::Internal, message).with_phase(Phase::Decode);
            error.with_delivery(Delivery::Answered).with_peer(peer)
        })?;
        let is_application_error = match head.status.code() {
            Code::Ok => false,
            Code::Application => true,
            _ => return Err(Error::from_status(head.status, head.retry_after).with_peer(peer)),
        };
        let payload = Payload {
            codec: header.codec,
            compression: header.compression,
            bytes: body,
            max_decompressed: self.client.config().max_decompressed,
        };
        Ok(Reply { is_application_error, metadata: head.metadata, payload, peer: Some(peer) })
    }

    /// A call that did not run is sent to another provider; one that may have run only where that does no harm.
    fn may_try_again(&self, error: &Error) -> bool {
        let harmless = match error.delivery() {
            Delivery::NotSent => error.is_retryable(),
            Delivery::Unknown => error.code() == Code::Unavailable && self.request.method.is_idempotent(),
            Delivery::Answered => false,
        };
        harmless && self.tried.len() < MAX_RETRIES && self.request.options.address.is_none()
    }
}

impl<A: Serialize + Send + 'static> Future for Calling<A> {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(self.poll_call(cx));
        self.state = State::Done;
        Poll::Ready(reply)
    }
}

/// The arguments are never pinned.
impl<A> Unpin for Calling<A> {}

impl<A> Drop for Calling<A> {
    fn drop(&mut self) {
        if let State::Waiting { channel, sent } = &self.state {
            channel.abandon(sent.id);
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

async fn until_room(channel: Arc<Channel>, deadline: Instant) -> Result<Arc<Channel>, Error> {
    let waited = timeout_at(deadline, channel.room()).await;
    waited.map_err(|_| {
        let error =
            Error::new(Code::ResourceExhausted, "the connection had no room for another call until the deadline");
        error.with_phase(Phase::Send).with_peer(channel.address())
    })?;
    Ok(channel)
}

fn flags(method: &MethodInfo) -> CallFlags {
    let one_way = if method.is_one_way() { CallFlags::ONE_WAY } else { CallFlags::default() };
    if method.is_idempotent() { one_way.union(CallFlags::IDEMPOTENT) } else { one_way }
}

/// The reply to a call that gets none.
fn nothing(peer: SocketAddr) -> Reply {
    let payload = Payload {
        codec: Codec::Raw as u8,
        compression: Compression::None as u8,
        bytes: bytes::Bytes::new(),
        max_decompressed: 0,
    };
    Reply { is_application_error: false, metadata: Default::default(), payload, peer: Some(peer) }
}

fn unsendable(status: Status) -> Error {
    Error::new(status.code(), status.message().to_owned()).with_phase(Phase::Send)
}

fn overdue(phase: Phase, delivery: Delivery) -> Error {
    Error::new(Code::DeadlineExceeded, "the deadline passed").with_phase(phase).with_delivery(delivery)
}

/// How often a call is sent again after its first attempt.
const MAX_RETRIES: usize = 2;
