//! [`Session`]: opens a session and sends its calls.

use std::sync::Arc;

use rpc_core::{
    BoxFuture, Code, Codec, Compression, EncodedPayload, Error, Message, PeerWork, Phase as CallPhase, ProvedToken,
    ReplyItems, Status, WriteBuffer,
    frame::FrameType,
    head::{CallFlags, RequestHeadRef},
    transport::{
        CallStreams, Driver, Io, ItemReader, ItemSender, Outbox, Position, PushError, Role, SendEnd, SendQueue,
        StreamMemory,
    },
};
use tokio::sync::oneshot;

use super::{
    reader::{Callee, no_answer, read_response},
    role::CallingRole,
    table::{Answer, CallTable, NO_MEMORY, Phase},
    unread::{Gated, UnreadBytes},
};
use crate::{
    config::ServerConfig,
    endpoint::{
        encoded::Encoded,
        items::EndpointItems,
        request::{EndpointReply, EndpointRequest},
    },
};

/// The calling end of a session.
pub(crate) struct Session {
    outbox: Arc<Outbox>,
    table: Arc<CallTable>,
    /// The output of the callee's end, which checks in each turn whether it must drain.
    callee: Arc<Outbox>,
    token: Option<ProvedToken>,
    memory: Arc<StreamMemory>,
    unread: Arc<UnreadBytes>,
    max_frame: usize,
    max_window: u32,
}

/// A call that was not sent.
pub(crate) enum NotSent {
    /// The session accepts no more calls; another one may.
    Over(Box<EndpointRequest>),
    Failed(Error),
}

/// A call that was sent. Dropping it cancels the call.
pub(crate) struct SentCall {
    session: Arc<Session>,
    /// The id of a call that has an answer; `None` once it was received.
    id: Option<u32>,
    answer: oneshot::Receiver<Answer>,
    position: Position,
    streams: Option<Arc<CallStreams>>,
}

impl Session {
    /// Opens a session. The returned future is its task; `role` creates the role of the callee with its output.
    pub(crate) fn open<R: Role>(
        config: &ServerConfig,
        token: Option<ProvedToken>,
        unread: Arc<UnreadBytes>,
        role: impl FnOnce(Arc<Outbox>) -> R,
    ) -> (Arc<Self>, BoxFuture<'static, ()>) {
        let transport = &config.transport;
        let (callee_io, caller_io) = tokio::io::duplex(PIPE);
        let callee = Arc::new(Outbox::new(transport.outbox).for_results());
        let callee_role = role(Arc::clone(&callee));
        let callee_driver =
            Driver::new(Box::new(callee_io) as Box<dyn Io>, callee_role, Arc::clone(&callee), transport.clone());
        let outbox = Arc::new(Outbox::new(transport.outbox));
        let table = Arc::new(CallTable::new(Arc::clone(&unread)));
        let caller_role = CallingRole {
            table: Arc::clone(&table),
            outbox: Arc::clone(&outbox),
            quiet_time: config.read_idle / QUIET_PART,
        };
        let caller_io = Gated::new(caller_io, Arc::clone(&unread));
        let caller_driver = Driver::new(caller_io, caller_role, Arc::clone(&outbox), transport.clone());
        let session = Arc::new(Self {
            outbox,
            table,
            callee,
            token,
            memory: StreamMemory::new(transport.stream_memory),
            unread,
            max_frame: transport.max_frame as usize,
            max_window: transport.stream_window,
        });
        let work = async move {
            tokio::join!(async { drop(callee_driver.await) }, async { drop(caller_driver.await) });
        };
        (session, Box::pin(work))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.table.phase() == Phase::Open
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.table.phase() == Phase::Closed
    }

    pub(crate) fn is_of(&self, token: Option<&ProvedToken>) -> bool {
        self.token.as_ref() == token
    }

    /// Lets the callee's end check whether it must drain.
    pub(crate) fn wake(&self) {
        self.callee.wake();
    }

    /// Accepts no more calls, and ends after those in progress.
    pub(crate) fn retire(&self) {
        self.table.drain();
        self.outbox.wake();
    }

    /// Sends the request of a call. Returns the call, and the future that sends its items.
    pub(crate) async fn send(
        self: Arc<Self>,
        request: EndpointRequest,
    ) -> Result<(SentCall, Option<BoxFuture<'static, ()>>), NotSent> {
        let failed = |status: Status| {
            let error = Error::not_executed(status.code(), status.message().to_owned());
            NotSent::Failed(error.with_phase(CallPhase::Send))
        };
        let (sender, answer) = oneshot::channel();
        let (sends, expects) =
            (request.flags.contains(CallFlags::SENDS_ITEMS), request.flags.contains(CallFlags::EXPECTS_ITEMS));
        if sends && request.items.is_none() {
            return Err(failed(Status::invalid_argument(
                "the method has a stream as its argument, and the call sends none",
            )));
        }
        let streams = |id| {
            if !sends && !expects {
                return Ok(None);
            }
            let streams = CallStreams::new(id, sends, expects, self.max_window, &self.memory);
            let streams = streams.ok_or_else(|| Status::new(Code::ResourceExhausted, NO_MEMORY))?;
            Ok(Some(Arc::new(streams)))
        };
        let one_way = request.flags.contains(CallFlags::ONE_WAY);
        let (id, streams) = if one_way {
            if !self.is_open() {
                return Err(NotSent::Over(Box::new(request)));
            }
            (ONE_WAY, None)
        } else {
            match self.table.insert(sender, sends, streams).map_err(failed)? {
                Some(inserted) => inserted,
                None => return Err(NotSent::Over(Box::new(request))),
            }
        };
        // Removes the call if the future is dropped, or the request is not sent.
        let mut unsent = Unsent { session: Some(&self), id };
        let position = match self.append(id, &request).await {
            Ok(Some(position)) => position,
            Ok(None) => {
                drop(unsent);
                return Err(NotSent::Over(Box::new(request)));
            }
            Err(status) => return Err(failed(status)),
        };
        unsent.session = None;
        drop(unsent);
        let sending = streams.as_ref().and_then(|streams| self.sending(id, streams, request.codec, request.items));
        let id = (!one_way).then_some(id);
        Ok((SentCall { session: self, id, answer, position, streams }, sending))
    }

