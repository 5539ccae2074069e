//! [`RequestEncoder`]: the bytes of a request.

use std::time::Duration;

use rpc_core::{
    Encode, Message, MethodInfo, Request, Status, WriteBuffer,
    frame::FrameType,
    head::{CallFlags, RequestHeadRef},
};

use crate::{config::ClientConfig, connection::in_flight::CallId};

/// Encodes one attempt of a call.
pub(super) struct RequestEncoder<'a, A> {
    pub(super) request: &'a Request<A>,
    pub(super) config: &'a ClientConfig,
    /// The time that the call has left.
    pub(super) timeout: Duration,
    pub(super) idempotency_key: Option<[u8; 16]>,
    /// Whether an earlier attempt may have reached a server.
    pub(super) repeat: bool,
}

impl<A: Encode> RequestEncoder<'_, A> {
    /// Appends the request's frame to `out`.
    pub(super) fn encode(&self, id: CallId, out: &mut WriteBuffer) -> Result<(), Status> {
        let (Request { method, arguments, options }, config) = (self.request, self.config);
        let head = RequestHeadRef {
            route: method.route(),
            timeout: Some(self.timeout),
            flags: flags(method),
            metadata: &options.metadata,
            once_key: self.idempotency_key,
            repeat: self.repeat,
        };
        let message = Message {
            frame_type: FrameType::Request,
            id: id.as_u32(),
            codec: options.codec.unwrap_or(config.codec),
            compression: options.compression.unwrap_or(config.compression),
            value: arguments,
            max_frame: config.transport.max_frame as usize,
        };
        message.write(out, |out| head.write(out))
    }
}

fn flags(method: &MethodInfo) -> CallFlags {
    let one_way = if method.is_one_way() { CallFlags::ONE_WAY } else { CallFlags::default() };
    if method.is_idempotent() { one_way.union(CallFlags::IDEMPOTENT) } else { one_way }
}
