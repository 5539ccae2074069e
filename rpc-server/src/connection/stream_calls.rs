//! Calls with streams, and the frames of their streams.

use std::{sync::Arc, time::Duration};

use rpc_core::{
    Code, Compression, Context, Payload, Responder, Status,
    frame::{Frame, Header, Violation},
    head::{CallFlags, RequestHead},
    transport::{CallStreams, Handled, WireStreams},
};
use tokio::time::Instant;

use super::{calls::ConnectionCalls, handler::HandlerFuture, pending_call::PendingCall};
use crate::{
    call::{concurrency::Permit, dispatcher::Target, guarded::Guarded, rejection::Rejection},
    counters::Counters,
};

impl ConnectionCalls {
    /// Serves a call that sends or expects items. Its handler always runs on a task of its own.
    pub(super) fn serve_streams(
        &self,
        header: Header,
        head: RequestHead,
        target: &Target,
        arguments: Payload,
        deadline: Instant,
    ) {
        let (config, id) = (&self.shared.config, header.id);
        let Some(open) = self.share.open_stream() else {
            Counters::count(&self.shared.counters.overloaded);
            return self.sink(header).answer_unclaimed(&too_many(config.max_streams).to_answer());
        };
        let memory = self.stream_memory.get_or_init(|| self.share.stream_memory().part(config.transport.stream_memory));
        let (sends, expects) =
            (head.flags.contains(CallFlags::SENDS_ITEMS), head.flags.contains(CallFlags::EXPECTS_ITEMS));
        let Some(streams) = CallStreams::new(id, expects, sends, config.transport.stream_window, memory) else {
            Counters::count(&self.shared.counters.overloaded);
            return self.sink(header).answer_unclaimed(&no_memory().to_answer());
        };
        let stream_timeout = head.stream_timeout.or(target.info().default_stream_timeout()).filter(|_| expects);
        let streams = streams.with_timeout(stream_timeout);
        let context = Context::new(Arc::clone(&self.peer), Some(deadline), head.metadata, head.idempotency_key);
        let streams = Arc::new(streams);
        let sink = self.sink(header).with_streams(Arc::clone(&streams));
        let (max_frame, max_decompressed) = (config.transport.max_frame as usize, config.max_decompressed);
        let wire =
            WireStreams::new(Arc::clone(&self.outbox), streams, context.clone(), &header, max_frame, max_decompressed);
        let responder = Responder::streams(context.clone(), sink.clone(), wire);
        let (service, method, route) = (Arc::clone(&target.service), target.method, target.route.clone());
        let pending = PendingCall { context: context.clone(), sink, one_way: false, deadline };
        let start = move |permit: Permit| {
            let call = service.call(method, arguments, responder);
            Guarded::new(HandlerFuture { context, call, route, permit: Some(permit) }, open)
        };
        if self.share.has_capacity() {
            let permit = self.share.acquire();
            self.spawn(start(permit), pending);
        } else {
            self.queue(start, pending);
        }
    }

    pub(super) fn handle_item(&self, frame: Frame) -> Result<(), Violation> {
        let Header { id, compression, .. } = frame.header;
        let accepted = &self.shared.config.compressions;
        if let Err(status) = Compression::check_accepted(compression, accepted, "ServerConfig::compressions") {
            self.end_or_count(id, &status);
            return Ok(());
        }
        let handled = self
            .running
            .with_streams(id, |streams| streams.map_or(Ok(Handled::NoStream), |streams| streams.handle_item(frame)));
        match handled.transpose()? {
            Some(Handled::Yes) => {}
            Some(Handled::OutOfMemory) => {
                Counters::count(&self.shared.counters.overloaded);
                self.end_or_count(id, &no_memory().status);
            }
            Some(Handled::NoStream) | None => self.reject_stream(id),
        }
        Ok(())
    }

    /// Handles the end of a caller's stream, which may cross the end of its call.
    pub(super) fn handle_caller_end(&self, id: u32) -> Result<(), Violation> {
        if self.running.handle_caller_end(id)? == Some(false) {
            self.reject_stream(id);
        }
        Ok(())
    }

    pub(super) fn handle_credit(&self, id: u32, body: &[u8]) -> Result<(), Violation> {
        let handled = self
            .running
            .with_streams(id, |streams| streams.map_or(Ok(Handled::NoStream), |streams| streams.handle_credit(body)));
        // Credit may cross the end of its call.
        if handled.transpose()? == Some(Handled::NoStream) {
            self.reject_stream(id);
        }
        Ok(())
    }

    /// Rejects an item that is longer than the frame limit; its body was skipped.
    pub(super) fn reject_overlong_item(&self, header: Header, limit: u32) {
        Counters::count(&self.shared.counters.malformed);
        let message =
            format!("item frame is {} bytes, limit is {limit} (TransportConfig::max_frame)", header.full_length);
        self.end_or_count(header.id, &Status::new(Code::ResourceExhausted, message));
    }

    /// Ends a call that has no such stream. Without a call, it was rejected or has ended.
    pub(super) fn reject_stream(&self, id: u32) {
        self.end_or_count(id, &Status::new(Code::InvalidArgument, "the call has no such stream"));
    }

    fn end_or_count(&self, id: u32, status: &Status) {
        if !self.running.end(id, status) {
            self.count_stray();
        }
    }
}

fn no_memory() -> Rejection {
    let message = "the items that wait to be read reached their limit (TransportConfig::stream_memory, \
                   ServerConfig::max_stream_memory)";
    Rejection::until(Status::new(Code::ResourceExhausted, message), STREAM_RETRY_AFTER)
}

fn too_many(limit: usize) -> Rejection {
    let message = format!(
        "calls with streams reached the limit of {limit} (ServerConfig::max_streams), or this peer has its share of them"
    );
    Rejection::until(Status::new(Code::ResourceExhausted, message), STREAM_RETRY_AFTER)
}

/// The retry-after of a call with streams that a full server rejects.
const STREAM_RETRY_AFTER: Duration = Duration::from_millis(10);
