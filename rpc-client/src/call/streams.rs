//! [`AttemptStreams`]: the streams of one attempt of a call.

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use rpc_core::{
    BoxFuture, CallOptions, CallerItems, CallerSource, Code, Codec, Compression, Context, Error, MethodInfo, PeerWork,
    Received, ReceivedItems, Reply, ReplyItems, ServiceId, Status,
    frame::{Frame, FrameType},
    transport::{CallStreams, ItemReader, ItemSender, SendEnd, StreamReader},
};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep},
};

use super::{
    encode,
    judged_attempt::JudgedAttempt,
    outcome::{no_answer, read_response},
};
use crate::{
    client_core::ClientCore,
    connection::{channel::Channel, in_flight::CallId, streams::StreamKind},
};

/// The streams of one attempt of a call.
pub(super) struct AttemptStreams {
    provider: Provider,
    streams: Arc<CallStreams>,
    /// Sends the items of the caller, until it has sent all.
    sending: Option<BoxFuture<'static, Result<(), Status>>>,
    /// How long the stream of the provider may last after the acceptance.
    timeout: Option<Duration>,
}

/// Returns the streams of a method; `None` if it has none.
pub(super) fn stream_kind(method: &MethodInfo) -> Option<StreamKind> {
    let (sends, expects) = (method.is_sending_items(), method.is_returning_items());
    (sends || expects).then_some(StreamKind { sends, expects })
}

impl AttemptStreams {
    pub(super) fn new(
        core: &Arc<ClientCore>,
        channel: &Arc<Channel>,
        id: CallId,
        streams: Arc<CallStreams>,
        options: &CallOptions,
        method: &MethodInfo,
        codec: Codec,
    ) -> Self {
        let provider = Provider { core: Arc::clone(core), channel: Arc::clone(channel), id };
        let sending = options.items.clone().and_then(|items| {
            let config = core.config();
            let sender = ItemSender {
                outbox: Arc::clone(channel.outbox()),
                credit: Arc::clone(streams.credit()?),
                id: id.as_u32(),
                frame_type: FrameType::CallerItem,
                codec,
                compression: encode::compression(options, config),
                max_frame: config.transport.max_frame as usize,
                work: PeerWork::default(),
            };
            let sending: BoxFuture<'static, _> = Box::pin(send(sender, items, Arc::clone(channel), id));
            Some(sending)
        });
        Self { provider, streams, sending, timeout: options.stream_timeout_of(method) }
    }

    /// Sends items as far as possible. Returns the status of a stream that failed.
    pub(super) fn poll_send(&mut self, cx: &mut task::Context<'_>) -> Option<Status> {
        let Poll::Ready(sent) = self.sending.as_mut()?.as_mut().poll(cx) else { return None };
        self.sending = None;
        sent.err()
    }

    /// Adds the items of the provider to the reply of an accepted call. Those of the caller are sent from now on by a task.
    ///
    /// Returns whether the call has such items. The first one then decides whether `attempt` has failed.
    pub(super) fn open(self, reply: &mut Reply, attempt: JudgedAttempt<'_>) -> bool {
        let Self { provider, streams, sending, timeout } = self;
        let Some(queue) = streams.received().filter(|_| !reply.is_application_error) else { return false };
        let mut sending = sending.map(|sending| {
            let mut unfinished = Unfinished(Some((Arc::clone(&provider.channel), provider.id)));
            let sending = async move {
                let sent = sending.await;
                let call = unfinished.0.take();
                if let (Err(status), Some((channel, id))) = (sent, call) {
                    channel.fail_streams(id, status);
                }
            };
            // The items are those of the caller's task, whose calls inherit its context.
            let sending: BoxFuture<'static, ()> = match Context::current() {
                Some(context) => Box::pin(context.scope(sending)),
                None => Box::pin(sending),
            };
            sending
        });
        let mut end = None;
        if let Ok(runtime) = Handle::try_current() {
            if let Some(sending) = sending.take() {
                // It ends when the call ends.
                runtime.spawn(sending);
            }
            // Outside of a runtime, only the provider measures the time.
            end = timeout.map(|timeout| Box::pin(sleep(timeout)));
        }
        let core = Arc::clone(&provider.core);
        let items = Some(ItemReader::new(Arc::clone(queue), provider));
        let JudgedAttempt { service, sent_at, .. } = attempt;
        let channel = Arc::clone(attempt.channel);
        let first = Some(Unjudged { core: Arc::clone(&core), service, channel, sent_at, is_judged: false });
        reply.items = Some(ReplyItems::new(Box::new(Items { items, core, sending, first, end })));
        true
    }
}

/// The call of a task that sends items. If the task ends early, by a panic or with its runtime, the call is cancelled.
struct Unfinished(Option<(Arc<Channel>, CallId)>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((channel, id)) = self.0.take() {
            let message = "the task that sends the items of the caller was dropped or has panicked";
            channel.fail_streams(id, Status::internal(message));
        }
    }
}

