//! [`Service`]: what a server dispatches calls to; and [`Responder`], through which each call gets its one answer.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::{
    BoxFuture, Code, Codec, Compression, Context, Message, MethodInfo, Payload, ServiceId, Status, WriteBuffer,
    frame::{Frame, FrameType, HEADER_LEN, Header, ID_AT},
    head::ResponseHead,
    transport::{Outbox, PushError},
};

/// What a server dispatches calls to. `#[rpc_service]` implements it; a gateway may by hand.
pub trait Service: Send + Sync + 'static {
    /// The name and version under which the service is found.
    fn id(&self) -> &ServiceId;

    /// All methods, in the order that [`call`](Self::call) numbers them.
    fn methods(&self) -> &[MethodInfo];

    /// Serves one call of the method with this number. The future ends when the handler has; what it says to `responder` is
    /// the answer.
    fn call(&self, method: usize, arguments: Payload, responder: Responder) -> BoxFuture<'static, ()>;
}

impl<S: Service + ?Sized> Service for Arc<S> {
    fn id(&self) -> &ServiceId {
        (**self).id()
    }

    fn methods(&self) -> &[MethodInfo] {
        (**self).methods()
    }

    fn call(&self, method: usize, arguments: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        (**self).call(method, arguments, responder)
    }
}

/// Gives one call its one answer: the first who claims it is heard, later ones are not.
///
/// # Drop
///
/// Dropped without an answer, it answers `Internal`, so that no caller waits in vain.
#[must_use = "a responder that is dropped answers with an error"]
pub struct Responder {
    context: Context,
    sink: Sink,
}

enum Sink {
    Wire(WireSink),
    Local(Option<oneshot::Sender<LocalReply>>),
    /// A call whose answer is kept, to be given to all who ask for it.
    Kept(WireSink, Option<oneshot::Sender<StoredAnswer>>),
    /// A one-way call: nobody listens.
    Nobody,
}

/// Where and how a call that came over a connection is answered.
#[derive(Debug, Clone)]
pub struct WireSink {
    /// The connection's outbox.
    pub outbox: Arc<Outbox>,
    /// The request's id.
    pub id: u32,
    /// The request's codec.
    pub codec: u8,
    /// The request's compression.
    pub compression: u8,
    /// The longest frame that may be sent, in bytes.
    pub max_frame: usize,
}

/// An answer inside this process.
pub(crate) struct LocalReply {
    pub(crate) status: Status,
    pub(crate) payload: BytesMut,
}

impl Responder {
    /// Answers over a connection.
    pub fn wire(context: Context, sink: WireSink) -> Self {
        Self { context, sink: Sink::Wire(sink) }
    }

    /// Answers nobody, for a one-way call.
    pub fn nobody(context: Context) -> Self {
        Self { context, sink: Sink::Nobody }
    }

    /// Answers to who keeps the answer. Of `sink`, only how it encodes is used.
    pub fn kept(context: Context, sink: WireSink, answer: oneshot::Sender<StoredAnswer>) -> Self {
        Self { context, sink: Sink::Kept(sink, Some(answer)) }
    }

    pub(crate) fn local(context: Context, reply: oneshot::Sender<LocalReply>) -> Self {
        Self { context, sink: Sink::Local(Some(reply)) }
    }

    /// The call's context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Answers with a result.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for room on the connection, it answers `Internal`.
    pub async fn result<T: Serialize>(self, value: T) {
        self.send(Status::OK, value).await;
    }

    /// Answers with the service's own error.
    ///
    /// # Cancel safety
    ///
    /// As [`result`](Self::result).
    pub async fn error<E: Serialize>(self, error: E) {
        self.send(Status::new(Code::Application, ""), error).await;
    }

    /// Answers with a status and no value.
    pub fn status(mut self, status: Status) {
        self.refuse(&status, None);
    }

    /// Answers that the call was not run, and when it may be sent again.
    pub fn refuse_until(mut self, status: Status, retry_after: Duration) {
        self.refuse(&status, Some(retry_after));
    }

    async fn send<T: Serialize>(mut self, status: Status, value: T) {
        while !self.try_send(&status, &value) {
            let Sink::Wire(sink) = &self.sink else { return };
            let outbox = Arc::clone(&sink.outbox);
            // Rare, and so behind a pointer: every handler's future would carry the room for it.
            let room: BoxFuture<'_, ()> = Box::pin(async move { outbox.room().await });
            room.await;
        }
    }

    /// Answers if there is room for it.
    fn try_send<T: Serialize>(&mut self, status: &Status, value: &T) -> bool {
        match &mut self.sink {
            Sink::Nobody => {
                self.context.claim_answer(status.code());
            }
            Sink::Local(reply) => {
                let mut payload = BytesMut::new();
                let encoded = Codec::Bincode.encode(value, &mut payload);
                let status = encoded.map_or_else(|error| unencodable(&error), |()| status.clone());
                if self.context.claim_answer(status.code())
                    && let Some(reply) = reply.take()
                {
                    // A caller that gave up is no longer there to be told.
                    let _ = reply.send(LocalReply { status, payload });
                }
            }
            Sink::Kept(sink, answer) => {
                let mut frame = WriteBuffer::new();
                let code = sink.write(&mut frame, status, value);
                if self.context.claim_answer(code)
                    && let Some(answer) = answer.take()
                {
                    let _ = answer.send(StoredAnswer(frame.into_bytes()));
                }
            }
            Sink::Wire(sink) => {
                // The claim comes under the outbox's lock, once there is room: who claims is heard. It comes after the value,
                // because one that panics while it is serialized leaves the answer to `drop`.
                let pushed = sink.outbox.push(|out| {
                    if self.context.is_answered() {
                        return;
                    }
                    let start = out.mark();
                    let code = sink.write(out, status, value);
                    if !self.context.claim_answer(code) {
                        out.rewind(start);
                    }
                });
                return pushed != Err(PushError::Full);
            }
        }
        true
    }