    /// Appends the frame of a request. Returns `None` if the session has ended.
    async fn append(self: &Arc<Self>, id: u32, request: &EndpointRequest) -> Result<Option<Position>, Status> {
        let payload = EncodedPayload::new(&Encoded(request.arguments.clone()), request.codec, Compression::None)?;
        let queue = SendQueue::of_length(payload.len(), id);
        let message = Message { frame_type: FrameType::Request, id, payload, max_frame: self.max_frame };
        let head = RequestHeadRef {
            route: &request.route,
            timeout: request.timeout,
            flags: request.flags,
            metadata: &request.metadata,
            once_key: request.key,
            repeat: false,
            response_compression: None,
            stream_timeout: None,
        };
        let mut message = Some(message);
        let mut write = |position, out: &mut WriteBuffer| {
            let message = message.take().expect("a frame is written once");
            message.write(out, |out| head.write(out)).map(|()| position)
        };
        let mut pushed = self.outbox.push_to(queue, &mut write);
        loop {
            match pushed {
                Ok(written) => return written.map(Some),
                Err(PushError::Closed) => return Ok(None),
                Err(PushError::Full) => {
                    let turn = Arc::clone(&self.outbox).capacity(queue.priority()).await;
                    pushed = turn.push_to(queue, &mut write);
                }
            }
        }
    }

    /// Returns the future that sends the items of a call.
    fn sending(
        self: &Arc<Self>,
        id: u32,
        streams: &CallStreams,
        codec: Codec,
        items: Option<EndpointItems>,
    ) -> Option<BoxFuture<'static, ()>> {
        let (credit, mut items) = (Arc::clone(streams.credit()?), items?);
        let sender = ItemSender {
            outbox: Arc::clone(&self.outbox),
            credit: Arc::clone(&credit),
            id,
            frame_type: FrameType::CallerItem,
            codec,
            compression: Compression::None,
            max_frame: self.max_frame,
            work: PeerWork::default(),
        };
        let session = Arc::clone(self);
        Some(Box::pin(async move {
            match sender.send(&mut items, || {}, || credit.is_closed()).await {
                SendEnd::All => session.table.finish(id, &session.outbox),
                SendEnd::Ended => {}
                SendEnd::Failed(status) => session.table.cancel(id, status, &session.outbox),
            }
        }))
    }
}

impl SentCall {
    /// Waits for the answer.
    pub(crate) async fn answer(mut self) -> Result<EndpointReply, Error> {
        let Some(id) = self.id else {
            return Ok(EndpointReply { reply: no_answer(), unread: self.session.unread.add(0) });
        };
        let answer = (&mut self.answer).await;
        self.id = None;
        let (frame, unread) = match answer {
            Ok(Answer::Frame(frame, unread)) => (frame, unread),
            // The request of a session that has ended never executes if it was not written.
            Ok(Answer::Error(error)) if !self.session.outbox.has_begun(self.position) => {
                return Err(error.with_delivery(rpc_core::Delivery::NotExecuted));
            }
            Ok(Answer::Error(error)) => return Err(error),
            Err(_) => return Err(Error::unknown(Code::Internal, "the session has dropped the call")),
        };
        let received = self.streams.as_ref().and_then(|streams| streams.received());
        let items = received.map(|queue| {
            let Session { table, outbox, .. } = &*self.session;
            let callee = Callee { table: Arc::clone(table), outbox: Arc::clone(outbox), id };
            ReplyItems::new(Box::new(ItemReader::new(Arc::clone(queue), callee)))
        });
        // Without an acceptance, dropping the items has no effect: the call has ended.
        let mut reply = read_response(frame)?;
        reply.items = items.filter(|_| !reply.is_application_error);
        Ok(EndpointReply { reply, unread })
    }
}

impl Drop for SentCall {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.session.table.cancel(id, Status::cancelled("the call was cancelled"), &self.session.outbox);
        }
    }
}

/// A call whose request is not sent. Its drop removes the call.
struct Unsent<'a> {
    session: Option<&'a Session>,
    id: u32,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            session.table.roll_back(self.id);
        }
    }
}

/// The id of a call without an answer.
const ONE_WAY: u32 = u32::MAX;
/// The number of bytes that wait between the two ends of a session.
const PIPE: usize = 64 << 10;
/// The divisor of `ServerConfig::read_idle` after which a quiet session sends a ping or ends.
const QUIET_PART: u32 = 3;
