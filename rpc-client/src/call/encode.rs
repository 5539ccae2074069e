//! [`RequestWriter`]: the bytes of a request.

use std::time::Duration;

use rpc_core::{
    CallOptions, Codec, Compression, Encode, EncodedPayload, Message, MethodInfo, Request, Status, WriteBuffer,
    frame::FrameType,
    head::{CallFlags, RequestHeadRef},
};

use crate::{config::ClientConfig, connection::in_flight::CallId};

/// Encodes the arguments of a call.
pub(super) fn encode_arguments<A: Encode>(
    request: &Request<A>,
    codec: Codec,
    config: &ClientConfig,
) -> Result<EncodedPayload, Status> {
    let Request { method, arguments, options } = request;
    EncodedPayload::new(arguments, codec, compression(options, config))
        .map_err(|status| Status::new(status.code(), format!("arguments of {}: {}", method.route(), status.message())))
}

pub(super) fn compression(options: &CallOptions, config: &ClientConfig) -> Compression {
    options.compression.unwrap_or(config.compression)
}

/// Returns the compression of the request, unless the client does not accept it in responses.
fn response_compression(options: &CallOptions, config: &ClientConfig) -> Compression {
    let wanted = compression(options, config);
    let is_accepted = wanted == Compression::None || config.compressions.contains(&wanted);
    if is_accepted { wanted } else { Compression::None }
}

/// Writes one attempt of a call.
pub(super) struct RequestWriter<'a, A> {
    pub(super) request: &'a Request<A>,
    pub(super) config: &'a ClientConfig,
    /// The time that the call has left.
    pub(super) timeout: Duration,
    pub(super) idempotency_key: Option<[u8; 16]>,
    /// Whether an earlier attempt may have reached a server.
    pub(super) repeat: bool,
}

impl<A> RequestWriter<'_, A> {
    /// Appends the request's frame to `out`.
    pub(super) fn write(&self, id: CallId, payload: EncodedPayload, out: &mut WriteBuffer) -> Result<(), Status> {
        let Request { method, options, .. } = self.request;
        // A request that is too short to be compressed may have a response that is not.
        let wanted = response_compression(options, self.config);
        let response_compression = (wanted != payload.compression()).then_some(wanted as u8);
        let head = RequestHeadRef {
            route: method.route(),
            timeout: Some(self.timeout),
            flags: flags(method),
            metadata: &options.metadata,
            once_key: self.idempotency_key,
            repeat: self.repeat,
            response_compression,
            stream_timeout: options.stream_timeout_of(method),
        };
        let max_frame = self.config.transport.max_frame as usize;
        let message = Message { frame_type: FrameType::Request, id: id.as_u32(), payload, max_frame };
        message.write(out, |out| head.write(out))
    }
}

fn flags(method: &MethodInfo) -> CallFlags {
    let flags = [
        (method.is_one_way(), CallFlags::ONE_WAY),
        (method.is_idempotent(), CallFlags::IDEMPOTENT),
        (method.is_sending_items(), CallFlags::SENDS_ITEMS),
        (method.is_returning_items(), CallFlags::EXPECTS_ITEMS),
    ];
    flags.into_iter().filter(|(set, _)| *set).fold(CallFlags::default(), |flags, (_, flag)| flags.union(flag))
}