    fn refuse(&mut self, status: &Status, retry_after: Option<Duration>) {
        // Most responders that are dropped have answered.
        if self.context.is_answered() {
            return;
        }
        if let Sink::Wire(sink) = &self.sink {
            return sink.refuse_once(&self.context, status, retry_after);
        }
        if !self.context.claim_answer(status.code()) {
            return;
        }
        match &mut self.sink {
            Sink::Wire(_) | Sink::Nobody => {}
            Sink::Local(reply) => {
                if let Some(reply) = reply.take() {
                    let _ = reply.send(LocalReply { status: status.clone(), payload: BytesMut::new() });
                }
            }
            Sink::Kept(sink, answer) => {
                if let Some(answer) = answer.take() {
                    let _ = answer.send(StoredAnswer::status(sink, status));
                }
            }
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let how = if std::thread::panicking() { "the handler panicked" } else { "the handler ended without an answer" };
        self.refuse(&Status::new(Code::Internal, how), None);
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("context", &self.context).finish_non_exhaustive()
    }
}

/// An answer in the form in which it travels, so that it can be kept and given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer(Bytes);

impl StoredAnswer {
    /// The answer that a store kept as bytes.
    ///
    /// # Errors
    ///
    /// `DataLoss` for bytes that are no answer.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Status> {
        let header = bytes.first_chunk().and_then(|header| Header::parse(header).ok());
        let whole = header
            .filter(|header| header.frame_type == FrameType::Response && header.full_length as usize == bytes.len());
        whole.map(|_| Self(bytes)).ok_or_else(|| Status::new(Code::DataLoss, "the stored answer is damaged"))
    }

    /// The answer as bytes for a store: a RESPONSE frame of docs/PROTOCOL.md with id 0.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// A status and no value, encoded as `sink` would.
    pub fn status(sink: &WireSink, status: &Status) -> Self {
        let mut frame = BytesMut::new();
        sink.write_status(&mut frame, status, None);
        Self(frame.freeze())
    }
}

impl WireSink {
    /// Gives an answer that was kept, unless the call has another. Its number of bytes is bounded by the frame limit, and it is
    /// given once for each request, so it does not wait for room.
    pub fn give(&self, context: &Context, answer: &StoredAnswer) {
        self.claim(context, Code::Ok, |out| {
            let start = out.len();
            out.put_slice(&answer.0);
            out[start + ID_AT..start + HEADER_LEN].copy_from_slice(&self.id.to_be_bytes());
        });
    }

    /// Answers with a status and no value, unless the call has another answer.
    pub fn refuse_once(&self, context: &Context, status: &Status, retry_after: Option<Duration>) {
        self.claim(context, status.code(), |out| self.write_status(out, status, retry_after));
    }

    /// Answers with a status and no value, without regard to who else might.
    pub fn refuse(&self, status: &Status, retry_after: Option<Duration>) {
        // A connection that is gone has nobody to be told.
        let _ = self.outbox.push_control(|out| self.write_status(out, status, retry_after));
    }

    /// Lets `write` append the answer if there is none yet.
    fn claim(&self, context: &Context, code: Code, write: impl FnOnce(&mut BytesMut)) {
        // Under the outbox's lock: a connection that waits for its last answer must not find it claimed and not yet there.
        let _ = self.outbox.push_control(|out| {
            if context.claim_answer(code) {
                write(out);
            }
        });
    }

    /// Writes a result or an error value; where that fails, why. Says the code of what was written.
    fn write<T: Serialize + ?Sized>(&self, out: &mut WriteBuffer, status: &Status, value: &T) -> Code {
        let written = Codec::from_u8(self.codec).and_then(|codec| {
            let compression = Compression::from_u8(self.compression)?;
            let (id, max_frame) = (self.id, self.max_frame);
            let message = Message { frame_type: FrameType::Response, id, codec, compression, value, max_frame };
            message.write(out, |out| write_head(out, status, None))
        });
        let Err(failed) = written else { return status.code() };
        // The handler ran, so what does not fit or encode is this end's fault, not the caller's.
        let code = if failed.code() == Code::InvalidArgument { Code::Internal } else { failed.code() };
        self.write_status(out.copied(), &Status::new(code, failed.message().to_owned()), None);
        code
    }

    fn write_status(&self, out: &mut BytesMut, status: &Status, retry_after: Option<Duration>) {
        let header = Header { codec: self.codec, ..Header::empty(FrameType::Response, self.id) };
        let mut body = BytesMut::new();
        write_head(&mut body, status, retry_after);
        Frame { header, body: body.freeze() }.write(out);
    }
}

/// Most answers have an empty head, which deserves to be cheap.
fn write_head(out: &mut BytesMut, status: &Status, retry_after: Option<Duration>) {
    if status.code() == Code::Ok && retry_after.is_none() {
        return out.put_u16(0);
    }
    ResponseHead { status: status.clone(), metadata: Default::default(), retry_after }.write(out);
}

fn unencodable(error: &crate::CodecError) -> Status {
    Status::new(Code::Internal, format!("the result does not encode: {error}"))
}

/// The least of a response frame, which always fits: a header, and a head with a status of the longest message.
const _: () = assert!(HEADER_LEN + 2 + 4 + Status::MAX_MESSAGE < u16::MAX as usize);
