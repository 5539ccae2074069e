//! [`EndpointRequest`] and [`EndpointReply`]: a call of an endpoint and its answer.

use std::time::Duration;

use bytes::Bytes;
use rpc_core::{Codec, Metadata, MethodInfo, ProvedToken, Reply, head::CallFlags};

use super::{items::EndpointItems, session::Unread};

/// A call of a service of the server.
#[derive(Debug)]
#[must_use]
pub struct EndpointRequest {
    pub(super) route: String,
    pub(super) flags: CallFlags,
    pub(super) codec: Codec,
    pub(super) arguments: Bytes,
    pub(super) metadata: Metadata,
    pub(super) timeout: Option<Duration>,
    pub(super) key: Option<[u8; 16]>,
    pub(super) items: Option<EndpointItems>,
    pub(super) token: Option<ProvedToken>,
}

impl EndpointRequest {
    /// Creates a call of a method without streams by its route, such as `demo.Greeter:1.0/hello`.
    ///
    /// `arguments` has the parameters by name, in the codec of the call. The server accepts [`Codec::Json`] for every
    /// method. It answers with `Unimplemented` if it does not serve the route.
    pub fn new(route: impl Into<String>, codec: Codec, arguments: Bytes) -> Self {
        Self {
            route: route.into(),
            flags: CallFlags::default(),
            codec,
            arguments,
            metadata: Metadata::default(),
            timeout: None,
            key: None,
            items: None,
            token: None,
        }
    }

    /// Sets the form of the call: its streams, and whether it has an answer.
    pub fn form(mut self, method: &MethodInfo) -> Self {
        let flags = [
            (method.is_one_way(), CallFlags::ONE_WAY),
            (method.is_idempotent(), CallFlags::IDEMPOTENT),
            (method.is_sending_items(), CallFlags::SENDS_ITEMS),
            (method.is_returning_items(), CallFlags::EXPECTS_ITEMS),
        ];
        let set = flags.into_iter().filter(|(set, _)| *set);
        self.flags = set.fold(CallFlags::default(), |flags, (_, flag)| flags.union(flag));
        self
    }

    /// Sets the arguments, in the codec of the call.
    pub fn arguments(mut self, arguments: Bytes) -> Self {
        self.arguments = arguments;
        self
    }

    /// Sets the metadata for the handler.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets how long the caller waits. Default: the timeout of the method, then that of the server.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the key of a once call. The method must have `#[rpc(once)]`: the server rejects the call otherwise.
    pub fn once_key(mut self, key: [u8; 16]) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets the items that the call sends, for a method with a stream as its argument.
    pub fn items(mut self, items: EndpointItems) -> Self {
        self.items = Some(items);
        self
    }

    /// Sets the token that the caller has presented. See [`EndpointConnection::token`](super::EndpointConnection::token).
    pub fn token(mut self, token: ProvedToken) -> Self {
        self.token = Some(token);
        self
    }
}

/// The answer to a call of an endpoint.
#[derive(Debug)]
pub struct EndpointReply {
    /// The result, the service's own error, or the items of a stream. A one-way call has an empty payload.
    pub reply: Reply,
    /// Counts the answer as unread until it is dropped: the endpoint keeps it until it has sent the payload.
    pub unread: Unread,
}