/// The items of a provider. Outside of a runtime, their reader also sends those of the caller.
struct Items {
    /// `None` when the time of the stream has ended: the drop cancels the call.
    items: Option<ItemReader<Provider>>,
    core: Arc<ClientCore>,
    sending: Option<BoxFuture<'static, ()>>,
    /// The end of the time of the stream, if it is limited.
    end: Option<Pin<Box<Sleep>>>,
    /// The attempt until the first item or the end of the stream.
    first: Option<Unjudged>,
}

/// The attempt of an accepted stream, which has failed if the stream ends by a failure of the provider without an item.
struct Unjudged {
    core: Arc<ClientCore>,
    service: &'static ServiceId,
    channel: Arc<Channel>,
    sent_at: Instant,
    is_judged: bool,
}

impl Unjudged {
    fn judge(mut self, received: &Received) {
        self.is_judged = true;
        match received {
            Received::End(Err(error)) => self.attempt().record_failure(&self.core, error),
            Received::Item(_) | Received::End(Ok(_)) => self.attempt().record_answer(&self.core),
        }
    }

    fn attempt(&self) -> JudgedAttempt<'_> {
        JudgedAttempt { service: self.service, channel: &self.channel, sent_at: self.sent_at }
    }
}

/// The drop of the reader shows nothing about the provider: an accepted stream may have no item for as long as it lives.
impl Drop for Unjudged {
    fn drop(&mut self) {
        if !self.is_judged {
            self.attempt().record_end(&self.core, false);
        }
    }
}

impl ReceivedItems for Items {
    fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Received> {
        if let Some(sending) = &mut self.sending
            && sending.as_mut().poll(cx).is_ready()
        {
            self.sending = None;
        }
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            (self.items, self.end) = (None, None);
        }
        let received = match &mut self.items {
            Some(items) => ready!(items.poll_item(cx)),
            None => overdue(),
        };
        if let Some(first) = self.first.take() {
            first.judge(&received);
        }
        if let Received::Item(payload) = &received
            && let Err(status) = self.check_compression(payload.compression)
        {
            return Poll::Ready(Received::End(Err(Error::answered(Code::Internal, status.message().to_owned()))));
        }
        Poll::Ready(received)
    }

    fn release(&mut self, length: usize) {
        if let Some(items) = &mut self.items {
            items.release(length);
        }
    }

    fn is_draining(&self) -> bool {
        self.items.as_ref().is_some_and(ItemReader::is_draining)
    }

    fn work(&self) -> PeerWork {
        self.items.as_ref().map_or_else(PeerWork::default, ItemReader::work)
    }
}

/// Returns the end of a stream whose time has ended.
fn overdue() -> Received {
    Received::End(Err(Error::unknown(Code::DeadlineExceeded, "the stream has reached its timeout")))
}

impl Items {
    fn check_compression(&self, number: u8) -> Result<(), Status> {
        Compression::check_accepted(number, &self.core.config().compressions, "ClientConfig::compressions")
    }
}

/// Sends the items of a caller, and the end of its stream.
async fn send(sender: ItemSender, items: CallerItems, channel: Arc<Channel>, id: CallId) -> Result<(), Status> {
    let Some(source) = items.take() else {
        return Err(Status::internal("the stream was sent by an earlier attempt"));
    };
    let mut source = Source { items, source: Some(source) };
    let credit = Arc::clone(&sender.credit);
    let (items, source) = source.parts();
    match sender.send(source, || items.mark_consumed(), || credit.is_closed()).await {
        SendEnd::All => match source.take_failure() {
            Some(status) => Err(status),
            None => {
                channel.finish_items(id);
                Ok(())
            }
        },
        SendEnd::Ended => Ok(()),
        SendEnd::Failed(status) => Err(status),
    }
}

/// The source of items, which is put back for another attempt when this one ends.
struct Source {
    items: CallerItems,
    source: Option<Box<dyn CallerSource>>,
}

impl Source {
    fn parts(&mut self) -> (&CallerItems, &mut dyn CallerSource) {
        let source = self.source.as_deref_mut().expect("the source is taken only by the drop");
        (&self.items, source)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            self.items.put_back(source);
        }
    }
}

/// The provider of a call with streams, for the reader of its items. It keeps the client open.
struct Provider {
    core: Arc<ClientCore>,
    channel: Arc<Channel>,
    id: CallId,
}

impl StreamReader for Provider {
    fn grant(&mut self, credit: u32) {
        self.channel.grant(self.id, credit);
    }

    fn read_end(&mut self, frame: Frame) -> Result<Reply, Error> {
        read_response(frame, self.channel.address(), self.core.config())
    }

    fn finished(&mut self) -> Reply {
        no_answer(self.channel.address())
    }

    fn max_decompressed(&self) -> usize {
        self.core.config().max_decompressed
    }

    fn is_draining(&self) -> bool {
        !self.channel.is_open()
    }

    fn work(&self) -> PeerWork {
        PeerWork::default()
    }

    fn abandon(&mut self) {
        let status = Status::new(Code::Cancelled, "the reader of the stream was dropped");
        self.channel.fail_streams(self.id, status);
    }
}
